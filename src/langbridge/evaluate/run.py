"""An evaluation from its suites to its folder: the harness runs the tasks, and what it found is written down."""

import copy
import dataclasses
import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langbridge.evaluate import runs
from langbridge.evaluate.graders import Grader
from langbridge.evaluate.harness import Bar, LangBridgeLM, place_among_processes
from langbridge.evaluate.runs import Run, Sample
from langbridge.evaluate.scores import mean_score
from langbridge.evaluate.suites import SuiteTask, quiet_harness
from langbridge.revision import versions
from langbridge.serve.engine import Engine

LIBRARIES = ("lm-eval", "torch", "transformers", "tokenizers", "datasets")
"""Those that a score depends on."""


def evaluate(
    engine: Engine,
    tasks: Sequence[SuiteTask],
    out: str | Path,
    *,
    limit: int | None = None,
    about: Mapping[str, Any] | None = None,
    unsafe_code: bool = False,
    bar: Bar | None = None,
) -> Run | None:
    """Ask all questions that are not answered yet, score, and write the folder `out` (`runs.py`).

    limit: so many questions of each task, the first ones. about: what else is to be known of the model.
    unsafe_code: let programs that the model wrote run without a sandbox.

    A folder with other settings is refused, one with the same goes on. Returns None in all processes but the first.
    """
    from lm_eval import evaluator

    if engine.chats:
        tasks = [_in_a_turn(one) for one in tasks]
    by_name = {one.task.task_name: one for one in tasks}
    out = Path(out).expanduser()
    rank, _ = place_among_processes()
    if rank == 0:
        asked = {name_of(one): _asked(one) for one in tasks}
        runs.begin(out, {"model": engine.identity, "limit": limit, "tasks": asked})
    lm = LangBridgeLM(engine, cache=out, tasks=by_name, bar=bar if rank == 0 else None)
    lm.barrier()
    loaded = {"tasks": {name: one.task for name, one in by_name.items()}, "groups": {}, "group_map": {}}
    with quiet_harness():
        found = evaluator.evaluate(lm, loaded, limit=limit, log_samples=True)
    notes = lm.gather_object(lm.notes)
    if found is None:
        return None
    gathered = {key: note for part in notes for key, note in part.items()}
    samples: dict[str, list[Sample]] = defaultdict(list)
    for name, one in by_name.items():
        rows = sorted(found["samples"][name], key=lambda row: int(row["doc_id"]))
        for row in rows:
            samples[one.suite] += _samples(one, row, gathered[name, row["doc_id"]])
    for one in {task.suite: task for task in tasks}.values():
        if one.scorer is not None:
            samples[one.suite] = pkgutil.resolve_name(one.scorer)(samples[one.suite], unsafe_code=unsafe_code)
    results = {
        "model": {**engine.about, **dict(about or {}), **engine.identity},
        "code": versions(LIBRARIES),
        "limit": limit,
        "tasks": {suite: _summary(suite, rows, tasks) for suite, rows in samples.items()},
        "harness": {key: found.get(key) for key in ("results", "versions", "n-shot", "higher_is_better", "n-samples")},
    }
    return runs.finish(out, results, samples)


def name_of(task: SuiteTask) -> str:
    return "/".join(filter(None, (task.suite, task.language, task.part)))


def _in_a_turn(one: SuiteTask) -> SuiteTask:
    """Without stops at the beginning of a line. They end what a base model goes on with (a program: the next function);
    a chat model ends its turn itself, and would be cut at the first line of the function that it was asked for."""
    generation = one.task.config.generation_kwargs or {}
    kept = [text for text in generation.get("until", []) if not text.startswith("\n")]
    if kept == generation.get("until", []):
        return one
    task = copy.copy(one.task)
    task._config = dataclasses.replace(one.task.config, generation_kwargs={**generation, "until": kept})
    return dataclasses.replace(one, task=task)


def _asked(one: SuiteTask) -> dict[str, Any]:
    """What of a task an answer depends on."""
    config = one.task.config
    generation = config.generation_kwargs if one.task.OUTPUT_TYPE == "generate_until" else None
    settings = {"shots": config.num_fewshot or 0, "generation": generation, "repeats": config.repeats}
    return {"version": one.task.VERSION, "data": one.origin, **settings}


