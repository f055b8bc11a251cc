"""The encoder, which the paper trains on unlabelled text."""

from typing import Any

from torch import nn

from langbridge.train.card import short_name
from langbridge.train.parts.base import Part


class EncoderPart(Part):
    """In a checkpoint it is only where it was trained, in this run or before."""

    name = group = "encoder"

    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.encoder.parameters())

    def described(self, recipe: Any, start: Any, updates: int) -> tuple[str, str]:
        return f"`{short_name(recipe.encoder)}`", "trained" if self.trained else "frozen"

    @property
    def outside(self) -> bool:
        return not self.model.config.encoder_trained
