"""Reading labelled rows: what is read, and that every bad row says where it is and why."""

import json
from pathlib import Path
from typing import Any

import pytest

from langbridge.data import Data, Example, RowTable, open_data
from langbridge.errors import LangBridgeError

GOOD = '{"query": "2+2?", "response": "4"}'


def write(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared tables go where they go by default, but not into the cache of who runs the tests."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def read_labelled(path: Path, **settings: Any) -> RowTable:
    return open_data(Data(path=str(path), **settings), regime="labelled", seed=0)


def test_rows_in_order_with_other_fields_ignored(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, json.dumps({"id": 7, "query": "ౘ?", "response": " 5\n"}))
    dataset = read_labelled(path)
    assert list(dataset) == [Example("2+2?", "4"), Example("ౘ?", " 5\n")]
    assert len(dataset) == 2
    assert dataset[-1].target == " 5\n", "the text is taken as it is, spaces included"
    assert len(dataset.skipped) == 0


def test_field_names_are_chosen(tmp_path: Path) -> None:
    path = write(tmp_path, '{"question": "a", "answer": "b"}')
    assert read_labelled(path, input="question", output="answer")[0] == Example("a", "b")


def test_line_separators_inside_json_strings_do_not_split_rows(tmp_path: Path) -> None:
    path = write(tmp_path, '{"query": "one\u2028two\x85three", "response": "b"}')
    assert read_labelled(path)[0].prompt == "one\u2028two\x85three"


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_are_no_rows(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + GOOD.encode() + b"\r", b"", b"  ", GOOD)
    assert len(read_labelled(path)) == 2


BAD_ROWS = {
    "broken JSON": ('{"query": "a", "response": ', "broken JSON at column"),
    "not an object": ('["a", "b"]', "expected a JSON object, got list"),
    "missing field": ('{"query": "a", "answer": "b"}', "no field 'response'; the row has 'query', 'answer'"),
    "no fields": ("{}", "no field 'query'; the row has no fields"),
    "wrong type": ('{"query": 3, "response": "b"}', "field 'query': expected text, got int"),
    "null": ('{"query": "a", "response": null}', "field 'response': expected text, got NoneType"),
    "empty": ('{"query": "a", "response": ""}', "field 'response': the text is empty"),
    "only spaces": ('{"query": " \\n", "response": "b"}', "field 'query': the text is empty"),
    "not UTF-8": (b'{"query": "\xff", "response": "b"}', "not UTF-8 (byte 12 of the line)"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_names_file_row_and_reason(tmp_path: Path, kind: str) -> None:
    line, reason = BAD_ROWS[kind]
    path = write(tmp_path, GOOD, "", line, GOOD)
    with pytest.raises(LangBridgeError) as caught:
        read_labelled(path)
    # The blank line counts: the number is the one an editor shows.
    assert f"{path}, row 3" in str(caught.value)
    assert reason in str(caught.value)


def test_skipped_rows_are_counted_with_their_reasons(tmp_path: Path) -> None:
    lines = [line for line, _ in BAD_ROWS.values()]
    dataset = read_labelled(write(tmp_path, GOOD, *lines, GOOD), on_bad_row="skip")
    assert len(dataset) == 2
    assert len(dataset.skipped) == len(BAD_ROWS)
    for message, (_, reason) in zip(dataset.skipped.first, BAD_ROWS.values(), strict=True):
        assert reason in message


def test_a_file_of_bad_rows_only_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    with pytest.raises(LangBridgeError, match=r"all 2 rows are bad; the first: .*row 1: broken JSON"):
        read_labelled(write(tmp_path, "{", "{"), on_bad_row="skip")


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    with pytest.raises(LangBridgeError, match=r"empty\.jsonl: there are no rows in it"):
        read_labelled(path)


def test_a_missing_file_and_a_folder_without_data_are_errors(tmp_path: Path) -> None:
    with pytest.raises(LangBridgeError, match=r"absent\.jsonl: no such file"):
        read_labelled(tmp_path / "absent.jsonl")
    with pytest.raises(LangBridgeError, match=r"the folder has no \.jsonl"):
        read_labelled(tmp_path)


def test_the_policy_for_bad_rows_is_checked(tmp_path: Path) -> None:
    with pytest.raises(LangBridgeError, match="on_bad_row: expected one of error, skip, got 'ignore'"):
        read_labelled(write(tmp_path, GOOD), on_bad_row="ignore")  # type: ignore[arg-type]
