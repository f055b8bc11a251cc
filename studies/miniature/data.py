"""The data of a study, as files that the ordinary commands read."""

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean

from transformers import AutoTokenizer

from langbridge.files import write_jsonl
from langbridge.miniature import parents, world
from langbridge.miniature.dataset import held_out_rows, training_rows, write_suite
from langbridge.miniature.grammar import LANGUAGES
from langbridge.miniature.language_model import SEPARATOR
from studies.miniature.runs import Run
from studies.miniature.sizes import READING_ROWS, Sizes

COUNTED = 500
"""Examples that a kind's tokens are counted on."""


def write_problems(out: Path, sizes: Sizes) -> None:
    """The held-out problems and the validation problems in every language, and parallel ones."""
    for split, count in (("test", sizes.problems), ("validation", max(sizes.validation, sizes.curve_problems))):
        for language in LANGUAGES:
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
    eventsK-T-N  the same, problems of K events alone, of which each says when (T: timed) or none does (plain)
    text-N       the same as plain text, problem and solution in one
    all-N        N problems in all languages in turn, each in one of them
    held-out     English problems of the validation split, for the reading score
    """
    if run.model == "language_model":
        return
    for name in filter(None, (run.data, run.start_data, "held-out" if run.reads else None)):
        path = out / "data" / "train" / f"{name}.jsonl"
        if not path.is_file():
            write_jsonl(path, rows_of(name))


def rows_of(name: str) -> list[dict[str, str]]:
    if name == "held-out":
        # Behind those that settings are chosen by and states are compared on.
        problems = list(world.problems("validation", READING_ROWS, first=1000))
        return [{"query": world.render(one, "en"), "response": world.solution(one)} for one in problems]
    kind, _, number = name.rpartition("-")
    count = int(number)
    if match := re.fullmatch(r"events(\d)-(timed|plain)", kind):
        return list(itertools.islice(_of_length(int(match[1]), match[2] == "timed"), count))
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


def _of_length(events: int, timed: bool) -> Iterator[dict[str, str]]:
    """English training problems of so many events. When something happens is no part of what splits must not share."""
    said = sorted({*world.TIMES} - {""})
    for index in itertools.count():
        problem = world.problem("train", index)
        if len(problem.events) == events:
            rng = random.Random(problem.id)
            told = replace(problem, events=tuple(replace(e, time=rng.choice(said) if timed else "")
                                                 for e in problem.events))  # fmt: skip
            yield {"id": problem.id, "query": world.render(told, "en"), "response": world.solution(problem)}


@cache
def tokens_of(kind: str) -> tuple[float, float]:
    """What the encoder reads and what the language model writes of an example of a kind, in tokens on average."""
    encoder, lm = (AutoTokenizer.from_pretrained(folder) for folder in (parents.ENCODER, parents.LANGUAGE_MODEL))
    rows = rows_of(f"{kind}-{COUNTED}")
    read = encoder([row["query"] for row in rows])["input_ids"]
    written = lm([row["response"] for row in rows], add_special_tokens=False)["input_ids"]
    return fmean(map(len, read)), 1 + fmean(map(len, written))  # the end of the answer is learned as well


@cache
def events_of(problem: str) -> int:
    """How many events a problem has, by its id, such as test-17."""
    return len(problem_of(problem).events)


def problem_of(name: str) -> world.Problem:
    """The problem with this id."""
    split, _, index = name.rpartition("-")
    return world.problem(split, int(index))
