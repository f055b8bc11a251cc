"""What a family's judge says of an answer, in one form for the harness and for our samples."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """output: what was written, or the choice that was most probable. extracted: the answer in it, None where there is
    none. correct: None where it cannot be scored here. extra: more figures of the same answer, each 0 or 1."""

    output: str
    extracted: str | None
    correct: bool | None
    extra: dict[str, float] = field(default_factory=dict)


class Judge(abc.ABC):
    """A family's rule. The harness calls it as `process_results`."""

    @abc.abstractmethod
    def verdict(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Verdict:
        """doc: a document. results: one text, or the log-probability and greediness of each choice."""

    def __call__(self, doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
        verdict = self.verdict(doc, results)
        scored = {} if verdict.correct is None else {"accuracy": float(verdict.correct)}
        return {**scored, **{name: float(value) for name, value in verdict.extra.items()}}


class ChoiceJudge(Judge):
    """The most probable choice; beside it the most probable one by character. named: an answer is the choice itself,
    not its place."""

    def __init__(self, *, named: bool = False):
        self.named = named

    def verdict(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Verdict:
        scores = [float(value) for value, _ in results]
        lengths = [len(choice) for choice in doc["choices"]]
        best = scores.index(max(scores))
        by_character = [score / length for score, length in zip(scores, lengths, strict=True)]
        normed = by_character.index(max(by_character)) == int(doc["label"])
        extracted = doc["choices"][best] if self.named else str(best)
        return Verdict(doc["choices"][best], extracted, best == int(doc["label"]), {"accuracy_norm": float(normed)})


choice_judge = ChoiceJudge()
