"""Names of files, and JSON lines in and out: errors name the file and the row, no reader ever sees half a file.

What a row means is its reader's business (training data, a corpus to analyze, the `generate` command).
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError

_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"


class BadRow(LangBridgeError):
    """A row that cannot be used; the message names file and row. `reason` is the kind, by which skipped ones count."""

    def __init__(self, message: str, reason: str = "bad row") -> None:
        super().__init__(message)
        self.reason = reason


def refuse_repeated(columns: Sequence[str], path: Path) -> None:
    """Raise for a repeated column, of which rows would silently keep the last. Unnamed ones, which spreadsheets add, do
    not count."""
    for name in columns:
        if name and columns.count(name) > 1:
            raise LangBridgeError(f"{path}: has {columns.count(name)} columns {name!r}; rename or remove all but one")


def named_as_on_the_hub(name: str) -> bool:
    """Whether a name has the form OWNER/NAME and is not written as a path."""
    return not name.startswith((".", "/", "~")) and name.count("/") == 1


def existing_file(path: str | Path) -> Path:
    """`path` as a `Path`; raises where it is missing, a folder or a Git LFS pointer."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise LangBridgeError(f"{path}: is a folder, expected a file")
    if not path.is_file():
        raise LangBridgeError(f"{path}: no such file")
    with contextlib.suppress(OSError), path.open("rb") as file:  # the reader says why it cannot be opened
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise LangBridgeError(
                f"{path}: is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull` in its clone"
            )
    return path


def json_lines(lines: Iterable[bytes], path: str | Path) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Each row of the file `path`, given as its `lines`, with its number from 1; a bad row comes as its error.

    Blank lines are skipped. The caller decides whether an error is raised or counted.
    """
    for number, line in enumerate(lines, start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, _parsed(line, f"{path}, row {number}")


def _parsed(line: bytes, where: str) -> dict[str, Any] | BadRow:
    try:
        # Without its end, or what is missing there would be at column 1 of a line below.
        row = json.loads(line.rstrip(b"\r\n").decode("utf-8"))
    except UnicodeDecodeError as error:
        return BadRow(f"{where}: not UTF-8 (byte {error.start + 1} of the line)", "not UTF-8")
    except json.JSONDecodeError as error:
        return BadRow(f"{where}: broken JSON at column {error.colno}: {error.msg}", "broken JSON")
    except RecursionError:
        return BadRow(f"{where}: JSON is nested too deeply", "broken JSON")
    if not isinstance(row, dict):
        return BadRow(f"{where}: expected a JSON object, got {type(row).__name__}", "not an object")
    return row


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row with its line number; the first bad row raises, and so does a file without rows."""
    empty = True
    # Split on "\n" alone: text mode and `str.splitlines` would also cut inside JSON strings at U+2028.
    with existing_file(path).open("rb") as lines:
        for number, row in json_lines(lines, Path(path).expanduser()):
            if isinstance(row, BadRow):
                raise row
            empty = False
            yield number, row
    if empty:
        raise LangBridgeError(f"{path}: the file is empty, expected one JSON object a line")


def text_field(row: Mapping[str, Any], field: str, where: str, *, empty: bool = False) -> str:
    """The text at `field`; a `BadRow` with `where`, the field and what the row has, where there is none.

    `empty` allows a text of nothing or of white space.
    """
    if field not in row:
        has = ", ".join(repr(name) for name in row) or "no fields"
        raise BadRow(f"{where}: no field {field!r}; the row has {has}", "missing field")
    value = row[field]
    if not isinstance(value, str):
        got = "nothing" if value is None else type(value).__name__
        raise BadRow(f"{where}, field {field!r}: expected text, got {got}", "not text")
    if not empty and not value.strip():
        raise BadRow(f"{where}, field {field!r}: the text is empty", "empty text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        # JSON can spell half of a surrogate pair; neither tokenizers nor files can hold it.
        message = f"{where}, field {field!r}: half a surrogate pair at character {error.start + 1}"
        raise BadRow(message, "not UTF-8") from None
    return value


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one object a line, all or nothing."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Put text or bytes at `path` in one step: a crash leaves the old file or the new one, never a part."""
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same folder, because a rename is atomic only within one file system.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    part = Path(name)
    try:
        with open(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        as_any_new(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def as_any_new(path: Path) -> None:
    """Give a file, or a folder with all in it, the permissions of any new one: temporary files and folders are private,
    and so are those that safetensors writes, which others could not load from a shared folder."""
    mask = os.umask(0)
    os.umask(mask)
    for item in (path, *(path.rglob("*") if path.is_dir() else ())):
        item.chmod((0o777 if item.is_dir() else 0o666) & ~mask)
