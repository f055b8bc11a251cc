"""From a generated text to its answer. Pure functions of the text; None where it gives no answer.

Every rule takes the last answer that the text states ("the answer is ..."), else the last one at all: a chain of
thought names many candidates before it ends.
"""

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from langbridge.languages import two_letter

# A sign counts only directly before its number, and not where it could be a subtraction: "48-24".
# Groups after a comma have three digits, or two in the Indian style: 1,00,000.
_NUMBER = (
    r"(?:(?<![\w)\]])(?P<sign>[-+]))?[$€£¥₹]?"
    r"(?:(?P<whole>\d[\d,]*) (?=\d+/\d))?"
    r"(?P<digits>\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)|\d+|(?<![.\w])(?=\.\d))"
    r"(?P<rest>\.\d+)?"
    r"(?:\s?/\s?(?P<denominator>\d*[1-9]\d*)(?![.,]?\d))?"
)
_LAST = re.compile(_NUMBER)
# Between "answer is" and the number only punctuation is allowed: ": $", "**".
_SAID = re.compile(r"answer\s+(?:is|would\s+be|must\s+be)[^\w\n+-]*?" + _NUMBER, re.IGNORECASE)
# What follows a stated number in its sentence: "5 + 3 = 8." states 8.
_SENTENCE = re.compile(r"(?:(?![.!?]\s|\n).)*")
# Only where number and unit are all that is on the line: "Answer:" also opens a chain of thought, "####" a section.
_MARKED = re.compile(
    r"(?:answer\W*?:|####)[^\w\n+-]*?" + _NUMBER + r"(?:[^\w\n.):]*[^\W\d]+)?[^\w\n]*$", re.IGNORECASE | re.MULTILINE
)
_BOXED = re.compile(r"boxed\s*\{((?:[^{}]|\{[^{}]*\})*)")

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
        "\N{FRACTION SLASH}": "/",
    }
)
# Written only between the digits of one number, unlike the ordinary space.
_NARROW_SPACES = re.compile(r"(?<=\d)[\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}](?=\d{3}(?!\d))")
_LATEX_GROUP = re.compile(r"(?<=\d)(?:\{,\}|,?\\[,!])(?=\d{3}(?!\d))")
_LATEX_FRACTION = re.compile(r"(?:(\d)\s*)?\\[cdt]?frac\s*(?:\{\s*(-?[\d,.]+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
_ONE_SIGN_FRACTION = re.compile(
    "(?:(\\d)\\s*)?([\N{VULGAR FRACTION ONE QUARTER}-\N{VULGAR FRACTION THREE QUARTERS}"
    "\N{VULGAR FRACTION ONE SEVENTH}-\N{VULGAR FRACTION SEVEN EIGHTHS}])"
)
# The custom of a language, by CLDR; several write a space by hand where print has a narrow one or a dot.
_GROUPS_BY_DOT = {"ca", "da", "de", "el", "es", "hr", "id", "it", "nl", "pt", "ro", "sl", "sr", "tr", "vi"}
_GROUPS_BY_SPACE = {"bg", "cs", "de", "es", "fi", "fr", "hu", "no", "pl", "pt", "ru", "sv", "uk"}
_COMMA_IS_DECIMAL = _GROUPS_BY_DOT | _GROUPS_BY_SPACE
_DOT_GROUPS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:\.\d{3})+(?!\d)")
_MANY_DOT_GROUPS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:\.\d{3}){2,}(?!\d)")
_SPACE_GROUPS = re.compile(r"(?<![\d.,])(?<!\d )[1-9]\d{0,2}(?: \d{3})+(?! ?\d)")
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d{1,2}(?!\d))")


def last_number(text: str, language: str | None = None) -> Decimal | None:
    """The number a text ends on: the last one stated, else the last one at all.

    Stated are "the answer is N", a line of "Answer: N" or "#### N" alone, and what is in a `\boxed{}`.

    Digits of every script count, and `1,234` is one number. So are `1.234.567`, and, in a `language` that groups digits
    so, `70.000` and `70 000`; in others a point is the decimal point. `70,5` is a decimal where the language has it so.
    Fractions are read as they are written in a line (`3/4`, `2 1/2`), in one sign (`½`) and in LaTeX (`\frac{3}{4}`).
    """
    text = _in_ascii(text, language)
    stated = [(match.start(), _value(match)) for match in _MARKED.finditer(text)]
    for match in _SAID.finditer(text):
        stated.append((match.start(), _result(_value(match), _SENTENCE.findall(text, match.end())[0])))
    for match in _BOXED.finditer(text):
        if first := _LAST.search(match[1]):
            stated.append((match.start(), _result(_value(first), match[1])))
    if stated:
        return max(stated)[1]
    found = list(_LAST.finditer(text))
    return _value(found[-1]) if found else None


