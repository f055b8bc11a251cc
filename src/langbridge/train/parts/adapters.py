"""Low-rank adapters on the language model, through PEFT: by choice, and not part of the paper.

PEFT puts them into the bridge's language model in place, which so stays an ordinary causal language model; only saving,
loading and merging go through PEFT's own class around it.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel
from langbridge.train.blocks import ALL_LINEAR, Lora
from langbridge.train.parts.base import LanguageModelPart

ADAPTER = "adapter"
"""Folder inside a checkpoint with the adapters, as PEFT writes them."""
CONFIG, UNMERGED_CONFIG = "config.json", "unmerged_config.json"


class AdaptersPart(LanguageModelPart):
    """A bridge's language model with adapters, which making this part lays there."""

    group = "adapters"

    def __init__(self, model: LangBridgeModel, lora: Lora) -> None:
        super().__init__(model, lora.learning_rate)
        self.adapter, self.lora = add_adapters(model, lora), lora

    def parameters(self) -> list[nn.Parameter]:
        # All else in the language model is frozen; merged, there are none left.
        return [parameter for parameter in self.model.language_model.parameters() if parameter.requires_grad]

    def described(self, recipe: Any, start: Any, updates: int) -> tuple[str, str]:
        name, _ = super().described(recipe, start, updates)
        return name, f"frozen, with {'DoRA' if self.lora.dora else 'LoRA'} of rank {self.lora.r} merged in"

    def save(self, folder: Path) -> None:
        if self.adapter is not None:
            self.adapter.save_pretrained(folder / ADAPTER)
            # Without adapters this bridge would be another one; without its config nothing takes it for a bridge.
            os.replace(folder / CONFIG, folder / UNMERGED_CONFIG)

    def load(self, folder: Path) -> None:
        self.adapter.load_adapter(str(folder / ADAPTER), "default", is_trainable=True)


def add_adapters(model: LangBridgeModel, lora: Lora) -> Any:
    """Put trainable adapters into the bridge's language model; the PEFT model around it is returned.

    Raises `LangBridgeError` where PEFT is missing, or where the language model has none of the target modules.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise LangBridgeError("lora: needs PEFT, which is not installed: pip install 'langbridge[lora]'") from None
    names = lora.target_names
    if names != [ALL_LINEAR]:
        _check_names(model.language_model, names)
        untie_adapted(model.language_model, names)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        use_dora=lora.dora,
        target_modules=ALL_LINEAR if names == [ALL_LINEAR] else names,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model.language_model, config)
    except ValueError as error:
        raise LangBridgeError(f"lora.target_modules: {lora.target_modules!r} does not fit: {error}") from None


def _check_names(language_model: PreTrainedModel, names: list[str]) -> None:
    # PEFT is content where one of several is found.
    layers = [name for name, module in language_model.named_modules() if hasattr(module, "weight")]
    for name in names:
        if not any(is_named(layer, [name]) for layer in layers):
            there = ", ".join(dict.fromkeys(layer.rpartition(".")[2] for layer in layers))
            raise LangBridgeError(f"lora.target_modules: the language model has no layer {name!r}; it has {there}")


def untie_adapted(language_model: PreTrainedModel, names: list[str]) -> None:
    """Give the output head a weight of its own where `names` put an adapter on it or on the input embeddings.

    In the adapted model head and embeddings differ; merged into the one tensor of tied ones, the adapter of either
    would change both.
    """
    table, head = language_model.get_input_embeddings(), language_model.get_output_embeddings()
    if head is None or head.weight is not table.weight:
        return
    if any(module in (table, head) and is_named(name, names) for name, module in language_model.named_modules()):
        head.weight = nn.Parameter(table.weight.detach().clone(), requires_grad=table.weight.requires_grad)
        language_model.config.tie_word_embeddings = False
        language_model.all_tied_weights_keys = language_model.get_expanded_tied_weights_keys(all_submodels=True)


def is_named(module: str, names: list[str]) -> bool:
    """Whether one of `names` is a module's, whole or its last parts, as PEFT reads them."""
    return any(f".{module}".endswith(f".{name}") for name in names)


MERGED_ALIKE = 0.05
"""Largest change of a loss that merging may make. The sums are rounded to the precision of the language model, which in
bfloat16 changed it by 0.003 (135 million parameters, rank 16 on all linear layers)."""


def merge_adapters(model: LangBridgeModel, adapter: Any) -> None:
    """Add the adapters' products to the language model's own weights, and remove them."""
    model.language_model = adapter.merge_and_unload()
    model.language_model.requires_grad_(False)


@contextmanager
def the_same_model(model: LangBridgeModel, batch: Mapping[str, Any]) -> Iterator[None]:
    """Hold what is done to a model inside to the loss of `batch` that it had before. Raises `LangBridgeError`."""
    before = _loss(model, batch)
    yield
    after = _loss(model, batch)
    if not abs(after - before) <= MERGED_ALIKE:
        raise LangBridgeError(
            "lora: merged into the language model, the adapters do not give the model that was trained: loss "
            f"{after:.3f} instead of {before:.3f} on the same rows"
        )


def _loss(model: LangBridgeModel, batch: Mapping[str, Any]) -> float:
    with torch.no_grad():
        return float(model(**batch).loss)
