"""X-CSQA's documents: a question with five answers, of which one is chosen in writing."""

from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.evaluate.answers import choice_letter, option_text
from langbridge.evaluate.benchmarks import Benchmark, HubPlace, dataset, read_rows, row_ids
from langbridge.evaluate.graders import WrittenAnswer
from langbridge.files import BadRow, text_field

XCSQA = Benchmark(
    "xcsqa",
    ("{code}/dev", "X-CSQA/{code}/dev", "X-CSR_datasets/X-CSQA/{code}/dev"),
    ("id", "question", "answerKey"),
    HubPlace("INK-USC/xcsr", "X-CSQA-{code}", "validation"),
)

_CODES = {"ja": "jap"}
"""Of the publisher, where they are not the language's own."""


def _read(output: str, doc: Any) -> str | None:
    letters = "ABCDEFGH"[: len(doc["choices"])]
    letter = choice_letter(output, letters, bare=True)
    if letter is None:
        named = option_text(output, doc["choices"])
        letter = None if named is None else letters[named]
    return letter


grader = WrittenAnswer(_read)


def load(language: str, data: Any = None, **_: Any) -> dict[str, Any]:
    """Of the published splits the one that has answers, `dev`."""
    found = read_rows(XCSQA, data, language=language, code=_CODES.get(language, language))
    documents = []
    for name, (where, row) in zip(row_ids(found), found.rows, strict=True):
        stem, labels, texts = _question(row["question"], where)
        if row["answerKey"] not in labels:
            raise LangBridgeError(f"{where}: expected an answerKey of {', '.join(labels)}, got {row['answerKey']!r}")
        options = "\n".join(f"({label}) {text}" for label, text in zip(labels, texts, strict=True))
        documents.append(
            {
                "id": name,
                "language": language,
                "prompt": f"{stem}\n{options}\nAnswer with the letter only.",
                "expected": row["answerKey"],
                "target": row["answerKey"],
                "choices": texts,
            }
        )
    return {"test": dataset(documents, found.origin)}


def _question(question: Any, where: str) -> tuple[str, list[str], list[str]]:
    """Stem, labels and texts. The choices are a list of both in the files, and two lists on the hub."""
    try:
        choices = question["choices"]
        if isinstance(choices, dict):
            choices = [dict(zip(choices, pair, strict=True)) for pair in zip(*choices.values(), strict=True)]
        labels, texts = ([text_field(one, name, where).strip() for one in choices] for name in ("label", "text"))
        stem = text_field(question, "stem", where).strip()
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadRow(f"{where}, field 'question': expected a stem and choices, got {question!r}") from error
    if labels != list("ABCDEFGH")[: len(labels)] or len(labels) < 2:
        raise BadRow(f"{where}, field 'question': expected choices A, B and so on, got {', '.join(labels) or 'none'}")
    return stem, labels, texts
