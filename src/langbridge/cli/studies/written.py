"""The data of a study, as files that the ordinary commands read."""

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from langbridge.cli.studies.runs import Run
from langbridge.cli.studies.sizes import Sizes
from langbridge.files import write_jsonl

if TYPE_CHECKING:
    from langbridge.miniature.world import Problem


def write_problems(out: Path, sizes: Sizes) -> None:
    """The held-out problems in every language, English validation problems, and parallel ones."""
    from langbridge.miniature import world
    from langbridge.miniature.dataset import held_out_rows, write_suite
    from langbridge.miniature.grammar import LANGUAGES

    for split, languages, count in (
        ("test", LANGUAGES, sizes.problems),
        ("validation", ("en",), sizes.validation),
    ):
        for language in languages:
            path = out / "data" / split / f"{language}.jsonl"
            if not path.is_file():
                write_jsonl(path, held_out_rows(language, count, split=split))
        write_suite(out / "data" / split)
    path = out / "data" / "parallel.jsonl"
    if not path.is_file():
        # Validation problems: what predicts the answers is not measured on the problems that were answered.
        problems = list(world.problems("validation", sizes.sentences))
        write_jsonl(
            path,
            (
                {"id": problem.id, "lang": language, "text": world.render(problem, language)}
                for language in LANGUAGES
                for problem in problems
            ),
        )


def write_training(out: Path, run: Run) -> None:
    """A run's training file. Its name says what is in it:

    en-N         N English problems with their solutions
    eventsK-N    the same, problems of K events alone
    text-N       the same as plain text, problem and solution in one
    all-N        N problems in all languages in turn, each in one of them
    held-out     English problems of the validation split, for the reading score
    """
    if run.model == "language_model":
        return
    for name in [run.data, *(["held-out"] if run.held_out else [])]:
        path = out / "data" / "train" / f"{name}.jsonl"
        if not path.is_file():
            write_jsonl(path, _rows(name))


def _rows(name: str) -> list[dict[str, str]]:
    from langbridge.miniature import world
    from langbridge.miniature.dataset import training_rows
    from langbridge.miniature.grammar import LANGUAGES
    from langbridge.miniature.language_model import SEPARATOR

    if name == "held-out":
        # Behind those that settings are chosen by and states are compared on.
        problems = list(world.problems("validation", 64, first=1000))
        return [{"query": world.render(one, "en"), "response": world.solution(one)} for one in problems]
    kind, _, number = name.partition("-")
    count = int(number)
    if match := re.fullmatch(r"events(\d)", kind):
        chosen: list[dict[str, str]] = []
        place = 0
        while len(chosen) < count:
            few = list(world.problems("train", 200, first=place))
            rows = training_rows(200, first=place)
            chosen += [row for row, one in zip(rows, few, strict=True) if len(one.events) == int(match[1])]
            place += 200
        return chosen[:count]
    rows = training_rows(count)
    if kind == "text":
        return [{"text": row["query"] + SEPARATOR + row["response"]} for row in rows]
    if kind == "all":
        languages = [LANGUAGES[index % len(LANGUAGES)] for index in range(count)]
        return [
            {"query": world.render(problem, language), "response": world.solution(problem)}
            for problem, language in zip(world.problems("train", count), languages, strict=True)
        ]
    assert kind == "en", name
    return rows


@cache
def events_of(problem: str) -> int:
    """How many events a problem has, by its id, such as test-17."""
    return len(problem_of(problem).events)


def problem_of(name: str) -> "Problem":
    """The problem with this id."""
    from langbridge.miniature import world

    split, _, index = name.rpartition("-")
    return world.problem(split, int(index))
