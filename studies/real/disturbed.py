"""What may keep English examples from teaching English alone: objectives that stand in for `labelled` while an arm is
trained. The start is the closed form of clean text, and what is measured is never disturbed.

LayerDropout  each layer that the connector reads is left out of a quarter of the rows, the others made up for it.
Careless      every other row's prompt is typed in a hurry (`reading.careless`).
Norms         the encoder's biases and norms are trained too, and nothing else in it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from langbridge.data import Example, LabelledCollator
from langbridge.train.objectives import labelled
from studies.real.reading import careless

DROPPED = 0.25


@contextmanager
def standing_in(objective: type[labelled.Labelled] | None) -> Iterator[None]:
    """Let recipes that say `labelled` train by another objective."""
    if objective is None:
        yield
        return
    with patch.object(labelled, "Labelled", objective):
        yield


class LayerDropout(labelled.Labelled):
    def loss(self, model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        rest = dict(batch)
        ids, mask = rest.pop("encoder_input_ids"), rest.pop("encoder_attention_mask")
        layers = model.encode(ids, mask).unflatten(-1, (len(model.config.connector.encoder_layers), -1))
        kept = (torch.rand(len(ids), 1, layers.shape[2], 1) >= DROPPED) / (1 - DROPPED)
        return super().loss(
            model, rest | {"memory": model.connect((layers * kept).flatten(2), model.spoken(ids, mask))}
        )


class Careless(labelled.Labelled):
    def collator(self, processor: Any) -> Any:
        return _CarelessCollator(
            processor, max_encoder_length=self.recipe.max_encoder_length, max_length=self.recipe.max_length,
            with_rows=True,
        )  # fmt: skip


class _CarelessCollator(LabelledCollator):
    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        return super().__call__([
            replace(one, prompt=careless(one.prompt, number)) if number % 2 else one
            for number, one in enumerate(examples)
        ])  # fmt: skip


class Norms(labelled.Labelled):
    def begin(self, model: Any, prepared: Any, out: Path, tell: Callable[[str], None]) -> None:
        for name, parameter in model.encoder.named_parameters():
            parameter.requires_grad_(name.endswith("bias") or "norm" in name.lower())

    def loss(self, model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        model.encoder.eval()  # its own dropout would be another noise
        return super().loss(model, batch)
