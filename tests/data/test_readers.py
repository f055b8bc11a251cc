"""Every format and compression gives the same rows with their place, and what is broken is named."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from langbridge.data.readers import read_rows
from langbridge.errors import LangBridgeError
from langbridge.files import BadRow

ROWS = [
    {"query": "2+2?\n", "response": "4"},
    {"query": 'ౘ, "quoted"', "response": "a\u2028b"},
    {"query": "c", "response": ""},
]


def zstandard(raw: bytes) -> bytes:
    codec = pyarrow.Codec("zstd")
    half = len(raw) // 2  # two frames, as parallel compressors write them
    return b"".join(codec.compress(part, asbytes=True) for part in (raw[:half], raw[half:]))


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda raw: gzip.compress(raw[:5]) + gzip.compress(raw[5:]),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard,
}


def json_lines() -> bytes:
    return b"\xef\xbb\xbf" + b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\r\n\n" for row in ROWS)


def comma_separated(delimiter: str) -> bytes:
    import csv
    import io

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["query", "response"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode("utf-8-sig")


CONTENTS: dict[str, bytes] = {
    ".jsonl": json_lines(),
    ".ndjson": json_lines(),
    ".json": json.dumps(ROWS, indent=1).encode(),
    ".csv": comma_separated(","),
    ".tsv": comma_separated("\t"),
}
NUMBERS = {".json": [1, 2, 3], ".csv": [2, 4, 5], ".tsv": [2, 4, 5]}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", CONTENTS)
def test_every_format_and_compression(tmp_path: Path, kind: str, compression: str) -> None:
    path = tmp_path / f"rows{kind}{compression}"
    path.write_bytes(COMPRESSIONS[compression](CONTENTS[kind]))
    numbers, rows = zip(*read_rows(path), strict=True)
    assert list(rows) == ROWS
    # The line on which a row begins, as an editor shows it; the array's rows are counted.
    assert list(numbers) == NUMBERS.get(kind, [1, 3, 5])


def test_json_lines_by_the_name_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(json_lines())
    assert [row for _, row in read_rows(path)] == ROWS


def test_parquet_reads_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pyarrow.table({"query": ["a"] * 600, "n": range(600), "response": ["b"] * 599 + [None]})
    pyarrow.parquet.write_table(table, path, row_group_size=100)
    rows = list(read_rows(path, columns=["response", "query", "absent"]))
    assert [number for number, _ in rows] == list(range(1, 601))
    assert rows[0][1] == {"query": "a", "response": "b"}
    assert rows[-1][1] == {"query": "a", "response": None}
    assert next(iter(read_rows(path, columns=["absent"])))[1] == {"query": "a"}, "so that the error says what there is"
    assert next(iter(read_rows(path)))[1] == {"query": "a", "n": 0, "response": "b"}


def test_parquet_whose_text_is_not_utf8_is_refused(tmp_path: Path) -> None:
    column = pyarrow.array([b"a", b"\xff"], pyarrow.binary()).cast(pyarrow.string(), safe=False).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"query": column}), tmp_path / "rows.parquet")
    with pytest.raises(LangBridgeError, match=r"rows\.parquet: is no Parquet file that can be read: 'utf-8' codec"):
        list(read_rows(tmp_path / "rows.parquet"))


TEXT = b"\xef\xbb\xbfone\r\n\n  two  \nthree\n\n \n\nfour"
SAMPLES = {
    "line": [(1, "one"), (3, "  two  "), (4, "three"), (8, "four")],
    "paragraph": [(1, "one\r\n"), (3, "  two  \nthree\n"), (8, "four")],
    "document": [(1, TEXT[3:].decode())],
}


@pytest.mark.parametrize("sample_by", SAMPLES)
def test_text_by_line_paragraph_and_document(tmp_path: Path, sample_by: Any) -> None:
    (tmp_path / "a.py").write_bytes(TEXT)
    rows = list(read_rows(tmp_path / "a.py", sample_by=sample_by))
    assert rows == [(number, {"text": text}) for number, text in SAMPLES[sample_by]]


BAD_ROWS = {
    "a.csv": (b'x,y\n1,2\n"one\nfield"\n3,4\n', [2, 3, 5], "row 3: expected 2 columns as in the first line, got 1"),
    "b.csv": (b"x,y\n1,\xff\xfe\n3,4\n", [2, 3], "row 2: not UTF-8"),
    "h.csv": (b'x,y\n1,"never closed\n2,3\n', [2, 3], "row 2: broken quotes: unexpected end of data"),
    "i.csv": (b'x,y\n"a" b,1\n"c\nd",2\n', [2, 3], "row 2: broken quotes: ',' expected after"),
    "c.txt": (b"good\nb\xffd\n", [1, 2], "row 2: not UTF-8 (byte 2 of the row)"),
    "d.json": (b'[{"a": 1},\n3]', [1, 2], "row 2: expected a JSON object, got int"),
    "e.jsonl": (b'{"a": 1}\n{"a": \n', [1, 2], "row 2: broken JSON at column 7: Expecting value"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_comes_with_its_place_and_reading_goes_on(tmp_path: Path, name: str) -> None:
    content, numbers, message = BAD_ROWS[name]
    (tmp_path / name).write_bytes(content)
    rows = list(read_rows(tmp_path / name))
    assert [number for number, _ in rows] == numbers
    (bad,) = (row for _, row in rows if isinstance(row, BadRow))
    assert f"{tmp_path / name}, {message}" in str(bad)


def test_a_field_of_a_table_may_be_as_long_as_a_document(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("text\n" + "word " * 100_000 + "\n")
    ((_, row),) = read_rows(tmp_path / "long.csv")
    assert len(row["text"]) == 500_000  # type: ignore[call-overload]


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("query,response,query\na,b,c\n")
    table = pyarrow.Table.from_arrays([pyarrow.array([text]) for text in "abc"], ["query", "response", "query"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(LangBridgeError, match=f"{name}: has 2 columns 'query'; rename or remove all but one"):
            list(read_rows(tmp_path / name))
    (tmp_path / "b.csv").write_text("query,,\na,,\n")
    assert [row for _, row in read_rows(tmp_path / "b.csv")] == [{"query": "a", "": ""}], "columns without a name"


LINES_AND_QUOTES = b'q\ta\n"Come in," she said.\tA\nGo.\tB\n'
TABLES: dict[str, tuple[bytes, list[list[str]]]] = {
    # Plain: quotes that are not closed at the end of a field, or are only far below.
    "a quotation at the beginning": (LINES_AND_QUOTES, [['"Come in," she said.', "A"], ["Go.", "B"]]),
    "a quotation over two rows": (b'q\ta\n"Come in,\tA\nwe wait."\tB\n', [['"Come in,', "A"], ['we wait."', "B"]]),
    "as many broken rows, more rows": (b'q\ta\n"I\tA\nsee."\tB\nC\n', [['"I', "A"], ['see."', "B"]]),
    # Quoted: line breaks, tabs and doubled quotes inside, or fields in quotes as a whole.
    "line breaks": (b'q\ta\n"One\n\nTwo, ""three"""\t4\nGo.\tB\n', [['One\n\nTwo, "three"', "4"], ["Go.", "B"]]),
    "a tab": (b'q\ta\n"One\tTwo"\t3\n', [["One\tTwo", "3"]]),
    "everything": (b'"q"\t"a"\n"One"\t"2"\n', [["One", "2"]]),
    "one column": (b'q\n"One\nTwo"\nThree\n', [["One\nTwo"], ["Three"]]),
    # Neither.
    "quotes inside": (b'q\ta\nOne "two"\t3"\n', [['One "two"', '3"']]),
}


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", TABLES)
def test_the_quotes_of_a_tsv_are_what_the_file_shows(tmp_path: Path, name: str, ends: bytes) -> None:
    raw, expected = TABLES[name]
    path = tmp_path / "a.tsv"
    path.write_bytes(b"\xef\xbb\xbf" + raw.replace(b"\n", ends))
    found = [row for _, row in read_rows(path) if not isinstance(row, BadRow)]
    assert all(list(row) == ["q", "a"][: len(row)] for row in found)
    assert [[text.replace("\r\n", "\n") for text in row.values()] for row in found] == expected


