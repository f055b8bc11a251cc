"""HumanEval's documents, their grader, which only makes the program, and the scorer, which runs it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langbridge.evaluate.benchmarks import Benchmark, HubPlace, dataset, read_rows, row_ids
from langbridge.evaluate.code import Sandbox, find_sandbox, run_all
from langbridge.evaluate.graders import Grade, Grader
from langbridge.evaluate.runs import Sample
from langbridge.evaluate.tasks.humaneval.problems import checks, corrected, entry_point, program, repaired, source
from langbridge.files import BadRow, text_field

_FIELDS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
ENGLISH = Benchmark(
    "humaneval",
    ("HumanEval", "data/HumanEval", "openai_humaneval/test-*"),
    _FIELDS,
    HubPlace("openai/openai_humaneval", None),
    texts=_FIELDS,
)
TRANSLATED = Benchmark(
    "humaneval_mt",
    ("humaneval_{language}{ending}", "humaneval_{name}{ending}", "humaneval/humaneval_{name}{ending}"),
    _FIELDS,
    texts=_FIELDS,
)
SCORER = "langbridge.evaluate.tasks.humaneval.documents:score"
NAMES = ("original", "plain", "anonymised", "corrected")


class ProgramGrader(Grader):
    """The program that an output makes of the problem; whether it passes is not known until it has run."""

    def grade(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Grade:
        (output,) = results
        return Grade(output, source(dict(doc), output), None)


grader = ProgramGrader()


def load(language: str = "en", names: str = "original", data: Any = None, **_: Any) -> dict[str, Any]:
    """names: `original` (HumanEval itself), or HumanEval-MT's `plain` names of functions, `anonymised` ones as
    published, or anonymised and `corrected`."""
    assert names in NAMES, names
    ending = "" if names == "plain" else "_anon"
    found = read_rows(ENGLISH if names == "original" else TRANSLATED, data, language=language, ending=ending)
    documents = []
    for name, (where, published) in zip(row_ids(found, "task_id"), found.rows, strict=True):
        row = corrected(published) if names == "corrected" else published
        documents.append({"id": name, "language": language, **program_document(row, where)})
    return {"test": dataset(documents, found.origin)}


def program_document(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A problem as published, `entry_point` and all or without it, as the grader and the scorer need it.

    Raises `BadRow` where there is nothing to call or no test to call it.
    """
    name = row.get("entry_point") or entry_point(row["prompt"])
    if name is None:
        raise BadRow(f"{where}: has no field 'entry_point', and no function is begun in the prompt: {row['prompt']!r}")
    for field in ("test", "canonical_solution"):
        text_field(row, field, where)
    if not re.search(r"^def check\(", row["test"], re.MULTILINE):
        raise BadRow(f"{where}, field 'test': expected a function check(candidate), got {row['test'][:80]!r}")
    return {
        "prompt": repaired(row["prompt"]),
        "entry_point": name,
        "expected": checks({**row, "entry_point": name}),
        "target": row["canonical_solution"],
    }


def check_ready(*, unsafe_code: bool = False) -> None:
    """Raises `LangBridgeError` where programs cannot be run on this machine; called before the model is loaded."""
    find_sandbox(unsafe_code=unsafe_code)


def score(samples: Sequence[Sample], *, unsafe_code: bool = False, sandbox: Sandbox | None = None) -> list[Sample]:
    """Samples with their programs run: `correct`, and the extra field `reason` that says how a program failed.

    Raises `LangBridgeError` where this machine has no sandbox and `unsafe_code` is not given.
    """
    chosen = sandbox or find_sandbox(unsafe_code=unsafe_code)
    programs = [program(sample.extracted or "", sample.expected) for sample in samples]
    scored = []
    for sample, verdict in zip(samples, run_all(chosen, programs), strict=True):
        extra = {**sample.extra, "reason": verdict.reason, "sandbox": chosen.mechanism}
        scored.append(replace(sample, correct=int(verdict.passed), extra=extra))
    return scored
