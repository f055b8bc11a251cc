"""Hand-written grammars of the miniature's twelve languages: one file a language, one `GRAMMAR` in each.

A grammar renders three kinds of sentence (what somebody starts with, one event, the question) from the
language-neutral words of `langbridge.miniature.world`. Personal names stay in Latin script everywhere, as they do
in much real text; numbers are digits.
"""

from importlib import import_module

from langbridge.miniature.grammar.base import Grammar

LANGUAGES = ("en", "es", "fr", "de", "ru", "zh", "ja", "th", "sw", "bn", "te", "ko")


def grammar(language: str) -> Grammar:
    """The grammar of one of `LANGUAGES` (ISO 639-1 code)."""
    if language not in LANGUAGES:
        raise ValueError(f"the miniature has no language {language!r}; it has {', '.join(LANGUAGES)}")
    return import_module(f"langbridge.miniature.grammar.{language}").GRAMMAR
