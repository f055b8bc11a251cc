"""Languages by any of their codes, and by their English names."""

import pytest

from langbridge.languages import chosen_languages, english_name, group_of, is_same_language, language_code, two_letter


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("sw", "sw"), ("swa", "swa"), ("swh_Latn", "swh_Latn"), ("zh-Hant", "zh-Hant"), ("ZH_tw", "ZH_tw"),
        ("Swahili", "sw"), ("swahili", "sw"), ("Haitian_Creole", "ht"), ("Northern Sotho", "nso"),
        ("ewe", "ewe"), ("Ewe", "ee"), ("results", None), ("dataset_infos", None), ("", None),
    ],
)  # fmt: skip
def test_a_name_becomes_a_code_and_a_code_stays(text: str, code: str | None) -> None:
    assert language_code(text) == code


def test_one_language_has_one_code_and_one_group() -> None:
    assert [two_letter(code) for code in ("sw", "swa", "swh", "swh_Latn")] == ["sw"] * 4
    assert [two_letter(code) for code in ("nb", "nno_Latn", "fil", "npi_Deva", "ceb_Latn", "xyz")] == [
        "no", "no", "tl", "ne", "ceb", "xyz",
    ]  # fmt: skip
    assert (english_name("arb_Arab"), english_name("xyz")) == ("Arabic", None)
    # Of AfriMGSM's languages only the two that are not African are in the model's data to more than 0.1 percent.
    assert [code for code in ("eng", "fra", "swa", "yor", "amh", "twi") if group_of(code) == "high"] == ["eng", "fra"]


def test_codes_of_one_language_are_the_same_where_their_scripts_do_not_differ() -> None:
    assert is_same_language("sw", "swh_Latn")
    assert is_same_language("zh", "zho_Hant")
    assert not is_same_language("zho_Hans", "zho_Hant")
    assert not is_same_language("sw", "so")


def test_a_language_is_wanted_by_any_code_or_name() -> None:
    has = ["eng_Latn", "swh_Latn", "zho_Hans", "zho_Hant"]
    for wanted in ("sw", "swa", "swh_Latn", "Swahili"):
        assert chosen_languages(has, [wanted]) == ["swh_Latn"]
    assert chosen_languages(has, ["zh"]) == ["zho_Hans", "zho_Hant"]
    assert chosen_languages(has, ["zho_Hant", "nothing at all"]) == ["zho_Hant"]
