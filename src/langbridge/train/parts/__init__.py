"""What a run may train: optimiser, checkpoints and merging go through the parts and know none by name.

`base.py` has what a part is, and those that every model has; a file each has what is laid around them.
"""

from typing import Any

from langbridge.model import LangBridgeModel
from langbridge.train.blocks import Lora
from langbridge.train.parts.adapters import AdaptersPart
from langbridge.train.parts.base import ConnectorPart, EncoderPart, LanguageModelPart, NewRowsPart, Part

__all__ = ["Part", "parts_of"]


def parts_of(
    model: Any,
    learning_rate: float,
    weight_decay: float,
    encoder_learning_rate: float = 2e-5,
    encoder_weight_decay: float = 0.1,
    lora: Lora | None = None,
) -> list[Part]:
    """The parts of a bridge, or of a plain language model, in the order of the optimiser's groups. `lora` lays adapters
    on the bridge's language model."""
    if not isinstance(model, LangBridgeModel):
        return [LanguageModelPart(model, learning_rate, weight_decay)]
    return [
        NewRowsPart(model, learning_rate, weight_decay),
        ConnectorPart(model, learning_rate, weight_decay),
        EncoderPart(model, encoder_learning_rate, encoder_weight_decay),
        AdaptersPart(model, lora) if lora is not None and lora.r else LanguageModelPart(model, learning_rate),
    ]