def exact_number(text: str, language: str | None = None) -> Decimal | None:
    """The number that a text is, marks of currency and mathematics aside; None where it is anything else. language: as
    for `last_number`."""
    match = _LAST.fullmatch(_in_ascii(text, language).strip().strip("$").strip())
    return _value(match) if match else None


def _in_ascii(text: str, language: str | None) -> str:
    """A text with its numbers in ASCII and as English writes them."""
    text = _ONE_SIGN_FRACTION.sub(lambda match: _after(match[1], unicodedata.normalize("NFKC", match[2])), text)
    text = with_ascii_digits(text.translate(_SAME_AS_ASCII).replace("\\$", "$"))
    text = _LATEX_GROUP.sub(",", _NARROW_SPACES.sub(",", text))
    text = _LATEX_FRACTION.sub(lambda m: _after(m[1], f"{m[2] or m[3]}/{m[4] or m[5]}"), text)
    return _as_in_english(text, None if language is None else two_letter(language))


def with_ascii_digits(text: str) -> str:
    """A text with the digits of every script as 0 to 9."""
    # `decimal` and not `digit`, which would also read the 2 of "m²" as a number.
    return "".join(str(unicodedata.decimal(one, one)) for one in text)


def _after(digit: str | None, fraction: str) -> str:
    return fraction if digit is None else f"{digit} {fraction}"


def _as_in_english(text: str, language: str | None) -> str:
    """Groups of digits without their separators, and decimals with a point."""
    groups = [_DOT_GROUPS if language in _GROUPS_BY_DOT else _MANY_DOT_GROUPS]
    groups += [_SPACE_GROUPS] if language in _GROUPS_BY_SPACE else []
    for pattern in groups:
        text = pattern.sub(lambda match: re.sub(r"\D", "", match[0]), text)
    return _DECIMAL_COMMA.sub(".", text) if language in _COMMA_IS_DECIMAL else text


def _result(value: Decimal, rest: str) -> Decimal:
    """What an equation ends on, where the rest of a statement is one; else its number."""
    found = _LAST.search(rest.rpartition("=")[2]) if "=" in rest else None
    return _value(found) if found else value


def _value(match: re.Match[str]) -> Decimal:
    digits = match["digits"].replace(",", "")
    value = Decimal(f"{digits}{match['rest'] or ''}")
    if match["denominator"]:
        value /= int(match["denominator"])
        if match["whole"] and value < 1:
            value += int(match["whole"].replace(",", ""))
    return -value if match["sign"] == "-" else value


_REFERENCE = re.compile(r"\d+(?:\.\d+)?")


def reference_number(text: str) -> Decimal:
    """The number as the original LangBridge evaluation reads it, so that accuracies compare with published ones.

    Looser than `last_number`: the last digits in the text, of any script, without sign; 0 for a text without digits.
    Commas go by pairs of digits that do not overlap: of "1,2,3" the last number is 3.
    """
    numbers = _REFERENCE.findall(re.sub(r"(\d),(\d)", r"\1\2", text))
    return Decimal(numbers[-1]) if numbers else Decimal(0)


_STATES = r"(?:answer\s*(?:is|:|would\s+be|must\s+be|should\s+be)|\bit\s+must\s+be)"
_STATED_REST = re.compile(rf"{_STATES}\s*:?\s*((?:(?!{_STATES})[^\n])*)", re.IGNORECASE)


def _statements(text: str) -> list[str]:
    """What follows "the answer is" and the like, to the next such words or the end of the line; the last one first."""
    return [match[1] for match in _STATED_REST.finditer(text)][::-1]


