"""Sentence-parallel text: the same sentences in every language.

Four layouts are read, recognised by their files:

    rows          a file, or a folder of files, with rows {"id": ..., "lang": ..., "text": ...}, in any format that
                  training reads; `language` works like `lang`, and the text may be in another field
    FLORES+       dev/eng_Latn.parquet, dev/swh_Latn.jsonl, ...: rows with id, iso_639_3, iso_15924 and text
    FLORES-101    dev/eng.dev, dev/swh.dev, ...: one sentence a line (Goyal et al. 2022, arXiv 2106.03193)
    FLORES-200    dev/eng_Latn.dev, dev/swh_Latn.dev, ... (NLLB Team 2022, arXiv 2207.04672)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langbridge.data.readers import good_rows
from langbridge.data.settings import FILE_NAME
from langbridge.errors import LangBridgeError
from langbridge.files import text_field
from langbridge.languages import group_of

FEWEST = 10
"""Sentences: with fewer, the numbers mean nothing."""

_SPLITS = ("dev", "devtest")
"""Of FLORES; the paper's figure is drawn on the first."""


@dataclass(frozen=True)
class Corpus:
    """Sentence `ids[i]` in language `languages[j]` is `texts[j][i]`."""

    languages: tuple[str, ...]
    ids: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    incomplete: int = 0
    """Sentences that were left out because some language lacks them."""

    def __len__(self) -> int:
        return len(self.ids)

    def head(self, limit: int | None) -> "Corpus":
        """The first `limit` sentences."""
        if limit is None or limit >= len(self):
            return self
        if limit < FEWEST:
            raise LangBridgeError(f"--limit: got {limit}, expected at least {FEWEST} sentences")
        return replace(self, ids=self.ids[:limit], texts=tuple(row[:limit] for row in self.texts))


def read_corpus(
    path: str | Path, languages: Sequence[str] | None = None, *, field: str = "text", limit: int | None = None
) -> Corpus:
    """The sentences that every language has, in the order of the first language.

    languages: which, and in which order; default: all, in the order of the files.
    field: where JSONL rows have their text.
    Raises `LangBridgeError` where there are fewer than two languages or ten common sentences, or a language is no code
    such as `sw`, with file and row.
    """
    path = Path(path).expanduser()
    found = _by_language(path, field)
    if languages is not None:
        if missing := [code for code in languages if code not in found]:
            raise LangBridgeError(
                f"--languages: {path} has no {', '.join(map(repr, missing))}; it has {', '.join(found)}"
            )
        if len(set(languages)) < len(languages):
            raise LangBridgeError(f"--languages: expected each language once, got {', '.join(languages)}")
        found = {code: found[code] for code in languages}
    if len(found) < 2:
        raise LangBridgeError(f"{path}: expected the same sentences in two or more languages, got {', '.join(found)}")
    common = set.intersection(*(set(rows) for rows in found.values()))
    ids = tuple(key for key in next(iter(found.values())) if key in common)
    if len(ids) < FEWEST:
        sizes = ", ".join(f"{code} {len(rows)}" for code, rows in found.items())
        raise LangBridgeError(
            f"{path}: {len(ids)} sentences have the same id in every language, expected at least {FEWEST} "
            f"(rows: {sizes}); choose languages with --languages, or correct the ids"
        )
    every = set().union(*found.values())
    texts = tuple(tuple(rows[key] for key in ids) for rows in found.values())
    return Corpus(tuple(found), ids, texts, incomplete=len(every) - len(ids)).head(limit)


def _by_language(path: Path, field: str) -> dict[str, dict[str, str]]:
    """For each language its texts by id."""
    if path.is_file():
        return _read_rows([path], field)
    if not path.is_dir():
        raise LangBridgeError(f"--corpus: no file or folder at {path}")
    for folder in (path, *(path / split for split in _SPLITS)):
        if files := [file for file in sorted(folder.glob("[!.]*")) if _has_rows(file)]:
            return _read_rows(files, field)
        for split in _SPLITS:
            if files := sorted(folder.glob(f"*.{split}")):
                return _read_lines(files)
    raise LangBridgeError(
        f"--corpus: {path} holds neither files with rows (id, lang, text) nor FLORES (dev/eng_Latn.parquet, "
        "dev/eng_Latn.dev, dev/eng.dev, ...)"
    )


def _has_rows(file: Path) -> bool:
    # Plain text has no ids: a .txt file beside the rows is a note.
    return file.is_file() and FILE_NAME.search(file.name) is not None and ".txt" not in file.suffixes


def _read_rows(files: Sequence[Path], field: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for path in files:
        for number, row in good_rows(path):
            where = f"{path}, row {number}"
            language = _language(row, where)
            if language not in found:
                group_of(language, f"{where}, language")
            key = row.get("id")
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise LangBridgeError(f"{where}, field 'id': expected a text or a whole number, got {key!r}")
            rows = found.setdefault(language, {})
            if str(key) in rows:
                raise LangBridgeError(f"{where}: id {key!r} comes twice in language {language!r}; expected once")
            rows[str(key)] = text_field(row, field, where)
    return found


def _language(row: Mapping[str, Any], where: str) -> str:
    if "lang" not in row and "iso_639_3" in row:  # FLORES+
        return f"{text_field(row, 'iso_639_3', where)}_{text_field(row, 'iso_15924', where)}"
    return text_field(row, "lang" if "lang" in row or "language" not in row else "language", where)


def _read_lines(files: Sequence[Path]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for path in files:
        group_of(path.stem, f"{path}, language")
        rows: dict[str, str] = {}
        for number, row in good_rows(path):
            if number != len(rows) + 1:
                raise LangBridgeError(f"{path}, line {len(rows) + 1}: the line is empty, expected one sentence a line")
            rows[str(number)] = row["text"]
        found[path.stem] = rows
    if len({len(rows) for rows in found.values()}) > 1:
        sizes = ", ".join(f"{code} {len(rows)}" for code, rows in found.items())
        raise LangBridgeError(
            f"{files[0].parent}: the files have different numbers of lines ({sizes}), so they are not parallel"
        )
    return found
