"""Where the shipped parents are, and whether they are the ones that were built."""

import hashlib
from pathlib import Path

from langbridge.errors import LangBridgeError

FOLDER = Path(__file__).parent / "models"
ENCODER, LANGUAGE_MODEL = FOLDER / "encoder", FOLDER / "language_model"
CHECKSUMS = "SHA256SUMS"


def checksums(folder: Path) -> str:
    """One line a file below `folder`, in the form of the command `sha256sum`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in files
    )


def check(folder: Path = FOLDER) -> None:
    """Raise where a shipped file is missing or is not the one that was built."""
    if not (folder / CHECKSUMS).is_file():
        raise LangBridgeError(
            f"{folder}: the miniature's models are not there; `langbridge miniature build --out {folder}` builds them"
        )
    recorded = set((folder / CHECKSUMS).read_text(encoding="utf-8").splitlines())
    changed = sorted(line.split("  ", 1)[1] for line in recorded - set(checksums(folder).splitlines()))
    if changed:
        raise LangBridgeError(f"{folder}: {', '.join(changed)} missing or changed since the build; install again")
