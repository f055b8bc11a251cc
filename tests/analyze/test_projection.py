"""PCA as in the paper, against a singular value decomposition."""

import numpy as np
import pytest

from langbridge.analyze.projection import project
from langbridge.errors import LangBridgeError

RNG = np.random.default_rng(0)
FIRST = RNG.normal(size=(30, 3, 6)) @ RNG.normal(size=(6, 6)) + 5.0
SECOND = RNG.normal(size=(30, 3, 6)) @ RNG.normal(size=(6, 6))


def scaled(states: np.ndarray, by: np.ndarray) -> np.ndarray:
    flat, by = states.reshape(-1, 6), by.reshape(-1, 6)
    return (flat - by.mean(0)) / by.std(0)


def test_two_components_of_standardised_states() -> None:
    found = project({"lm": FIRST, "bridge": SECOND})
    for name, states in (("lm", FIRST), ("bridge", SECOND)):
        _, values, axes = np.linalg.svd(scaled(states, states), full_matrices=False)
        expected = scaled(states, states) @ axes[:2].T
        ours = found[name].points.reshape(-1, 2)
        np.testing.assert_allclose(np.abs(ours), np.abs(expected), atol=1e-8)  # an axis may point either way
        np.testing.assert_allclose(found[name].explained, values[:2] ** 2 / (values**2).sum(), rtol=1e-8)
        assert found[name].points.shape == (30, 3, 2)


def test_axes_of_one_model_applied_to_the_other() -> None:
    found = project({"lm": FIRST, "bridge": SECOND}, "lm")
    _, _, axes = np.linalg.svd(scaled(FIRST, FIRST), full_matrices=False)
    applied = scaled(SECOND, FIRST)
    expected = applied @ axes[:2].T
    np.testing.assert_allclose(np.abs(found["bridge"].points.reshape(-1, 2)), np.abs(expected), atol=1e-8)
    share = expected.var(0) / applied.var(0).sum()
    np.testing.assert_allclose(found["bridge"].explained, share, rtol=1e-8)
    np.testing.assert_allclose(found["lm"].points, project({"lm": FIRST})["lm"].points)


def test_axes_of_all_tell_the_models_apart_first() -> None:
    found = project({"lm": FIRST + 100.0, "bridge": FIRST - 100.0}, "all")
    first = [one.points[..., 0].ravel() for one in found.values()]
    assert min(first[0]) > max(first[1]) or max(first[0]) < min(first[1])


def test_constant_states_have_no_axes_and_no_error() -> None:
    found = project({"lm": np.ones((10, 2, 4), dtype=np.float32)})["lm"]
    assert not found.points.any()
    assert found.explained == (0.0, 0.0)


def test_axes_of_nobody_are_refused() -> None:
    with pytest.raises(LangBridgeError, match="'encoder', expected one of each, all, lm, bridge"):
        project({"lm": FIRST, "bridge": SECOND}, "encoder")
