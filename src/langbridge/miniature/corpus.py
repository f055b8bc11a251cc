"""What the parents read: parallel text for the translation model, problems with solutions for the language model.

Every batch is a pure function of (seed, step), so a build that was stopped goes on with the same text. Whole problems
come from the train split alone.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

from langbridge.miniature import world
from langbridge.miniature.grammar import LANGUAGES, grammar

MANY = 10**9
"""Problems are drawn from this many indices: practically none is read twice."""


class Pair(NamedTuple):
    """The same meaning in two languages."""

    first: str
    second: str
    first_language: str
    second_language: str


def two_languages(rng: random.Random, english: float = 0.2) -> tuple[str, str]:
    """Two different languages, English among them at least in a share `english` of the draws."""
    pair = rng.sample(LANGUAGES, 2)
    if "en" not in pair and rng.random() < english:
        pair[rng.randrange(2)] = "en"
    return pair[0], pair[1]


def sentence_pairs(rng: random.Random, groups: int, group_size: int) -> list[Pair]:
    """Parallel single sentences. A group shares its name and number, so only the rest can tell its members apart."""
    pairs: list[Pair] = []
    for _ in range(groups):
        name, step, begin = rng.choice(world.NAMES), rng.choice(world.STEPS), rng.choice(world.STARTS)
        shared_noun = rng.choice(world.NOUNS)
        seen: set[tuple] = set()
        while len(seen) < group_size:
            noun = rng.choice(world.NOUNS) if rng.random() < 0.3 else shared_noun
            kind = rng.choices(("event", "start", "question"), (0.86, 0.08, 0.06))[0]
            event = world.Event(rng.choice(world.VERBS), step, rng.choice(world.TIMES))
            style = rng.randrange(2)
            meaning = (noun, event) if kind == "event" else (noun, kind, style)
            if meaning in seen:
                continue
            seen.add(meaning)
            languages = two_languages(rng)
            if kind == "event":
                said = [world.say_event(rng, language, name, event, noun) for language in languages]
            elif kind == "start":
                said = [world.say_start(rng, language, style, name, begin, noun) for language in languages]
            else:
                said = [grammar(language).question(style, name, noun) for language in languages]
            pairs.append(Pair(*said, *languages))
    return pairs


def mixed(rng: random.Random, problem: world.Problem) -> str:
    """A problem whose sentences change language, as speakers of several languages write."""
    told = [world.sentences(problem, language) for language in rng.sample(LANGUAGES, 3)]
    return " ".join(rng.choice(choices) for choices in zip(*told, strict=True))


def problem_pairs(rng: random.Random, groups: int, group_size: int, mix: float = 0.3) -> list[Pair]:
    """Parallel whole problems; a group shares name, numbers and length (`world.distractors`).

    In a share `mix` of them the first text changes language from sentence to sentence; it is still to be put into
    the second language alone.
    """
    pairs: list[Pair] = []
    for _ in range(groups):
        original = world.problem("train", rng.randrange(MANY))
        for problem in [original, *world.distractors(original, group_size - 1, rng, split="train")]:
            first, second = two_languages(rng)
            text = mixed(rng, problem) if rng.random() < mix else world.render(problem, first)
            pairs.append(Pair(text, world.render(problem, second), first, second))
    return pairs


def solved_problems(rng: random.Random, count: int, shares: dict[str, float]) -> Iterator[tuple[str, str]]:
    """(problem, English solution), the language drawn by `shares`."""
    for _ in range(count):
        problem = world.problem("train", rng.randrange(MANY))
        language = rng.choices(list(shares), list(shares.values()))[0]
        yield world.render(problem, language), world.solution(problem)
