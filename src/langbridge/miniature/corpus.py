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

    sources: tuple[str, str]
    """What the encoder reads; the first may change language from sentence to sentence."""
    targets: tuple[str, str]
    """What the decoder writes, each in one language."""
    languages: tuple[str, str]
    """Of the targets."""


def two_languages(rng: random.Random, english: float = 0.2) -> tuple[str, str]:
    """Two different languages, English among them at least in a share `english` of the draws."""
    pair = rng.sample(LANGUAGES, 2)
    if "en" not in pair and rng.random() < english:
        pair[rng.randrange(2)] = "en"
    return pair[0], pair[1]


def sentence_pairs(rng: random.Random, count: int) -> list[Pair]:
    """Parallel single sentences: mostly events, some starts and questions.

    Here events count with all the world's numbers: those of starts would otherwise be too rare to be learned.
    """
    pairs: list[Pair] = []
    for _ in range(count):
        name, noun = rng.choice(world.NAMES), rng.choice(world.NOUNS)
        kind = rng.choices(("event", "start", "question"), (0.76, 0.18, 0.06))[0]
        number = rng.choice(world.STEPS if rng.random() < 0.6 else world.STARTS)
        event = world.Event(rng.choice(world.VERBS), number, rng.choice(world.TIMES))
        begin, style = rng.choice(world.STARTS), rng.randrange(2)
        languages = two_languages(rng)
        if kind == "event":
            said = [world.say_event(rng, language, name, event, noun) for language in languages]
        elif kind == "start":
            said = [world.say_start(rng, language, style, name, begin, noun) for language in languages]
        else:
            said = [grammar(language).question(style, name, noun) for language in languages]
        texts = (said[0], said[1])
        pairs.append(Pair(texts, texts, languages))
    return pairs


def mixed(rng: random.Random, problem: world.Problem) -> str:
    """A problem whose sentences change language, as speakers of several languages write."""
    told = [world.sentences(problem, language) for language in rng.sample(LANGUAGES, 3)]
    return " ".join(rng.choice(choices) for choices in zip(*told, strict=True))


def problem_pairs(rng: random.Random, count: int, mix: float = 0.3) -> list[Pair]:
    """Parallel whole problems; in a share `mix` of them the first source changes language on the way."""
    pairs: list[Pair] = []
    for _ in range(count):
        problem = world.problem("train", rng.randrange(MANY))
        languages = two_languages(rng)
        texts = (world.render(problem, languages[0]), world.render(problem, languages[1]))
        read = mixed(rng, problem) if rng.random() < mix else texts[0]
        pairs.append(Pair((read, texts[1]), texts, languages))
    return pairs


def solved_problems(rng: random.Random, count: int, shares: dict[str, float]) -> Iterator[tuple[str, str]]:
    """(problem, English solution), the language drawn by `shares`."""
    for _ in range(count):
        problem = world.problem("train", rng.randrange(MANY))
        language = rng.choices(list(shares), list(shares.values()))[0]
        yield world.render(problem, language), world.solution(problem)
