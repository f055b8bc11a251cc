"""The folder of an evaluation: settings, every answer, and the scores.

    run.json            settings, and the fingerprint that a continued run must share; written first
    responses*.jsonl    the model's answers so far, kept by `responses.py` so that a run can be continued
    samples_TASK.jsonl  one row a question
    results.json        scores, and everything needed to say how they were made; written last

Readers of an evaluation, such as reports, read this folder and never import what made it.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.files import read_jsonl, write_atomically, write_jsonl
from langbridge.serve.engine import digest

SETTINGS, RESULTS = "run.json", "results.json"
FORMAT = 1
"""Of all files of the folder; readers refuse other formats."""


@dataclass(frozen=True)
class Sample:
    """One question and its answer."""

    task: str
    """The suite, such as `mgsm`; the languages of a suite share it."""
    language: str
    id: str
    """The same in every language for the same question: scores are clustered and paired by it."""
    prompt: str
    """What the model was given, few-shot examples and template included."""
    expected: str
    output: str
    """What the model wrote, up to its stop; of a choice, the text that was chosen."""
    extracted: str | None
    """The answer as found in the output; None where there is none."""
    correct: int | None
    """1, 0, or None where it could not be scored."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Fields that only this task has; in the file they are on the same level as the others."""

    def as_json(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in _FIELDS}, **self.extra}

    @classmethod
    def from_json(cls, row: Mapping[str, Any], where: str) -> "Sample":
        missing = [name for name in _FIELDS if name not in row]
        if missing:
            raise LangBridgeError(f"{where}: expected a sample, but it lacks {', '.join(missing)}")
        if row["correct"] not in (0, 1, None):
            raise LangBridgeError(f"{where}, field 'correct': expected 1, 0 or null, got {row['correct']!r}")
        extra = {name: value for name, value in row.items() if name not in _FIELDS}
        return cls(**{name: row[name] for name in _FIELDS}, extra=extra)


_FIELDS = tuple(f.name for f in fields(Sample) if f.name != "extra")


@dataclass(frozen=True)
class Run:
    """A finished evaluation, as read from its folder. name: what a report calls it."""

    folder: Path
    results: dict[str, Any]
    name: str = ""

    @classmethod
    def read(cls, folder: str | Path, name: str = "") -> "Run":
        """Raises `LangBridgeError` where the folder holds no finished evaluation. name: the folder's unless given."""
        folder = Path(folder).expanduser()
        path = folder / RESULTS
        if not path.is_file():
            if (folder / SETTINGS).is_file():
                raise LangBridgeError(
                    f"{folder}: the evaluation is not finished; run the same command again to continue it"
                )
            raise LangBridgeError(f"{folder}: no {RESULTS} in it, so it is not the folder of an evaluation")
        return cls(folder, read_json(path), name or folder.resolve().name)

    @property
    def tasks(self) -> list[str]:
        return list(self.results["tasks"])

    def languages(self, task: str) -> list[str]:
        return list(self.results["tasks"][task]["languages"])

    def samples(self, task: str, language: str | None = None) -> list[Sample]:
        """Of a task, or of a task in one language, in the order of the questions."""
        if task not in self.results["tasks"]:
            raise LangBridgeError(f"{self.folder}: no task {task!r}; it has {', '.join(self.tasks)}")
        path = self.folder / samples_name(task)
        found = [Sample.from_json(row, f"{path}, row {number}") for number, row in read_jsonl(path)]
        return [sample for sample in found if language in (None, sample.language)]


def samples_name(task: str) -> str:
    return f"samples_{task}.jsonl"


def begin(folder: str | Path, settings: Mapping[str, Any]) -> str:
    """Start a run in a folder, or continue the one in it; returns its fingerprint.

    `settings` is everything that can change an answer. Raises `LangBridgeError` where the folder holds a run with
    other settings, and names those that differ.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise LangBridgeError(f"--out: {folder} is a file, expected a folder")
    settings = json.loads(json.dumps(settings))  # as it will be read back: tuples are lists
    path = folder / SETTINGS
    if not path.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise LangBridgeError(f"--out: {folder} holds other files and no evaluation; give a new folder")
        write_json(path, {"format": FORMAT, "fingerprint": digest(settings), "settings": settings})
        return digest(settings)
    recorded = read_json(path)
    differences = _grouped(_differences(recorded["settings"], settings))
    if differences:
        raise LangBridgeError(
            f"--out: {folder} holds an evaluation with other settings: {'; '.join(differences)}. "
            "Answers are not mixed: give the same settings, or another folder"
        )
    return str(recorded["fingerprint"])


def finish(folder: str | Path, results: Mapping[str, Any], samples: Mapping[str, Iterable[Sample]]) -> Run:
    """Write a run's samples by task, then its results, and return it."""
    folder = Path(folder).expanduser()
    for task, rows in samples.items():
        write_jsonl(folder / samples_name(task), (row.as_json() for row in rows))
    write_json(folder / RESULTS, {"format": FORMAT, **results})
    return Run.read(folder)


def _differences(old: Any, new: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """(place, what happened there) of all that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if key in old and key in new:
                yield from _differences(old[key], new[key], (*place, key))
            elif isinstance(old.get(key, new.get(key)), dict):
                yield (*place, key), "is new" if key in new else "is gone"  # all of it would fill pages
            else:
                yield (*place, key), f"was {old.get(key)!r} and is {new.get(key)!r}"
    elif old != new:
        yield place, f"was {old!r} and is {new!r}"


def _grouped(differences: Iterable[tuple[tuple[str, ...], str]]) -> list[str]:
    """One clause for each change: what changed alike, such as a setting in all languages, is named once."""
    groups: dict[Any, list[tuple[str, ...]]] = defaultdict(list)
    for place, what in differences:
        # Tasks differ in the second part of a place: `tasks`, `mgsm/sw`, `generation`, `max_gen_toks`.
        groups[("tasks", *place[2:]) if place[0] == "tasks" else place, what].append(place)
    found = []
    for (_, what), (first, *more) in groups.items():
        clause = f"{'.'.join(first)} {what}"
        if more and len(first) == 2:  # whole tasks
            clause = f"tasks.{', '.join(place[1] for place in (first, *more))} {what.replace('is', 'are', 1)}"
        elif more:
            clause += f" (the same in {len(more)} more tasks)"
        found.append(clause)
    return sorted(found)


def read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LangBridgeError(f"{path}: broken JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        written = found.get("format") if isinstance(found, dict) else type(found).__name__
        raise LangBridgeError(f"{path}: expected format {FORMAT}, got {written!r}; another version wrote it")
    return found


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n")
