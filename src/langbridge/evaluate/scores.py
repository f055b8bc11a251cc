"""Scores with their standard errors. `answers.py` extracts the answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from langbridge.errors import LangBridgeError


@dataclass(frozen=True)
class Score:
    """A mean with the standard error of that mean (NaN for a single answer) and its count."""

    mean: float
    stderr: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.stderr:.3f} (n={self.n})"


def stated_error(stderr: float | None, form: str = " ± {}") -> str:
    """A standard error in per cent. Empty for a single answer, and where all answers are right or none is: their spread
    says nothing there of how sure the score is."""
    return form.format(f"{100 * stderr:.1f}") if stderr and stderr > 0 else ""


def accuracy(correct: Sequence[bool]) -> Score:
    """The share of correct answers, and its sample standard error, sqrt(p (1 - p) / (n - 1))."""
    return mean_score([float(answer) for answer in correct])


def difference(first: Sequence[bool], second: Sequence[bool]) -> Score:
    """First minus second on the same problems in the same order; the error is that of the pairs.

    Two systems fail on the same hard problems, so this is smaller than the errors of both added up.
    """
    if len(first) != len(second):
        raise LangBridgeError(f"difference: expected the same problems twice, got {len(first)} and {len(second)}")
    return mean_score([float(a) - float(b) for a, b in zip(first, second, strict=True)])


def mean_score(values: Sequence[float]) -> Score:
    """The mean of values, one a question, and its sample standard error."""
    n = len(values)
    if n == 0:
        raise LangBridgeError("a score needs at least one answer, got none")
    mean = math.fsum(values) / n
    if n == 1:
        return Score(mean, math.nan, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Score(mean, math.sqrt(variance / n), n)
