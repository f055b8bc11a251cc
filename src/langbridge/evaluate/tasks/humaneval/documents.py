"""HumanEval's documents, their judge, which only makes the program, and the scorer, which runs it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langbridge.evaluate.code import Sandbox, find_sandbox, run_all
from langbridge.evaluate.judging import Judge, Verdict
from langbridge.evaluate.runs import Sample
from langbridge.evaluate.sources import HubPlace, Source, dataset, read_rows, row_ids
from langbridge.evaluate.tasks.humaneval.problems import checks, corrected, program, repaired, source

_FIELDS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
ENGLISH = Source("humaneval", ("HumanEval.jsonl",), _FIELDS, HubPlace("openai/openai_humaneval", None), texts=_FIELDS)
TRANSLATED = Source("humaneval_mt", ("humaneval_{language}{ending}.jsonl",), _FIELDS, texts=_FIELDS)
NAMES = ("original", "plain", "anonymised", "corrected")


class ProgramJudge(Judge):
    """The program that an output makes of the problem; whether it passes is not known until it has run."""

    def verdict(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Verdict:
        (output,) = results
        return Verdict(output, source(dict(doc), output), None)


judge = ProgramJudge()


def load(language: str = "en", names: str = "original", data: Any = None, **_: Any) -> dict[str, Any]:
    """names: `original` (HumanEval itself), or HumanEval-MT's `plain` names of functions, `anonymised` ones as
    published, or anonymised and `corrected`."""
    assert names in NAMES, names
    ending = "" if names == "plain" else "_anon"
    found = read_rows(ENGLISH if names == "original" else TRANSLATED, data, language=language, ending=ending)
    documents = []
    for name, (_where, published) in zip(row_ids(found, "task_id"), found.rows, strict=True):
        row = corrected(published) if names == "corrected" else published
        documents.append(
            {
                "id": name,
                "language": language,
                "prompt": repaired(row["prompt"]),
                "entry_point": row["entry_point"],
                "expected": checks(row),
                "target": row["canonical_solution"],
            }
        )
    return {"test": dataset(documents, found.origin)}


def check_ready(*, unsafe_code: bool = False) -> None:
    """Raises `LangBridgeError` where programs could not be run here, before a model is asked for them."""
    find_sandbox(unsafe_code=unsafe_code)


def score(
    samples: Sequence[Sample],
    *,
    unsafe_code: bool = False,
    sandbox: Sandbox | None = None,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Sample]:
    """Samples with their programs run: `correct`, and the extra field `reason` that says how a program failed.

    Raises `LangBridgeError` where this machine has no sandbox and `unsafe_code` is not given.
    """
    chosen = sandbox or find_sandbox(unsafe_code=unsafe_code)
    programs = [program(sample.extracted or "", sample.expected) for sample in samples]
    verdicts = run_all(chosen, programs, workers=workers, progress=progress)
    return [
        replace(
            sample,
            correct=int(verdict.passed),
            extra={**sample.extra, "reason": verdict.reason, "sandbox": chosen.mechanism},
        )
        for sample, verdict in zip(samples, verdicts, strict=True)
    ]
