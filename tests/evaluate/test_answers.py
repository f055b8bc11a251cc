"""Reading answers off texts: numbers, letters, words."""

from decimal import Decimal

import pytest

from langbridge.evaluate.answers import (
    VALIDITY,
    YES_NO,
    choice_letter,
    exact_number,
    last_number,
    option_text,
    reference_number,
    word_choice,
)
from langbridge.evaluate.tasks.bbh.documents import BENGALI_WORDS
from langbridge.evaluate.tasks.word_problems import judge

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
    "The answer is 5 + 3 = 8.": "8",
    "The answer is 20 - 2 = 18 dollars. There were 3.": "18",
    "The answer is 1/2": "0.5",
    "The answer would be 12, not 13.": "12",
    "1.500.000": "1500000",
    # Fractions: in a line, in one sign, in LaTeX, mixed
    "The answer is $\\frac{3}{4}$.": "0.75",
    "So $\\dfrac{3}{4}$ is left": "0.75",
    "The answer is \\tfrac34": "0.75",
    "\\boxed{\\frac{1,000}{8}}": "125",
    "\\boxed{-\\frac{1}{2}}": "-0.5",
    "\\frac{-1}{2}": "-0.5",
    "It takes 2\\frac{1}{2} hours": "2.5",
    "The answer is 2 1/2.": "2.5",
    "The answer is -2 1/2.": "-2.5",
    "They ate 3/4 of it": "0.75",
    "1,000 1/2": "1000.5",
    "2½ hours": "2.5",
    "The answer is ⅖": "0.4",
    "3⁄4": "0.75",
    "The answer is 10 / 4": "2.5",
    "On 3/4/2021": "2021",
    "5/0": "0",
    "3/1,000": "1000",
    "12 10/2": "5",
    # What is stated wins over a number after it
    "The answer is 5. I checked 3 times": "5",
    "The answer is 5.\nI checked 3 times": "5",
    "Answer: 5\nI checked 3 times": "5",
    "**Answer:** $5.\n\nThat took 3 steps": "5",
    "Answer: 5 balls at first.\nThen 6 more, 11.": "11",
    "Step-by-Step Answer: 5 + 6 = 11. So 11": "11",
    "5 + 7 = 12\n#### 12\nHere 5 is the first of 2.": "12",
    "#### 1. Add\n5 + 7\n#### 2. Result\nShe has 12 apples": "12",
    "\\[ \\boxed{7} \\] as the 2 of us found": "7",
    "\\boxed{5 \\text{ of } 9}, in 3 steps": "5",
    "\\boxed{x = 18}": "18",
    "The answer is 4. Wait. \\boxed{6} is it, not 9": "6",
    "\\boxed{6}. No: the answer is 4.": "4",
    "\\boxed{A} of 5": "5",
    # Other marks
    "The answer is $7$.": "7",
    "\\(7\\)": "7",
    "$-7$": "-7",
    "1{,}234": "1234",
    "1,\\!234\\,567": "1234567",
    "It costs \\$18": "18",
    "70.000": "70",
}
IN_LANGUAGES = [
    ("fr", "La réponse est 70 000.", "70000"),
    ("ru", "Ответ — 70 000 рублей.", "70000"),
    ("es", "En total, 1 234 567", "1234567"),
    ("fr", "Il y a 12 345 pommes et 3 poires", "3"),
    ("fr", "3 + 7 = 10 100 fois", "10100"),
    ("de", "Die Antwort ist 70.000", "70000"),
    ("deu_Latn", "Das macht 70.000,50 €.", "70000.50"),
    ("de", "Sie zahlt 70,5 Euro.", "70.5"),
    ("de", "Sie zahlt $12.50", "12.50"),
    ("de", "0.125", "0.125"),
    ("de", "The answer is 70,000.", "70000"),
    ("en", "The answer is 70.000", "70"),
    ("en", "70 000", "0"),
    ("th", "3.125", "3.125"),
]


@pytest.mark.parametrize(("language", "text", "number"), IN_LANGUAGES)
def test_numbers_as_a_language_groups_them(language: str, text: str, number: str) -> None:
    assert last_number(text, language) == Decimal(number)


@pytest.mark.parametrize("text", NUMBERS)
def test_last_number(text: str) -> None:
    assert last_number(text) == Decimal(NUMBERS[text])


GOLDS = {"3/4": "0.75", r"$\frac{3}{4}$": "0.75", "1 1/2": "1.5", "½": "0.5", "$1,234": "1234", "-3": "-3"}


@pytest.mark.parametrize("text", GOLDS)
def test_a_text_that_is_a_number(text: str) -> None:
    assert exact_number(text) == Decimal(GOLDS[text])


@pytest.mark.parametrize("text", ["", "12 apples", "3/4/2021", "1 2", "A"])
def test_a_text_that_is_more_or_less_than_a_number(text: str) -> None:
    assert exact_number(text) is None


