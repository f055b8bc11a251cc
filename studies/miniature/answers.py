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
from dataclasses import dataclass, replace
from statistics import fmean, variance
from typing import Protocol

import numpy as np
from scipy.stats import t

from langbridge.evaluate.report.statistics import average, differences
from studies.miniature.sizes import HIGH, LOW
from studies.real import shares

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
    def side(self) -> int:
        return int(np.sign(self.value))

    @property
    def p(self) -> float:
        """Two-sided, of no difference: below .05 where the interval leaves out zero."""
        if self.stderr == 0:
            return float(self.value == 0)
        return float(2 * t.sf(abs(self.value) / self.stderr, self.freedom))

    @property
    def at_floor(self) -> bool:
        """Whether a share is not surely above zero, by three standard errors: nothing is chosen or compared by it."""
        return not self.value > 3 * self.stderr

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
    """The values' average; a side has the answers of each of its seeds."""
    whole = average(values, languages)
    if whole.n < 2:
        return Estimate(whole.mean, math.nan, math.nan)  # one problem says nothing of others
    parts = [(whole.stderr**2, whole.n - 1)]
    twice: list[tuple[float, int]] = []
    for seeds in sides:
        if (count := len(seeds)) < 2:
            continue
        # (seeds, problems): of each problem its share of the average
        table = np.array([_by_problem(one, values, languages) for one in seeds])
        rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
        freedom = (count - 1) * (table.shape[1] - 1)
        twice.append((float((rest**2).sum()) / freedom / table.size, freedom))
        parts.append((variance(table.mean(axis=1).tolist()) / count, count - 1))
    total = max(
        math.fsum(part for part, _ in parts) - math.fsum(part for part, _ in twice), *(part for part, _ in parts)
    )
    spread = math.fsum(part**2 / freedom for part, freedom in (*parts, *twice))
    freedom = total**2 / spread if spread > 0 else float(whole.n - 1)
    return Estimate(whole.mean, math.sqrt(total), freedom)


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


class Found(Protocol):
    """What decides a claim: on which side of nothing it is (1, -1, 0), how likely so much is by chance, in words."""

    @property
    def side(self) -> int: ...

    @property
    def p(self) -> float: ...

    @property
    def points(self) -> str: ...


@dataclass(frozen=True)
class NotCompared:
    """There is nothing to compare: `points` says why."""

    points: str
    side: int = 0
    p: float = math.nan


@dataclass(frozen=True)
class Claim:
    """What is claimed, and what decides: it holds where that is above zero, and surely so.

    primary: one in each part, said before its runs were made, and judged by its own p. The part's others are judged
    together (`holm`)."""

    text: str
    measured: str
    """What the difference is of."""
    found: Found
    primary: bool = False
    adjusted: float | None = None
    """Its p among the others', by Holm."""

    @property
    def p(self) -> float:
        return self.found.p if self.adjusted is None else self.adjusted

    @property
    def verdict(self) -> str:
        if isinstance(self.found, NotCompared):
            return "not compared"
        side = self.found.side if self.p < 1 - LEVEL else 0  # nan is no sign of anything
        return {1: "holds", -1: "does not hold: the opposite does", 0: "not shown"}[side]

    def said(self) -> str:
        about = " (primary)" if self.primary else ""
        chance = "" if math.isnan(self.p) else f", p {said_p(self.p)}{' by Holm' if self.adjusted is not None else ''}"
        return f"{self.text}{about}: **{self.verdict}** in miniature. {self.measured}: {self.found.points}{chance}."


def said_p(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}".lstrip("0")


def holm(claims: Sequence[Claim]) -> list[Claim]:
    """The claims in their order; the p of those that are not primary holds for all of them together (Holm 1979)."""
    others = {place: one.found.p for place, one in enumerate(claims) if not (one.primary or math.isnan(one.found.p))}
    adjusted = shares.holm(others, planned=len(others))
    return [replace(one, adjusted=adjusted.get(place)) for place, one in enumerate(claims)]
