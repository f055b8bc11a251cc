"""The rows that are written together: their prompts are read, and every step gives each of them its next token."""

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel

from langbridge.model import LangBridgeModel
from langbridge.model.generation import check_finite
from langbridge.model.language_models import positions_of
from langbridge.model.memory import Memory
from langbridge.serve.batching import out_of_memory, padded
from langbridge.serve.rows import Row
from langbridge.serve.slots import Slots


class Batch:
    """rows: those that are written, in the order of the slots.

    Raises `LangBridgeError` for a model whose answers cannot be written together.
    """

    def __init__(self, model: PreTrainedModel):
        self.bridge = model if isinstance(model, LangBridgeModel) else None
        self.writer: Any = model if self.bridge is None else self.bridge.language_model
        self.slots = Slots.of(self.writer)
        self.rows: list[Row] = []
        self._takes = inspect.signature(self.writer.forward).parameters
        self._memories: list[Memory] = []  # of each row, where the connector reaches into the language model's layers
        self._memory: Memory | None = None  # of all rows together, until one joins or leaves

    @property
    def device(self) -> torch.device:
        return torch.device(self.writer.device)

    def join(self, rows: Sequence[Row]) -> None:
        """Read the prompts of rows and write the first token of each. Where that fails, none of them has joined."""
        try:
            logits = self._joined(rows)
        except BaseException:
            del self._memories[len(self.rows) :]
            raise
        self.rows += rows
        self._write(rows, logits)

    def _joined(self, rows: Sequence[Row]) -> torch.Tensor:
        """(rows, vocab): the logits of their first tokens, once keys, values and memories are with the others'."""
        ids = [row.ids for row in rows]
        mask = padded([[1] * len(row) for row in ids], 0, "left").to(self.device)
        cache = DynamicCache()  # of full layers, whatever the model's own are: its mask says what a layer sees
        inputs = self._read(rows, padded(ids, 0, "left").to(self.device), mask)
        inputs |= {"attention_mask": mask, "position_ids": positions_of(mask, mask, 0)}
        # By index: a slice is a strided view of the states, from which torch copies a frozen head for every row.
        last = torch.tensor([mask.shape[1] - 1], device=self.device)
        logits = self._run(_together(self._memories[len(self.rows) :]), cache, logits_to_keep=last, **inputs)
        self.slots.join(cache, [len(row) for row in ids])
        return logits

    def step(self) -> None:
        """Write the next token of every row."""
        self.slots.reserve()
        tokens = torch.tensor([[row.written[-1]] for row in self.rows], device=self.device)
        if self._memory is None:
            self._memory = _together(self._memories)
        logits = self._run(self._memory, self.slots, input_ids=tokens, **self.slots.inputs(self.device))
        self.slots.advance()
        self._write(self.rows, logits)

    def leave(self) -> int:
        """Let go the rows that have their end, or that nobody waits for. Returns how many."""
        before = len(self.rows)
        for place in reversed(range(before)):
            if self.rows[place].gone:
                self.slots.leave(place)
                _drop(self.rows, place)
                if self._memories:
                    _drop(self._memories, place)
                    self._memory = None
        return before - len(self.rows)

    def clear(self) -> list[Row]:
        """Let all rows go. Returns them."""
        rows, self.rows, self._memories, self._memory = self.rows, [], [], None
        self.slots.clear()
        return rows

    def begin_again(self, joining: Sequence[Row]) -> list[Row]:
        """Where memory has ended: let all rows go, and their memory. Returns them with those that were joining."""
        rows = list(dict.fromkeys([*self.clear(), *joining]))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return rows

    def _read(self, rows: Sequence[Row], ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.bridge is None:
            return {"input_ids": ids}
        sources = [source for row in rows for source in row.reading.sources]
        if not sources:
            return {"input_ids": ids}
        memory = self.bridge.read(
            padded(sources, 0, "right").to(self.device),
            padded([[1] * len(source) for source in sources], 0, "right").to(self.device),
        )
        check_finite(memory, self.bridge.encoder)
        # What was written is never a placeholder, whatever its id.
        own = padded([[1] * len(row.reading.ids) + [0] * len(row.written) for row in rows], 0, "left").to(self.device)
        places = (ids == self.bridge.config.soft_prompt_token_id) & own.bool()
        if self.bridge.connector.injects:
            of_rows = memory.by_row(places)
            self._memories += [
                Memory(*(None if part is None else part[place] for part in of_rows)) for place in range(len(rows))
            ]
            self._memory = None
        return {"inputs_embeds": self.bridge.embed(ids, memory, mask, places)}

    def _run(self, memory: Memory | None, cache: Any, **inputs: torch.Tensor) -> torch.Tensor:
        """(rows, vocab), in single precision: the logits at the last position."""
        taken = {name: value for name, value in inputs.items() if name in self._takes}
        with nullcontext() if not (self.bridge and memory) else self.bridge.connector.inject(self.writer, memory):
            logits = self.writer(**taken, past_key_values=cache, use_cache=True).logits
        return logits[:, -1].float()

    def _write(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        for row, token, scores in zip(rows, logits.argmax(-1).tolist(), logits, strict=True):
            try:
                chosen = token if row.choice.likeliest else row.choice(row.ids, scores)
                row.write(chosen, row.telling(chosen, scores))
            except Exception as error:
                if out_of_memory(error):
                    raise
                row.end(error)


def _together(memories: Sequence[Memory]) -> Memory | None:
    """Of rows each, as of a batch; None where there are none."""
    if not memories:
        return None
    return Memory(
        *(None if part[0] is None else pad_sequence(list(part), True) for part in zip(*memories, strict=True))
    )


def _drop(items: list[Any], place: int) -> None:
    """Let one go, as `Slots.leave` does."""
    items[place] = items[-1]
    items.pop()
