"""What is prepared once: one process makes it and shows how far it is, and a disk without room is one clear error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


def progress_bar(what: str, total: int | None = None) -> Any:
    """A bar on standard error over `total` rows, shown once they take longer than a moment.

    One of those of `datasets`, so `HF_DATASETS_DISABLE_PROGRESS_BARS` hides it. A log, which keeps every line, gets one
    in half a minute.
    """
    from datasets.utils import tqdm

    return tqdm(
        desc=what, total=total, unit=" rows", delay=3, mininterval=0.5 if sys.stderr.isatty() else 30, leave=False
    )
