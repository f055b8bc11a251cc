"""Rows that are conversations, in both common layouts."""

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from langbridge.data import Data, open_data
from langbridge.data.columns import Side, turn_of
from langbridge.errors import LangBridgeError
from langbridge.files import write_jsonl

SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = {"role": "user", "content": "2+3?"}
ANSWERED = {"role": "assistant", "content": "5"}
SHARED = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "2+3?"},
    {"from": "gpt", "value": "5"},
    {"from": "human", "value": "Sure?"},
    {"from": "gpt", "value": "Yes."},
]
PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "2"}, {"type": "text", "text": "+3?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "5"}]},
]


@pytest.mark.parametrize(
    "turns",
    [
        [ASKED, ANSWERED],
        [SYSTEM, ASKED, ANSWERED, {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."}],
        [{"role": "assistant", "content": "Hello!"}, ASKED, ANSWERED],
        SHARED,
        PARTS,
    ],
)
def test_the_users_first_turn_and_its_answer(turns: list[Any]) -> None:
    assert turn_of(turns, "user", "") == "2+3?"
    assert turn_of(turns, "assistant", "") == "5"


@pytest.mark.parametrize(
    ("turns", "side", "message"),
    [
        ([SYSTEM, ANSWERED], "user", "w: no turn is the user's; the turns are system, assistant"),
        ([], "user", "w: no turn is the user's; the turns are none at all"),
        ([], "assistant", "w: no assistant's turn at the beginning; the turns are none at all"),
        ([SYSTEM, ASKED], "assistant", "w: no assistant's turn after turn 2, the user's; the turns are system, user"),
        ([ASKED, ASKED, ANSWERED], "assistant", "w: no assistant's turn after turn 1, the user's; the turns are user"),
        (["2+3?"], "user", "w, turn 1: expected role and content, or from and value, got str"),
        (
            [{"text": "2+3?"}],
            "user",
            "w, turn 1: expected role and content, or from and value, got an object with text",
        ),
        (
            [ASKED, {"role": "assistant", "content": None}],
            "assistant",
            "w, turn 2: expected text or parts of text, got",
        ),
        (
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}],
            "user",
            "w, turn 1: expected parts with type text and a text, got type 'image'",
        ),
    ],
)
def test_what_is_no_exchange_says_what_is_there(turns: list[Any], side: Side, message: str) -> None:
    with pytest.raises(LangBridgeError) as caught:
        turn_of(turns, side, "w")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_of_conversations_is_input_and_output(tmp_path: Path, kind: str, streaming: bool) -> None:
    path = tmp_path / f"rows.{kind}"
    rows = [{"messages": [ASKED, ANSWERED]}, {"messages": [ANSWERED]}]
    if kind == "jsonl":
        write_jsonl(path, rows)
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    data = Data(path=str(path), input="messages", output="messages", on_bad_row="skip", streaming=streaming)
    found = open_data(data, regime="labelled", seed=0)
    ((prompt, target),) = [(row.prompt, row.target) for row in found]
    assert (prompt, target) == ("2+3?", "5")
    assert found.skipped.counts == {"no user turn": 1}
    assert found.skipped.first == [f"{path}, row 2, field 'messages': no turn is the user's; the turns are assistant"]


def test_a_prompt_and_its_completion_in_columns_of_their_own(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"prompt": [SYSTEM, ASKED], "completion": [ANSWERED]}])
    data = Data(path=str(tmp_path / "a.jsonl"), input="Q: {prompt}", output="completion")
    (row,) = open_data(data, regime="labelled", seed=0)
    assert (row.prompt, row.target) == ("Q: 2+3?", "5")


def test_a_conversation_is_no_unlabelled_text(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"messages": [ASKED, ANSWERED]}])
    data = Data(path=str(tmp_path / "a.jsonl"), text="messages")
    with pytest.raises(LangBridgeError, match="row 1, field 'messages': expected text, got list"):
        open_data(data, regime="unlabelled", seed=0)
