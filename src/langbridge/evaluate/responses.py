"""What a model has answered, kept as it answers, so that nothing is asked twice.

One JSONL file a process in a folder. Each file opens with the fingerprint of the model and of all settings that its
answers depend on; a file with another fingerprint is another model's and is never read from.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.serve.engine import fingerprint


class Responses:
    """The responses of one model under one set of settings.

    folder: shared by all processes; each appends to its own file and reads all. After a crash a last line that was
    written by half is passed over.
    """

    def __init__(self, folder: Path, model: str, *, rank: int = 0):
        folder = folder.expanduser()
        if folder.exists() and not folder.is_dir():
            raise LangBridgeError(f"{folder}: is a file, expected a folder for responses")
        self._model, self._path = model, folder / f"responses_{model}_{rank}.jsonl"
        self._known: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob(f"responses_{model}_*.jsonl")):
            self._read(path)
        self._begun = False

    def __len__(self) -> int:
        return len(self._known)

    def get(self, kind: str, arguments: Iterable[Any]) -> dict[str, Any] | None:
        return self._known.get(_key(kind, arguments))

    def add(self, rows: Iterable[tuple[str, Iterable[Any], dict[str, Any]]]) -> None:
        """Keep kind, arguments and response of each request; on disk before this returns."""
        lines = []
        for kind, arguments, response in rows:
            key = _key(kind, arguments)
            self._known[key] = response
            lines.append(json.dumps({"key": key, "response": response}, ensure_ascii=False) + "\n")
        if not self._begun:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._mend()
            if not self._path.is_file() or self._path.stat().st_size == 0:
                lines.insert(0, json.dumps({"model": self._model}) + "\n")
            self._begun = True
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.writelines(lines)

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

    def _mend(self) -> None:
        """Cut off a last line that was written by half, so that the next one begins on its own."""
        if not self._path.is_file():
            return
        whole = self._path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if kept != whole:
            self._path.write_bytes(kept)


def _key(kind: str, arguments: Iterable[Any]) -> str:
    return fingerprint({"kind": kind, "arguments": list(arguments)})
