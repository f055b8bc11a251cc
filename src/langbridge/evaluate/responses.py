"""What a model has answered, kept as it answers, so that nothing is asked twice.

One JSONL file a process in a folder. Each file opens with the fingerprint of the model and of all settings that its
answers depend on; a file with another fingerprint is another model's and is never read from.
"""

import json
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.serve.engine import digest

Key = tuple[Any, ...]
"""The kind of a request, then all that tells its answer from others."""


class Responses:
    """The responses of one model under one set of settings.

    folder: shared by all processes; each appends to its own file and reads all. After a crash a last line that was
    written by half is passed over. None: they are kept in memory alone.
    """

    def __init__(self, folder: Path | None, model: str, *, rank: int = 0):
        self._known: dict[str, dict[str, Any]] = {}
        self._model, self._path, self._begun = model, None, False
        if folder is None:
            return
        folder = folder.expanduser()
        if folder.exists() and not folder.is_dir():
            raise LangBridgeError(f"{folder}: is a file, expected a folder for responses")
        self._path = folder / f"responses_{model}_{rank}.jsonl"
        for path in sorted(folder.glob(f"responses_{model}_*.jsonl")):
            self._read(path)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: Key) -> bool:
        return _hash(key) in self._known

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self._known[_hash(key)]

    def add(self, key: Key, response: dict[str, Any]) -> None:
        """Keep the response to a request; on disk before this returns."""
        self._known[_hash(key)] = response
        if self._path is None:
            return
        line = json.dumps({"key": _hash(key), "response": response}, ensure_ascii=False) + "\n"
        if not self._begun:
            self._begun = True
            self._path.parent.mkdir(parents=True, exist_ok=True)
            written = self._path.read_bytes() if self._path.is_file() else b""
            kept = written[: written.rfind(b"\n") + 1]
            if kept != written:  # a last line that was written by half
                self._path.write_bytes(kept)
            if not kept:
                line = json.dumps({"model": self._model}) + "\n" + line
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(line)

    def _read(self, path: Path) -> None:
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                if number == len(lines):
                    return  # the crash came in the middle of this line
                raise LangBridgeError(f"{path}, row {number}: broken JSON; delete the file and ask again") from error
            if number == 1 and row.get("model") != self._model:
                raise LangBridgeError(f"{path}: holds the responses of another model or of other settings")
            if number > 1:
                self._known[row["key"]] = row["response"]


def _hash(key: Key) -> str:
    return digest({"kind": key[0], "arguments": list(key[1:])})
