"""What a run may train, one file a part: optimiser, checkpoints and merging go through the parts and know none by name.

- connector: maps the encoder's states to soft prompts
- new_rows: embeddings of white space that the encoder's tokenizer would lose
- encoder: reads the prompt
- language_model: frozen, or trained whole where there is no bridge
- adapters: the frozen language model with low-rank adapters
"""

from typing import Any

from langbridge.model import LangBridgeModel
from langbridge.train.parts.adapters import AdaptersPart
from langbridge.train.parts.base import Part
from langbridge.train.parts.connector import ConnectorPart
from langbridge.train.parts.encoder import EncoderPart
from langbridge.train.parts.language_model import LanguageModelPart
from langbridge.train.parts.new_rows import NewRowsPart
from langbridge.train.recipe import Lora

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
