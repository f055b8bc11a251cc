"""The folder of what is prepared once: one process makes it, and a disk without room is one clear error."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from langbridge.errors import LangBridgeError


@contextmanager
def one_at_a_time(folder: Path, name: str) -> Iterator[None]:
    """Within, no other process is in here with the same `name`: the other ranks of a run wait for what one makes in
    `folder`, which is made where it is missing. An `OSError` within becomes a `LangBridgeError`."""
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{name}.lock"):
            yield
    except OSError as error:
        raise LangBridgeError(
            f"{folder}: cannot be written ({error.strerror or error}); the prepared rows need a folder with room, "
            "which HF_DATASETS_CACHE may name"
        ) from error
