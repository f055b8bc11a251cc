"""Batches of like length, the same on every process, in an order that a run can be gone on with.

Hugging Face's own grouping draws from the global random state, so that an interrupted run cannot go on where it was;
and its sharding over processes repeats rows at the end of an epoch. Here the order is a function of (seed,
epoch) alone.
"""

import random
from array import array
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

from langbridge.data import BatchRow
from langbridge.errors import LangBridgeError

WINDOW = 50
"""Batches within which rows are sorted by length."""


class LengthGrouped(Sampler[list[int]]):
    """Every row once an epoch, in batches of like length; the batches come in random order.

    Rows are shuffled, sorted by length within windows of 50 batches, and the batches are shuffled again:

        batches       b0 b1 b2 b3 b4 b5 b6
        1 process     b0 b1 b2 b3 b4 b5 b6
        2 processes   b0 b2 b4 | half of b6      rank 0
                      b1 b3 b5 | half of b6      rank 1

    So an update is made of the same rows whether it is two processes or two accumulated batches. What is left at the
    end of an epoch is dealt out evenly: every process makes as many forward passes as the others, and no row comes
    twice. Each position is a `BatchRow` with the number of the update, counted over epochs: what is drawn for an
    update, as the length at which texts are split, is the same however many processes and passes it is made of.

    lengths: of the rows, in any unit. accumulated: passes to an update. Raises `LangBridgeError` where there are fewer
    rows than processes.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, *, rank: int = 0, ranks: int = 1, accumulated: int = 1
    ) -> None:
        if len(lengths) < ranks:
            raise LangBridgeError(f"data: {len(lengths)} rows for {ranks} processes; expected at least one row each")
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.rank, self.ranks, self.accumulated = rank, ranks, accumulated
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order is drawn from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        rounds, left = divmod(len(self.lengths), self.batch_size * self.ranks)
        return rounds + bool(left)

    def __iter__(self) -> Iterator[list[int]]:
        rng = random.Random(f"{self.seed}/{self.epoch}")
        order = array("q", range(len(self.lengths)))  # eight bytes a row
        rng.shuffle(order)  # type: ignore[arg-type]
        window = self.batch_size * WINDOW
        for first in range(0, len(order), window):
            rows = sorted(order[first : first + window], key=lambda row: self.lengths[row])
            order[first : first + window] = array("q", rows)
        # A short batch goes last: in the middle it would shift every later batch across two updates.
        full = len(order) // self.batch_size
        starts = [index * self.batch_size for index in range(full)]
        rng.shuffle(starts)
        whole = full - full % self.ranks
        left = len(order) % (self.batch_size * self.ranks)
        parts = 0 if not left else self.ranks
        if 0 < left < self.ranks:
            # Too few for every process to get one: the last whole round is dealt out with them.
            whole, parts = whole - self.ranks, 2 * self.ranks
        rest = [row for start in starts[whole:] for row in order[start : start + self.batch_size]]
        rest += order[full * self.batch_size :]
        batches = [order[start : start + self.batch_size] for start in starts[self.rank : whole : self.ranks]]
        batches += [
            array("q", rest[len(rest) * part // parts : len(rest) * (part + 1) // parts])
            for part in range(self.rank, parts, self.ranks)
        ]
        assert len(batches) == len(self)
        first_update = self.epoch * -(-len(self) // self.accumulated)
        for number, batch in enumerate(batches):
            yield [BatchRow(row, first_update + number // self.accumulated) for row in batch]