def choice_letter(text: str, letters: Sequence[str]) -> str | None:
    """One of `letters` (upper case): stated, bracketed as "(B)", or alone at the start or end of a text as "B." is."""
    allowed = "".join(letters)
    bracketed = re.compile(rf"\(\s*([{allowed}])\s*\)|boxed\{{\s*\(?([{allowed}])\)?\s*\}}", re.IGNORECASE)
    # Alone, or with its reason after it; another option may be named in that.
    alone = re.compile(rf"[^\w(]*([{allowed}])\s*(?:[^\w\s'’]|$|because\b|since\b|as\b)")
    # "A person would" is no A.
    loosely = re.compile(rf"[\W_]*(?:boxed\{{)?(?!A [a-z])([{allowed}])(?![\w'’])")
    for rest in _statements(text):
        if re.match(r"\W*not\b", rest, re.IGNORECASE):
            continue
        found = alone.match(rest) or bracketed.search(rest) or loosely.match(rest)
        if found:
            return next(group for group in found.groups() if group).upper()
    if match := list(bracketed.finditer(text)):
        return next(group for group in match[-1].groups() if group).upper()
    # Without brackets only where nothing but a letter is meant: "A" also opens many English sentences.
    first = re.match(rf"[\s\"'*]*([{allowed}])(?:[.):,][\s*]|[\s.\"'*]*(?:\n|$))", text)
    last = re.search(rf"(?:^|[\s\"'*])([{allowed}])[.)\"'*]*\s*$", text)
    found = last or first
    return found[1] if found else None


def word_choice(text: str, words: dict[str, str], *, bare: bool = False) -> str | None:
    """The value of the last word that is a key of `words`, whole and in any case; stated ones first.

    Longer keys win where two begin at the same place, so that "not plausible" is not "plausible"; and "no" is one only
    as a word by itself, not as in "no doubt". bare: nothing but a word was asked for, so that one which opens the text
    ("Neutral. The premise ...") comes before those that are named later.
    """
    text = unicodedata.normalize("NFC", text).replace("’", "'")
    values = {unicodedata.normalize("NFC", key).lower(): value for key, value in words.items()}
    keys = "|".join(
        re.escape(key) + (r"(?!\s+\w)" if key == "no" else "") for key in sorted(values, key=len, reverse=True)
    )
    # Vowel signs of Indic scripts are part of a word, but `\w` does not match them.
    pattern = re.compile(rf"(?<!{_IN_WORD})(?:{keys})(?!{_IN_WORD})", re.IGNORECASE)
    for rest in _statements(text):
        if "no" in values and re.match(r"\W*no\b(?!\s+doubt)", rest, re.IGNORECASE):
            return values["no"]  # "no because ..." too
        if found := pattern.search(rest):
            return values[found[0].lower()]
    opens = re.match(rf"[\W_]*({keys})[\s*_\"']*(?:[.,:;!(\n–—-]|$)", text, re.IGNORECASE) if bare else None
    if opens:
        return values[opens[1].lower()]
    every = pattern.findall(text)
    return values[every[-1].lower()] if every else None


_IN_WORD = r"[\w\u0900-\u0963\u0966-\u0dff]"

YES_NO = {
    "yes": "yes", "no": "no", "implausible": "no",
    "plausible": "yes", "not plausible": "no", "isn't plausible": "no", "not a plausible": "no",
    "tells the truth": "yes", "telling the truth": "yes", "tell the truth": "yes",
    "does not tell the truth": "no", "doesn't tell the truth": "no", "not telling the truth": "no",
    "isn't telling the truth": "no", "lies": "no", "lying": "no",
}  # fmt: skip
"""The words for a yes and a no in BIG-Bench Hard's questions of that kind."""

VALIDITY = {
    "deductively valid": "valid", "deductively invalid": "invalid", "valid": "valid", "invalid": "invalid",
    **{
        f"{negation} {word}": "invalid"
        for negation in ("not", "isn't", "not necessarily", "isn't necessarily", "cannot be", "can't be", "not a")
        for word in ("valid", "deductively valid")
    },
}  # fmt: skip


def option_text(text: str, options: Sequence[str]) -> int | None:
    """The option that a text names in full, as its index; the last one named, and None where none is."""
    plain = f" {_plain(text)} "
    options = [f" {_plain(option)} " for option in options]
    ends = [(plain.rfind(option) + len(option), len(option), i) for i, option in enumerate(options) if option in plain]
    return max(ends)[2] if ends else None


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", unicodedata.normalize("NFKC", text).casefold()).split())
