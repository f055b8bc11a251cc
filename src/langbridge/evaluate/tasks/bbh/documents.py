"""BIG-Bench Hard's documents, in English and in the layout of BBH-BN, and the rules that read an answer."""

import re
from collections.abc import Sequence
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.evaluate.answers import VALIDITY, YES_NO, choice_letter, option_text, word_choice
from langbridge.evaluate.benchmarks import Benchmark, BenchmarkRows, HubPlace, dataset, read_rows, row_ids
from langbridge.evaluate.graders import WrittenAnswer

SUBTASKS = {
    "causal_judgement": "yes_no", "date_understanding": "choice", "disambiguation_qa": "choice",
    "formal_fallacies": "validity", "logical_deduction_five_objects": "choice",
    "logical_deduction_seven_objects": "choice", "logical_deduction_three_objects": "choice", "navigate": "yes_no",
    "penguins_in_a_table": "choice", "reasoning_about_colored_objects": "choice", "snarks": "choice",
    "sports_understanding": "yes_no", "temporal_sequences": "choice", "web_of_lies": "yes_no",
}  # fmt: skip
"""The subtasks of logical reasoning, and how each is answered."""

ENGLISH = Benchmark(
    "bbh",
    ("{part}",),
    ("input", "target"),
    HubPlace("SaylorTwift/bbh", "{part}"),
    texts=("input", "target"),
    inside="examples",
)
BENGALI = Benchmark(
    "bbh_bn",
    ("{part}", "{published}-en-bn", "BBH-Bengali/{published}-en-bn", "BBH-Bengali/{part}", "*{part}*"),
    ("input_en", "options_en", "target_en", "input_bn", "options_bn"),
    texts=("input_en", "target_en", "input_bn"),
)

_IN_BENGALI = {f"logical_deduction_{n}_objects": f"logical_deductions_{n}" for n in ("three", "five", "seven")}
"""What BBH-BN's files call a subtask otherwise."""

COT = "Let's think step by step."

BENGALI_WORDS = {
    "yes_no": {"হ্যাঁ": "yes", "হ্যা": "yes", "না": "no"},
    "validity": {"বৈধ": "valid", "অবৈধ": "invalid", "বৈধ নয়": "invalid", "অবৈধ নয়": "valid"},
}
_OPTION = re.compile(r"\(([A-Z])\)\s*([^\n(]*)")


grader = WrittenAnswer(lambda output, doc: read_answer(output, doc["kind"], doc["options"]))


def read_answer(output: str, kind: str, options: Sequence[str]) -> str | None:
    """The answer in an output, in the form of `expected`: a letter, yes or no, valid or invalid."""
    if kind == "choice":
        letters = [chr(ord("A") + index) for index in range(len(options))]
        found = choice_letter(output, letters)
        if found is None:
            named = option_text(output, options)
            found = None if named is None else letters[named]
        return found
    words = YES_NO if kind == "yes_no" else VALIDITY
    return word_choice(output, {**words, **BENGALI_WORDS[kind]})


def load(part: str, language: str = "en", data: Any = None, **_: Any) -> dict[str, Any]:
    """One subtask, in English."""
    found = read_rows(ENGLISH, data, part=part, language=language)
    return _documents(found, part, language, [(row["input"], row["target"]) for _, row in found.rows])


def load_bengali(part: str, language: str, data: Any = None, **_: Any) -> dict[str, Any]:
    """One subtask of BBH-BN, in `bn` or in the English it was translated from; both have the same ids."""
    found = read_rows(BENGALI, data, part=part, published=_IN_BENGALI.get(part, part), language=language)
    pairs = []
    for _where, row in found.rows:
        text, options = row[f"input_{language}"].strip(), (row[f"options_{language}"] or "").strip()
        pairs.append((f"{text}\n{options}" if options and options not in text else text, row["target_en"]))
    return _documents(found, part, language, pairs)


def _documents(found: BenchmarkRows, part: str, language: str, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    if part not in SUBTASKS:
        raise LangBridgeError(f"bbh: got the subtask {part!r}, expected one of {', '.join(SUBTASKS)}")
    kind = SUBTASKS[part]
    documents = []
    for name, (where, _), (question, target) in zip(row_ids(found), found.rows, pairs, strict=True):
        options = [text.strip() for _, text in _OPTION.findall(question)] if kind == "choice" else []
        expected = expected_answer(target, kind, len(options), where)
        documents.append(
            {
                "id": f"{part}/{name}",
                "language": language,
                "prompt": f"Q: {question}\nA: {COT}",
                "expected": expected,
                "target": target,
                "kind": kind,
                "options": options,
            }
        )
    return {"test": dataset(documents, found.origin)}


def expected_answer(target: str, kind: str, options: int, where: str) -> str:
    """A gold answer in the form that `read_answer` gives; an error where it is none of the possible ones."""
    text = target.strip().strip("()").strip()
    if kind == "choice":
        possible = {chr(ord("A") + index) for index in range(options)}
        found = text.upper()
    else:
        possible = {"yes", "no"} if kind == "yes_no" else {"valid", "invalid"}
        found = text.lower()
    if found not in possible:
        raise LangBridgeError(f"{where}: expected one of {', '.join(sorted(possible))} as the answer, got {target!r}")
    return found
