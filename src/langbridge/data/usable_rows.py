"""Which rows of a prepared table a collator can use: asked once, and kept beside the table.

A collator tokenises a row to judge it. Over a whole table that takes longer than a run that goes on may wait for.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

from langbridge.data.examples import Judge, Skipped, refuse
from langbridge.data.keeping import one_at_a_time, progress_bar
from langbridge.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

_FORMAT = 1  # of what is kept, and of what the collators find; another number asks anew


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


def judgement(
    rows: Iterator[list[Any]], count: int, judge: Judge, on_bad_row: Literal["error", "skip"], home: Path | None
) -> tuple["np.ndarray", Skipped]:
    """Which of `count` rows, given in batches, `judge` can use, a bool array (rows,), and what is wrong with the rest.

    home: the folder of the rows' table, which keeps what was found for the next who asks the same; None keeps nothing.
    Raises the first misfit where `on_bad_row` says so.
    """
    identity = judge.identity
    if home is None or identity is None:
        return _asked(rows, count, judge, on_bad_row)
    # The same rows may be no error to one run and a reason to stop to another.
    about = [_FORMAT, type(judge).__qualname__, identity, on_bad_row]
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]
    path = home / f"judged-{digest}.npz"
    with one_at_a_time(home, digest):
        found = _found(path, count)
        if found is None:
            found = _asked(rows, count, judge, on_bad_row)
            _keep(path, *found)
        return found


def _asked(
    rows: Iterator[list[Any]], count: int, judge: Judge, on_bad_row: Literal["error", "skip"]
) -> tuple["np.ndarray", Skipped]:
    import numpy as np

    kept, skipped, row = np.ones(count, dtype=bool), Skipped(), 0
    with progress_bar("judging rows", count) as bar:
        for examples in rows:
            for misfit in judge.misfits(examples):
                if misfit is not None:
                    refuse(misfit, on_bad_row, skipped)
                    kept[row] = False
                row += 1
            bar.update(len(examples))
    return kept, skipped


def _keep(path: Path, kept: "np.ndarray", skipped: Skipped) -> None:
    import numpy as np

    file = io.BytesIO()
    told = json.dumps({"rows": len(kept), "skipped": skipped.counts, "first": skipped.first})
    np.savez_compressed(file, kept=np.packbits(kept), about=np.array(told))
    write_atomically(path, file.getvalue())


def _found(path: Path, count: int) -> tuple["np.ndarray", Skipped] | None:
    import numpy as np

    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:
            about, kept = json.loads(str(file["about"])), np.unpackbits(file["kept"], count=count).astype(bool)
    except (ValueError, KeyError, EOFError, BadZipFile):
        return None  # spoilt by another hand than this one's: asked anew
    return (kept, Skipped(about["skipped"], about["first"])) if about["rows"] == count else None
