"""Rows left out by a loader's workers, counted where the run can read it."""

import torch

from langbridge.data.examples import Skipped
from langbridge.files import BadRow

_REASONS, _WIDTH = 16, 400  # more kinds than there are in this room, and bytes of a message that are kept


class SharedSkips:
    """Like `Skipped`, in memory that worker processes share with the process that made it. One process writes."""

    def __init__(self) -> None:
        self._counts = torch.zeros(_REASONS, dtype=torch.int64).share_memory_()
        self._reasons = torch.zeros(_REASONS, _WIDTH, dtype=torch.uint8).share_memory_()
        self._first = torch.zeros(Skipped.FEW, _WIDTH, dtype=torch.uint8).share_memory_()
        self._whole = torch.zeros(1, dtype=torch.bool).share_memory_()
        self._places: dict[str, int] = {}  # of the process that writes

    def begin(self) -> bool:
        """Begin again, and whether to count: not once all rows were gone through, or each would count every time."""
        if self._whole.item():
            return False
        self._places.clear()
        for tensor in (self._counts, self._reasons, self._first):
            tensor.zero_()
        return True

    def end(self) -> None:
        """All rows were gone through: what was counted stays."""
        self._whole.fill_(True)

    def add(self, row: BadRow) -> None:
        """Count a row."""
        total = int(self._counts.sum())
        if total < Skipped.FEW:
            _write(self._first[total], str(row))
        place = self._places.get(row.reason)
        if place is None:
            place = self._places[row.reason] = len(self._places)
            _write(self._reasons[place], row.reason)
        self._counts[place] += 1

    def summary(self) -> Skipped:
        """What was counted so far."""
        counts = {_read(reason): int(n) for reason, n in zip(self._reasons, self._counts, strict=True) if n}
        return Skipped(counts, [text for text in map(_read, self._first) if text])


def _write(place: torch.Tensor, text: str) -> None:
    raw = text.encode("utf-8", errors="replace")[:_WIDTH]
    place.zero_()
    place[: len(raw)] = torch.tensor(list(raw), dtype=torch.uint8)


def _read(place: torch.Tensor) -> str:
    return bytes(place.tolist()).rstrip(b"\0").decode("utf-8", errors="ignore")
