"""The language of a text, by py3langid, after everything that is not language has been removed.

Numbers, formulas, code and variable names are the same in every language, and are most of what a model writes about
mathematics or programs. Only words in the text's main script count, so that a Latin name in a Bengali sentence does
not. Where too few are left, the answer is None, not a guess.
"""

import copy
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from langbridge.analyze.probe import missing
from langbridge.analyze.scripts import BROKEN, LANGUAGES, LATIN, NO_SCRIPT, count_scripts, script_of_character
from langbridge.errors import LangBridgeError
from langbridge.languages import LLAMA2_PERCENT, two_letter

FEWEST_LETTERS = {"Han": 2, "Hiragana": 2, "Katakana": 2, "Hangul": 3}
"""Fewest letters for a guess, in scripts that need few."""
FEWEST_LETTERS_ELSEWHERE = 8
SUREST = 0.7
"""The least probability of the likeliest language, among those considered."""

_JAPANESE = {"Hiragana", "Katakana"}
_EAST_ASIAN = {"Han", *_JAPANESE}

_INNER_ONLY = "'’-\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
_INNER = _INNER_ONLY + "_"
"""Characters allowed inside a word besides letters, marks and digits."""
_NUMBER_EDGE = re.compile(r"(?<=[^\x00-\x7f])(?=\d)|(?<=\d)(?=[^\x00-\x7f])")

_FENCE = re.compile(r"```[^\n`]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_NOT_WORDS = re.compile(
    r"`[^`\n]*`"  # code in a line
    r"|\\\[.*?\\\]|\\\(.*?\\\)|\$\$.*?\$\$|\$(?![\d\s<])[^$\n]{1,200}\$(?!\d)"  # formulas; "$5 and $6" is none
    r"|\\text\b|\\[A-Za-z]+\*?(?:\{[^{}]*\})*"  # commands of TeX, with their braces but for words among formulas
    r"|https?://\S+|www\.\S+|\S+@\S+\.\w+"
    r"|<<[^<>\n]*>>|</?\w+[^<>\n]{0,80}>",  # GSM8K's calculator, tags
    re.DOTALL,
)
_COMMENT = re.compile(r"\"\"\"(.*?)(?:\"\"\"|\Z)|'''(.*?)(?:'''|\Z)|(?:#|//)\s?(.*)", re.DOTALL)
_LINE_COMMENT = re.compile(r"(?:#|//)\s?(.*)$")
_CODE_LINE = re.compile(
    r"\s*(?:"
    r"(?:async\s+def|def|class)\s+\w+.*:.*|(?:if|elif|for|while|with|except|else|try|finally)\b.*:\s*"
    r"|(?:if|elif|else|for|while)\b.*:\s*(?:return|continue|break|raise|pass|[\w.\[\]]+\s*[-+*/]?=|\w+\().*"
    r"|(?:import|from)\s+[\w.]+(?:\s+(?:import|as)\b.*)?|return\b.*[()\[\]{}+*/<>=_%.,'\"].*[^.!?]|return(?:\s+\S+){0,2}"
    r"|(?:raise|assert|del|yield)\s+\w+\W.*|pass|break|continue|@\w[\w.]*(?:\(.*\))?|>>>.*"
    r"|[A-Za-z_][\w.]*\(.*\)\s*;?|.*\{|[\])}]+.*"
    r")\s*"
)
_ASSIGNMENT = re.compile(
    r"\s*[A-Za-z_][\w.]*(?:\[[^\]]*\])?(?:\s*,\s*[A-Za-z_]\w*)*\s*(?:[-+*/%|&]|//|\*\*)?=(?!=)(?P<value>.*)"
)
_NAME = re.compile(r".*(?:[a-z][A-Z]|_|\d).*|[A-Za-zΑ-Ωα-ω]")
"""Of a variable or a constant: inner capitals, underscores, digits. A Latin or Greek letter alone is one too."""


@dataclass(frozen=True)
class Identified:
    """The language of a text, or None where it is unclear; the probability of the likeliest, and the words' letters.

    script: of the words; "none" where they are too few.
    """

    language: str | None
    probability: float
    letters: int
    script: str


