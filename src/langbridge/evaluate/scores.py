"""From a generated text to its answer, and from answers to a score with its standard error."""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from langbridge.errors import LangBridgeError

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


@dataclass(frozen=True)
class Score:
    """A mean with the standard error of that mean (not a number for a single answer) and its count."""

    mean: float
    stderr: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.stderr:.3f} (n={self.n})"


def accuracy(correct: Sequence[bool]) -> Score:
    """The share of correct answers, and its sample standard error, sqrt(p (1 - p) / (n - 1))."""
    return _mean([float(answer) for answer in correct])


def difference(first: Sequence[bool], second: Sequence[bool]) -> Score:
    """First minus second on the same problems in the same order; the error is that of the pairs.

    Two systems fail on the same hard problems, so this is smaller than the errors of both added up.
    """
    if len(first) != len(second):
        raise LangBridgeError(f"difference: expected the same problems twice, got {len(first)} and {len(second)}")
    return _mean([float(a) - float(b) for a, b in zip(first, second, strict=True)])


def _mean(values: list[float]) -> Score:
    n = len(values)
    if n == 0:
        raise LangBridgeError("a score needs at least one answer, got none")
    mean = math.fsum(values) / n
    if n == 1:
        return Score(mean, math.nan, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Score(mean, math.sqrt(variance / n), n)
