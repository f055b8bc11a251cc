"""Accuracies of several seeds with their standard errors, differences, and what they say in words.

Two things are drawn at random, and both are in every standard error: the held-out problems (one cluster a problem with
all its languages and seeds) and the seeds of the connector. They cross, so the variance of a mean is that of the
problems' means over their number, plus that of the seeds' means over theirs, less what a seed does to single problems,
which both of these hold (the analysis of variance of two crossed random factors: Searle, Casella and McCulloch 1992,
*Variance Components*, section 4.3). Where there is one seed, or none, the problems' part stands alone. Differences pair
the problems, and the seeds too where both sides come from the same runs (two checkpoints of a run, or a run asked in
two ways). Of three seeds a spread is known badly, so intervals are Student's with the degrees of freedom of Welch and
Satterthwaite.
"""

import math
from collections import Counter
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
    return _estimate([_over_seeds(seeds)], languages, [[seeds]])


def gain(
    first: Sequence[Answers], second: Sequence[Answers], languages: Sequence[str], *, same_runs: bool = False
) -> Estimate:
    """First minus second, on the problems that both were asked. `same_runs`: both sides have the same seeds' runs, in
    the same order, so that what a seed does to both falls out."""
    values = differences(_over_seeds(first), _over_seeds(second))
    if same_runs:
        return _estimate([values], languages, [[[differences(*pair) for pair in zip(first, second, strict=True)]]])
    return _estimate([values], languages, [[first], [second]])


def gain_over(
    first: Sequence[Answers],
    second: Sequence[Answers],
    languages: Sequence[str],
    parts: tuple[Callable[[str], bool], Callable[[str], bool]],
) -> Estimate:
    """By how much the gain of first over second is larger on one part of the problems than on another, disjoint one:
    the problems are others, the runs the same."""

    def on(part: Callable[[str], bool], seeds: Sequence[Answers]) -> list[Answers]:
        return only(seeds, lambda problem, _: part(problem))

    sides = [[on(part, seeds) for part in parts] for seeds in (first, second)]
    values = [differences(_over_seeds(a), _over_seeds(b)) for a, b in zip(*sides, strict=True)]
    return _estimate(values, languages, sides)


def _over_seeds(seeds: Sequence[Answers]) -> dict[tuple[str, str], float]:
    keys = set(seeds[0]).intersection(*seeds[1:])
    return {key: fmean(one[key] for one in seeds) for key in sorted(keys)}


def _estimate(
    values: Sequence[Answers], languages: Sequence[str], sides: Sequence[Sequence[Sequence[Answers]]]
) -> Estimate:
    """The first of the values' averages less the second, if there are two. They are of different problems; a side has
    the same seeds' answers for each of them."""
    averages = [average(one, languages) for one in values]
    value = averages[0].mean - sum(one.mean for one in averages[1:])
    if min(one.n for one in averages) < 2:
        return Estimate(value, math.nan, math.nan)  # one problem says nothing of others
    parts = [(one.stderr**2, one.n - 1) for one in averages]
    twice: list[tuple[float, int]] = []
    for side in sides:
        if (count := len(side[0])) < 2:
            continue
        means = np.zeros(count)
        for sign, kept, seeds in zip((1, -1), values, side, strict=False):
            # (seeds, problems): of each problem its share of the average
            table = np.array([_by_problem(one, kept, languages) for one in seeds])
            means += sign * table.mean(axis=1)
            rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
            freedom = (count - 1) * (table.shape[1] - 1)
            twice.append((float((rest**2).sum()) / freedom / table.size, freedom))
        parts.append((variance(means.tolist()) / count, count - 1))
    most = max(math.fsum(part for part, _ in parts[: len(averages)]), *(part for part, _ in parts))
    total = max(math.fsum(part for part, _ in parts) - math.fsum(part for part, _ in twice), most)
    spread = math.fsum(part**2 / freedom for part, freedom in (*parts, *twice))
    freedom = total**2 / spread if spread > 0 else float(averages[0].n - 1)
    return Estimate(value, math.sqrt(total), freedom)


def _by_problem(one: Answers, kept: Answers, languages: Sequence[str]) -> list[float]:
    """What each problem adds to the average over languages, times the number of problems, so that their mean is it."""
    counts = Counter(language for _, language in kept)
    problems = list(dict.fromkeys(problem for problem, _ in kept))
    return [
        len(problems)
        * sum(one[problem, code] / counts[code] for code in languages if (problem, code) in kept)
        / len(languages)
        for problem in problems
    ]


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