@pytest.mark.parametrize("text", ["", "no number", "m²", "The answer is unknown.", "...", "-"])
def test_no_number(text: str) -> None:
    assert last_number(text) is None


def test_equal_numbers_are_equal_however_they_are_written() -> None:
    assert last_number("72.00") == last_number("72") == 72


# What the original evaluation makes of a text (`_extract_answer` in its harness's mgsm.py): commas between pairs of
# digits go, the last digits of any script count, signs are lost.
REFERENCE = {
    "The answer is 1,234.": "1234",
    "The answer is 5 apples, and 3 pears are left.": "3",
    "10 - 15 = -5": "5",
    "He pays 3.50": "3.50",
    "1,2,3": "3",
    "no number": "0",
    "৭২": "72",
    "x is 18. উত্তর ২০": "20",
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
    "Answer: A person would go to (B)": "B",
    "Answer: A person would go.": None,
    "The answer is (A). In fact (B) is impossible.": "A",
    "The answer is A. The answer is not B, though.": "A",
    "The answer is a dog": None,
    "It is (Z)": None,
    "The answer is not (A). So the answer is (B).": "B",
    "First (A) and (B). It must be C": "C",
    "The answer is A because (B) is wrong": "A",
    "The answer would be (C). (A) is wrong": "C",
    r"So we have \boxed{B}": "B",
    "The answer is (A) or rather the answer is (D)": "D",
    "I do not know": None,
    "": None,
    "The correct answer is option B: he fell.": "B",
    "The correct answer is **Option B: he fell**": "B",
    "The correct option is B: He fell down.": "B",
    "The correct one is B) y": "B",
    "The correct option is not A. B": "B",
    "Option B is the most likely cause.": "B",
    "Option A is wrong. B": "B",
    "B is the more likely cause": "B",
    "B because the man was tired.": "B",
    "B - he was tired": "B",
    "b": "B",
    "[B]": "B",
    r"\boxed{\text{B}}": "B",
    r"Answer: $\boxed{\text{B}}$": "B",
    r"\boxed{A man}": None,
    "E.g. a dog. A.M. or P.M.": None,
    # Another script around the letter, and its marks
    "答案是 B。": "B",
    "答案是B，因为他很累": "B",
    "A。": "A",
    "(A）": "A",
    "Answer：B": "B",
    "选A": "A",
    "คำตอบคือ B เพราะเขาเหนื่อย": "B",
    "উত্তর B কারণ": "B",
    "Ｃ": "C",
}


@pytest.mark.parametrize("text", LETTERS)
def test_choice_letters(text: str) -> None:
    assert choice_letter(text, ["A", "B", "C", "D"]) == LETTERS[text]


# By whether nothing but a letter was asked for.
OPENING_LETTERS = [
    ("(A)\n\nExplanation: the second, (B), is not", "A", "B"),
    ("**B**\n\nExplanation: the cause is (B), not (A).", "B", "A"),
    ("B.\n\nThe item was fragile. (A) would be unlikely.", "B", "A"),
    ("A. He was tired because (B) is wrong", "A", "B"),
    ("(B) He fell. (A) is wrong", "B", "A"),
    ("B: he fell\n(A) is wrong", "B", "A"),
    ("Option B is the most likely, since (A) is not", "B", "A"),
    (r"\boxed{B}: (A) is wrong", "B", "A"),
    ("(A) is wrong because ... , so (B)", "B", "B"),
    ("(A) and (B) differ. It is (B)", "B", "B"),
    ("A man fell, so (B)", "B", "B"),
    ("E.g. by (B)", "B", "B"),
    ("A. Wait: the answer is B", "B", "B"),
]


@pytest.mark.parametrize(("text", "bare", "reasoned"), OPENING_LETTERS)
def test_a_letter_that_opens_a_bare_answer(text: str, bare: str, reasoned: str) -> None:
    assert choice_letter(text, "ABCDE", bare=True) == bare
    assert choice_letter(text, "ABCDE") == reasoned


