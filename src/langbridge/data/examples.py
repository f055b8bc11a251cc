"""What a row becomes: a training example, or a reason for leaving it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from langbridge.data.columns import Columns, Side
from langbridge.data.settings import FIELDS, OnBadRow, Regime, Source
from langbridge.files import BadRow

TOO_SHORT = "too short to split"
"""The reason for a text without room for both a prefix and a continuation."""

CUT_WHOLE = "target cut whole"
"""The reason for a pair whose target truncation would remove."""

MARKER = "mark of soft prompts"
"""The reason for a row whose text contains the soft-prompt token."""


@dataclass(frozen=True, slots=True)
class Example:
    """One pair: the prompt that goes into the template, and the target."""

    prompt: str
    target: str
    origin: str = field(default="", compare=False)
    """Where it came from, as in `rows.jsonl:17`."""
    step: int | None = field(default=None, compare=False)
    """The batch that it is drawn for, as tagged by `BatchRow` or by a stream."""


@dataclass(frozen=True, slots=True)
class TextExample:
    """One text, not yet split into prefix and continuation."""

    text: str
    origin: str = field(default="", compare=False)
    """Where it came from, as in `corpus.jsonl:17`."""
    step: int | None = field(default=None, compare=False)
    """The batch that it is drawn for, as tagged by `BatchRow` or by a stream."""


class BatchRow(int):
    """A row's number that carries the batch it is drawn for, for samplers: `dataset[BatchRow(7, step=3)].step == 3`.

    What a batch draws at random (the encoder's length of unlabelled text) is a function of (seed, step). So the tag
    must be the same on every rank for the batches that are trained together, and differ between steps.
    """

    step: int

    def __new__(cls, row: int, step: int) -> "BatchRow":
        self = super().__new__(cls, row)
        self.step = step
        return self

    def __reduce__(self) -> tuple[Any, ...]:  # an int's own would lose the tag on its way to a worker
        return BatchRow, (int(self), self.step)


class Judge(Protocol):
    """Decides whether an example can be used; every collator of this room is one."""

    @property
    def accepts_all(self) -> bool:
        """Whether it can use every example, so that none needs to be judged."""
        ...

    @property
    def identity(self) -> str | None:
        """A hash of everything that its judgement depends on, the same in every process; None where there is none."""
        ...

    def misfits(self, examples: Sequence[Any]) -> list[BadRow | None]:
        """For each example why it cannot be used, or None."""
        ...


class Skipped:
    """Rows that were left out: `counts` by reason, `first` few of them with file and row, `len()` for all."""

    FEW = 10

    def __init__(self, counts: Mapping[str, int] | None = None, first: Sequence[str] = ()) -> None:
        self.counts = dict(counts or {})
        self.first = list(first)

    def add(self, row: BadRow) -> None:
        """Count a row."""
        self.counts[row.reason] = self.counts.get(row.reason, 0) + 1
        if len(self.first) < self.FEW:
            self.first.append(str(row))

    def update(self, other: "Skipped") -> None:
        """Add those of another source."""
        for reason, count in other.counts.items():
            self.counts[reason] = self.counts.get(reason, 0) + count
        self.first += other.first[: self.FEW - len(self.first)]

    def __len__(self) -> int:
        return sum(self.counts.values())

    def __str__(self) -> str:
        if not self.counts:
            return "no rows left out"
        kinds = ", ".join(f"{count} {reason}" for reason, count in sorted(self.counts.items(), key=lambda c: -c[1]))
        return f"{len(self)} rows left out ({kinds})"


def refuse(row: BadRow, on_bad_row: OnBadRow, skipped: Any) -> None:
    """Raise a bad row, or `add` it to `skipped`."""
    if on_bad_row == "error" and row.reason != TOO_SHORT:
        raise row
    skipped.add(row)


_SIDES: dict[str, Side] = {"prompt": "user", "target": "assistant"}
"""Whose turn of a conversation a text is."""


class Extractor:
    """From the fields of a row to the texts of an example.

    `columns` are the columns that it needs; `fields` the names of the texts that it gives.
    """

    def __init__(self, source: Source, kind: Regime) -> None:
        self.kind: Regime = kind
        self._parts = {
            field: Columns(getattr(source, key) or key, _SIDES.get(field)) for field, key in FIELDS[kind].items()
        }
        self.fields = tuple(self._parts)
        self.columns = tuple(dict.fromkeys(name for part in self._parts.values() for name in part.names))

    def __call__(self, row: Mapping[str, Any], where: str) -> dict[str, str]:
        """The texts of `row` by field; `where` begins the error of a bad row. Raises `BadRow`."""
        return {name: part(row, where) for name, part in self._parts.items()}


def example_of(texts: Mapping[str, str], origin: str, step: int | None = None) -> Example | TextExample:
    """The example with these texts: a pair where they have a prompt, else a text."""
    if "prompt" in texts:
        return Example(texts["prompt"], texts["target"], origin, step)
    return TextExample(texts["text"], origin, step)
