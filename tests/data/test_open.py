"""Opening rows: what is read, that every bad row says where it is and why, mixtures, and validation sets."""

import json
from pathlib import Path
from typing import Any

import pytest

from langbridge.data import (
    Data,
    Example,
    RowTable,
    Source,
    TextExample,
    Validation,
    open_data,
    open_dataset,
    open_validation,
)
from langbridge.errors import LangBridgeError
from langbridge.files import write_jsonl

GOOD = '{"query": "2+2?", "response": "4"}'


def write(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    return path


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
    "wrong type": ('{"query": {"a": 3}, "response": "b"}', "field 'query': expected text, got dict"),
    "null": ('{"query": "a", "response": null}', "field 'response': expected text, got nothing"),
    "empty": ('{"query": "a", "response": ""}', "field 'response': the text is empty"),
    "only spaces": ('{"query": " \\n", "response": "b"}', "field 'query': the text is empty"),
    "half a surrogate": (
        '{"query": "a\\ud800", "response": "b"}',
        "field 'query': half a surrogate pair at character 2",
    ),
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
    with pytest.raises(LangBridgeError, match="on_bad_row: expected 'error' or 'skip', got 'ignore'"):
        read_labelled(write(tmp_path, GOOD), on_bad_row="ignore")  # type: ignore[arg-type]


def test_a_broken_row_is_counted_by_its_reason(tmp_path: Path) -> None:
    lines = [line for line, _ in BAD_ROWS.values()]
    skipped = read_labelled(write(tmp_path, GOOD, *lines, *["{"] * 20), on_bad_row="skip").skipped
    assert skipped.counts == {
        "broken JSON": 21,
        "not an object": 1,
        "missing field": 2,
        "not text": 2,
        "empty text": 2,
        "not UTF-8": 2,
    }
    assert len(skipped) == 30
    assert len(skipped.first) == 10
    assert str(skipped).startswith("30 rows left out (21 broken JSON, 2 missing field")


def test_texts_by_their_column_or_a_template(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"content": "one", "title": "T"}, {"content": "two", "title": "U"}])
    path = str(tmp_path / "a.jsonl")
    table = open_data(Data(path=path, text="content"), regime="unlabelled", seed=0)
    assert list(table) == [TextExample("one"), TextExample("two")]
    assert [row.origin for row in table] == [f"{path}:1", f"{path}:2"]
    table = open_data(Data(path=path, text="{title}\n{content}"), regime="unlabelled", seed=0)
    assert table[1].text == "U\ntwo"
    with pytest.raises(LangBridgeError, match=r"a\.jsonl, row 1: no field 'text'; the row has 'content', 'title'"):
        open_data(Data(path=path), regime="unlabelled", seed=0)


def sources(folder: Path, *sizes: int, **settings: Any) -> tuple[Source, ...]:
    made = []
    for number, size in enumerate(sizes):
        path = folder / f"source{number}.jsonl"
        write_jsonl(path, [{"text": f"{number} {row}"} for row in range(size)])
        made.append(Source(path=str(path), **{key: value[number] for key, value in settings.items()}))
    return tuple(made)


def test_sources_without_weights_give_every_row_once(tmp_path: Path) -> None:
    table = open_data(Data(sources=sources(tmp_path, 3, 5)), regime="unlabelled", seed=0)
    assert [row.text for row in table] == [f"0 {i}" for i in range(3)] + [f"1 {i}" for i in range(5)]
    assert table.lengths.tolist() == [3] * 8


def test_weights_are_the_shares_of_the_rows_and_no_row_comes_twice(tmp_path: Path) -> None:
    data = Data(sources=sources(tmp_path, 100, 5000, 40, weight=(3.0, 6.0, 1.0)))
    table = open_data(data, regime="unlabelled", seed=0)
    texts = [row.text for row in table]
    assert len(set(texts)) == len(texts)
    counts = [sum(text.startswith(f"{number} ") for text in texts) for number in range(3)]
    # 100 / 3 is the least there is for a share, so the first source gives all that it has.
    assert counts == [100, 200, 33]
    assert [used for used, _ in table.shares.values()] == counts
    assert [rows for _, rows in table.shares.values()] == [100, 5000, 40]
    again, other = (open_data(data, regime="unlabelled", seed=seed) for seed in (0, 1))
    assert [row.text for row in again] == texts
    assert [row.text for row in other] != texts


def test_rounding_costs_the_source_that_is_used_up_no_row(tmp_path: Path) -> None:
    """48 / 0.7 * 0.7 is a little less than 48."""
    table = open_data(Data(sources=sources(tmp_path, 48, 5000, weight=(0.7, 0.3))), regime="unlabelled", seed=0)
    assert next(iter(table.shares.values())) == (48, 48)


def test_validation_sets_are_read_by_their_own_columns(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", [{"q": "a", "response": "b"}])
    write_jsonl(tmp_path / "texts.jsonl", [{"text": "long text"}])
    validation = Validation(
        labelled=Source(path=str(tmp_path / "pairs.jsonl"), input="q"),
        unlabelled=Source(path=str(tmp_path / "texts.jsonl")),
    )
    sets = open_validation(Data(path="unused", validation=validation), regime="labelled")
    assert list(sets["labelled"]) == [Example("a", "b")]
    assert list(sets["unlabelled"]) == [TextExample("long text")]
    sets = open_validation(Data(path="unused", validation_path=str(tmp_path / "texts.jsonl")), regime="unlabelled")
    assert list(sets) == ["unlabelled"]
    assert open_validation(Data(path="unused"), regime="labelled") == {}


def test_a_data_set_of_the_hub_takes_the_same_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` gives for an id stands in for the hub, which no test reaches."""
    import datasets

    rows = [{"question": "a", "answer": "b", "n": 1}, {"question": "c", "answer": None, "n": 2}]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(rows))
    data = Data(path="owner/name", input="question", output="answer", on_bad_row="skip")
    table = open_data(data, regime="labelled", seed=0)
    assert list(table) == [Example("a", "b")]
    assert table[0].origin == "owner/name:1"
    assert table.skipped.first == ["owner/name, row 2, field 'answer': expected text, got nothing"]


def test_a_data_set_of_a_program(tmp_path: Path) -> None:
    import datasets

    dataset = datasets.Dataset.from_dict({"query": ["a", "b"], "response": ["c", "d"], "id": [1, 2]})
    assert list(open_dataset(dataset, regime="labelled")) == [Example("a", "c"), Example("b", "d")]
    reordered = dataset.select([1, 0])
    assert open_dataset(reordered, regime="labelled")[0] == Example("b", "d"), "not the other's table"
    with pytest.raises(LangBridgeError, match="dataset, row 1: no field 'question'; the row has 'response'"):
        open_dataset(dataset, regime="labelled", input="question")
    with pytest.raises(LangBridgeError, match="expected one split of a data set, got DatasetDict with train"):
        open_dataset(datasets.DatasetDict(train=dataset), regime="labelled")


def test_real_rows_of_gsm8k() -> None:
    path = Path(__file__).parents[2] / "../shared/data/gsm8k/test.jsonl"
    if not path.is_file():
        pytest.skip("needs GSM8K beside the project")
    table = read_labelled(path, input="question", output="answer")
    assert len(table) == 1319
    assert len(table.skipped) == 0
    assert all("####" in row.target for row in table)
    assert table.lengths[0] == len(table[0].prompt) + len(table[0].target)
