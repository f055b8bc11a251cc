"""Rows read while training: nothing is prepared, and no more than the shuffle buffer is in memory.

All ranks and workers go through one and the same order of examples, a function of (seed, epoch), and each takes its own
part of it. With a loader's batches of B on R ranks, step k is the examples from k R B on: the first B of them are rank
0's, the next B rank 1's; on each rank the workers make the batches by turns, as a `DataLoader` asks them. So

- no example is seen twice in an epoch, for any R and number of workers, and all ranks make the same number of steps;
- the position of a run is one number, the examples that a rank has taken, and resuming is exact: within an epoch, with
  another number of workers, and on another number of ranks as long as R B is the same;
- bad rows do not change the distribution of the others.

The price is that every process reads every row. Parsing costs little beside tokenising, so this suits files on a disk
and a few processes; for many processes, or rows over a network, use a table.
"""

import hashlib
import json
import os
import random
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from langbridge.data.examples import Example, Extractor, Judge, Skipped, TextExample, example_of, refuse
from langbridge.data.settings import Data, Regime, Source
from langbridge.data.sources import Places, file_rows, hub_dataset, hub_rows, local_files
from langbridge.errors import LangBridgeError
from langbridge.files import BadRow

_PIECES, _PIECE = 8, 16 << 10
_LONGEST, _ROOM = 400, 1 << 16  # characters that are kept of a message, and bytes for a few of them


