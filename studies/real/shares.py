"""What measurements say: gains, reading shares, and intervals by the bootstrap.

gain     other - own, over all target tokens of all questions: what the right question is worth, in nats a token
share    a language's gain over that of English: how much of what is read of English is read of it
primary  the mean share over `PRIMARY`, languages that the language model does not know

A resample draws questions, the same for all languages and seeds, since they share questions and solutions; and seeds,
where there are several. With few seeds their part of an interval is rough.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.stats import spearmanr

from studies.real.reading import ENGLISH

PRIMARY = ("sw", "te", "bn", "th")
RESAMPLES = 2000
ALL, NUMBERS = "", "number_"
"""Which target tokens: the beginning of a measurement's keys."""


@dataclass(frozen=True)
class Estimate:
    """A value and the middle 95 per cent of its resamples. draws: value and resamples, (resamples + 1)."""

    draws: np.ndarray

    @property
    def value(self) -> float:
        return float(self.draws[0])

    @property
    def interval(self) -> tuple[float, float]:
        low, high = np.percentile(self.draws[1:], [2.5, 97.5])
        return float(low), float(high)

    @property
    def p(self) -> float:
        """Two-sided, that the value is 0: by how many resamples are on either side of it."""
        sides = ((self.draws[1:] <= 0).sum(), (self.draws[1:] >= 0).sum())
        return float(min(1.0, 2 * (min(sides) + 1) / len(self.draws)))

    def minus(self, other: "Estimate") -> "Estimate":
        """Of the same questions: both were taken on the same resamples of them."""
        return Estimate(self.draws - other.draws)

    def __str__(self) -> str:
        return "{:.2f} [{:.2f}, {:.2f}]".format(self.value, *self.interval)


@dataclass(frozen=True)
class Measurement:
    """One language's file."""

    found: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Measurement":
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def first(self, count: int) -> "Measurement":
        """Of the first questions alone; what was counted over all is left out."""
        kept = {key: value[:count] for key, value in self.found.items() if key.endswith(("own", "other", "tokens"))}
        return Measurement(kept)

    def mean(self, key: str, kind: str = ALL) -> float:
        """`own` or `other` in nats a token."""
        return sum(self.found[kind + key]) / sum(self.found[f"{kind}tokens"])

    def gain(self, kind: str = ALL) -> float:
        return self.mean("other", kind) - self.mean("own", kind)

    def part(self, key: str) -> float | None:
        """The share of `digits` or `words` found, None where none were asked for."""
        found, asked = self.found.get(key, (0, 0))
        return found / asked if asked else None


Languages = Mapping[str, Measurement]
"""A bridge's measurements by language."""

Name = TypeVar("Name", str, int)
"""Of a comparison, or its place."""


class Shares:
    """Of the same questions put to one arm's bridges, a mapping a seed, each with the same languages."""

    def __init__(self, seeds: Sequence[Languages], kind: str = ALL) -> None:
        self.seeds, self.kind = seeds, kind

    @cached_property
    def _draws(self) -> tuple[np.ndarray, np.ndarray]:
        """How often each question, (resamples + 1, questions), and each seed, (resamples + 1, seeds), is drawn. First,
        all once."""
        rng = np.random.default_rng(0)
        found = []
        for count in (len(self.seeds[0][ENGLISH].found["own"]), len(self.seeds)):
            drawn = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
            found.append(np.vstack([np.ones(count, dtype=drawn.dtype), drawn]))
        return found[0], found[1]

    def _gains(self, language: str) -> np.ndarray:
        """(resamples + 1, seeds), in nats a token."""
        columns = []
        for seed in self.seeds:
            one = seed[language].found
            differences = np.subtract(one[f"{self.kind}other"], one[f"{self.kind}own"])
            tokens = self._draws[0] @ np.asarray(one[f"{self.kind}tokens"])
            columns.append((self._draws[0] @ differences) / np.maximum(tokens, 1))
        return np.stack(columns, axis=1)

    def _estimate(self, by_seed: np.ndarray) -> Estimate:
        drawn = self._draws[1]
        return Estimate((by_seed * drawn).sum(1) / drawn.sum(1))

    def gain(self, languages: Sequence[str] = PRIMARY) -> Estimate:
        """The mean gain over languages."""
        return self._estimate(np.mean([self._gains(language) for language in languages], axis=0))

    def share(self, languages: Sequence[str] = PRIMARY) -> Estimate | None:
        """The mean share over languages; None where English itself is not shown to be read, so that nothing can be a
        share of it."""
        if self.gain([ENGLISH]).interval[0] <= 0:
            return None
        english = self._gains(ENGLISH)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._estimate(np.mean([self._gains(language) / english for language in languages], axis=0))


def holm(found: Mapping[Name, float], planned: int) -> dict[Name, float]:
    """P values corrected by Holm for `planned` comparisons, those that are not made yet included."""
    corrected: dict[Name, float] = {}
    largest = 0.0
    for place, name in enumerate(sorted(found, key=found.__getitem__)):
        largest = max(largest, min(1.0, (planned - place) * found[name]))
        corrected[name] = largest
    return corrected


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's; 0 where one side is constant, for which scipy's has no number."""
    constant = any(len(set(values)) < 2 for values in (first, second))
    return 0.0 if constant else float(spearmanr(first, second).statistic)
