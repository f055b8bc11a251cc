"""The miniature's world: grade-school problems of gaining and losing things, the same in twelve languages.

A problem is language-neutral. Somebody starts with some things, then three to five events add or take away, and the
question asks what is left. `render` says it in any language, `solution` is its English chain of thought. Everything
is a pure function of a split, an index and a seed.

The three splits never share a *combination* (the start with the ordered verbs and numbers), whatever the names,
objects, times, language or word order: what is held out is held out in every language.
"""

import hashlib
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from langbridge.miniature.grammar import grammar

GAINS = ("buy", "find", "receive", "win", "collect", "bring", "obtain", "take")
LOSSES = ("lose", "sell", "give", "donate", "throw", "lend", "destroy", "return")
VERBS = GAINS + LOSSES
NOUNS = ("apple", "book", "pencil", "egg", "ball", "card", "coin", "cup", "orange", "toy", "flower", "hat")
NAMES = ("Tom", "Anna", "Ben", "Maria", "Sam", "Nina", "Leo", "Eva", "Max", "Lena", "Omar", "Rosa", "Ivan", "Mina",
         "Paul", "Sara")  # fmt: skip
TIMES = ("", "", "", "then", "later", "morning", "evening", "monday", "friday")
# Numbers that end in 1 are left out (but 11): Russian would count them in the singular.
STARTS = tuple(n for n in range(25, 61) if n % 10 != 1)
STEPS = tuple(range(2, 16))
LOWEST, HIGHEST = 2, 99
SPLITS = ("train", "validation", "test")
SEALED = 20261127
"""Seed of the test problems. Nothing was designed on them: those of seed 0 were looked at while the parents were made,
and gated them."""
QUESTION_FIRST = 0.2


@dataclass(frozen=True)
class Event:
    """Somebody gains or loses `number` things; `time` is a key of `TIMES`."""

    verb: str
    number: int
    time: str = ""

    @property
    def change(self) -> int:
        return self.number if self.verb in GAINS else -self.number


@dataclass(frozen=True)
class Problem:
    """One language-neutral problem; `id` names it in every language."""

    id: str
    name: str
    noun: str
    start: int
    events: tuple[Event, ...]
    opening: int = 0
    """1: the start says "at first"."""
    closing: int = 0
    """0: asks for "now", 1: for "in the end"."""
    question_first: bool = False

    @property
    def answer(self) -> int:
        return self.start + sum(event.change for event in self.events)

    @property
    def combination(self) -> tuple:
        """What the splits must not share."""
        return (self.start, *((event.verb, event.number) for event in self.events))


def split_of(problem: Problem) -> str:
    """The split a combination belongs to: one in sixteen is test, one in sixteen validation."""
    bucket = hashlib.sha256(repr(problem.combination).encode()).digest()[0] % 16
    return {0: "test", 1: "validation"}.get(bucket, "train")


def totals(start: int, changes: tuple[int, ...]) -> Iterator[int]:
    """The running totals, the start first."""
    return itertools.accumulate(changes, initial=start)


def within_range(start: int, changes: tuple[int, ...]) -> bool:
    return all(LOWEST <= total <= HIGHEST for total in totals(start, changes))


def problem(split: str, index: int, seed: int | None = None) -> Problem:
    """Problem number `index` of a split: always the same one. seed: by default 0, of the test split `SEALED`."""
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; the splits are {', '.join(SPLITS)}")
    if seed is None:
        seed = SEALED if split == "test" else 0
    rng = random.Random(f"{seed}/{split}/{index}")
    while True:
        numbers = rng.sample(STEPS, rng.randint(3, 5))
        found = Problem(
            id=f"{split}-{index}",
            name=rng.choice(NAMES),
            noun=rng.choice(NOUNS),
            start=rng.choice(STARTS),
            events=tuple(
                Event(rng.choice(GAINS if rng.random() < 0.5 else LOSSES), number, rng.choice(TIMES))
                for number in numbers
            ),
            opening=rng.randrange(2),
            closing=rng.randrange(2),
            question_first=rng.random() < QUESTION_FIRST,
        )
        if within_range(found.start, tuple(e.change for e in found.events)) and split_of(found) == split:
            return found


