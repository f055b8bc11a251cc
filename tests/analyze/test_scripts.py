"""Writing systems of characters and texts."""

import pytest

from langbridge.analyze.scripts import LANGUAGES, count_scripts, script_of, script_of_character


@pytest.mark.parametrize(
    ("characters", "script"),
    [
        ("aéßɑＡ𝐀ª", "Latin"),
        ("жЁ", "Cyrillic"),
        ("你々㐀", "Han"),
        ("あ", "Hiragana"),
        ("アーｱ", "Katakana"),
        ("한ᄀ", "Hangul"),
        ("ไก์", "Thai"),
        ("ব্া", "Bengali"),
        ("తా", "Telugu"),
        ("कि", "Devanagari"),
        ("ਪੰ", "Gurmukhi"),
        ("پعآ", "Arabic"),
        ("π", "Greek"),
        ("1२²!? \n$+=ʼ\u0301\ue000", "none"),
        ("\ufffd", "bytes"),
    ],
)
def test_characters(characters: str, script: str) -> None:
    assert {c: script_of_character(c) for c in characters} == dict.fromkeys(characters, script)


def test_texts() -> None:
    assert script_of("Tom ana matufaa 28.") == "Latin"
    assert script_of("Tom దగ్గర 28 ఆపిల్స్ ఉన్నాయి.") == "Telugu"
    assert script_of(" 28 + 9 = 37.") == "none"
    assert count_scripts("ab 你!") == {"Latin": 2, "Han": 1}


def test_languages_of_scripts_are_known_to_the_library() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    library = LanguageIdentifier.from_model_file(MODEL_FILE)
    assert {code for codes in LANGUAGES.values() for code in codes} <= set(library.labels)
    assert set(LANGUAGES) <= {script_of_character(chr(i)) for i in range(0x10000)}
