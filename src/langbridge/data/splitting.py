"""Splitting a text into what the encoder reads and what the language model writes.

    text          The cat sat on the mat.
    prefix        The cat sat            at most `length` encoder tokens
    continuation              on the mat.

The cut is a place in the text, found through the encoder's offsets, so that prefix + continuation is the text to the
last character. Cutting token ids and decoding them would not be: tokenizers normalise, and one character may take
several tokens.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

_CHARACTERS = 16  # a token; more than tokenizers reach over a whole window, and only a first guess
_CONTEXT = 256  # characters that graphemes are counted from, where no nearer place is certain


def split_text(text: str, tokenizer: Any, length: int) -> tuple[str, str] | None:
    """`text` as prefix and continuation, or None where it is too short.

    The prefix is as long as it may be: at most `length` tokens of `tokenizer`, its closing token included, counted on
    the prefix alone. It ends between two graphemes (what a reader takes for one character), or between two characters
    where the first grapheme by itself is too long. The continuation holds more than white space.
    """
    budget = length - tokenizer.num_special_tokens_to_add(pair=False)
    end = len(text.rstrip())
    window = _CHARACTERS * length
    while True:
        ends = token_ends(text[: min(window, end)], tokenizer)
        if len(ends) > budget or window >= end:
            break
        window *= 2
    if budget < 1 or len(ends) <= budget:
        return None
    for cut in _cuts(text, ends[:budget]):
        # Alone, a prefix may take more tokens than inside the text: a word that is cut is spelt in smaller pieces.
        if cut < end and len(token_ends(text[:cut], tokenizer)) <= budget:
            return text[:cut], text[cut:]
    return None


def _cuts(text: str, ends: list[int]) -> Iterator[int]:
    """Where to cut at or before these ends of tokens: between graphemes from the last on, the end of the first grapheme
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


def token_ends(text: str, tokenizer: Any) -> list[int]:
    """For each token of `text`, without special ones, the place in the text where it ends."""
    if tokenizer.is_fast:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [end for _, end in encoded["offset_mapping"]]
    # A tokenizer without offsets: the ends are where the count of tokens of the text so far grows.
    ends: list[int] = []
    total = len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    for count in range(1, total + 1):
        low, high = ends[-1] if ends else 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            counted = len(tokenizer(text[:middle], add_special_tokens=False, verbose=False)["input_ids"])
            low, high = (middle, high) if counted <= count else (low, middle - 1)
        ends.append(low)
    return ends


def grapheme_start(text: str, place: int) -> int:
    """The last boundary between graphemes at or before `place`."""
    if place <= 0 or place >= len(text):
        return min(max(place, 0), len(text))
    # Between two ASCII characters there is always a boundary, but for the two of a Windows line end.
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
