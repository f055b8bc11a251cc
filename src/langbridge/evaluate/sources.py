"""Where a task family's rows come from: a local folder or the hub, by one setting; and which data exactly they were."""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetInfo, load_dataset

from langbridge.errors import LangBridgeError
from langbridge.files import RepeatedField, json_object, read_jsonl, refuse_repeated, text_field

HUB = "hub"
"""The data setting that asks for the hub; anything else is a folder."""


@dataclass(frozen=True)
class HubPlace:
    """A dataset on the hub. `name` and `split` may hold the same {fields} as file patterns."""

    path: str
    name: str | None
    split: str = "test"


@dataclass(frozen=True)
class Source:
    """A family's published layout.

    family: its folder's name below a data folder. patterns: names of files, tried in their order, with `{language}` and
    other fields of a task in them; one with `*` must match exactly one file. hub: None where there is no dataset on the
    hub in a layout known to us. required: fields that every row must have. texts: those of them that must be text with
    something in it, so that no question is asked as "None".
    """

    family: str
    patterns: tuple[str, ...]
    required: tuple[str, ...]
    hub: HubPlace | None = None
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rows:
    """Rows, each with where it stands (for errors), and their origin: file and hash, or dataset and version."""

    rows: list[tuple[str, dict[str, Any]]]
    origin: dict[str, Any] = field(default_factory=dict)


def read_rows(source: Source, data: str | Path | None, **names: str) -> Rows:
    """The rows of a source. data: a folder, which holds the family's folder or is it, or `hub`.

    Raises `LangBridgeError` where the file is not there, is not unique, is empty, or lacks a field or a text.
    """
    found = _from_hub(source, names) if data in (None, HUB) else _from_folder(source, Path(str(data)), names)
    for where, row in found.rows:
        missing = [name for name in source.required if name not in row]
        if missing:
            raise LangBridgeError(
                f"{where}: no field {', '.join(map(repr, missing))}; the row has {', '.join(map(repr, row))}"
            )
        for name in source.texts:
            text_field(row, name, where)
    return found


def row_ids(rows: Rows, field: str = "id") -> list[str]:
    """What each question is known by: the row's own `field`, or its place from 0 where it has none.

    Raises `LangBridgeError` where two rows have the same, because a question's answers are joined by it.
    """
    seen: dict[str, str] = {}
    for place, (where, row) in enumerate(rows.rows):
        name = str(row.get(field, place))
        if name in seen:
            raise LangBridgeError(
                f"{where}: the id {name!r} is that of {seen[name]} too; expected another {field!r} in each row, or in "
                "none (a row without one is known by its place from 0)"
            )
        seen[name] = where
    return list(seen)


def dataset(documents: Sequence[Mapping[str, Any]], origin: Mapping[str, Any]) -> Dataset:
    """Documents as the harness takes them, with their origin."""
    return Dataset.from_list([dict(one) for one in documents], info=DatasetInfo(description=json.dumps(origin)))


def origin_of(documents: Dataset) -> dict[str, Any]:
    return dict(json.loads(documents.info.description or "{}"))


def _from_folder(source: Source, folder: Path, names: Mapping[str, str]) -> Rows:
    folder = folder.expanduser()
    if not folder.is_dir():
        raise LangBridgeError(f"--data: {folder}: no such folder (the word 'hub' fetches the data instead)")
    path = find_file(folder, source.family, [pattern.format(**names) for pattern in source.patterns])
    read = {".csv": _csv_rows, ".json": _json_rows}.get(path.suffix, read_jsonl)
    rows = [(f"{path}, row {number}", row) for number, row in read(path)]
    if not rows:
        raise LangBridgeError(f"{path}: has no rows")
    return Rows(rows, {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})


def find_file(folder: Path, family: str, patterns: Sequence[str]) -> Path:
    """The one file that the first matching pattern names, in `folder/family` or in `folder`."""
    for pattern in patterns:
        for place in (folder / family, folder):
            found = sorted(place.glob(pattern))
            if len(found) > 1:
                names = ", ".join(path.name for path in found)
                raise LangBridgeError(f"--data: {place}: expected one file {pattern}, found {names}")
            if found:
                return found[0]
    raise LangBridgeError(
        f"--data: {folder}: found no {' and no '.join(patterns)}, neither there nor in {family}/ below it"
    )


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = csv.DictReader(file, strict=True)
            refuse_repeated(rows.fieldnames or (), path)
            yield from enumerate(rows, start=1)
        except (csv.Error, UnicodeDecodeError) as error:
            raise LangBridgeError(f"{path}: expected a CSV file in UTF-8: {error}") from error


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=json_object)
    except ValueError as error:
        raise LangBridgeError(f"{path}: broken JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise LangBridgeError(f"{path}: expected a JSON list of objects")
    for number, row in enumerate(rows, start=1):
        if isinstance(row, RepeatedField):
            raise row.at(f"{path}, row {number}")
        yield number, row


def _from_hub(source: Source, names: Mapping[str, str]) -> Rows:
    place = source.hub
    if place is None:
        raise LangBridgeError(
            f"{source.family}: there is no source on the hub for it; give a folder with {source.patterns[0]} by --data"
        )
    name = None if place.name is None else place.name.format(**names)
    try:
        found = load_dataset(place.path, name, split=place.split.format(**names))
    except Exception as error:  # the hub's client raises whatever it likes
        raise LangBridgeError(
            f"{source.family}: {place.path} could not be fetched from the hub ({error}); --data DIR reads a local copy"
        ) from error
    rows = [(f"{place.path}, row {index}", dict(row)) for index, row in enumerate(found, start=1)]
    origin = {"dataset": place.path, "name": name, "version": str(found.info.version), "hash": found._fingerprint}
    return Rows(rows, origin)
