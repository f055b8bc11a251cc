"""Keys and values of rows that are written together, each of its own length, and that come and go between tokens."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from langbridge.errors import LangBridgeError
from langbridge.serve.caching import ROOM


@dataclass
class _Block:
    """What is used of every layer's block: the first `rows` rows, and of them the columns from `start` to `end`."""

    rows: int = 0
    start: int = 0
    end: int = 0


class Slots(Cache):
    """A cache whose rows end at the same column, as those of a batch that is padded on the left: so the next token of
    every row goes into one column, and a model that reads such batches reads this.

    A row joins with what its prompt left in a cache of its own, and leaves with its place given to the last row. Blocks
    have some room for more columns, and are made anew, without what nobody uses, when it is full.
    """

    def __init__(self, layers: int):
        self._block = _Block()
        self._starts: list[int] = []
        self._rows = self._columns = 0  # of the blocks, used or not
        super().__init__(layers=[_Layer(self._block) for _ in range(layers)])

    @staticmethod
    def of(model: Any) -> "Slots":
        """Empty slots for a causal model. Raises `LangBridgeError` where its cache is of another kind."""
        config = model.config.get_text_config(decoder=True)
        kinds = {type(layer) for layer in DynamicCache(config=config).layers}
        if model.config.is_encoder_decoder or kinds - {DynamicLayer, DynamicSlidingWindowLayer}:
            raise LangBridgeError(
                f"{config.model_type}: answers that are written as they are asked for need a causal model that keeps "
                "keys and values of its layers; this one keeps something else"
            )
        return Slots(config.num_hidden_layers)

    @property
    def lengths(self) -> list[int]:
        """Of each row, in tokens."""
        return [self._block.end - start for start in self._starts]

    def inputs(self, device: torch.device) -> dict[str, torch.Tensor]:
        """Mask and positions of the next token of every row."""
        block, starts = self._block, torch.tensor(self._starts, device=device)[:, None]
        columns = torch.arange(block.start, block.end + 1, device=device)
        return {"attention_mask": (columns >= starts).long(), "position_ids": block.end - starts}

    def join(self, cache: Cache, lengths: list[int]) -> None:
        """Take in rows after those there are. cache: what they left, padded on the left. lengths: without the
        padding."""
        block, width = self._block, max(lengths)
        if block.rows + len(lengths) > self._rows or width > block.end:
            self._lay(block.rows + len(lengths), max(width, block.end - block.start))
        rows = slice(block.rows, block.rows + len(lengths))
        for mine, theirs in zip(self.layers, cache.layers, strict=False):
            mine.put(theirs, rows, slice(block.end - width, block.end))
        block.rows += len(lengths)
        self._starts += [block.end - length for length in lengths]
        block.start = min(self._starts)

    def leave(self, place: int) -> None:
        """Let a row go; the last one takes its place."""
        last = self._block.rows - 1
        if place != last:
            columns = slice(self._starts[last], self._block.end)
            for layer in self.layers:
                layer.move(last, place, columns)
        self._starts[place] = self._starts[last]
        self._starts.pop()
        self._block.rows = last
        self._block.start = min(self._starts, default=self._block.end)
        if not last:
            self.clear()

    def reserve(self) -> None:
        """See that there is a column for the next token; before each pass of the model."""
        if self._block.end == self._columns:
            self._lay(self._block.rows, self._block.end - self._block.start)

    def advance(self) -> None:
        """Every row has one token more; after each pass."""
        self._block.end += 1

    def clear(self) -> None:
        """Let all rows go, and their memory."""
        self._starts.clear()
        self._block.rows = self._block.start = self._block.end = 0
        self._rows = self._columns = 0
        for layer in self.layers:
            layer.reset()

    def _lay(self, rows: int, end: int) -> None:
        """Make all blocks anew, with room for so many rows, and what is used of the old ones ending at a column."""
        block = self._block
        self._rows, self._columns = 1 << (rows - 1).bit_length(), end + ROOM
        for layer in self.layers:
            layer.lay(self._rows, self._columns, end)
        moved = end - block.end
        self._starts = [start + moved for start in self._starts]
        block.start, block.end = block.start + moved, end


class _Layer(DynamicLayer):
    """blocks: (rows, heads, columns, dim), of keys and of values; none before the first row joins, or where the model's
    layer shares those of another."""

    def __init__(self, block: _Block):
        super().__init__()
        self._block = block
        self._size = 0, 0
        self.blocks: tuple[torch.Tensor, ...] = ()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        block, (keys, values) = self._block, self.blocks
        rows, seen = slice(block.rows), slice(block.start, block.end + 1)
        keys[rows, :, block.end], values[rows, :, block.end] = key_states[:, :, 0], value_states[:, :, 0]
        return keys[rows, :, seen], values[rows, :, seen]

    def get_seq_length(self) -> int:
        return self._block.end - self._block.start

    def reset(self) -> None:
        self.blocks = ()

    def put(self, theirs: Any, rows: slice, columns: slice) -> None:
        if theirs.keys is None:
            return
        self.blocks = self.blocks or (self._blank(theirs.keys), self._blank(theirs.values))
        for mine, new in zip(self.blocks, (theirs.keys, theirs.values), strict=True):
            mine[rows, :, columns] = new

    def move(self, source: int, target: int, columns: slice) -> None:
        for one in self.blocks:
            one[target, :, columns] = one[source, :, columns]

    def lay(self, rows: int, columns: int, end: int) -> None:
        block, self._size = self._block, (rows, columns)
        old, self.blocks = self.blocks, tuple(map(self._blank, self.blocks))
        for new, one in zip(self.blocks, old, strict=True):
            new[: block.rows, :, end - self.get_seq_length() : end] = one[: block.rows, :, block.start : block.end]

    def _blank(self, like: torch.Tensor) -> torch.Tensor:
        rows, columns = self._size
        # Zeros, because a masked place is still multiplied by zero, which does not help where it is no number.
        return like.new_zeros(rows, like.shape[1], columns, like.shape[3])
