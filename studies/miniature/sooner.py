"""After how many examples a run reaches a goal, and which of two kinds of run is sooner there."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import rankdata

from studies.miniature.sizes import BATCH


def examples_to(goal: float, scores: Mapping[int, float]) -> float:
    """After how many examples the goal is reached; infinite where it never is.

    The curve is noisy, so that its first crossing comes too early: the rising curve that is nearest to it
    (isotonic regression) is taken, and the logarithm of the examples between two checkpoints is interpolated.
    """
    seen = list(scores)
    rising = isotonic_regression(list(scores.values())).x
    over = next((place for place, score in enumerate(rising) if score >= goal), None)
    if not over:
        return math.inf if over is None else float(seen[0])
    before, after = (math.log(max(seen[place], BATCH)) for place in (over - 1, over))
    share = (goal - rising[over - 1]) / (rising[over] - rising[over - 1])
    return math.exp(before + share * (after - before))


@dataclass(frozen=True)
class Sooner:
    """Whether the first's examples are fewer than the second's, seed by seed in any pairing: the exact test of rank
    sums, for which a run that never arrives is later than all that do."""

    first: Sequence[float]
    second: Sequence[float]

    @property
    def side(self) -> int:
        ranks = rankdata([*self.first, *self.second])
        return int(np.sign(ranks[len(self.first) :].mean() - ranks[: len(self.first)].mean()))

    @property
    def p(self) -> float:
        ranks, n = rankdata([*self.first, *self.second]), len(self.first)
        middle = n * ranks.mean()
        far = abs(ranks[:n].sum() - middle) - 1e-9
        return fmean(abs(sum(drawn) - middle) >= far for drawn in itertools.combinations(ranks, n))

    @property
    def points(self) -> str:
        return f"{said(self.first)} against {said(self.second)} examples, exact test of rank sums"


def said(found: Sequence[float]) -> str:
    """The median and the range of some examples."""
    low, middle, high = (
        "never" if math.isinf(one) else f"{one:,.0f}" for one in (min(found), median(found), max(found))
    )
    return f"{middle} ({low} to {high})"
