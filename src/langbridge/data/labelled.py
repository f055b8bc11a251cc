"""Labelled English pairs, input to output, from a JSONL file.

The whole file is read and checked before training starts: the 200,000 rows of the paper take a second,
and a bad row found after an hour of training would cost the hour.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from langbridge.data.files import json_lines, text_field
from langbridge.errors import LangBridgeError


@dataclass(frozen=True, slots=True)
class Example:
    """One pair: what is asked, in the template's place of the prompt, and what is to be answered."""

    prompt: str
    target: str


class LabelledDataset(Sequence[Example]):
    """The pairs of one file, by position; `skipped` are the errors of the rows that were left out."""

    def __init__(self, examples: Sequence[Example], skipped: Sequence[str] = ()) -> None:
        self.examples = tuple(examples)
        self.skipped = tuple(skipped)

    def __len__(self) -> int:
        return len(self.examples)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        return self.examples[index]

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)


def read_labelled(
    path: str | Path,
    *,
    input: str = "query",
    output: str = "response",
    on_bad_row: Literal["error", "skip"] = "error",
) -> LabelledDataset:
    """Read the pairs at the fields `input` and `output` of every row.

    A bad row (broken JSON, a field that is missing, empty or not text) raises with file, row and field;
    with `on_bad_row="skip"` it is left out and its error kept in `skipped`.
    """
    if on_bad_row not in ("error", "skip"):
        raise LangBridgeError(f"on_bad_row: expected 'error' or 'skip', got {on_bad_row!r}")
    examples: list[Example] = []
    skipped: list[str] = []
    for number, row in json_lines(path):
        where = f"{path}, row {number}"
        try:
            if isinstance(row, LangBridgeError):
                raise row
            examples.append(Example(text_field(row, input, where), text_field(row, output, where)))
        except LangBridgeError as error:
            if on_bad_row == "error":
                raise
            skipped.append(str(error))
    if skipped and not examples:
        raise LangBridgeError(f"{path}: all {len(skipped)} rows are bad; the first: {skipped[0]}")
    if not examples:
        raise LangBridgeError(f"{path}: the file is empty, expected one JSON object a line")
    return LabelledDataset(examples, skipped)
