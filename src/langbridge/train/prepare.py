"""What a run is made of, out of its recipe: each is made once here and handed on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from langbridge.data import Regime
from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeConfig, LangBridgeModel, LangBridgeProcessor, build_bridge
from langbridge.model.bases import ENCODER, LANGUAGE_MODEL, checkpoint_folder
from langbridge.model.checkpoint import end_as_the_template
from langbridge.model.devices import in_fitting_precision, precision, usable_device
from langbridge.model.encoders import load_config, load_language_model
from langbridge.model.loading import read_config, read_weights
from langbridge.model.tokenizers import load_tokenizer
from langbridge.train.objectives import Objective, collators, objective_of
from langbridge.train.recipe import Recipe
from langbridge.train.rows import Rows, open_rows


@dataclass(frozen=True)
class Prepared:
    """A run before any weights are loaded. `processor` is the bridge's, or the plain language model's tokenizer;
    `collate` makes batches of the rows of each kind."""

    recipe: Recipe
    objective: Objective
    processor: Any
    collate: dict[Regime, Any]
    rows: Rows


def prepare(recipe: Recipe) -> Prepared:
    """Tokenizers and rows of a run. Raises `LangBridgeError` for rows that are missing or bad."""
    objective, processor = objective_of(recipe), load_processor(recipe)
    collate = collators(objective, processor)
    return Prepared(recipe, objective, processor, collate, open_rows(recipe, collate))


def load_processor(recipe: Recipe) -> Any:
    """The bridge's processor, or the plain language model's tokenizer, without any weights."""
    if recipe.encoder is None:
        return load_tokenizer(recipe.language_model)
    arguments = recipe.to_bridge_arguments()
    if recipe.begins_with is not None:
        arguments["config"] = _config_of(recipe)
    return LangBridgeProcessor.from_bases(**arguments)


def _config_of(recipe: Recipe) -> LangBridgeConfig:
    """Of the bridge that a run begins with."""
    config = read_config(checkpoint_folder(recipe.begins_with))
    if config.connector != recipe.connector:
        raise LangBridgeError(f"connector: got {recipe.connector}, but {recipe.init} has {config.connector}")
    return config


def build_model(recipe: Recipe, processor: Any) -> Any:
    """The bridge that `processor` belongs to, or the plain language model; what is trained is in float32."""
    if recipe.encoder is None:
        config = load_config(recipe.language_model, "language model")
        return load_language_model(recipe.language_model, config, dtype=torch.float32)
    if recipe.begins_with is not None:
        bridge = _bridge_to_begin_with(recipe, checkpoint_folder(recipe.begins_with))
        end_as_the_template(bridge, processor)
    else:
        bridge, _ = build_bridge(
            **recipe.to_bridge_arguments(),
            freeze_encoder=recipe.freeze_encoder,
            dtype=precision(recipe.dtype),
            processor=processor,
        )
    if recipe.dtype == "auto":
        device = usable_device("cpu" if recipe.train.use_cpu else None)
        for base in (bridge.encoder, bridge.language_model):
            in_fitting_precision(base, device)
    if not recipe.freeze_encoder:
        bridge.encoder.float()  # in half precision its small updates would be lost
    return bridge


def _bridge_to_begin_with(recipe: Recipe, folder: Path) -> LangBridgeModel:
    """A bridge between the recipe's models; a base that is in its folder is another by now."""
    bases = {ENCODER: recipe.encoder, LANGUAGE_MODEL: recipe.language_model}
    if read_config(folder).encoder_trained:
        del bases[ENCODER]
    outside = {role: base for role, base in bases.items() if not (folder / role).is_dir()}
    bridge = LangBridgeModel.from_pretrained(folder, **outside, dtype=precision(recipe.dtype))
    if bridge.config.encoder_trained:  # in half precision it would lose what it learned, frozen or not
        bridge.encoder.float()
        bridge.load_trained(read_weights(folder), str(folder))
    return bridge
