"""Splitting a text into what the encoder reads and what the language model writes.

    text          The cat sat on the mat.
    prefix        The cat sat            at most `length` encoder tokens
    continuation              on the mat.

The cut is a place in the text, found through the encoder's offsets or its counts of tokens, so that prefix +
continuation is the text to the last character. Cutting token ids and decoding them would not be: tokenizers normalise,
and one character may take several tokens.
"""

from bisect import bisect
from collections.abc import Iterator, Sequence
from typing import Any

_CHARACTERS = 16  # a token; more than tokenizers reach over a whole window, and only a first guess


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


def _cuts(text: str, places: Sequence[int]) -> Iterator[int]:
    """Where to cut at or before these places, the last first: between graphemes (at the first one's end in any case),
    then inside the first."""
    import regex  # slow to import, and reading a recipe imports this room

    ends: list[int] = []
    for found in regex.finditer(r"\X", text):
        ends.append(found.end())
        if not places or ends[-1] > places[-1]:
            break
    at_or_before = {ends[max(bisect(ends, place) - 1, 0)] for place in places}
    yield from sorted({ends[0], *at_or_before}, reverse=True)
    yield from (place for place in sorted(set(places), reverse=True) if 0 < place < ends[0])


def _places(text: str, tokenizer: Any, budget: int) -> tuple[int, Sequence[int]]:
    """The tokens of `text`, and the places in it up to which it is at most `budget` tokens, in order: ends of tokens,
    or all where the tokenizer does not know what characters a token covers (those that are plain Python)."""
    if tokenizer.is_fast:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ends = [end for _, end in encoded["offset_mapping"]]
        return len(ends), ends[: max(budget, 0)]
    count = token_count(text, tokenizer)
    if not count > budget > 0:
        return count, ()
    longest = bisect(range(len(text)), budget, key=lambda end: token_count(text[:end], tokenizer)) - 1
    return count, range(1, longest + 1)
