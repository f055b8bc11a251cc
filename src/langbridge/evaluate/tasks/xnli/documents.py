"""XNLI's and AfriXNLI's documents: whether a premise entails a hypothesis, contradicts it, or neither; in writing."""

from collections.abc import Callable
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.evaluate.answers import word_choice
from langbridge.evaluate.benchmarks import Benchmark, BenchmarkRows, HubPlace, dataset, read_rows, row_ids
from langbridge.evaluate.graders import WrittenAnswer

_FIELDS = ("premise", "hypothesis", "label")

XNLI = Benchmark(
    "xnli",
    ("{language}/test*", "xnli.test", "XNLI-1.0/xnli.test"),
    _FIELDS,
    HubPlace("facebook/xnli", "{language}"),
    texts=("premise", "hypothesis"),
    aliases={"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
)
AFRIXNLI = Benchmark(
    "afrixnli",
    ("{language}/test", "africanli/{language}/test", "IrokoBench/africanli/{language}/test"),
    _FIELDS,
    HubPlace("masakhane/afrixnli", "{language}"),
    texts=("premise", "hypothesis"),
)

LABELS = ("entailment", "neutral", "contradiction")
"""In the order of their numbers on the hub."""

_NUMBERED = {str(number): label for number, label in enumerate(LABELS)}
"""As text, since a CSV file has no numbers."""

_WRITTEN_AS = {
    **{label: label for label in LABELS},
    "entails": "entailment", "contradicts": "contradiction", "contradictory": "contradiction",
    "neither": "neutral",
}  # fmt: skip

grader = WrittenAnswer(lambda output, doc: word_choice(output, _WRITTEN_AS, bare=True))


def _loader(source: Benchmark) -> Callable[..., dict[str, Any]]:
    def load(language: str, data: Any = None, **_: Any) -> dict[str, Any]:
        found = read_rows(source, data, language=language)
        # As first published, all languages are in one file.
        rows = [(where, row) for where, row in found.rows if row.get("language", language) == language]
        if not rows:
            raise LangBridgeError(f"{found.origin.get('file')}: has no rows with the language {language!r}")
        documents = []
        for name, (where, row) in zip(row_ids(BenchmarkRows(rows), "pairID"), rows, strict=True):
            label = _NUMBERED.get(str(row["label"]), row["label"])
            if label not in LABELS:
                raise LangBridgeError(
                    f"{where}: expected a label of {', '.join(LABELS)}, or 0, 1 or 2, got {row['label']!r}"
                )
            documents.append(
                {
                    "id": name,
                    "language": language,
                    "prompt": f"Premise: {row['premise'].strip()}\nHypothesis: {row['hypothesis'].strip()}\n"
                    f"Does the premise entail the hypothesis? Answer with {LABELS[0]}, {LABELS[1]} or {LABELS[2]}.",
                    "expected": label,
                    "target": label,
                }
            )
        return {"test": dataset(documents, found.origin)}

    return load


load_xnli = _loader(XNLI)
load_afrixnli = _loader(AFRIXNLI)
