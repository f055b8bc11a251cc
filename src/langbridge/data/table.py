"""Map-style rows: checked once, kept on disk as an Arrow table, read through a memory map.

Memory holds 4 bytes a row for `lengths`, and 8 more where rows are left out; never the texts. The table is named by a
hash of what it was made from: a second run on the same files finds it, and a changed file makes a new one.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langbridge.data.examples import Example, Extractor, Judge, Skipped, TextExample, example_of, refuse
from langbridge.data.settings import OnBadRow, Regime, Source
from langbridge.data.sources import Places, file_rows, hub_dataset, hub_rows, local_files
from langbridge.data.usable_rows import read_usable, usable_file, usable_rows, write_usable
from langbridge.errors import LangBridgeError
from langbridge.files import BadRow, write_atomically

if TYPE_CHECKING:
    import datasets
    import numpy as np

_FORMAT = 3  # of the table on disk; another number makes other files
_ROWS, _CHARACTERS = 1000, 4 << 20  # a batch of the table is written at whichever comes first


class RowTable(Sequence[Any]):
    """Examples by position. `skipped` are the rows that were left out on the way, `shares` what each source gives.

    Give a `BatchRow` as the position and the example carries its step. Made by `open_data`.
    """

    def __init__(
        self,
        dataset: "datasets.Dataset",
        skipped: Skipped,
        *,
        indices: "np.ndarray | None" = None,
        shares: dict[str, tuple[int, int]] | None = None,
    ) -> None:
        self.dataset = dataset
        self.skipped = skipped
        self.indices = indices
        self.shares = shares or {}
        """Rows that are used and rows that there are, by the source's path."""

    def __len__(self) -> int:
        return len(self.dataset) if self.indices is None else len(self.indices)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.__getitems__(list(range(len(self))[index]))
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of a table of {len(self)}")
        return self.__getitems__([index])[0]

    def __getitems__(self, rows: list[int]) -> list[Example | TextExample]:
        """The examples at these positions in one reading; what a `DataLoader` asks for."""
        if not rows:
            return []
        places = [int(row) % len(self) if row < 0 else int(row) for row in rows]
        if self.indices is not None:
            places = self.indices[places].tolist()
        columns = self.dataset[places]
        origins = columns.pop("origin")
        del columns["length"]
        names = tuple(columns)
        return [
            example_of(dict(zip(names, texts, strict=True)), origin, getattr(row, "step", None))
            for row, origin, *texts in zip(rows, origins, *columns.values(), strict=True)
        ]

    def __iter__(self) -> Iterator[Any]:
        for examples in self._batches():
            yield from examples

    def _batches(self, done: Callable[[int], object] = lambda rows: None) -> Iterator[list[Example | TextExample]]:
        for first in range(0, len(self), _ROWS):
            rows = range(first, min(first + _ROWS, len(self)))
            yield self.__getitems__(list(rows))
            done(len(rows))

    @cached_property
    def lengths(self) -> "np.ndarray":
        """Characters of each row, prompt and target together: an int32 array (rows,)."""
        lengths = self.dataset.data.column("length").to_numpy()
        return lengths if self.indices is None else lengths[self.indices]

    @cached_property
    def content(self) -> str:
        """A hash of all prepared texts, chosen or not; the same rows in another place have the same."""
        digest = hashlib.sha256()
        for file in self.dataset.cache_files:  # in the order of the sources
            about = json.loads((Path(file["filename"]).parent / "about.json").read_text(encoding="utf-8"))
            digest.update(about["content"].encode())
        return digest.hexdigest()[:16]

    def fitting(self, judge: Judge, on_bad_row: OnBadRow) -> "RowTable":
        """The rows that `judge` can use; the others are skipped and counted, or raise.

        A text that is too short to split is always skipped: it is not an error.
        """
        if judge.accepts_all:
            return self
        import numpy as np

        # Only the whole table keeps results; a selection of its rows is judged each time.
        home = Path(self.dataset.cache_files[0]["filename"]).parent
        file = usable_file(home, judge, on_bad_row) if self.indices is None else None
        with _one_at_a_time(home, file.stem) if file is not None else nullcontext():
            found = None if file is None else read_usable(file, len(self))
            if found is None:
                with _progress_bar("judging rows", len(self)) as bar:
                    found = usable_rows(self._batches(bar.update), len(self), judge, on_bad_row)
                if file is not None:
                    write_usable(file, *found)
        kept, misfits = found
        skipped = Skipped(self.skipped.counts, self.skipped.first)
        skipped.update(misfits)
        if not kept.any():
            raise LangBridgeError(f"none of the {len(self)} rows can be used; the first: {misfits.first[0]}")
        if kept.all():
            return self
        indices = np.flatnonzero(kept)
        inner = indices if self.indices is None else self.indices[indices]
        shares = {path: (len(inner), rows) for path, (_, rows) in self.shares.items()}
        return RowTable(self.dataset, skipped, indices=inner, shares=shares)