def _samples(one: SuiteTask, row: Mapping[str, Any], note: Mapping[str, Any]) -> list[Sample]:
    """The samples of one question: one, or one each time that it was sampled."""
    doc, grader = row["doc"], one.task.config.process_results
    written = one.task.OUTPUT_TYPE == "generate_until"
    repeats = one.task.config.repeats if written else 1
    found = []
    for place in range(repeats):
        results = [row["resps"][0][place]] if written else [answers[0] for answers in row["resps"]]
        extra: dict[str, Any] = {"prompt_cut": bool(note["prompt_cut"])}
        if written:
            extra["cut_off"] = bool(note["cut_off"][place])
        if note["way"] is not None:
            extra["way"] = note["way"]
        if one.part is not None:
            extra["part"] = one.part
        if repeats > 1:
            extra["repeat"] = place
        output, extracted, correct = results[0], None, None
        if isinstance(grader, Grader):
            grade = grader.grade(doc, results)
            output, extracted, correct = grade.output, grade.extracted, grade.correct
            extra |= grade.extra
        if not written:
            extra["loglikelihoods"] = [value for value, _ in results]
        mark = None if correct is None else int(correct)
        asked = (one.suite, one.language, str(doc["id"]), note["prompt"], str(doc["expected"]))
        found.append(Sample(*asked, output, extracted, mark, extra))
    return found


def _summary(suite: str, samples: Sequence[Sample], tasks: Sequence[SuiteTask]) -> dict[str, Any]:
    own = [one for one in tasks if one.suite == suite]
    languages = {}
    for language in dict.fromkeys(one.language for one in own):
        rows = [sample for sample in samples if sample.language == language]
        parts = {one.part: one for one in own if one.language == language}
        summary = _figures(rows)
        if len(parts) > 1:
            summary["parts"] = {
                part: _figures([row for row in rows if row.extra.get("part") == part]) for part in parts
            }
        summary["data"] = {part or suite: one.origin for part, one in parts.items()}
        languages[language] = summary
    asked = _asked(own[0])
    return {
        **{key: asked[key] for key in ("version", "shots", "generation", "repeats")},
        "example_prompt": samples[0].prompt if samples else None,
        "languages": languages,
    }


def _figures(rows: Sequence[Sample]) -> dict[str, Any]:
    """Accuracy with its standard error over questions, more measures of the same answers, and what went wrong."""
    scored = [row for row in rows if row.correct is not None]
    figures: dict[str, Any] = _accuracy((row.id, float(row.correct or 0)) for row in scored)
    figures |= {
        "unscored": len(rows) - len(scored),
        "unanswered": sum(row.extracted is None for row in scored),
        "prompts_cut": sum(bool(row.extra.get("prompt_cut")) for row in rows),
        "answers_cut_off": sum(bool(row.extra.get("cut_off")) for row in rows),
    }
    if ways := [row.extra["way"] for row in rows if "way" in row.extra]:
        figures["read_as_text"] = ways.count("text")
    for name in sorted({key for row in rows for key in row.extra if key.startswith("accuracy_")}):
        figures[name] = _accuracy((row.id, float(row.extra[name])) for row in rows if name in row.extra)
    return figures


def _accuracy(marks: Iterable[tuple[str, float]]) -> dict[str, Any]:
    """marks: (question, mark) of each sample. Samples of one question are not independent: their mean counts once."""
    by_question: dict[str, list[float]] = defaultdict(list)
    for name, mark in marks:
        by_question[name].append(mark)
    if not by_question:
        return {"accuracy": None, "stderr": None, "n": 0}
    score = mean_score([sum(found) / len(found) for found in by_question.values()])
    return {"accuracy": score.mean, "stderr": score.stderr if score.n > 1 else None, "n": score.n}


def check_scorers(tasks: Sequence[SuiteTask], unsafe_code: bool) -> None:
    """Ask a suite's scorer, before anything is generated, whether it can score here. Raises `LangBridgeError`."""
    for name in dict.fromkeys(one.scorer for one in tasks if one.scorer):
        ready = getattr(importlib.import_module(name.partition(":")[0]), "check_ready", None)
        if ready is not None:
            ready(unsafe_code=unsafe_code)
