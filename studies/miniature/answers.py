"""Accuracies of several seeds with their standard errors, differences, and what they say in words.

Two things are drawn at random, and both are in every standard error: the held-out problems (one cluster a problem with
all its languages and seeds) and the seeds of the connector. The seeds' part is their spread over the square root of
their number; where there is one seed, or none, it is left out. Differences pair the problems, and the seeds too where
both sides come from the same runs (two checkpoints of a run, or a run asked in two ways). Of three seeds a spread is
known badly, so intervals are Student's with the degrees of freedom of Welch and Satterthwaite.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

import numpy as np
from scipy.stats import t

from langbridge.evaluate.report.statistics import average, differences
from studies.miniature.sizes import HIGH, LOW

Answers = Mapping[tuple[str, str], float]
"""Right (1) or wrong (0) by (problem, language)."""

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A share, or a difference of shares, with its standard error, which is not a number for a single problem;
    `freedom` is that of its Student interval."""

    value: float
    stderr: float
    freedom: float

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 per cent, within what a difference of shares can be."""
        reach = self.stderr * t.ppf((1 + LEVEL) / 2, self.freedom)
        low, high = np.clip([self.value - reach, self.value + reach], -1, 1)
        return float(low), float(high)

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves no doubt of the sign, else 0."""
        low, high = self.interval
        return 1 if low > 0 else -1 if high < 0 else 0

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ± {100 * self.stderr:.1f}"

    @property
    def signed(self) -> str:
        """A difference as it stands in a table."""
        return f"{100 * self.value:+.1f} ± {100 * self.stderr:.1f}"

    @property
    def points(self) -> str:
        """A difference in percentage points with its interval."""
        low, high = self.interval
        return f"{100 * self.value:+.1f} points (95% interval {100 * low:+.1f} to {100 * high:+.1f})"


def mean_of(seeds: Sequence[Answers], languages: Sequence[str]) -> Estimate:
    """Accuracy over problems, seeds and languages, each language with the same weight."""
    return _estimate(_over_seeds(seeds), languages, [seeds])


def gain(
    first: Sequence[Answers], second: Sequence[Answers], languages: Sequence[str], *, same_runs: bool = False
) -> Estimate:
    """First minus second, on the problems that both were asked. `same_runs`: both sides have the same seeds' runs, in
    the same order, so that what a seed does to both falls out."""
    values = differences(_over_seeds(first), _over_seeds(second))
    if same_runs:
        return _estimate(values, languages, [[differences(*pair) for pair in zip(first, second, strict=True)]])
    return _estimate(values, languages, [first, second])


def _over_seeds(seeds: Sequence[Answers]) -> dict[tuple[str, str], float]:
    keys = set(seeds[0]).intersection(*seeds[1:])
    return {key: fmean(one[key] for one in seeds) for key in sorted(keys)}


def _estimate(values: Answers, languages: Sequence[str], sides: Sequence[Sequence[Answers]]) -> Estimate:
    over_problems = average(values, languages)
    if over_problems.n < 2:
        return Estimate(over_problems.mean, math.nan, math.nan)  # one problem says nothing of others
    parts = [(over_problems.stderr**2, over_problems.n - 1)]
    for seeds in sides:
        if len(seeds) > 1:
            means = [average({key: one[key] for key in values}, languages).mean for one in seeds]
            parts.append((variance(means) / len(means), len(means) - 1))
    total = math.fsum(part for part, _ in parts)
    spread = math.fsum(part**2 / freedom for part, freedom in parts)
    freedom = total**2 / spread if spread > 0 else float(over_problems.n - 1)
    return Estimate(over_problems.mean, math.sqrt(total), freedom)


def only(seeds: Sequence[Answers], kept: Callable[[str, str], bool]) -> list[Answers]:
    """Of each seed the answers to the problems and languages that are `kept`."""
    return [{key: value for key, value in one.items() if kept(*key)} for one in seeds]


def by_group(systems: Mapping[str, Sequence[Answers]]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of a table: each system in English, and in the high- and the low-resource languages."""
    groups = {"English": ["en"], "high-resource": HIGH, "low-resource": LOW}
    rows = [[name, *(str(mean_of(one, codes)) for codes in groups.values())] for name, one in systems.items()]
    return ["accuracy, per cent", *groups], rows


@dataclass(frozen=True)
class Claim:
    """What is claimed, and the difference that decides: it holds where the difference is surely above zero."""

    text: str
    measured: str
    """What the difference is of."""
    difference: Estimate

    @property
    def verdict(self) -> str:
        return {1: "holds", -1: "does not hold: the opposite does", 0: "not shown"}[self.difference.sign]

    def said(self) -> str:
        return f"{self.text}: **{self.verdict}** in miniature. {self.measured}: {self.difference.points}."
