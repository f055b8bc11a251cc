"""Low-rank adapters on the language model, through PEFT: by choice, and not part of the paper.

PEFT puts them into the bridge's language model in place, which so stays an ordinary causal language model; only saving,
loading and merging go through PEFT's own class around it.
"""

from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel
from langbridge.train.recipe import Lora


def add_adapters(model: LangBridgeModel, lora: Lora) -> Any:
    """Put trainable adapters into the bridge's language model; the PEFT model around it is returned.

    Raises `LangBridgeError` where PEFT is missing, or where the language model has none of the target modules.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise LangBridgeError("lora: needs PEFT, which is not installed: pip install 'langbridge[lora]'") from None
    names = [name.strip() for name in lora.target_modules.split(",")]
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=names[0] if names == ["all-linear"] else names,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model.language_model, config)
    except ValueError as error:
        raise LangBridgeError(f"lora.target_modules: {lora.target_modules!r} does not fit: {error}") from None


def merge_adapters(model: LangBridgeModel, adapter: Any) -> None:
    """Add the adapters' products to the language model's own weights, and remove them."""
    model.language_model = adapter.merge_and_unload()
    model.language_model.requires_grad_(False)
