import math
from itertools import combinations

import pytest

from langbridge.errors import LangBridgeError
from langbridge.evaluate.code import pass_at_k


@pytest.mark.parametrize(("n", "c"), [(1, 0), (1, 1), (5, 0), (5, 2), (6, 5), (7, 7)])
def test_equals_the_share_of_all_draws(n: int, c: int) -> None:
    """Against the definition: of all ways to draw k samples, those that hold a passing one."""
    for k in range(1, n + 1):
        draws = list(combinations([True] * c + [False] * (n - c), k))
        expected = sum(any(draw) for draw in draws) / len(draws)
        # Only rounding of a product of at most seven quotients.
        assert pass_at_k([(n, c)], k).mean == pytest.approx(expected, abs=1e-12)


def test_pass_at_1_of_single_samples_is_the_accuracy() -> None:
    score = pass_at_k([(1, 1), (1, 0), (1, 0), (1, 1)], 1)
    assert (score.mean, score.n) == (0.5, 4)
    assert score.stderr == pytest.approx(math.sqrt(0.25 / 3))  # sqrt(p (1 - p) / (n - 1))


def test_no_overflow_with_many_samples() -> None:
    assert pass_at_k([(2000, 1000)], 100).mean == pytest.approx(1.0)
    assert pass_at_k([(2000, 1)], 100).mean == pytest.approx(0.05)


@pytest.mark.parametrize(("counts", "k"), [([(1, 1)], 2), ([(5, 1), (3, 1)], 5), ([(5, 1)], 0), ([(2, 3)], 1)])
def test_too_few_samples_are_refused(counts: list[tuple[int, int]], k: int) -> None:
    with pytest.raises(LangBridgeError, match=f"pass@{k}"):
        pass_at_k(counts, k)
