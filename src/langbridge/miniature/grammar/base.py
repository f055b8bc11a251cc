"""What every grammar provides, and the one helper they share."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """How one language says a problem. `order` and `style` pick among its natural word orders.

    Times are "" (none) or a key of the world's times; nouns, verbs and names are the world's keys.
    """

    code: str
    name: str
    orders: int
    """How many word orders `event` has."""
    styles: int
    """How many ways `start` has: even ones plain, odd ones with "at first"."""
    start: Callable[[int, str, int, str], str]
    """(style, name, number, noun) -> sentence."""
    event: Callable[[int, str, str, int, str, str], str]
    """(order, name, verb, number, noun, time) -> sentence."""
    question: Callable[[int, str, str], str]
    """(0 for "now" or 1 for "in the end", name, noun) -> sentence."""
    joiner: str = " "
    """What stands between two sentences."""


def sentence(*words: str, end: str = ".", space: str = " ") -> str:
    """Join the words that are there, capitalise the first letter, add the full stop."""
    text = space.join(word for word in words if word)
    return text[:1].upper() + text[1:] + end
