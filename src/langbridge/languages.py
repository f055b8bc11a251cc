"""Which languages count as low-resource for an English-centric language model.

The measure is a language's share of Llama 2's pre-training data (Touvron et al. 2023, arXiv 2307.09288,
Table 10): strictly under 0.1 percent is low, so Japanese with 0.10 is high, as in the published tables.
"""

from langbridge.errors import LangBridgeError

LLAMA2_PERCENT = {
    "en": 89.70,
    "de": 0.17,
    "fr": 0.16,
    "sv": 0.15,
    "es": 0.13,
    "ru": 0.13,
    "zh": 0.13,
    "nl": 0.12,
    "it": 0.11,
    "ja": 0.10,
    "pl": 0.09,
    "pt": 0.09,
    "vi": 0.08,
    "uk": 0.07,
    "ko": 0.06,
    "ca": 0.04,
    "sr": 0.04,
    "cs": 0.03,
    "fi": 0.03,
    "hu": 0.03,
    "id": 0.03,
    "no": 0.03,
    "ro": 0.03,
    "bg": 0.02,
    "da": 0.02,
    "hr": 0.01,
    "sl": 0.01,
}
"""Percent of the pre-training data by language; a language that is not listed has less than 0.005."""

LOW_BELOW_PERCENT = 0.1

_THREE_LETTERS = {
    "eng": "en", "deu": "de", "fra": "fr", "swe": "sv", "spa": "es", "rus": "ru", "zho": "zh", "cmn": "zh",
    "nld": "nl", "ita": "it", "jpn": "ja", "pol": "pl", "por": "pt", "vie": "vi", "ukr": "uk", "kor": "ko",
    "cat": "ca", "srp": "sr", "ces": "cs", "fin": "fi", "hun": "hu", "ind": "id", "nob": "no", "nno": "no",
    "nor": "no", "nb": "no", "nn": "no", "ron": "ro", "bul": "bg", "dan": "da", "hrv": "hr", "slv": "sl",
}  # fmt: skip
"""ISO 639-3, as FLORES writes it, of the languages above; every other three-letter code is not among them."""


def two_letter(language: str) -> str:
    """The language of a code without script or region, with two letters where the table above has it so."""
    code = language.replace("_", "-").split("-")[0].lower()
    return _THREE_LETTERS.get(code, code)


def group_of(language: str) -> str:
    """`"high"` or `"low"` for a language code such as `sw`, `zh-Hant` or `zho_Hant`; only the first part counts."""
    code = two_letter(language)
    if not (code.isascii() and code.isalpha() and len(code) in (2, 3)):
        raise LangBridgeError(f"language: expected a code such as 'sw' or 'zh-Hant', got {language!r}")
    return "low" if LLAMA2_PERCENT.get(code, 0.0) < LOW_BELOW_PERCENT else "high"


_MEASURED = ("en", "es", "fr", "de", "ru", "zh", "ja", "th", "sw", "bn", "te", "ko")

LANGUAGE_GROUPS = {group: tuple(code for code in _MEASURED if group_of(code) == group) for group in ("high", "low")}
"""The 11 languages of MGSM and Korean, by group, in MGSM's order."""
