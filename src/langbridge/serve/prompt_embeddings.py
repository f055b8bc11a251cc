"""Prompts as a language model that runs elsewhere is to read them: embedded by encoder, connector and its own table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from langbridge.errors import LangBridgeError
from langbridge.model import Bridge
from langbridge.model.bases import LANGUAGE_MODEL, resolve
from langbridge.model.devices import in_fitting_precision, precision, usable_device
from langbridge.model.embedding_table import load_embedding_table
from langbridge.serve.batching import in_batches
from langbridge.serve.readers import Reading


class PromptEmbedder:
    """A bridge without its language model, and that model's table of input embeddings.

    batch_size: prompts that the encoder reads at once; halved where memory runs out.
    """

    def __init__(self, bridge: Bridge, table: nn.Module, batch_size: int = 16):
        if bridge.connector.injects:
            raise LangBridgeError(
                f"connector: {type(bridge.connector).__name__} reaches into the language model's layers, and a server "
                "takes embeddings of prompts alone; serve this bridge with its language model in one process"
            )
        self.bridge, self.table, self.batch_size = bridge.eval(), table, batch_size

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        language_model: Any = None,
        encoder: Any = None,
        dtype: str | torch.dtype = "auto",
        device: str | None = None,
        batch_size: int = 16,
    ) -> "PromptEmbedder":
        """Of a checkpoint's folder. language_model, encoder: where it does not find them. dtype: of the encoder, as
        `load_engine` has it."""
        place = usable_device(device)
        bridge = Bridge.from_pretrained(folder, encoder=encoder, dtype=precision(dtype))
        if dtype == "auto":
            in_fitting_precision(bridge.encoder, place, rows=batch_size)
        record = bridge.config.language_model_base
        source, revision = resolve(LANGUAGE_MODEL, folder, record, language_model)
        table = load_embedding_table(source, revision=revision, record=record)
        return cls(bridge.to(place), table.to(place), batch_size)

    def embedded(self, ids: Sequence[int]) -> Float[Tensor, "seq d_lm"]:
        """Tokens of the language model alone."""
        with torch.inference_mode():
            found: Tensor = self.table(torch.tensor(ids, device=self._place))
        return found.cpu()

    def embed(self, readings: Sequence[Reading]) -> list[Float[Tensor, "seq d_lm"]]:
        """Each prompt as a tensor of its own on the CPU, in the precision of the language model's table, its soft
        prompts in their places."""
        lengths = [sum(map(len, one.sources)) for one in readings]
        found = dict(in_batches(lengths, self.batch_size, lambda batch: self._embed([readings[one] for one in batch])))
        return [found[place] for place in range(len(readings))]

    @torch.inference_mode()
    def _embed(self, readings: Sequence[Reading]) -> list[Tensor]:
        ids = torch.tensor([token for one in readings for token in one.ids], device=self._place)
        rows: Tensor = self.table(ids)
        sources = [torch.tensor(source) for one in readings for source in one.sources]
        if sources:
            masks = pad_sequence([torch.ones_like(source) for source in sources], batch_first=True)
            memory = self.bridge.read(pad_sequence(sources, batch_first=True).to(self._place), masks.to(self._place))
            # All prompts end to end, as one row: so nothing is padded.
            rows = memory.laid_into(rows[None], (ids == self.bridge.config.soft_prompt_token_id)[None])[0]
        # Copies: saved, a view brings all of its tensor along, which is other people's prompts.
        return [row.cpu().clone() for row in rows.split([len(one.ids) for one in readings])]

    @property
    def _place(self) -> torch.device:
        return self.bridge.encoder.device