class RowStream(IterableDataset[Example | TextExample]):
    """Examples in a shuffled order, sharded by rank and worker; made by `open_data` with `streaming: true`.

    Give it to a `DataLoader` with the same `batch_size`, without sampler and without another sharding on top (not
    through `accelerator.prepare`). `set_epoch` and `load_state_dict` hold for iterators that are made after them.
    Examples carry their `step`. With several ranks the last, incomplete step of an epoch is left out.
    """

    def __init__(
        self,
        data: Data,
        *,
        regime: Regime,
        seed: int,
        batch_size: int = 1,
        judge: Judge | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """`rank` and `world_size` are by default those that `torchrun` set in the environment."""
        if batch_size < 1:
            raise LangBridgeError(f"batch_size: expected at least 1, got {batch_size}")
        self.data, self.kind, self.seed, self.judge = data, regime, seed, judge
        self.batch_size = batch_size
        self.rank = int(os.environ.get("RANK", 0)) if rank is None else rank
        self.world_size = int(os.environ.get("WORLD_SIZE", 1)) if world_size is None else world_size
        if not 0 <= self.rank < self.world_size:
            raise LangBridgeError(f"rank: expected 0 to {self.world_size - 1}, got {self.rank}")
        self.epoch, self.examples = 0, 0
        self._skips = _SharedSkips()
        for source in data.training_sources:
            local_files(source)  # a missing file is an error now, not at the first batch

    @property
    def skipped(self) -> Skipped:
        """The rows left out in the first complete epoch, or so far in an incomplete one.

        So each row counts once, over all epochs and workers. All ranks count the same.
        """
        return self._skips.summary()

    @property
    def places(self) -> list[tuple[str, int | None]]:
        """Names and sizes in bytes of the sources' files, without their folders; of the hub, ids without a size."""
        found: list[tuple[str, int | None]] = []
        for source in self.data.training_sources:
            files = local_files(source)
            found += [(source.path, None)] if files is None else [(file.name, file.stat().st_size) for file in files]
        return found

    def sampled(self) -> str:
        """A hash of a few pieces of each file here: an edit that keeps a file's size is seen where it meets one.

        A file of up to 128 KiB is read whole; reading all of a long one would take too long.
        """
        digest = hashlib.sha256()
        for source in self.data.training_sources:
            for file in local_files(source) or ():
                with file.open("rb") as opened:
                    last = max(file.stat().st_size - _PIECE, 0)
                    for number in range(_PIECES):
                        opened.seek(last * number // (_PIECES - 1))
                        digest.update(opened.read(_PIECE))
        return digest.hexdigest()

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch: another order of the same examples."""
        self.epoch, self.examples = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """The position of this rank: the epoch and the examples taken in it.

        Workers have copies of the stream; with workers the caller must set `examples` (batches x batch_size).
        """
        return {"epoch": self.epoch, "examples": self.examples}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from `state` with the next iterator."""
        if set(state) != {"epoch", "examples"}:
            raise LangBridgeError(f"state: expected epoch and examples, got {', '.join(map(str, state)) or 'nothing'}")
        self.epoch, self.examples = state["epoch"], state["examples"]

    def __iter__(self) -> Iterator[Example | TextExample]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        together = self.batch_size * self.world_size
        taken, done = self.examples, 0
        first = taken // self.batch_size  # a loader asks worker 0 for the first batch, at any position of the stream
        counted = number == 0 and self._skips.begin()  # every worker meets every bad row
        for step, group in enumerate(self._steps(together, counted)):
            if len(group) < together and self.world_size > 1:
                return
            mine = group[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
            # Without a loader, a state may be inside a batch.
            fresh = mine[max(taken - done, 0) :]
            done += len(mine)
            if step < first or (step - first) % workers != number:
                continue
            for texts, origin in fresh:
                self.examples += 1
                yield example_of(texts, origin, step)

    def _steps(self, together: int, counted: bool) -> Iterator[list[tuple[dict[str, str], str]]]:
        group: list[tuple[dict[str, str], str]] = []
        for found in self._shuffled(counted):
            group.append(found)
            if len(group) == together:
                yield group
                group = []
        if counted:
            self._skips.end()
        if group:
            yield group

    def _shuffled(self, counted: bool) -> Iterator[tuple[dict[str, str], str]]:
        """The epoch's examples, shuffled a buffer at a time."""
        rng = random.Random(f"buffer/{self.seed}/{self.epoch}")
        buffer: list[tuple[dict[str, str], str]] = []
        for found in self._mixed(counted):
            buffer.append(found)
            if len(buffer) == self.data.shuffle_buffer:
                rng.shuffle(buffer)
                yield from buffer
                buffer.clear()
        rng.shuffle(buffer)
        yield from buffer

    def _mixed(self, counted: bool) -> Iterator[tuple[dict[str, str], str]]:
        """The sources interleaved. With weights the epoch ends with the first of them, so that the shares hold."""
        sources = self.data.training_sources
        weighted = sources[0].weight is not None
        rng = random.Random(f"mixture/{self.seed}/{self.epoch}")
        rows = [self._usable(source, number, counted) for number, source in enumerate(sources)]
        weights = [source.weight or 1.0 for source in sources]
        while rows:
            (chosen,) = rng.choices(range(len(rows)), weights) if len(rows) > 1 else (0,)
            found = next(rows[chosen], None)
            if found is not None:
                yield found
            elif weighted:
                return
            else:
                del rows[chosen], weights[chosen]

    def _usable(self, source: Source, number: int, counted: bool) -> Iterator[tuple[dict[str, str], str]]:
        """The examples of one source, its files in a shuffled order; bad rows are counted or raise."""
        extract = Extractor(source, self.kind)
        skipped = self._skips if counted else Skipped()
        judge = None if self.judge is None or self.judge.accepts_all else self.judge
        empty = True
        for place, (row_number, row) in self._places(source, number, extract):
            try:
                if isinstance(row, BadRow):
                    raise row
                texts = extract(row, f"{place}, row {row_number}")
                origin = f"{place}:{row_number}"
                misfit = None if judge is None else judge.misfits([example_of(texts, origin)])[0]
                if misfit is not None:
                    raise misfit
            except BadRow as error:
                refuse(error, self.data.on_bad_row, skipped)
                continue
            empty = False
            yield texts, origin
        if empty:
            raise LangBridgeError(f"{source.path}: there is no row in it that can be used; {self.skipped}")

    def _places(self, source: Source, number: int, extract: Extractor) -> Places:
        files = local_files(source)
        if files is None:
            return hub_rows(hub_dataset(source, streaming=True), source)
        random.Random(f"files/{self.seed}/{self.epoch}/{number}").shuffle(files)
        return file_rows(files, extract.columns, source)


class _SharedSkips:
    """A `Skipped` that one process writes, and a `DataLoader`'s other processes read."""

    def __init__(self) -> None:
        self._told: Any = get_context("spawn").Array("c", _ROOM)
        self._skipped = Skipped()  # of the process that writes
        self._tell(whole=False)

    def _tell(self, *, whole: bool) -> None:
        about = {"whole": whole, "counts": self._skipped.counts, "first": self._skipped.first}
        self._told.value = json.dumps(about).encode()

    def _read(self) -> dict[str, Any]:
        return json.loads(self._told.value)

    def begin(self) -> bool:
        """Reset, unless one epoch is complete: a bad row counts once. Returns whether to count."""
        if self._read()["whole"]:
            return False
        self._skipped = Skipped()
        self._tell(whole=False)
        return True

    def end(self) -> None:
        """The epoch is complete: its counts are final."""
        self._tell(whole=True)

    def add(self, row: BadRow) -> None:
        """Count a row."""
        self._skipped.add(BadRow(str(row)[:_LONGEST], row.reason))
        self._tell(whole=False)

    def summary(self) -> Skipped:
        """The counts so far."""
        about = self._read()
        return Skipped(about["counts"], about["first"])
