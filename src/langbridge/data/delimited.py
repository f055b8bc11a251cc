"""Rows of `.csv` and `.tsv` files: a broken row costs only itself, and tables are read with or without quoting.

A table quotes its fields (RFC 4180: a field may hold delimiters and line breaks) or it is plain (a row a line, and a
quote is a character like any other). CSV is quoted. TSV is found as both, so its file decides; see `is_quoted`.
"""

import csv
import io
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from langbridge.errors import LangBridgeError
from langbridge.files import BadRow, refuse_repeated


def delimited_rows(
    file: BinaryIO, path: Path, delimiter: str, *, quoted: bool, header: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Each row with the line it begins on. `header` are the columns of a table that has no line of their names."""
    columns = None if header is None else list(header)
    first_line = "in the first line" if header is None else f"of the header ({', '.join(columns or ())})"
    with _text(file) as lines:
        for number, fields in _records(lines, delimiter, quoted):
            where = f"{path}, row {number}"
            if isinstance(fields, csv.Error):
                message = f"{where}: broken quotes: {fields}"
                if columns is None:
                    raise LangBridgeError(message)
                yield number, BadRow(message, "broken quotes")
            elif any("\udc80" <= c <= "\udcff" for field in fields if not field.isascii() for c in field):
                if columns is None:
                    raise LangBridgeError(f"{where}: the names of the columns are not UTF-8")
                yield number, BadRow(f"{where}: not UTF-8", "not UTF-8")
            elif columns is None:
                columns = fields
                refuse_repeated(columns, path)
            elif len(fields) != len(columns):
                message = f"{where}: expected {len(columns)} columns as {first_line}, got {len(fields)}"
                yield number, BadRow(message, "wrong number of columns")
            else:
                yield number, dict(zip(columns, fields, strict=True))


def is_quoted(
    opened: Callable[[], AbstractContextManager[BinaryIO]], delimiter: str, header: Sequence[str] | None = None
) -> bool:
    """Whether a table quotes its fields, by what both readings make of the whole file; `opened` opens it.

    The reading with fewer bad rows is right: in a plain table read as quoted, quotes are not closed at the end of a
    field; in a quoted one read as plain, lines have too few columns. On a tie the table is plain where the numbers of
    rows differ, because what looks like one quoted field is several rows. Where they are equal, whole fields are in
    quotes, which are removed as in every reader of CSV.
    """
    with opened() as file, _text(file) as lines:
        if not any(line.startswith('"') or f'{delimiter}"' in line for line in lines):
            return False  # quotes inside fields are characters either way
    found = []
    for quoted in (True, False):
        with opened() as file, _text(file) as lines:
            rows, bad, width = 0, 0, None if header is None else len(header)
            for _, fields in _records(lines, delimiter, quoted):
                rows += 1
                if width is None and not isinstance(fields, csv.Error):
                    width = len(fields)
                bad += isinstance(fields, csv.Error) or len(fields) != width
        found.append((bad, rows))
    (bad_quoted, rows_quoted), (bad_plain, rows_plain) = found
    if bad_quoted != bad_plain:
        return bad_quoted < bad_plain
    return rows_quoted == rows_plain or width == 1  # with one column, every line is a row


def _text(file: BinaryIO) -> io.TextIOWrapper:
    # Invalid UTF-8 becomes lone surrogates, so that the row with it can be named.
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _records(lines: Iterator[str], delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Fields of each row that is not empty, or what is wrong with its quotes, with the line it begins on.

    The line after a broken one begins a new row: a quote that is never closed must not swallow the rest of the file.
    """
    # The default limit of 131,072 characters a field is below what one document has.
    csv.field_size_limit(sys.maxsize)
    taken: list[str] = []  # the lines of this row so far
    again = deque[str]()

    def reader() -> Any:
        def given() -> Iterator[str]:
            while (line := again.popleft() if again else next(lines, None)) is not None:
                taken.append(line)
                yield line

        return csv.reader(
            given(), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True
        )

    number, rows = 1, reader()
    while True:
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, error
            again.extendleft(reversed(taken[1:]))
            number += 1
            rows = reader()
        else:
            if fields:
                yield number, fields
            number += len(taken)
        taken.clear()
