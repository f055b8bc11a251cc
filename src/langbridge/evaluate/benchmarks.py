"""The rows of a published benchmark, from a local folder or the hub, and which data exactly they were."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetInfo, load_dataset

from langbridge.data import readers
from langbridge.errors import LangBridgeError
from langbridge.files import text_field
from langbridge.languages import english_name

HUB = "hub"
"""The data setting for the hub; anything else is a folder."""


@dataclass(frozen=True)
class HubPlace:
    """A dataset on the hub. `name` and `split` may hold the same {fields} as file patterns."""

    path: str
    name: str | None
    split: str = "test"


@dataclass(frozen=True)
class Benchmark:
    """How a benchmark is published.

    family: its folder's name below a data folder.
    patterns: names of files without their endings, tried in their order, with fields of a task in them: `{language}`,
        `{Name}` and `{name}` (its English name, as in `Swahili` and `swahili`), and what else `read_rows` is given. One
        with `*` must match exactly one file.
    required: fields that every row must have.
    hub: None where no dataset on the hub has a known layout.
    texts: required fields that must be non-empty text, so that no question is asked as "None".
    aliases: other names that a publisher gave to a field, with its name here.
    header: the columns of a `.csv` or `.tsv` that is published without a line of their names.
    inside: the field with the rows, where a `.json` file is published as one object.
    """

    family: str
    patterns: tuple[str, ...]
    required: tuple[str, ...]
    hub: HubPlace | None = None
    texts: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    header: tuple[str, ...] | None = None
    inside: str | None = None


class NoSuchFile(LangBridgeError):
    """A data folder has no file for a task."""


@dataclass(frozen=True)
class BenchmarkRows:
    """Rows, each with its place for errors, and their origin: file and hash, or dataset and version."""

    rows: list[tuple[str, dict[str, Any]]]
    origin: dict[str, Any] = field(default_factory=dict)


def read_rows(source: Benchmark, data: str | Path | None, **names: str) -> BenchmarkRows:
    """The rows of a source. data: a folder, which holds the family's folder or is it, or `hub`.

    Raises `LangBridgeError` where the file is not there, is not unique, is empty, or lacks a field or a text.
    """
    found = _from_hub(source, names) if data in (None, HUB) else _from_folder(source, Path(str(data)), names)
    for where, row in found.rows:
        for alias, name in source.aliases.items():
            if name not in row and alias in row:
                row[name] = row.pop(alias)
        missing = [name for name in source.required if name not in row]
        if missing:
            raise LangBridgeError(
                f"{where}: no field {', '.join(map(repr, missing))}; the row has {', '.join(map(repr, row))}"
            )
        for name in source.texts:
            text_field(row, name, where)
    return found


def row_ids(rows: BenchmarkRows, field: str = "id") -> list[str]:
    """The id of each question: the row's own `field`, or its index from 0 where it has none.

    Raises `LangBridgeError` where two rows have the same, because a question's answers are joined by it.
    """
    seen: dict[str, str] = {}
    for place, (where, row) in enumerate(rows.rows):
        name = str(row.get(field, place))
        if name in seen:
            raise LangBridgeError(
                f"{where}: the id {name!r} is that of {seen[name]} too; expected another {field!r} in each row, or in "
                "none (the id of a row without one is its index from 0)"
            )
        seen[name] = where
    return list(seen)


def dataset(documents: Sequence[Mapping[str, Any]], origin: Mapping[str, Any]) -> Dataset:
    """Documents as the harness takes them, with their origin."""
    return Dataset.from_list([dict(one) for one in documents], info=DatasetInfo(description=json.dumps(origin)))


def origin_of(documents: Dataset) -> dict[str, Any]:
    return dict(json.loads(documents.info.description or "{}"))


def _from_folder(source: Benchmark, folder: Path, names: Mapping[str, str]) -> BenchmarkRows:
    folder = folder.expanduser()
    if not folder.is_dir():
        raise LangBridgeError(f"--data: {folder}: no such folder (the word 'hub' fetches the data instead)")
    if "language" in names:
        name = english_name(names["language"]) or names["language"]
        names = {"Name": name, "name": name.lower(), **names}
    path = find_file(folder, source.family, [pattern.format(**names) for pattern in source.patterns])
    return rows_of_file(path, header=source.header, field=source.inside)


def rows_of_file(path: Path, **options: Any) -> BenchmarkRows:
    """The rows of a file in any format that training reads; the first bad one raises.

    options: of `langbridge.data.readers.read_rows`.
    """
    rows = [(f"{path}, row {number}", row) for number, row in readers.good_rows(path, **options)]
    if not rows:
        raise LangBridgeError(f"{path}: has no rows")
    return BenchmarkRows(rows, origin_of_file(path))


def origin_of_file(path: Path) -> dict[str, Any]:
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


FORMATS = ("jsonl", "ndjson", "json", "tsv", "csv", "parquet")
"""Endings of files with rows, in the order in which they are taken where a folder has a file in several."""

ENDING = re.compile(rf"\.({'|'.join(FORMATS)})(\.(gz|bz2|xz|zst))?$", re.IGNORECASE)


def find_file(folder: Path, family: str, patterns: Sequence[str]) -> Path:
    """The one file that the first matching pattern names, in `folder/family` or in `folder`.

    patterns: names without their endings. Raises `NoSuchFile`.
    """
    for pattern in patterns:
        for place in (folder / family, folder):
            found: dict[str, list[Path]] = {}
            for path in sorted(place.glob(f"{pattern}.*")):
                ending = ENDING.search(path.name)
                if ending and path.with_name(path.name[: ending.start()]).match(pattern):
                    found.setdefault(ending[1].lower(), []).append(path)
            for paths in (found[kind] for kind in FORMATS if kind in found):
                if len(paths) > 1:
                    names = ", ".join(path.name for path in paths)
                    raise LangBridgeError(f"--data: {place}: expected one file {pattern}, found {names}")
                return paths[0]
    raise NoSuchFile(
        f"--data: {folder}: found no {' and no '.join(dict.fromkeys(patterns))} ({', '.join(FORMATS[:-1])} or "
        f"{FORMATS[-1]}, also compressed), neither there nor in {family}/ below it"
    )


def _from_hub(source: Benchmark, names: Mapping[str, str]) -> BenchmarkRows:
    place = source.hub
    if place is None:
        raise LangBridgeError(
            f"{source.family}: there is no source on the hub for it; give a folder with {source.patterns[0]} by --data"
        )
    name = None if place.name is None else place.name.format(**names)
    try:
        found = load_dataset(place.path, name, split=place.split.format(**names))
    except Exception as error:  # the hub's client raises errors of many kinds
        raise LangBridgeError(
            f"{source.family}: {place.path} could not be fetched from the hub ({error}); --data DIR reads a local copy"
        ) from error
    rows = [(f"{place.path}, row {index}", dict(row)) for index, row in enumerate(found, start=1)]
    origin = {"dataset": place.path, "name": name, "version": str(found.info.version), "hash": found._fingerprint}
    return BenchmarkRows(rows, origin)
