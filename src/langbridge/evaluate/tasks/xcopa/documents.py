"""XCOPA's documents: as a choice between two continuations, or as a question that is answered in writing."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.evaluate.answers import choice_letter, option_text
from langbridge.evaluate.benchmarks import Benchmark, HubPlace, dataset, read_rows, row_ids
from langbridge.evaluate.graders import WrittenAnswer

XCOPA = Benchmark(
    "xcopa",
    ("{language}/{split}.{language}", "data/{language}/{split}.{language}", "{split}.{language}",
     "{language}/{hub_split}-*"),
    ("premise", "choice1", "choice2", "question", "label"),
    HubPlace("cambridgeltl/xcopa", "{language}", "{hub_split}"),
    texts=("premise", "choice1", "choice2"),
)  # fmt: skip

# The words between premise and choice, (for a cause, for an effect): in each language as in its common prompt.
CONNECTORS = {
    "en": ("because", "so"), "et": ("sest", "seetõttu"), "ht": ("poukisa", "donk sa"), "id": ("karena", "maka"),
    "it": ("perché", "quindi"), "qu": ("imataq", "chaymi"), "sw": ("kwa sababu", "kwa hiyo"),
    "ta": ("காரணமாக", "எனவே"), "th": ("เพราะ", "ดังนั้น"), "tr": ("çünkü", "bu yüzden"), "vi": ("bởi vì", "vì vậy"),
    "zh": ("因为", "所以"),
}  # fmt: skip

FULL_STOPS = ".。!?！？"
"""Punctuation that is cut from the end of a premise before the connector."""

CORRECTIONS = Path(__file__).with_name("corrections.json")
"""By language and split the `idx` of rows that say "effect" where COPA, and so every other language, says "cause"."""


def read_choice(output: str, choices: Sequence[str]) -> str | None:
    """The letter of a choice, or a choice in full, as the index of the choice."""
    letter = choice_letter(output, "AB", bare=True)
    found = "AB".index(letter) if letter is not None else option_text(output, choices)
    return None if found is None else str(found)


written_grader = WrittenAnswer(lambda output, doc: read_choice(output, doc["choices"]))


def load(
    language: str,
    data: Any = None,
    form: str = "choice",
    corrected: bool = False,
    split: str = "test",
    frame: str | None = None,
    **_: Any,
) -> dict[str, Any]:
    """form: `choice` between continuations, or `written`. corrected: with wrong `question` fields corrected, and
    only full stops cut from premises. frame: the language of the connectors, where the rows were
    translated."""
    names = {"language": language, "split": split, "hub_split": {"val": "validation"}.get(split, split)}
    found = read_rows(XCOPA, data, **names)
    wrong = set(map(str, corrections().get(language, {}).get(split, []))) if corrected else set()
    documents = []
    for index, (where, row) in zip(row_ids(found, "idx"), found.rows, strict=True):
        question = "cause" if index in wrong else row["question"]
        if question not in ("cause", "effect") or type(row["label"]) is not int or row["label"] not in (0, 1):
            raise LangBridgeError(
                f"{where}: expected a question of 'cause' or 'effect' and a label of 0 or 1, got {row['question']!r} "
                f"and {row['label']!r}"
            )
        premise, choices = row["premise"].strip(), [row["choice1"].strip(), row["choice2"].strip()]
        if form == "choice":
            # The published code cuts the last character of every premise, which in Thai and Tamil is mostly a letter.
            start = premise if corrected and premise[-1] not in FULL_STOPS else premise[:-1]
            prompt = f"{start} {CONNECTORS[frame or language][question == 'effect']}"
            choices = [choice[0].lower() + choice[1:] for choice in choices]
        else:  # put in English to a model that writes, the sentences in their own language
            ask = "What was the cause of this?" if question == "cause" else "What happened as a result?"
            prompt = f"{premise}\n{ask}\n(A) {choices[0]}\n(B) {choices[1]}\nAnswer with A or B."
        documents.append(
            {
                "id": f"{split}/{index}",
                "language": language,
                "prompt": prompt,
                "expected": str(row["label"]),
                "target": choices[row["label"]] if form == "choice" else "AB"[row["label"]],
                "choices": choices,
                "label": row["label"],
                "question": question,
            }
        )
    return {"test": dataset(documents, found.origin)}


@cache
def corrections() -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = json.loads(CORRECTIONS.read_text(encoding="utf-8"))["wrong"]
    return found
