"""Reading answers off texts: numbers, letters, words."""

from decimal import Decimal

import pytest

from langbridge.evaluate.answers import (
    VALIDITY,
    YES_NO,
    choice_letter,
    last_number,
    option_text,
    reference_number,
    word_choice,
)

NUMBERS = {
    "The answer is 72.": "72",
    "The answer is: 72": "72",
    "the answer is **-3**.": "-3",
    r"The answer is $\boxed{72}$": "72",
    "The answer is $1,234.50.": "1234.50",
    "The answer is 5 apples, and 3 pears are left.": "5",
    "The answer is 4. Wait. The answer is 6. There were 9 to begin with.": "6",
    "The answer is not known; 7": "7",
    "The answer is\n8": "8",
    "The answer is .5": ".5",
    "48-24": "24",
    "48 - 24 = 24": "24",
    "10 - 15 = -5": "-5",
    "10 \u2212 15 = \u22125": "-5",
    "(3)-2": "2",
    "- 5": "5",
    "+4": "4",
    "1,2,3": "3",
    "1,234,567": "1234567",
    "1,00,000 rupees": "100000",
    "12,34": "34",
    "12\u202f345": "12345",
    "12\u00a0345": "12345",
    "12 345": "345",
    "3.14": "3.14",
    "It costs 3.": "3",
    "#### 72": "72",
    "৭২": "72",
    "১,২৩৪": "1234",
    "๑๒.๕": "12.5",
    "౧౨": "12",
    "答えは７２です": "72",
    "－７，０００": "-7000",
    "12 m²": "12",
    "x2": "2",
    "007": "7",
}


@pytest.mark.parametrize("text", NUMBERS)
def test_last_number(text: str) -> None:
    assert last_number(text) == Decimal(NUMBERS[text])


@pytest.mark.parametrize("text", ["", "no number", "m²", "The answer is unknown.", "...", "-"])
def test_no_number(text: str) -> None:
    assert last_number(text) is None


def test_equal_numbers_are_equal_however_they_are_written() -> None:
    assert last_number("72.00") == last_number("72") == 72


# What the original evaluation makes of a text: commas between digits go, the last ASCII digits count, signs are lost.
REFERENCE = {
    "The answer is 1,234.": "1234",
    "The answer is 5 apples, and 3 pears are left.": "3",
    "10 - 15 = -5": "5",
    "He pays 3.50": "3.50",
    "1,2,3": "123",
    "no number": "0",
    "৭২": "0",
}


@pytest.mark.parametrize("text", REFERENCE)
def test_the_looser_rule_of_the_reference(text: str) -> None:
    assert reference_number(text) == Decimal(REFERENCE[text])


# Outputs of the kinds that models write to BIG-Bench Hard's questions.
LETTERS = {
    "So the answer is (B).": "B",
    "the answer is (b)": "B",
    "Option (A) says X. Option (C) says Y. So the answer is (C).": "C",
    "The answer is: **D**": "D",
    "Answer: B": "B",
    "The final answer is $\\boxed{C}$": "C",
    "(A) is wrong because ... , so (B)": "B",
    "B": "B",
    "B.": "B",
    "B. It was small.": "B",
    "A": "A",
    "A man walked in.": None,
    "The answer is (A). In fact (B) is impossible.": "A",
    "The answer is A. The answer is not B, though.": "A",
    "The answer is a dog": None,
    "It is (Z)": None,
    "I do not know": None,
    "": None,
}


@pytest.mark.parametrize("text", LETTERS)
def test_choice_letters(text: str) -> None:
    assert choice_letter(text, ["A", "B", "C", "D"]) == LETTERS[text]


WORDS = [
    ("So the answer is yes.", YES_NO, "yes"),
    ("Yes, at first. But on second thought the answer is No.", YES_NO, "no"),
    ("the sentence is not plausible", YES_NO, "no"),
    ("the sentence is plausible", YES_NO, "yes"),
    ("Elanor tells the truth.", YES_NO, "yes"),
    ("nothing known", YES_NO, None),  # neither "no" in "nothing" nor in "known"
    ("The argument is deductively invalid.", VALIDITY, "invalid"),
    ("The argument is not deductively valid.", VALIDITY, "invalid"),
    ("is it valid? the answer is invalid, not valid", VALIDITY, "invalid"),
    ("VALID", VALIDITY, "valid"),
    ("invalidity", VALIDITY, None),
]


@pytest.mark.parametrize(("text", "words", "expected"), WORDS)
def test_words(text: str, words: dict[str, str], expected: str | None) -> None:
    assert word_choice(text, words) == expected


def test_an_option_in_full() -> None:
    options = ["It was small.", "It was fragile", "fragile"]
    assert option_text("Because IT WAS FRAGILE!", options) == 1
    assert option_text("It was fragile? No: it was small", options) == 0
    assert option_text("neither", options) is None
