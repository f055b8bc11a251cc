"""What the parents read: parallel text for the translation model, problems with solutions for the language model.

Every batch is a pure function of (seed, step), so a stopped build continues with the same text. Whole problems
come from the train split alone.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

from langbridge.miniature import world
from langbridge.miniature.grammar import LANGUAGES, grammar
from langbridge.miniature.grammar.en import VERBS

MANY = 10**9
"""Problems are drawn from this many indices: practically none is read twice."""

VERB_FORMS = {form.split()[0] for forms in VERBS.values() for form in forms}


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


def careless(rng: random.Random, problem: world.Problem) -> str:
    """The problem in English as people write it in haste: words are missing, doubled or out of order, full stops lack.

    Numbers and verbs always stay, the name stays in one sentence, and words change places within their sentence only,
    and only where full stops separate the sentences: the question can always be understood.
    """
    drop, double = rng.choice((0.0, 0.2, 0.5)), rng.choice((0.0, 0.0, 0.1))
    stops = rng.random() < 0.6
    shuffle = stops and rng.random() < 0.5
    written: list[str] = []
    for place, told in enumerate(world.sentences(problem, "en")):
        words: list[str] = []
        for word in told.rstrip(".?").split():
            needed = word.isdigit() or word.lower() in VERB_FORMS or (word == problem.name and place == 0)
            if needed or rng.random() >= drop:
                words += [word] * (2 if rng.random() < double else 1)
        if shuffle:
            rng.shuffle(words)
        written.append(" ".join(words) + (told[-1] if stops else ""))
    return " ".join(text for text in written if text.strip(".?"))


def solved_problems(
    rng: random.Random, count: int, shares: dict[str, float], haste: float = 0.0
) -> Iterator[tuple[str, str]]:
    """(problem, English solution), the language drawn by `shares`; a share `haste` of the English is `careless`."""
    for _ in range(count):
        problem = world.problem("train", rng.randrange(MANY))
        language = rng.choices(list(shares), list(shares.values()))[0]
        hasty = language == "en" and rng.random() < haste
        yield careless(rng, problem) if hasty else world.render(problem, language), world.solution(problem)
