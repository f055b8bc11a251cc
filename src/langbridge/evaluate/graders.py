"""How an answer is graded, in one form for the harness and for our samples."""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Grade:
    """output: the text that was written, or the most probable choice. extracted: the answer in it, None where there is
    none. correct: None where it cannot be told yet. extra: more measures of the same answer, each 0 or 1."""

    output: str
    extracted: str | None
    correct: bool | None
    extra: dict[str, float] = field(default_factory=dict)


class Grader(abc.ABC):
    """A family's rule. The harness calls it as `process_results`."""

    @abc.abstractmethod
    def grade(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Grade:
        """doc: a document. results: one text, or the log-probability and greediness of each choice."""

    def verdict(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Grade:
        """The earlier name of `grade`, which scripts of users have."""
        return self.grade(doc, results)

    def __call__(self, doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
        grade = self.grade(doc, results)
        scored = {} if grade.correct is None else {"accuracy": float(grade.correct)}
        return {**scored, **{name: float(value) for name, value in grade.extra.items()}}


class WrittenAnswer(Grader):
    """A written answer: `read(output, doc)` extracts it, and it is right where it is `doc["expected"]`, in any case."""

    def __init__(self, read: Callable[[str, Mapping[str, Any]], str | None]):
        self.read = read

    def grade(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Grade:
        (output,) = results
        found = self.read(output, doc)
        return Grade(output, found, found is not None and found.lower() == doc["expected"].lower())


class MostProbable(Grader):
    """The most probable choice, and as an extra measure the most probable one per character. named: the answer is the
    choice itself, not its index."""

    def __init__(self, *, named: bool = False):
        self.named = named

    def grade(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Grade:
        scores = [float(value) for value, _ in results]
        best = scores.index(max(scores))
        by_character = [score / len(choice) for score, choice in zip(scores, doc["choices"], strict=True)]
        normed = by_character.index(max(by_character)) == int(doc["label"])
        extracted = doc["choices"][best] if self.named else str(best)
        return Grade(doc["choices"][best], extracted, best == int(doc["label"]), {"accuracy_norm": float(normed)})


most_probable = MostProbable()
