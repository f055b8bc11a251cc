"""JSON lines in and out: errors name the file and the row, and no reader ever sees half a file.

What a row means is its reader's business (training data, a corpus to analyze, the `generate` command).
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError


def existing_file(path: str | Path) -> Path:
    """`path` as a `Path`, or an error that says what stands there instead of a file."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise LangBridgeError(f"{path}: is a folder, expected a file")
    if not path.is_file():
        raise LangBridgeError(f"{path}: no such file")
    return path


def json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any] | LangBridgeError]]:
    """Each row with its line number, counted from 1; a row that cannot be read comes as its error.

    Blank lines are passed over. Who calls decides whether an error is raised or counted.
    """
    path = existing_file(path)
    # Split on "\n" alone: text mode and `str.splitlines` would also cut inside JSON strings at U+2028.
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            yield number, _parsed(line, f"{path}, row {number}")


def _parsed(line: bytes, where: str) -> dict[str, Any] | LangBridgeError:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return LangBridgeError(f"{where}: not UTF-8 (byte {error.start + 1} of the line)")
    except json.JSONDecodeError as error:
        return LangBridgeError(f"{where}: broken JSON at column {error.colno}: {error.msg}")
    except RecursionError:
        return LangBridgeError(f"{where}: JSON is nested too deeply")
    if not isinstance(row, dict):
        return LangBridgeError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row with its line number; the first bad row raises, and so does a file without rows."""
    empty = True
    for number, row in json_lines(path):
        if isinstance(row, LangBridgeError):
            raise row
        empty = False
        yield number, row
    if empty:
        raise LangBridgeError(f"{path}: the file is empty, expected one JSON object a line")


def text_field(row: dict[str, Any], field: str, where: str) -> str:
    """The non-empty text at `field`, or an error with `where`, the field and what the row has."""
    if field not in row:
        has = ", ".join(repr(name) for name in row) or "no fields"
        raise LangBridgeError(f"{where}: no field {field!r}; the row has {has}")
    value = row[field]
    if not isinstance(value, str):
        raise LangBridgeError(f"{where}, field {field!r}: expected text, got {type(value).__name__}")
    if not value.strip():
        raise LangBridgeError(f"{where}, field {field!r}: the text is empty")
    return value


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one object a line, all or nothing."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_atomically(path: str | Path, text: str) -> None:
    """Put `text` at `path` in one step: a crash leaves the old file or the new one, never a part."""
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same folder, because a rename is atomic only within one file system.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    part = Path(name)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; a result should be as readable as any new file.
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
