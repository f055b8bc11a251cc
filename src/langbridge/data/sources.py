"""From a source's path to rows: local files in a fixed order, or a data set on the hub."""

import glob
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from langbridge.data.readers import Row, read_rows
from langbridge.data.settings import FILE_NAME, Source, is_here, is_hub_id
from langbridge.errors import LangBridgeError
from langbridge.files import BadRow, existing_file, text_field

Places = Iterator[tuple[str, Row]]
"""Rows with the name of their file or data set."""

_SPLITS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev"},
    "test": {"test", "testing", "eval", "evaluation"},
}
"""The words in file names by which `datasets` recognises splits."""

_ABOUT = re.compile(
    r"(dataset_infos?|dataset_dict|state|config)\.json|(readme|licen[cs]e|notice|citation|requirements)[^/]*\.txt",
    re.IGNORECASE,
)
"""Files that are not rows, in clones from the hub and in folders that `datasets` saved."""


def local_files(source: Source) -> list[Path] | None:
    """The files of a source in the order of their names; None where it is a data set on the hub.

    A folder gives the data files anywhere inside it, by their names, of its split: those with a word for `split` in
    their names or in those of folders inside. Without `split`, it is train where there are splits, as on
    the hub. Bitext gives its two files. Raises `LangBridgeError` where there is nothing.
    """
    path = source.path
    if source.targets is not None:
        return [existing_file(path), existing_file(source.targets)]
    if not is_here(path):
        if is_hub_id(path):
            return None
        raise LangBridgeError(f"{path}: no such file, folder or glob with a match")
    place = Path(path).expanduser()
    if place.is_file():
        return [place]
    if not place.is_dir():
        files = sorted(Path(name) for name in glob.glob(str(place), recursive=True))
        files = [file for file in files if file.is_file()]
        if not files:
            raise LangBridgeError(f"{path}: matches folders only, expected files; for files inside, write {path}/*")
        return files
    # Hidden files are caches and unfinished files, not data.
    inside = [file for file in sorted(place.rglob("*")) if file.is_file() and FILE_NAME.search(file.name)]
    inside = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(place).parts)]
    inside = [file for file in inside if not _ABOUT.fullmatch(file.name)]
    if not inside:
        raise LangBridgeError(f"{path}: the folder has no .jsonl, .json, .parquet, .csv, .tsv or .txt file of rows")
    words = {file: _words(file.relative_to(place)) for file in inside}
    split = source.split
    if split is None:
        splits = [name for name, called in _SPLITS.items() if any(called & words[file] for file in inside)]
        if not splits:
            return inside
        if len(splits) > 1 and "train" not in splits:
            raise LangBridgeError(f"{path}: the folder has the splits {' and '.join(splits)}; choose one with `split`")
        split = splits[0]
    called = _SPLITS.get(split, {split.lower()})
    chosen = [file for file in inside if called & words[file]]
    if not chosen:
        raise LangBridgeError(f"{path}: no file of the split {split!r}; the folder has {_few(inside, place)}")
    return chosen


def file_rows(files: Iterable[Path], columns: Iterable[str], source: Source) -> Places:
    """The rows of local files of a source, in the order of `files`; of bitext in that of its own."""
    options: Any = {"sample_by": source.sample_by or "line", "quoting": source.quoting or "auto"}
    if source.targets is not None:
        for row in _aligned(existing_file(source.path), existing_file(source.targets), options):
            yield source.path, row
        return
    for file in files:
        for row in read_rows(file, columns=columns, **options):
            yield str(file), row


def _aligned(prompts: Path, targets: Path, options: Any) -> Iterator[Row]:
    """The rows of two files as one: a row of the first has, as its field `target`, the text of the second's row of the
    same number. A row that one of them leaves empty is a bad row; raises `LangBridgeError` where one file goes on."""
    first, second = read_rows(prompts, **options), read_rows(targets, **options)
    mine, theirs = next(first, None), next(second, None)
    while mine is not None and theirs is not None:
        (number, row), (other, target) = mine, theirs
        if number == other:
            yield number, _pair(row, target, f"{targets}, row {other}")
        elif number < other:
            yield number, BadRow(f"{targets}, row {number}: is empty, but {prompts} has a text there", "no pair")
        else:
            yield other, BadRow(f"{prompts}, row {other}: is empty, but {targets} has a text there", "no pair")
        mine = next(first, None) if number <= other else mine
        theirs = next(second, None) if other <= number else theirs
    if mine is not None or theirs is not None:
        longer, shorter, row_left = (prompts, targets, mine) if theirs is None else (targets, prompts, theirs)
        assert row_left is not None, "one of them goes on"
        raise LangBridgeError(
            f"{longer}: goes on at row {row_left[0]}, where {shorter} has ended; expected two files of as many rows, "
            "each the other's translation"
        )


def _pair(row: dict[str, Any] | BadRow, target: dict[str, Any] | BadRow, where: str) -> dict[str, Any] | BadRow:
    if isinstance(row, BadRow) or isinstance(target, BadRow):
        return row if isinstance(row, BadRow) else target
    try:
        return {**row, "target": text_field(target, "text", where)}
    except BadRow as error:
        return error


def hub_dataset(source: Source, *, streaming: bool, cache_dir: str | None = None) -> Any:
    """The data set on the hub as `datasets` has it: map-style (in its own cache on disk), or a stream."""
    import datasets

    try:
        return datasets.load_dataset(
            source.path,
            name=source.name,
            split=source.split or "train",
            revision=source.revision,
            streaming=streaming,
            cache_dir=cache_dir,
        )
    except Exception as error:  # the hub's client, the cache and the builders raise errors of many kinds
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise LangBridgeError(
            f"{source.path}: is no file or folder here, and cannot be loaded from the hub: {reason}"
        ) from error


def hub_rows(rows: Iterable[Any], source: Source) -> Places:
    """The rows of a data set of the hub, numbered from 1 in its own order."""
    try:
        for row in enumerate(rows, start=1):
            yield source.path, row
    except (OSError, ValueError, RuntimeError) as error:
        raise LangBridgeError(f"{source.path}: the data set cannot be read to its end: {error}") from error


def _words(path: Path) -> set[str]:
    """The words of a path's names: `data/train-00000-of-2.parquet` has data, train, 00000, of, 2 and parquet, and
    `dev2.tsv` both dev2 and dev."""
    text = str(path).lower()
    return {*re.findall(r"[^\W_]+", text), *re.findall(r"[^\W\d_]+", text)}


def _few(files: list[Path], folder: Path) -> str:
    names = [str(file.relative_to(folder)) for file in files[:5]]
    return ", ".join(names) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
