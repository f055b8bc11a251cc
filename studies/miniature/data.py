"""The data of a study, as files that the ordinary commands read."""

import itertools
import re
from functools import cache
from pathlib import Path

from langbridge.files import write_jsonl
from langbridge.miniature import world
from langbridge.miniature.dataset import held_out_rows, training_rows, write_suite
from langbridge.miniature.grammar import LANGUAGES
from langbridge.miniature.language_model import SEPARATOR
from studies.miniature.runs import Run
from studies.miniature.sizes import READING_ROWS, Sizes


def write_problems(out: Path, sizes: Sizes) -> None:
    """The held-out problems in every language, English validation problems, and parallel ones."""
    for split, languages, count in (("test", LANGUAGES, sizes.problems), ("validation", ("en",), sizes.validation)):
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
            write_jsonl(path, rows_of(name))


def rows_of(name: str) -> list[dict[str, str]]:
    if name == "held-out":
        # Behind those that settings are chosen by and states are compared on.
        problems = list(world.problems("validation", READING_ROWS, first=1000))
        return [{"query": world.render(one, "en"), "response": world.solution(one)} for one in problems]
    kind, _, number = name.partition("-")
    count = int(number)
    if match := re.fullmatch(r"events(\d)", kind):
        all_rows = (training_rows(1, first=index)[0] for index in itertools.count())
        return list(itertools.islice((row for row in all_rows if events_of(row["id"]) == int(match[1])), count))
    rows = training_rows(count)
    if kind == "text":
        return [{"text": row["query"] + SEPARATOR + row["response"]} for row in rows]
    if kind == "all":
        return [
            {"query": world.render(problem, LANGUAGES[index % len(LANGUAGES)]), "response": world.solution(problem)}
            for index, problem in enumerate(world.problems("train", count))
        ]
    assert kind == "en", name
    return rows


@cache
def events_of(problem: str) -> int:
    """How many events a problem has, by its id, such as test-17."""
    return len(problem_of(problem).events)


def problem_of(name: str) -> world.Problem:
    """The problem with this id."""
    split, _, index = name.rpartition("-")
    return world.problem(split, int(index))