class LanguageIdentifier:
    """Tells apart the languages that an English-centric model is likely to write: those of Llama 2's table, and
    `more`, such as the languages of the questions. A text in another script than Latin is in one of these that write in
    it; where none does, in one of those that py3langid knows in the script; where it knows none, the text is unclear.
    A text in any other language is taken for one of these, or is unclear.

    Raises `LangBridgeError` where py3langid is missing, or knows none of the codes in `more` that it must (`needed`).
    """

    def __init__(self, more: Iterable[str] = (), needed: Iterable[str] = ()):
        try:
            from py3langid.langid import MODEL_FILE
            from py3langid.langid import LanguageIdentifier as Library
        except ImportError as error:
            raise missing("py3langid") from error
        self._library: Any = Library.from_model_file(MODEL_FILE, norm_probs=True)
        known = set(self._library.labels)
        needed = list(needed)
        if unknown := [code for code in needed if two_letter(code) not in known]:
            raise LangBridgeError(
                f"language {unknown[0]!r}: py3langid does not know it; it knows {', '.join(sorted(known))}"
            )
        wanted = {two_letter(code) for code in (*LLAMA2_PERCENT, *more, *needed)}
        self.languages = tuple(sorted(wanted & known))
        self.unknown = tuple(sorted(wanted - known - set(LLAMA2_PERCENT)))
        """Languages of `more` that py3langid does not know."""
        self._of_script: dict[str, Any] = {}

    def __call__(self, text: str) -> Identified:
        words, script = _main_script(prose(text))
        letters = sum(len(word) for word in words)
        if letters < FEWEST_LETTERS.get(script, FEWEST_LETTERS_ELSEWHERE):
            return Identified(None, 0.0, letters, NO_SCRIPT)
        candidates = self._candidates(script)
        if not candidates:
            return Identified(None, 0.0, letters, script)
        if script not in self._of_script:
            self._of_script[script] = copy.copy(self._library)  # shares the model's tables
            self._of_script[script].set_languages(candidates)
        language, probability = self._of_script[script].classify(" ".join(words))
        return Identified(language if probability >= SUREST else None, float(probability), letters, script)

    def _candidates(self, script: str) -> list[str]:
        if script == LATIN:
            return list(self.languages)
        writing = LANGUAGES.get(script, ())
        return [code for code in writing if code in self.languages] or list(writing)


def prose(text: str) -> str:
    """A text without code, formulas, numbers and names of variables. Comments and docstrings are prose."""
    text = _FENCE.sub(lambda block: "\n" + "\n".join(_comments(block[1])) + "\n", text)
    text = _NOT_WORDS.sub(" ", text)
    lines = []
    for line in text.split("\n"):
        if _is_code(line):
            found = _LINE_COMMENT.search(line)
            line = found[1] if found else ""
        lines.append(line)
    return " ".join(word for line in lines for word in _plain_words(line))


def _plain_words(line: str) -> list[str]:
    """Runs of letters, names left out, with the marks on them: `re`, which counts these among punctuation, would cut
    Indic words apart."""
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" or c in _INNER else " " for c in line)
    # Scripts without spaces write numbers between letters; a Latin word with a number in it is a name.
    words = (run.strip(_INNER_ONLY) for run in _NUMBER_EDGE.sub(" ", kept).split())
    return [word for word in words if word and not _NAME.fullmatch(word)]


def _comments(code: str) -> list[str]:
    return [next(part for part in found if part is not None) for found in (m.groups() for m in _COMMENT.finditer(code))
            if any(part is not None for part in found)]  # fmt: skip


def _is_code(line: str) -> bool:
    if found := _ASSIGNMENT.fullmatch(line):
        # "Movies = 5 more than what we had before" is a sentence of arithmetic.
        return "(" in found["value"] or len(re.findall(r"[^\W\d_]{2,}", found["value"])) < 4
    if line.rstrip().endswith(";") and ("=" in line or "(" in line or len(_plain_words(line)) < 3):
        return True  # a list of steps ends its lines so too
    return bool(_CODE_LINE.fullmatch(line))


def _main_script(text: str) -> tuple[list[str], str]:
    """The words in the script that most letters have, and the script."""
    counts = count_scripts(text)
    del counts[BROKEN]
    if not counts:
        return [], NO_SCRIPT
    script = counts.most_common(1)[0][0]
    # Japanese writes in three scripts at once, and Chinese characters alone are Chinese.
    together = _EAST_ASIAN if script in _EAST_ASIAN else {script}
    words = []
    for word in text.split():
        kept = "".join(c for c in word if script_of_character(c) in together or script_of_character(c) == NO_SCRIPT)
        if any(script_of_character(c) in together for c in kept):
            words.append(kept)
    return words, script
