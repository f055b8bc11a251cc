"""The world as JSONL files, which the ordinary commands read."""

from pathlib import Path
from typing import Any

from langbridge.files import write_atomically, write_jsonl
from langbridge.miniature import world
from langbridge.miniature.grammar import LANGUAGES

SUITE = "miniature"
"""The name by which the problems are evaluated."""

_SUITE = f"""\
suite: {SUITE}
files: '*.jsonl'
question: question
answer: answer
"""


def training_rows(count: int, *, first: int = 0) -> list[dict[str, str]]:
    """English problems of the train split with their solutions, as `query` and `response`."""
    return [
        {"id": problem.id, "query": world.render(problem, "en"), "response": world.solution(problem)}
        for problem in world.problems("train", count, first)
    ]


def held_out_rows(language: str, count: int, *, split: str = "test") -> list[dict[str, Any]]:
    """Problems in a language with the number to be found; the same id is the same problem in every language.

    `guess` is the rate at which a reader of the numbers alone finds it (`world.guess_rate`).
    """
    return [
        {
            "id": problem.id,
            "language": language,
            "question": world.render(problem, language),
            "answer": problem.answer,
            "guess": world.guess_rate(problem),
        }
        for problem in world.problems(split, count)
    ]


def write_training(path: Path, count: int) -> None:
    write_jsonl(path, training_rows(count))


def write_tests(folder: Path, count: int) -> None:
    """One file a language, `FOLDER/LANGUAGE.jsonl`, and the suite."""
    for language in LANGUAGES:
        write_jsonl(folder / f"{language}.jsonl", held_out_rows(language, count))
    write_suite(folder)


def write_suite(folder: Path) -> None:
    """The description by which `langbridge evaluate` takes a folder's files for a suite, `FOLDER/miniature.yaml`."""
    write_atomically(folder / f"{SUITE}.yaml", _SUITE)
