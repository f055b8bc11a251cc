"""Which rows of a prepared table a collator can use: judged once, and kept beside the table.

Judging a row means tokenising it, which over a whole table takes too long to repeat whenever a run resumes.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from langbridge.data.examples import Judge, Skipped, refuse
from langbridge.data.settings import OnBadRow
from langbridge.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

_FORMAT = 1  # of the file and of the collators' rules; change it to judge again


def identity_of(tokenizers: Sequence[Any], settings: Mapping[str, Any]) -> str | None:
    """A judge's `identity`, of its tokenizers and settings; None where a tokenizer is plain Python, which has none."""
    if not all(tokenizer.is_fast for tokenizer in tokenizers):
        return None
    about: list[Any] = [dict(settings)]
    for tokenizer in tokenizers:
        backend = tokenizer.backend_tokenizer
        # Those of the last call, which the next one sets again.
        backend.no_truncation()
        backend.no_padding()
        about += [type(tokenizer).__qualname__, backend.to_str(), tokenizer.special_tokens_map]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def usable_rows(
    rows: Iterator[list[Any]], count: int, judge: Judge, on_bad_row: OnBadRow
) -> tuple["np.ndarray", Skipped]:
    """Which of `count` rows, given in batches, `judge` can use, a bool array (rows,), and the others by reason.

    Raises the first misfit where `on_bad_row` says so.
    """
    import numpy as np

    kept, skipped, row = np.ones(count, dtype=bool), Skipped(), 0
    for examples in rows:
        for misfit in judge.misfits(examples):
            if misfit is not None:
                refuse(misfit, on_bad_row, skipped)
                kept[row] = False
            row += 1
    return kept, skipped


def usable_file(folder: Path, judge: Judge, on_bad_row: OnBadRow) -> Path | None:
    """Where the table in `folder` keeps what `judge` found; None for a judge without an identity."""
    identity = judge.identity
    if identity is None:
        return None
    # A misfit that one run skips makes another stop.
    about = [_FORMAT, type(judge).__qualname__, identity, on_bad_row]
    return folder / f"judged-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]}.npz"


def write_usable(path: Path, kept: "np.ndarray", skipped: Skipped) -> None:
    """Keep what `usable_rows` found."""
    import numpy as np

    file = io.BytesIO()
    told = json.dumps({"rows": len(kept), "skipped": skipped.counts, "first": skipped.first})
    np.savez_compressed(file, kept=np.packbits(kept), about=np.array(told))
    write_atomically(path, file.getvalue())


def read_usable(path: Path, count: int) -> tuple["np.ndarray", Skipped] | None:
    """What `write_usable` kept of a table of `count` rows; None where there is nothing usable in the file."""
    import numpy as np

    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:
            about, kept = json.loads(str(file["about"])), np.unpackbits(file["kept"], count=count).astype(bool)
    except (ValueError, KeyError, EOFError, BadZipFile):
        return None  # damaged: judged again
    return (kept, Skipped(about["skipped"], about["first"])) if about["rows"] == count else None
