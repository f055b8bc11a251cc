"""Writing systems: of a character, and of a text."""

import unicodedata
from collections import Counter
from functools import lru_cache

NO_SCRIPT = "none"
"""Digits, punctuation, space."""
BROKEN = "bytes"
"""Part of a character, as byte-level tokens may be."""

LATIN = "Latin"

LANGUAGES = {
    "Arabic": ("ar", "ary", "arz", "fa", "ps", "sdh", "ug", "ur", "uzs"), "Armenian": ("hy",),
    "Bengali": ("as", "bn"),
    "Cyrillic": ("ba", "be", "bg", "kk", "ky", "mk", "mn", "ru", "sr", "tg", "tt", "uk", "uz"),
    "Devanagari": ("gom", "hi", "mr", "ne", "sa"), "Ethiopic": ("am",), "Georgian": ("ka",), "Greek": ("el", "grc"),
    "Gujarati": ("gu",), "Gurmukhi": ("pa",), "Han": ("ja", "wuu", "yue", "zh"), "Hangul": ("ko",),
    "Hebrew": ("hbo", "he"), "Hiragana": ("ja",), "Kannada": ("kn",), "Katakana": ("ja",), "Khmer": ("km",),
    "Lao": ("lo",), "Malayalam": ("ml",), "Myanmar": ("my",), "Oriya": ("or",), "Sinhala": ("si",), "Tamil": ("ta",),
    "Telugu": ("te",), "Thai": ("th",), "Tibetan": ("dz",),
}  # fmt: skip
"""Of each script but Latin, the languages that py3langid knows in it, in its codes."""

_NAMES = {"CJK": "Han", "IDEOGRAPHIC": "Han", "KATAKANA-HIRAGANA": "Katakana"}
_ANY_SCRIPT = {"COMBINING", "MODIFIER"}
"""First words of the names of marks that combine with letters of any script."""


@lru_cache(maxsize=65536)
def script_of_character(character: str) -> str:
    """`Latin`, `Han`, `Bengali`, ...; "none" for what belongs to no script, and "bytes" for U+FFFD.

    The first word of the character's Unicode name, which is its script's name for every letter. Marks that follow a
    letter (vowel signs) count as letters: without them a Thai or Bengali text would be half as long.
    """
    if character == "\N{REPLACEMENT CHARACTER}":
        return BROKEN
    if unicodedata.category(character)[0] not in "LM":
        return NO_SCRIPT
    # Wide, bold and circled forms are named after their form; what they are forms of is named after its script.
    word = (unicodedata.name(unicodedata.normalize("NFKC", character)[0], "") or "COMBINING").split()[0]
    return NO_SCRIPT if word in _ANY_SCRIPT else _NAMES.get(word, word.capitalize())


def count_scripts(text: str) -> Counter[str]:
    """Letters (and the marks on them) of each script; "bytes" for broken characters."""
    found = Counter(map(script_of_character, text))
    del found[NO_SCRIPT]
    return found


def script_of(text: str) -> str:
    """The script that most of the text's letters belong to; "none" where it has no letter."""
    found = count_scripts(text)
    return found.most_common(1)[0][0] if found else NO_SCRIPT
