"""From a generated text to its answer. Pure functions of the text; None where it gives no answer.

Every rule takes the last answer that the text states in so many words ("the answer is ..."), else the last one at all:
a chain of thought names many candidates before it ends.
"""

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

# A sign counts only right before its number, and where nothing stands that it could subtract from: "48-24".
# Groups after a comma have three digits, or two in the Indian style: 1,00,000.
_NUMBER = (
    r"(?:(?<![\w)\]])(?P<sign>[-+]))?[$€£¥₹]?"
    r"(?P<digits>\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)|\d+|(?<![.\w])(?=\.\d))"
    r"(?P<rest>\.\d+)?"
)
_LAST = re.compile(_NUMBER)
# Between "answer is" and the number only marks may stand: ": $", "**", "\boxed{".
_STATED = re.compile(r"answer\s+is[^\w\n+-]*?(?:\\?boxed\{)?" + _NUMBER, re.IGNORECASE)

_SAME_AS_ASCII = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{FULLWIDTH HYPHEN-MINUS}": "-",
        "\N{SMALL HYPHEN-MINUS}": "-",
        "\N{FULLWIDTH PLUS SIGN}": "+",
        "\N{FULLWIDTH COMMA}": ",",
        "\N{ARABIC THOUSANDS SEPARATOR}": ",",
        "\N{FULLWIDTH FULL STOP}": ".",
        "\N{ARABIC DECIMAL SEPARATOR}": ".",
    }
)
# Written only between the digits of one number, unlike the ordinary space.
_NARROW_SPACES = re.compile(r"(?<=\d)[\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}](?=\d{3}(?!\d))")


def last_number(text: str) -> Decimal | None:
    """The number a text ends on: the last one stated as "the answer is N", else the last one at all.

    Digits of every script count, `1,234` is one number, and a point is always the decimal point.
    """
    text = "".join(_ascii_digit(character) for character in text.translate(_SAME_AS_ASCII))
    text = _NARROW_SPACES.sub(",", text)
    matches = list(_STATED.finditer(text)) or list(_LAST.finditer(text))
    if not matches:
        return None
    match = matches[-1]
    digits = match["digits"].replace(",", "")
    return Decimal(f"{match['sign'] or ''}{digits}{match['rest'] or ''}")


def _ascii_digit(character: str) -> str:
    # `decimal` and not `digit`: the latter would also read the 2 of "m²" as a number of its own.
    value = unicodedata.decimal(character, None)
    return character if value is None else str(value)


_REFERENCE = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


def reference_number(text: str) -> Decimal:
    """The number as the original LangBridge evaluation reads it, so that accuracies compare with published ones.

    Looser than `last_number`: the last digits of a text whatever they stand for, signs dropped, ASCII digits only; a
    text without digits answers 0.
    """
    numbers = _REFERENCE.findall(re.sub(r"(?<=\d),(?=\d)", "", text))
    return Decimal(numbers[-1]) if numbers else Decimal(0)


_STATED_REST = re.compile(r"(?:final\s+answer|answer)\s*(?:is|:)\s*:?\s*([^\n]*)", re.IGNORECASE)


def choice_letter(text: str, letters: Sequence[str]) -> str | None:
    """One of `letters` (upper case): stated, bracketed as "(B)", or alone at the start or end of a text as "B." is."""
    allowed = "".join(letters)
    bracketed = re.compile(rf"\(\s*([{allowed}])\s*\)", re.IGNORECASE)
    for rest in reversed([match[1] for match in _STATED_REST.finditer(text)]):
        found = bracketed.search(rest) or re.match(rf"[\W_]*(?:boxed\{{)?([{allowed}])(?![\w'’])", rest)
        if found:
            return found[1].upper()
    if match := list(bracketed.finditer(text)):
        return match[-1][1].upper()
    # Without brackets only where nothing but a letter is meant: "A" also opens many English sentences.
    first = re.match(rf"[\s\"'*]*([{allowed}])(?:[.):,][\s*]|[\s.\"'*]*(?:\n|$))", text)
    last = re.search(rf"(?:^|[\s\"'*])([{allowed}])[.)\"'*]*\s*$", text)
    found = last or first
    return found[1] if found else None


def word_choice(text: str, words: dict[str, str]) -> str | None:
    """The value of the last word that is a key of `words`, whole and in any case; stated ones first.

    Longer keys win where two begin at the same place, so that "not plausible" is not "plausible".
    """
    keys = "|".join(re.escape(key) for key in sorted(words, key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)(?:{keys})(?!\w)", re.IGNORECASE)
    values = {key.lower(): value for key, value in words.items()}
    for rest in reversed([match[1] for match in _STATED_REST.finditer(text)]):
        if found := pattern.search(rest):
            return values[found[0].lower()]
    every = pattern.findall(text)
    return values[every[-1].lower()] if every else None


YES_NO = {
    "yes": "yes", "no": "no", "plausible": "yes", "not plausible": "no", "implausible": "no",
    "tells the truth": "yes", "does not tell the truth": "no", "lies": "no",
}  # fmt: skip
"""The words for a yes and a no in BIG-Bench Hard's questions of that kind."""

VALIDITY = {
    "valid": "valid", "invalid": "invalid", "not valid": "invalid",
    "deductively valid": "valid", "not deductively valid": "invalid", "deductively invalid": "invalid",
}  # fmt: skip


def option_text(text: str, options: Sequence[str]) -> int | None:
    """The option that a text names in full, as its index; the last one named, and None where none is."""
    plain = f" {_plain(text)} "
    options = [f" {_plain(option)} " for option in options]
    ends = [(plain.rfind(option) + len(option), len(option), i) for i, option in enumerate(options) if option in plain]
    return max(ends)[2] if ends else None


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", unicodedata.normalize("NFKC", text).casefold()).split())
