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


# Thai, Lao, Tibetan and Burmese; Khmer; kana and Han. Between their words is no space.
_UNSPACED = r"\u0e00-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_BETWEEN_UNSPACED = re.compile(rf"(?<=[{_UNSPACED}])(?=\S)|(?<=\S)(?=[{_UNSPACED}])")


def _evenly(text: str) -> str:
    """A text with one form for each letter and mark, and a space around each letter of a script that has none between
    words, so that whatever is found whole may be a part of such a text."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("。", ".")
    return _BETWEEN_UNSPACED.sub(" ", text)


def _folded(text: str) -> str:
    """The same in any case. A Turkish capital I with its dot would keep the dot as a mark of its own."""
    return _evenly(text).casefold().replace("i\N{COMBINING DOT ABOVE}", "i")


_STATES = (
    r"(?:(?:answer|\b(?:correct|right|best|likely|plausible)\s+(?:option|choice|one|letter))[\s*_]*"
    r"(?:is|:|would\s+be|must\s+be|should\s+be)|\bit\s+must\s+be)"
)
_STATED_REST = re.compile(rf"{_STATES}\s*:?\s*((?:(?!{_STATES})[^\n])*)", re.IGNORECASE)


def _statements(text: str) -> list[str]:
    """What follows "the answer is" and the like, to the next such words or the end of the line; the last one first."""
    return [match[1] for match in _STATED_REST.finditer(text)][::-1]


_OPTION = r"(?i:(?:the\s+)?(?:option|choice)\s+)"
_REASON = r"(?:because|since|as)\b"
_PRAISE = r"\s+is\s+(?:the|correct|right|best|more|most|likely)\b"
_VERB = r"\s+(?:is|are|was|would|could|can|may|might|does|seems|says|and|or)(?:not|n't)?\b"


def choice_letter(text: str, letters: Sequence[str], *, bare: bool = False) -> str | None:
    """One of `letters` (upper case): stated, bracketed as "(B)", or alone at the start or end of a text as "B." is.

    bare: nothing but a letter was asked for, so that one which opens the text ("B. For (A) ...") comes before those in
    brackets.
    """
    text = _evenly(text)
    one = f"([{''.join(letters)}])"
    bracketed = rf"(?:[(\[]\s*{one}\s*\\?[)\]]|boxed\s*\{{\s*(?:\\\w+\s*\{{)?\W*{one}\s*[^\w\s'])"
    # Alone, or with its reason after it; another option may be named in that.
    alone = re.compile(rf"[^\w(]*{_OPTION}?{one}\s*(?:[^\w\s']|$|{_REASON})")
    # "A person would" is no A.
    loosely = re.compile(rf"[\W_]*(?:{_OPTION}|(?!A [a-z])){one}(?![\w'])")
    in_brackets = re.compile(bracketed, re.IGNORECASE)
    for rest in _statements(text):
        if re.match(r"\W*not\b", rest, re.IGNORECASE):
            continue
        found = alone.match(rest) or in_brackets.search(rest) or loosely.match(rest)
        if found:
            return _letter(found)
    # "(A) is wrong" does not open an answer; "A" also opens many English sentences, and "E.g." one.
    opens = re.compile(
        rf"\A[\W_]*(?:(?:{_OPTION}?{bracketed}|{_OPTION}{one}\b)(?:{_PRAISE}|(?!{_VERB}))"
        rf"|(?<![(\[]){one}(?:{_PRAISE}|\s+{_REASON}|\s+[-–—]|\s*(?:[.):,;*]|$)(?!\w\.)))",
        re.IGNORECASE | re.MULTILINE,
    )
    ends = re.compile(rf"(?:^|[\s\"'*]){one}[.)\"'*]*\s*\Z")
    for pattern in [opens, in_brackets, ends] if bare else [in_brackets, ends, opens]:
        if matches := list(pattern.finditer(text)):
            return _letter(matches[-1])
    # Among words of another script a letter of ours is no word.
    latin = re.findall("[A-Z]+", text.upper())
    return latin[-1] if latin and set(latin) <= set(letters) else None


def _letter(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group).upper()


# Before a word that it denies: "not a contradiction", "isn't logically valid", "cannot be considered valid"; and in
# Chinese and Thai, where it would else be found inside its denial, as `_evenly` writes them.
_BETWEEN = r"[^\w\n.,;:!?–—-]+"
_NEGATION = re.compile(
    r"(?:\b(?:not(?! only\b)|no|never|cannot|neither|nor|without|(?:rather|instead) (?:than|of))|n't)"
    rf"(?:{_BETWEEN}(?:an?|the|to|be|seem|appear|about|considered|clear|direct|\w+ly))*{_BETWEEN}\Z"
    r"|(?:不(?: 是)?|没 有|ไ ม ่(?: ใ ช ่)?) \Z"
)


def word_choice(text: str, words: dict[str, str], *, bare: bool = False) -> str | None:
    """The value of the last word that is a key of `words`, whole and in any case; stated ones first.

    One that is denied ("isn't valid", "cannot be considered valid") in English, Chinese or Thai is the key "not valid"
    where there is one, and else passed over. Longer keys win where two begin at the same place; and "no" is one only as
    a word by itself, not as in "no doubt". bare: nothing but a word was asked for, so that one which opens the text
    ("Neutral. The premise ...") comes before those that are named later.
    """
    text = _folded(text)
    values = {_folded(key): value for key, value in words.items()}
    keys = "|".join(
        re.escape(key) + (r"(?!\s+\w)" if key == "no" else "") for key in sorted(values, key=len, reverse=True)
    )
    # Vowel signs of Indic scripts are part of a word, but `\w` does not match them.
    pattern = re.compile(rf"(?<!{_IN_WORD})(?:{keys})(?!{_IN_WORD})")

    def named(part: str) -> list[str]:
        # Sixty characters back, lest a text that repeats itself take long.
        hits = [(m[0], _NEGATION.search(part[max(0, m.start() - 60) : m.start()])) for m in pattern.finditer(part)]
        meant = [values.get(f"not {key}") if negated else values[key] for key, negated in hits]
        return [value for value in meant if value is not None]

    for rest in _statements(text):
        if "no" in values and re.match(r"\W*no\b(?!\s+doubt)", rest):
            return values["no"]  # "no because ..." too
        if found := named(rest):
            return found[0]
    opens = re.match(rf"[\W_]*({keys})[\s*_\"']*(?:[.,:;!(\n–—-]|$)", text) if bare else None
    if opens:
        return values[opens[1]]
    every = named(text)
    return every[-1] if every else None


_IN_WORD = rf"(?:[^\W{_UNSPACED}]|[\u0900-\u0963\u0966-\u0dff])"

YES_NO = {
    "yes": "yes", "no": "no", "plausible": "yes", "not plausible": "no", "implausible": "no", "not implausible": "yes",
    "tells the truth": "yes", "telling the truth": "yes", "not telling the truth": "no",
    "tell the truth": "yes", "not tell the truth": "no", "lies": "no", "lying": "no", "not lying": "yes",
}  # fmt: skip
"""The words for a yes and a no in BIG-Bench Hard's questions of that kind."""

VALIDITY = {"valid": "valid", "not valid": "invalid", "invalid": "invalid", "not invalid": "valid"}


def option_text(text: str, options: Sequence[str]) -> int | None:
    """The option that a text names in full, as its index; the last one named, and None where none is."""
    plain = f" {_plain(text)} "
    options = [f" {_plain(option)} " for option in options]
    ends = [(plain.rfind(option) + len(option), len(option), i) for i, option in enumerate(options) if option in plain]
    return max(ends)[2] if ends else None


def _plain(text: str) -> str:
    # Marks too are kept: many vowels are.
    kept = (one if unicodedata.category(one)[0] in "LMN" else " " for one in _folded(text))
    return " ".join("".join(kept).split())
