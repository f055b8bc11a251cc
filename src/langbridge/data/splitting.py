"""Splitting a text into what the encoder reads and what the language model writes.

    text          The cat sat on the mat.
    prefix        The cat sat            at most `length` encoder tokens
    continuation              on the mat.

The cut is a place in the text, found through the encoder's offsets or its counts of tokens, so that prefix +
continuation is the text to the last character. Cutting token ids and decoding them would not be: tokenizers normalise,
and one character may take several tokens.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

_CHARACTERS = 16  # a token; more than tokenizers reach over a whole window, and only a first guess
_CONTEXT = 256  # characters that graphemes are counted from, where no nearer place is certain


def split_text(text: str, tokenizer: Any, length: int) -> tuple[str, str] | None:
    """`text` as prefix and continuation, or None where it is too short.

    The prefix is as long as it may be: at most `length` tokens of `tokenizer`, its closing token included, counted on
    the prefix alone. It ends between two graphemes (user-perceived characters), or between two code points where
    the first grapheme alone is too long. The continuation holds more than white space.
    """
    budget = length - tokenizer.num_special_tokens_to_add(pair=False)
    end = len(text.rstrip())
    window = _CHARACTERS * length
    while True:
        count, places = _places(text[: min(window, end)], tokenizer, budget)
        if count > budget or window >= end:
            break
        window *= 2
    if budget < 1 or count <= budget:
        return None
    for cut in _cuts(text, places):
        # Alone, a prefix may be more tokens than inside the text: a word that is cut splits into smaller pieces.
        if cut < end and token_count(text[:cut], tokenizer) <= budget:
            return text[:cut], text[cut:]
    return None


def token_count(text: str, tokenizer: Any) -> int:
    """How many tokens `text` is, without special ones."""
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _cuts(text: str, ends: Sequence[int]) -> Iterator[int]:
    """Where to cut at or before these places: between graphemes from the last on, the end of the first grapheme
    among them in any case; then inside the first."""
    first = next(_grapheme().finditer(text)).end()
    cut = len(text) + 1
    for place in reversed(ends):
        before = grapheme_start(text, place)
        if first <= before < cut:
            yield (cut := before)
    if cut > first:
        yield first
    yield from (place for place in sorted(set(ends), reverse=True) if 0 < place < first)


def _places(text: str, tokenizer: Any, budget: int) -> tuple[int, Sequence[int]]:
    """The tokens of `text`, and the places in it up to which it is at most `budget` tokens, in order: ends of tokens,
    or all where the tokenizer does not know what characters a token covers (those that are plain Python)."""
    if tokenizer.is_fast:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ends = [end for _, end in encoded["offset_mapping"]]
        return len(ends), ends[: max(budget, 0)]
    count = token_count(text, tokenizer)
    return count, range(1, _longest(text, count, tokenizer, budget) + 1) if count > budget > 0 else ()


def _longest(text: str, count: int, tokenizer: Any, budget: int) -> int:
    """Characters of the longest beginning of `text` with at most `budget` of its `count` tokens.

    Guessed in proportion, so that where a character is a token the first guess is right: such a tokenizer takes a
    millisecond for a thousand characters. Every third guess is the middle, which bounds how many there are.
    """
    low, high, below, above, turn = 0, len(text), 0, count, 1
    while high - low > 1:
        share = (budget - below) / (above - below) if turn % 3 else 0.5
        place = min(max(low + int(share * (high - low)), low + 1), high - 1)
        counted = token_count(text[:place], tokenizer)
        if counted <= budget:
            low, below = place, counted
        else:
            high, above = place, counted
        turn += 1
    return low


def grapheme_start(text: str, place: int) -> int:
    """The last boundary between graphemes at or before `place`."""
    if place <= 0 or place >= len(text):
        return min(max(place, 0), len(text))
    # There is a boundary between any two ASCII characters except \r\n.
    first = place
    while first > 0 and not _certain(text, first):
        first -= 1
        if place - first > _CONTEXT:
            break
    boundary = first
    for found in _grapheme().finditer(text, first):
        if found.end() > place:
            break
        boundary = found.end()
    return boundary


def _certain(text: str, place: int) -> bool:
    before, after = text[place - 1], text[place]
    return before.isascii() and after.isascii() and (before, after) != ("\r", "\n")


@cache
def _grapheme() -> Any:
    import regex  # slow to import, and reading a recipe imports this room

    return regex.compile(r"\X")