def problems(split: str, count: int, first: int = 0, seed: int | None = None) -> Iterator[Problem]:
    """`count` problems of a split, from number `first` on."""
    return (problem(split, index, seed) for index in range(first, first + count))


def sentences(problem: Problem, language: str, seed: int = 0) -> list[str]:
    """The problem's sentences in a language, in reading order: start, events, question (or the question first).

    Word orders are drawn from (seed, problem id, language); what is said never depends on them.
    """
    rules = grammar(language)
    rng = random.Random(f"{seed}/{problem.id}/{language}")
    told = [say_start(rng, language, problem.opening, problem.name, problem.start, problem.noun)]
    told += [say_event(rng, language, problem.name, event, problem.noun) for event in problem.events]
    asked = rules.question(problem.closing, problem.name, problem.noun)
    return [asked, *told] if problem.question_first else [*told, asked]


def say_start(rng: random.Random, language: str, opening: int, name: str, number: int, noun: str) -> str:
    """The first sentence; a grammar's styles come in pairs, without and with "at first"."""
    rules = grammar(language)
    return rules.start(opening + 2 * rng.randrange(rules.styles // 2), name, number, noun)


def say_event(rng: random.Random, language: str, name: str, event: Event, noun: str) -> str:
    """One event in one of the language's word orders."""
    rules = grammar(language)
    return rules.event(rng.randrange(rules.orders), name, event.verb, event.number, noun, event.time)


def order_entropy(problem: Problem, language: str) -> float:
    """Nats of the choice among a language's ways to say the problem; ways that come out alike are one."""
    rules = grammar(language)
    choices = [
        [rules.start(style, problem.name, problem.start, problem.noun) for style in range(rules.styles)][
            problem.opening :: 2
        ]
    ]
    choices += [
        [rules.event(order, problem.name, e.verb, e.number, problem.noun, e.time) for order in range(rules.orders)]
        for e in problem.events
    ]
    shares = [count / len(ways) for ways in choices for count in Counter(ways).values()]
    return -sum(share * math.log(share) for share in shares)


def render(problem: Problem, language: str, seed: int = 0) -> str:
    """The problem as text in a language."""
    return grammar(language).joiner.join(sentences(problem, language, seed))


def solution(problem: Problem) -> str:
    """The English chain of thought, ending in `The answer is N.`"""
    steps = [f"{problem.name} starts with {problem.start}."]
    total = problem.start
    for event in problem.events:
        sign = "+" if event.change > 0 else "-"
        steps.append(f"{total} {sign} {event.number} = {total + event.change}.")
        total += event.change
    return " ".join([*steps, f"The answer is {total}."])


def distractors(original: Problem, count: int, rng: random.Random) -> list[Problem]:
    """Other problems with the name, the numbers and the length of `original`.

    Each differs in its verbs (one at least is new), most in their objects, and the order of events changes (the numbers
    stay where they were, so what happens to which number changes).
    """
    found: list[Problem] = []
    seen = {(original.noun, original.combination)}
    while len(found) < count:
        verbs = [event.verb for event in original.events]
        rng.shuffle(verbs)
        new = [verb for verb in VERBS if verb not in verbs]
        verbs[rng.randrange(len(verbs))] = rng.choice(new)
        events = tuple(replace(event, verb=verb) for event, verb in zip(original.events, verbs, strict=True))
        other = replace(original, id=f"{original.id}~{len(found)}", noun=rng.choice(NOUNS), events=events)
        if (other.noun, other.combination) in seen:
            continue
        seen.add((other.noun, other.combination))
        found.append(other)
    return found


def guess_rate(problem: Problem) -> float:
    """How often a reader is right who reads every number but no verb, and guesses the signs.

    It knows that a total stays within range, and picks one of the sign patterns that do, all alike.
    """
    numbers = [event.number for event in problem.events]
    ends = [
        problem.start + sum(changes)
        for signs in itertools.product((1, -1), repeat=len(numbers))
        if within_range(problem.start, changes := tuple(s * n for s, n in zip(signs, numbers, strict=True)))
    ]
    return ends.count(problem.answer) / len(ends)
