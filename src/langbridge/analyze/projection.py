"""States in two dimensions, as in the paper's figure of representations: standardise, then two principal components
(LangBridge, arXiv 2401.10695, figure 3)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from langbridge.analyze.alignment import Array
from langbridge.analyze.probe import scikit_learn
from langbridge.errors import LangBridgeError

ALL, EACH = "all", "each"


@dataclass(frozen=True)
class Projection:
    """States (sentences, languages, 2) on two axes, and the share of these states' own variance on each axis.

    Axes that were fitted on other states may carry little of these: a cloud that looks small may only be seen from
    its side. The shares tell.
    """

    points: Array
    explained: tuple[float, float]


def project(states: Mapping[str, Array], fit: str = EACH) -> dict[str, Projection]:
    """Put several models' states, each (sentences, languages, width), on two axes.

    fit: what scale and axes are fitted on. `each`: every model's on its own states. A name: on those states, to be
    applied to the others (the reference fits on the language model alone and applies to the bridge). `all`: on all of
    them together, so that the first axes separate the models. Except for `each`, widths must be equal.
    """
    if fit == EACH:
        return {name: project({name: one}, ALL)[name] for name, one in states.items()}
    preprocessing, decomposition = scikit_learn("preprocessing"), scikit_learn("decomposition")
    if fit not in (ALL, *states):
        raise LangBridgeError(f"--pca-fit: got {fit!r}, expected one of {', '.join((EACH, ALL, *states))}")
    chosen = list(states.values()) if fit == ALL else [states[fit]]
    flat = np.concatenate([_flat(one) for one in chosen])
    scaler = preprocessing.StandardScaler().fit(flat)
    with np.errstate(invalid="ignore"):  # constant states: their shares of no variance are not used
        pca = decomposition.PCA(n_components=2, random_state=0).fit(scaler.transform(flat))
    found = {}
    for name, one in states.items():
        scaled = scaler.transform(_flat(one))
        points = pca.transform(scaled)
        total = max(float(scaled.var(axis=0).sum()), np.finfo(float).tiny)
        first, second = points.var(axis=0) / total
        found[name] = Projection(points.reshape(*one.shape[:2], 2), (float(first), float(second)))
    return found


def _flat(states: Array) -> Array:
    return states.reshape(-1, states.shape[-1]).astype(np.float64)
