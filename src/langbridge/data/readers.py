"""Rows of one local file, one at a time and with their line numbers, in any format and compression.

The readers of `datasets` are not used: a row that they cannot read stops them without its number, or is silently padded
with nulls. A bad row must be reported with its place, or counted.
"""

import bz2
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from langbridge.data.delimited import delimited_rows, is_quoted
from langbridge.data.settings import Quoting, SampleBy
from langbridge.errors import LangBridgeError
from langbridge.files import BadRow, existing_file, json_lines, refuse_repeated

Row = tuple[int, dict[str, Any] | BadRow]
"""A row's number from 1 with its fields, or with what is wrong. In text formats it is the line that it begins on."""

_BROKEN = (EOFError, OSError, lzma.LZMAError, zlib.error)
_BOM = b"\xef\xbb\xbf"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_rows(
    path: str | Path,
    *,
    columns: Iterable[str] | None = None,
    sample_by: SampleBy = "line",
    header: Sequence[str] | None = None,
    quoting: Quoting = "auto",
    field: str | None = None,
) -> Iterator[Row]:
    """The rows of the file at `path`, read lazily.

    The name decides the format: `.jsonl`, `.ndjson` and `.json` (lines, or one array), `.parquet`, `.csv`, `.tsv`;
    every other file is text with the one field `text`, whose rows are set by `sample_by`. A further `.gz`, `.bz2`,
    `.xz` or `.zst` is its compression.

    columns: those to read from a columnar file; None for all.
    header: the columns of a `.csv` or `.tsv` without a header line.
    quoting: what quotes are in a `.csv` or `.tsv`. `quoted`: they enclose fields, which may then hold delimiters and
        line breaks. `plain`: characters like any other, and every line is a row. `auto`: CSV is quoted, and a TSV
        file is what gives fewer broken rows (`delimited.is_quoted`).
    field: a `.json` file is one object, and its rows are the list in this field.

    Raises `LangBridgeError` for a file that is missing or broken as a whole.
    """
    path = existing_file(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-1] if suffixes else ""
    if kind == ".parquet":
        yield from _parquet_rows(path, None if columns is None else list(columns))
        return
    if kind in _OPENERS:
        kind = suffixes[-2] if len(suffixes) > 1 else ""
    with _opened(path) as file:
        if kind in (".jsonl", ".ndjson"):
            yield from json_lines(file, path)
        elif kind == ".json":
            yield from _json_rows(file, path, field)
        elif kind in _DELIMITERS:
            delimiter = _DELIMITERS[kind]
            quoted = quoting == "quoted"
            if quoting == "auto":
                quoted = kind == ".csv" or is_quoted(lambda: _opened(path), delimiter, header)
            yield from delimited_rows(file, path, delimiter, quoted=quoted, header=header)
        else:
            yield from _text_rows(file, path, sample_by)


def good_rows(path: str | Path, **options: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """As `read_rows`, where a row that cannot be read is an error: raises its `BadRow`."""
    for number, row in read_rows(path, **options):
        if isinstance(row, BadRow):
            raise row
        yield number, row


def _zstandard(path: Path, mode: str) -> BinaryIO:
    # The standard library reads it from Python 3.14 on.
    import pyarrow

    return cast(BinaryIO, io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd")))


_OPENERS: dict[str, Callable[[Path, Any], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _zstandard,
}
"""By the last suffix of the name; every other file is read as it is."""


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed; a broken stream is a user's error."""
    try:
        file = _OPENERS.get(path.suffix.lower(), Path.open)(path, "rb")
    except OSError as error:
        raise LangBridgeError(f"{path}: cannot be opened: {error.strerror or error}") from None
    try:
        with file:
            yield file
    except _BROKEN as error:
        raise LangBridgeError(f"{path}: cannot be read to its end, the file is broken: {error}") from None


def _json_rows(file: BinaryIO, path: Path, field: str | None) -> Iterator[Row]:
    """JSON lines, or one array of objects, which has to be read whole; its rows are counted from 1."""
    head = file.readline()
    if field is None and head.removeprefix(_BOM).strip() == b"{":
        raise LangBridgeError(f"{path}: holds one object over several lines, expected one a line or an array of them")
    if field is None and not head.removeprefix(_BOM).lstrip().startswith(b"["):
        yield from json_lines(chain([head], file), path)
        return
    try:
        text = (head + file.read()).removeprefix(_BOM).decode("utf-8")
        rows = json.loads(text)
    except UnicodeDecodeError as error:
        raise LangBridgeError(f"{path}: not UTF-8 (byte {error.start + 1} of the file)") from None
    except json.JSONDecodeError as error:
        raise LangBridgeError(
            f"{path}: broken JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    if field is not None:
        rows = rows.get(field) if isinstance(rows, dict) else None
        if not isinstance(rows, list):
            raise LangBridgeError(f"{path}: expected one JSON object with a list of rows in its field {field!r}")
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict):
            yield number, row
        else:
            message = f"{path}, row {number}: expected a JSON object, got {type(row).__name__}"
            yield number, BadRow(message, "not an object")


def _text_rows(file: BinaryIO, path: Path, sample_by: SampleBy) -> Iterator[Row]:
    number, held = 1, list[bytes]()
    for count, line in enumerate(file, start=1):
        if count == 1:
            line = line.removeprefix(_BOM)
        if sample_by == "line":
            yield from _text(line.rstrip(b"\r\n"), count, path)
        elif sample_by == "paragraph" and not line.strip():
            yield from _text(b"".join(held), number, path)
            held.clear()
        else:
            if not held:
                number = count
            held.append(line)
    yield from _text(b"".join(held), number, path)


def _text(raw: bytes, number: int, path: Path) -> Iterator[Row]:
    """One row, or none where there is nothing but white space."""
    if not raw.strip():
        return
    try:
        yield number, {"text": raw.decode("utf-8")}
    except UnicodeDecodeError as error:
        message = f"{path}, row {number}: not UTF-8 (byte {error.start + 1} of the row)"
        yield number, BadRow(message, "not UTF-8")


def _parquet_rows(path: Path, columns: list[str] | None) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            refuse_repeated(names, path)
            # Without any column there would be no rows; with the first one, every row reports what is missing.
            wanted = names if columns is None else [name for name in names if name in columns] or names[:1]
            batches = file.iter_batches(batch_size=256, columns=wanted)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    except (pyarrow.ArrowInvalid, UnicodeDecodeError, OSError) as error:
        raise LangBridgeError(f"{path}: is no Parquet file that can be read: {error}") from None
