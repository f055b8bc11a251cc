"""One text from the columns of a row."""

from typing import Any

import pytest

from langbridge.data.columns import Columns
from langbridge.errors import LangBridgeError

ROW = {
    "system_prompt": "Be brief.",
    "question": "Why?",
    "odd {name}": "x",
    "empty": "",
    "none": None,
    "n": 42,
    "half": 0.5,
}

TEXTS = {
    "question": "Why?",
    "{question}": "Why?",
    "{system_prompt}\n\n{question}": "Be brief.\n\nWhy?",
    "{question} {question}": "Why? Why?",
    "odd {{name}}": "x",
    "{{{question}}}": "{Why?}",
    "{empty}\n\n{question}": "Why?",  # the white space that an empty column leaves at the ends goes
    "{question}\n{empty}": "Why?",
    "Q: {question}{empty}": "Q: Why?",
    "{question}\n{none}": "Why?",
    "n": "42",
    "half": "0.5",
    "{n} {half}{none}": "42 0.5",
}


@pytest.mark.parametrize("template", TEXTS)
def test_a_column_or_a_template(template: str) -> None:
    assert Columns(template)(ROW, "rows, row 1") == TEXTS[template]


def test_the_columns_that_are_needed_are_known() -> None:
    assert Columns("{b} {a} {b}").names == ("b", "a")
    assert Columns("plain name").names == ("plain name",)


def test_texts_are_taken_as_they_are() -> None:
    assert Columns("a")({"a": " {x} \n"}, "") == " {x} \n"
    assert Columns("{a}|{b}")({"a": " {b} ", "b": "1\n"}, "") == " {b} |1\n"


@pytest.mark.parametrize("template", ["", "{", "}", "{}", "{a!r}", "{a:>5}", "a {b", "{{{"])
def test_what_is_neither_is_an_error(template: str) -> None:
    with pytest.raises(LangBridgeError, match=r"template|column"):
        Columns(template)


@pytest.mark.parametrize(
    ("template", "row", "message"),
    [
        ("{a} {b}", {"a": "x"}, "row 1: no field 'b'; the row has 'a'"),
        ("{a} {b}", {"a": "", "b": None}, "row 1: the fields 'a', 'b' are all empty"),
        ("a", {"a": None}, "row 1, field 'a': expected text, got nothing"),
        ("{a}", {"a": True}, "row 1, field 'a': expected text, got bool"),
        ("a", {"a": 1e30}, "row 1, field 'a': expected text, got float"),
        ("a", {"a": float("nan")}, "row 1, field 'a': expected text, got float"),
        ("a", {"a": ["x"]}, "row 1, field 'a': expected text, got list"),
        ("{a}", {"a": {"x": 1}}, "row 1, field 'a': expected text, got dict"),
        ("{a} {b}", {"a": "", "b": " "}, "row 1: the fields 'a', 'b' are all empty"),
        ("a", {"a": ""}, "row 1, field 'a': the text is empty"),
        ("a", {"a": "x\ud83d"}, "row 1, field 'a': half a surrogate pair at character 2"),
    ],
)
def test_a_bad_row_says_which_field(template: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises(LangBridgeError) as caught:
        Columns(template)(row, "row 1")
    assert str(caught.value).startswith(message)