WORDS = [
    ("So the answer is yes.", YES_NO, "yes"),
    ("Yes, at first. But on second thought the answer is No.", YES_NO, "no"),
    ("the sentence is not plausible", YES_NO, "no"),
    ("the sentence is plausible", YES_NO, "yes"),
    ("Elanor tells the truth.", YES_NO, "yes"),
    ("So the answer is no as we end 2 steps away. It would be yes if not.", YES_NO, "no"),
    ("The answer is no because you do not return", YES_NO, "no"),
    ("The answer is no doubt yes", YES_NO, "yes"),
    ("nothing known", YES_NO, None),  # neither "no" in "nothing" nor in "known"
    ("The argument is deductively invalid.", VALIDITY, "invalid"),
    ("The argument is not deductively valid.", VALIDITY, "invalid"),
    ("is it valid? the answer is invalid, not valid", VALIDITY, "invalid"),
    ("VALID", VALIDITY, "valid"),
    ("invalidity", VALIDITY, None),
    ("One may think the answer is yes. But no: so the answer is no.", YES_NO, "no"),
    ("Yes. There is no doubt.", YES_NO, "yes"),
    ("So no, it is not.", YES_NO, "no"),
    ("This is not a plausible sentence", YES_NO, "no"),
    ("So Ann is telling the truth", YES_NO, "yes"),
    ("So Ann doesn’t tell the truth", YES_NO, "no"),
    ("The argument isn't valid", VALIDITY, "invalid"),
    ("it is not necessarily valid", VALIDITY, "invalid"),
    ("so it cannot be valid", VALIDITY, "invalid"),
    ("The argument is not logically valid.", VALIDITY, "invalid"),
    ("The argument cannot be considered valid.", VALIDITY, "invalid"),
    ("The argument is *not* valid", VALIDITY, "invalid"),
    ("The argument does not appear to be valid", VALIDITY, "invalid"),
    ("It is not only valid, it is sound", VALIDITY, "valid"),
    ("Ann isn't lying", YES_NO, "yes"),
    ("যুক্তিটি বৈধ", {**VALIDITY, **BENGALI_WORDS["validity"]}, "valid"),
    ("যুক্তিটি বৈধ নয়।", {**VALIDITY, **BENGALI_WORDS["validity"]}, "invalid"),
    ("যুক্তিটি বৈধ ন\u09df", {**VALIDITY, **BENGALI_WORDS["validity"]}, "invalid"),
    ("তিনি যাবেন কিনা জানি: হ্যাঁ, কিনা", {**YES_NO, **BENGALI_WORDS["yes_no"]}, "yes"),
]


@pytest.mark.parametrize(("text", "words", "expected"), WORDS)
def test_words(text: str, words: dict[str, str], expected: str | None) -> None:
    assert word_choice(text, words) == expected


# Of words without a "not ..." among them, a denied one is passed over.
DENIED = {
    "One is travel and not politics": "travel",
    "travel instead of politics": "travel",
    "Travel. It isn't about politics": "travel",
    "Not politics.": None,
    "The answer is not politics, it is travel.": "travel",
    "Answer: there is no politics, so travel": "travel",
    "Is it politics? No. Travel": "travel",
    "No, politics": "politics",
}


@pytest.mark.parametrize("text", DENIED)
def test_a_denied_word(text: str) -> None:
    assert word_choice(text, {"travel": "travel", "politics": "politics"}) == DENIED[text]


UNSPACED = [
    ("这是正面的", ["正面", "负面"], "正面"),
    ("情感是正面。", ["正面", "负面"], "正面"),
    ("答案是yes。", ["yes", "no"], "yes"),
    ("คำตอบคือถูก", ["ถูก", "ผิด"], "ถูก"),
    ("正しいです。", ["正しい", "間違い"], "正しい"),
    ("Answer：负面", ["正面", "负面"], "负面"),
    ("অবৈধ", ["বৈধ"], None),
    ("不是正面，是负面。", ["正面", "负面"], "负面"),
    ("这句话不正确", ["正确", "错误"], None),
    ("这句话不正确", ["正确", "不正确"], "不正确"),
    ("ไม่ถูก", ["ถูก", "ผิด"], None),
    ("ไม่ใช่ถูก แต่ผิด", ["ถูก", "ผิด"], "ผิด"),
]


@pytest.mark.parametrize(("text", "words", "expected"), UNSPACED)
def test_words_of_scripts_without_spaces(text: str, words: list[str], expected: str | None) -> None:
    assert word_choice(text, {word: word for word in words}) == expected


def test_words_in_turkish_capitals() -> None:
    assert word_choice("İYİ", {"iyi": "good", "kötü": "bad"}) == "good"


def test_an_option_of_another_script() -> None:
    assert option_text("答案是他很累。", ["他很累", "他饿了"]) == 0
    assert option_text("เพราะเขาเหนื่อย", ["เขาหิว", "เขาเหนื่อย"]) == 1
    # The options differ in a vowel sign alone.
    assert option_text("উত্তর হল সে বাড়ি গেল।", ["সে বাড়ি গেল।", "সে বাড়ি গেলে।"]) == 0
    assert option_text("উত্তর হল সে বাড়ি গেলে।", ["সে বাড়ি গেল।", "সে বাড়ি গেলে।"]) == 1


def test_an_option_in_full() -> None:
    options = ["It was small.", "It was fragile", "fragile"]
    assert option_text("Because IT WAS FRAGILE!", options) == 1
    assert option_text("It was fragile? No: it was small", options) == 0
    assert option_text("neither", options) is None


def test_the_grader_answers_to_its_earlier_names() -> None:
    found = judge.verdict({"expected": "0.75", "language": "en"}, [r"The answer is $\frac{3}{4}$."])
    assert found.correct