def source_table(
    source: Source, kind: Regime, *, on_bad_row: OnBadRow, cache_dir: str | Path | None = None
) -> RowTable:
    """The table of one source with all its settings filled in, made now or found in the cache."""
    import datasets

    extract = Extractor(source, kind)
    files = local_files(source)
    if files is None:
        loaded = hub_dataset(source, streaming=False, cache_dir=None if cache_dir is None else str(cache_dir))
        return dataset_table(loaded, source, kind, on_bad_row=on_bad_row, cache_dir=cache_dir)

    def places() -> Places:
        return file_rows(files, extract.columns, source)

    # Size and modification time identify the content: hashing it would cost as much as preparing it.
    stats = [(str(file.resolve()), str(file), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    folder = Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / "langbridge"
    return _made_or_found(folder, [stats, _taken(source, kind)], places, extract, on_bad_row, source.path)


def dataset_table(
    dataset: Any, source: Source, kind: Regime, *, on_bad_row: OnBadRow, cache_dir: str | Path | None = None
) -> RowTable:
    """The table of a `datasets.Dataset`; `source.path` is its name in errors."""
    import datasets

    extract = Extractor(source, kind)
    if not isinstance(dataset, datasets.Dataset):
        got = f"{type(dataset).__name__} with {', '.join(dataset)}" if isinstance(dataset, dict) else type(dataset)
        raise LangBridgeError(f"{source.path}: expected one split of a data set, got {got}")
    # Other columns may be images, which would be decoded for nothing.
    wanted = dataset.select_columns([name for name in dataset.column_names if name in extract.columns] or [])

    def places() -> Places:
        return hub_rows(wanted if wanted.column_names else dataset, source)

    folder = Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / "langbridge"
    made_from = [dataset._fingerprint, source.path, _taken(source, kind)]
    return _made_or_found(folder, made_from, places, extract, on_bad_row, source.path)


def _taken(source: Source, kind: Regime) -> dict[str, Any]:
    # The others are in the files or the fingerprint.
    settings = source.model_dump(exclude={"path", "weight", "language", "name", "split", "revision"})
    if source.targets is None:
        del settings["targets"]  # as tables were named before there was bitext
    return {"kind": kind, "format": _FORMAT, **settings}


def _made_or_found(
    folder: Path,
    made_from: list[Any],
    places: Callable[[], Places],
    extract: Extractor,
    on_bad_row: OnBadRow,
    name: str,
) -> RowTable:
    import datasets

    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:24]
    home, part = folder / digest, folder / f".{digest}.part"
    with _one_at_a_time(folder, digest):
        if not (home / "about.json").is_file():
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            try:
                about = _write(part / "rows.arrow", places(), extract, on_bad_row, name)
                write_atomically(part / "about.json", json.dumps(about, ensure_ascii=False, indent=1))
                part.replace(home)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
    about = json.loads((home / "about.json").read_text(encoding="utf-8"))
    skipped = Skipped(about["skipped"], about["first"])
    if skipped and on_bad_row == "error":
        raise LangBridgeError(skipped.first[0])
    rows = datasets.Dataset.from_file(str(home / "rows.arrow"))
    return RowTable(rows, skipped, shares={name: (len(rows), len(rows))})


def _write(path: Path, places: Places, extract: Extractor, on_bad_row: OnBadRow, name: str) -> Any:
    """Write the table in batches, so that no more than one of them is ever in memory."""
    import pyarrow

    kinds = {field: pyarrow.string() for field in extract.fields}
    schema = pyarrow.schema({**kinds, "origin": pyarrow.string(), "length": pyarrow.int32()})
    columns: dict[str, list[Any]] = {field: [] for field in schema.names}
    skipped, rows, characters = Skipped(), 0, 0
    content = hashlib.sha256()
    with (
        pyarrow.OSFile(str(path), "wb") as file,
        pyarrow.ipc.new_stream(file, schema) as table,
        _progress_bar("preparing rows") as bar,
    ):

        def flush() -> None:
            bar.update(len(columns["length"]))
            table.write_batch(pyarrow.record_batch(columns, schema=schema))
            for column in columns.values():
                column.clear()

        for place, (number, row) in places:
            try:
                if isinstance(row, BadRow):
                    raise row
                texts = extract(row, f"{place}, row {number}")
            except BadRow as error:
                refuse(error, on_bad_row, skipped)
                continue
            length = sum(map(len, texts.values()))
            for field, text in texts.items():
                columns[field].append(text)
                raw = text.encode("utf-8")
                content.update(len(raw).to_bytes(8, "little") + raw)
            columns["origin"].append(f"{place}:{number}")
            columns["length"].append(length)
            rows, characters = rows + 1, characters + length
            if len(columns["length"]) >= _ROWS or characters >= _CHARACTERS:
                flush()
                characters = 0
        if columns["length"]:
            flush()
    if skipped and not rows:
        raise LangBridgeError(f"{name}: all {len(skipped)} rows are bad; the first: {skipped.first[0]}")
    if not rows:
        raise LangBridgeError(f"{name}: there are no rows in it, expected one example a row")
    return {"rows": rows, "content": content.hexdigest(), "skipped": skipped.counts, "first": skipped.first}


@contextmanager
def _one_at_a_time(folder: Path, name: str) -> Iterator[None]:
    """A lock by `name` over all processes: the ranks of a run wait for what one of them makes in `folder`, which is
    created where missing. An `OSError` inside becomes a `LangBridgeError`."""
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


def _progress_bar(what: str, total: int | None = None) -> Any:
    """A bar of `datasets` over `total` rows on standard error, after three seconds; `HF_DATASETS_DISABLE_PROGRESS_BARS`
    hides it. Outside a terminal it prints a line every half minute.
    """
    from datasets.utils import tqdm

    return tqdm(
        desc=what, total=total, unit=" rows", delay=3, mininterval=0.5 if sys.stderr.isatty() else 30, leave=False
    )
