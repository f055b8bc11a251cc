"""From examples to a batch. Every decision about tokens is the processor's; this only hands it the texts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from langbridge.data.labelled import Example

if TYPE_CHECKING:
    from torch import Tensor

    from langbridge.model import LangBridgeProcessor


class LabelledCollator:
    """Turns `Example`s into the arguments of the model's `forward`, labels included."""

    def __init__(self, processor: "LangBridgeProcessor", *, max_encoder_length: int, max_length: int) -> None:
        self.processor = processor
        self.max_encoder_length = max_encoder_length
        self.max_length = max_length

    def __call__(self, examples: Sequence[Example]) -> "dict[str, Tensor]":
        batch = self.processor(
            [example.prompt for example in examples],
            targets=[example.target for example in examples],
            max_encoder_length=self.max_encoder_length,
            max_length=self.max_length,
            truncation=True,
            return_tensors="pt",
        )
        return dict(batch)