def test_a_setting_decides_about_quotes_where_no_file_can(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b'q\ta\n"Come in."\tA\n')
    assert [row for _, row in read_rows(path)] == [{"q": "Come in.", "a": "A"}]
    assert [row for _, row in read_rows(path, quoting="plain")] == [{"q": '"Come in."', "a": "A"}]
    path.write_bytes(LINES_AND_QUOTES)
    (number, bad), (_, good) = read_rows(path, quoting="quoted")
    assert number == 2
    assert isinstance(bad, BadRow)
    assert good == {"q": "Go.", "a": "B"}


def test_the_quotes_of_a_csv_are_around_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'q,a\n"1,200",x\n"a" b,y\n')
    assert [row for _, row in read_rows(path) if not isinstance(row, BadRow)] == [{"q": "1,200", "a": "x"}]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_table_without_a_header(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"mgsm_sw.tsv{compression}"
    path.write_bytes(COMPRESSIONS[compression](b'"Ni," yeye.\t1,200\nGari\t7\nx\n'))
    *rows, (number, bad) = read_rows(path, header=("question", "answer"))
    assert rows == [
        (1, {"question": '"Ni," yeye.', "answer": "1,200"}),
        (2, {"question": "Gari", "answer": "7"}),
    ]
    assert number == 3
    assert str(bad) == f"{path}, row 3: expected 2 columns as of the header (question, answer), got 1"


def test_the_list_in_a_field_of_one_object(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{\n "canary": "x",\n "examples": [{"input": "a", "target": "b"}, 3]\n}')
    (first, good), (second, bad) = read_rows(path, field="examples")
    assert (first, good, second) == (1, {"input": "a", "target": "b"}, 2)
    assert str(bad) == f"{path}, row 2: expected a JSON object, got int"
    for content in ('{"a": 1}', "[1]", '{"examples": 3}'):
        path.write_text(content)
        with pytest.raises(
            LangBridgeError, match=r"a\.json: expected one JSON object with a list of rows in its field"
        ):
            list(read_rows(path, field="examples"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.tsv", "a.parquet", "a.jsonl.gz", "a.txt"])
def test_a_pointer_of_git_lfs_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(LangBridgeError, match=rf"{name}: is a pointer of Git LFS, not the file itself"):
        list(read_rows(path))


BROKEN_FILES = {
    "half.jsonl.gz": (gzip.compress(json_lines() * 50)[:-20], "cannot be read to its end, the file is broken"),
    "half.jsonl.xz": (lzma.compress(json_lines() * 50)[:-20], "cannot be read to its end, the file is broken"),
    "half.jsonl.zst": (zstandard(json_lines() * 50)[:-20], "cannot be read to its end, the file is broken"),
    # Deflate's block type 3 does not exist.
    "block.jsonl.gz": (gzip.compress(b"")[:10] + b"\xff" * 20, "cannot be read to its end, the file is broken"),
    "plain.jsonl.gz": (json_lines(), "cannot be read to its end, the file is broken"),
    "plain.jsonl.bz2": (json_lines(), "cannot be read to its end, the file is broken"),
    "plain.parquet": (json_lines(), "is no Parquet file that can be read"),
    "object.json": (
        b'{\n "data": [{"a": 1}]\n}',
        "holds one object over several lines, expected one a line or an array",
    ),
    "half.json": (b'[{"a": 1},\n{"a"', "broken JSON at line 2, column 5"),
    "binary.json": (b'[{"a": "\xff"}]', "not UTF-8 (byte 9 of the file)"),
    "quote.csv": (b'"a,b\n1,2\n', "row 1: broken quotes: unexpected end of data"),
    "names.csv": (b"\xff\xfea,b\n1,2\n", "row 1: the names of the columns are not UTF-8"),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, name: str) -> None:
    content, message = BROKEN_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LangBridgeError) as caught:
        list(read_rows(tmp_path / name))
    assert str(caught.value).startswith(str(tmp_path / name))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json_lines())

    def refuse(*_: Any) -> Any:  # the tests may run as root, whom no permission stops
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("langbridge.data.readers._OPENERS", {".jsonl": refuse})
    with pytest.raises(LangBridgeError, match=r"rows\.jsonl: cannot be opened: Permission denied"):
        list(read_rows(path))
