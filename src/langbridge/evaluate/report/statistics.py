"""Averages over languages with errors clustered by question, and differences of two runs.

The questions of a multilingual benchmark are translations of one another: a hard problem is hard in Swahili and in
German. Standard errors of averages over languages are therefore clustered by question (Miller 2024, *Adding Error Bars
to Evals*, arXiv 2411.00640). Taken as independent, 250 questions in eleven languages would pass for 2750.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from langbridge.errors import LangBridgeError
from langbridge.evaluate.scores import Score

Values = Mapping[tuple[str, str], float]
"""By (question, language): 1 or 0, or a mean over the samples of that question, or a difference of two such."""

RESAMPLES = 10_000
SEED = 1


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


def average(values: Values, languages: Sequence[str]) -> Score:
    """The mean over languages of each language's mean, with its standard error clustered by question.

    Every language has the same weight, regardless of its number of questions; for one language this is the ordinary
    mean with its standard error. `n` counts questions, not answers. The error of a single question is NaN.
    """
    table, present = _table(values, languages)
    counts = present.sum(axis=0)
    means = table.sum(axis=0) / counts
    # Each question's contribution to the deviation of the average, summed over its languages.
    parts = (np.where(present, table - means, 0.0) / (counts * len(languages))).sum(axis=1)
    n = len(parts)
    variance = n / (n - 1) * float(parts @ parts) if n > 1 else math.nan
    return Score(float(means.mean()), math.sqrt(variance), n)


def differences(first: Values, second: Values) -> dict[tuple[str, str], float]:
    """First minus second, for every question and language that both have."""
    return {key: first[key] - second[key] for key in first if key in second}


def bootstrap(
    values: Values, languages: Sequence[str], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """The percentile interval of `average`, by drawing questions with replacement, each with all its languages
    (Efron and Tibshirani 1993, *An Introduction to the Bootstrap*, chapter 13). The same for the same seed."""
    table, present = _table(values, languages)
    means = []
    for drawn in _draws(len(table), resamples, seed):
        draws = drawn.astype(float)
        counts = draws @ present
        # A language with few questions can be missing from a draw; the draw is then of the others.
        with np.errstate(invalid="ignore"):
            means.append(np.nanmean(draws @ table / counts, axis=1))
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return Interval(float(low), float(high))


@lru_cache(maxsize=2)
def _draws(n: int, resamples: int, seed: int) -> tuple[np.ndarray, ...]:
    """How often each of n questions is drawn, as (at most 1000 draws, n): the same for all cells of a table, and by far
    the most work of a bootstrap."""
    generator, small = np.random.default_rng(seed), np.min_scalar_type(n)
    return tuple(
        generator.multinomial(n, np.full(n, 1 / n), size=min(1000, resamples - start)).astype(small)
        for start in range(0, resamples, 1000)
    )


def languages_of(values: Iterable[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys(language for _, language in values))


def _table(values: Values, languages: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Values as (questions, languages), 0 where missing, and a mask of those present."""
    wanted = {language: column for column, language in enumerate(languages)}
    rows = {name: row for row, name in enumerate(dict.fromkeys(q for q, language in values if language in wanted))}
    table, present = np.zeros((len(rows), len(wanted))), np.zeros((len(rows), len(wanted)), dtype=bool)
    for (question, language), value in values.items():
        if language in wanted:
            table[rows[question], wanted[language]] = value
            present[rows[question], wanted[language]] = True
    empty = [language for language, column in wanted.items() if not present[:, column].any()]
    if empty or not wanted:
        raise LangBridgeError(
            f"an average over {', '.join(languages) or 'no languages'}: no scores in {', '.join(empty)}"
        )
    return table, present
