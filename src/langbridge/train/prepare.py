"""What a run is made of, out of its recipe: tokenizers, rows and models. Each is made once here and handed on."""

import itertools
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object

from langbridge.data import BatchRow, Example, Regime, RowTable, open_data, open_validation
from langbridge.data.stream import RowStream
from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel, LangBridgeProcessor, build_bridge
from langbridge.model.bases import ENCODER, LANGUAGE_MODEL, checkpoint_folder
from langbridge.model.checkpoint import end_as_the_template
from langbridge.model.devices import in_fitting_precision, precision, usable_device
from langbridge.model.encoders import load_config, load_language_model
from langbridge.model.loading import read_config
from langbridge.model.tokenizers import bare_ids, load_tokenizer
from langbridge.train.objectives import Objective, collators, objective_of
from langbridge.train.recipe import Recipe

CUT = 2000
"""Characters of an unlabelled text, which may be a book, that the start and the search for white space look at."""


@dataclass(frozen=True)
class Prepared:
    """A run before any weights are loaded.

    processor: the bridge's, or the plain language model's tokenizer. collate: makes batches of the rows of each kind,
    the run's own first. reading: held-out rows for the reading score, and their kind; None for no score.
    """

    recipe: Recipe
    objective: Objective
    processor: Any
    collate: dict[Regime, Any]
    training: RowTable | RowStream
    validation: dict[Regime, RowTable]
    reading: tuple[Regime, RowTable] | None

    @property
    def table(self) -> RowTable | None:
        """The training rows where they are no stream."""
        return self.training if isinstance(self.training, RowTable) else None


def prepare(recipe: Recipe) -> Prepared:
    """Tokenizers and rows of a run. Raises `LangBridgeError` for rows that are missing or bad."""
    objective, processor = objective_of(recipe), load_processor(recipe)
    collate = collators(objective, processor)
    kind, size = objective.kind, recipe.train.per_device_train_batch_size
    training = open_data(recipe.data, regime=kind, seed=recipe.seed, judge=collate[kind], batch_size=size)
    validation = open_validation(recipe.data, regime=kind, judges=dict(collate))
    validation = {kind: validation[kind] for kind in collate if kind in validation}
    reading = None
    if objective.bridged and recipe.train.reading_score_steps:
        training, reading = _set_apart(recipe, kind, training, validation)
    if reading is None and recipe.train.reading_score_patience is not None:
        raise LangBridgeError(f"train.reading_score_patience: {_why_no_score(objective, training, validation)}")
    return Prepared(recipe, objective, processor, collate, training, validation, reading)


def _set_apart(
    recipe: Recipe, kind: Regime, training: RowTable | RowStream, validation: dict[Regime, RowTable]
) -> tuple[RowTable | RowStream, tuple[Regime, RowTable] | None]:
    """The training rows, and those of the reading score: held-out ones if there are any, or else a few of the former,
    which are taken out of them."""
    wanted, rng = recipe.train.reading_rows, random.Random(f"{recipe.seed}/reading")
    if validation:
        held_out, table = next(iter(validation.items()))
        rows = rng.sample(range(len(table)), min(wanted, len(table))) if len(table) > 1 else []
        return training, (held_out, _chosen(table, rows)) if rows else None
    if isinstance(training, RowStream) or len(training) < 40:
        return training, None
    apart = sorted(rng.sample(range(len(training)), min(wanted, len(training) // 20)))
    others = np.setdiff1d(np.arange(len(training)), apart)
    return _chosen(training, others), (kind, _chosen(training, apart))


def _why_no_score(objective: Objective, training: RowTable | RowStream, validation: dict[Regime, RowTable]) -> str:
    if not objective.bridged:
        return "the plain language model has no reading score; leave it out (load_best_model_at_end goes by the loss)"
    if validation:
        return "the validation set has a single row, and the reading score needs two; give it more"
    if isinstance(training, RowStream):
        return "of a stream no rows are kept apart for the reading score; give held-out ones (data.validation_path)"
    return (
        f"{len(training)} rows are too few to keep some apart for the reading score, which takes 40; give held-out "
        "ones (data.validation_path)"
    )


def _chosen(table: RowTable, positions: Any) -> RowTable:
    inner = np.asarray(positions) if table.indices is None else table.indices[positions]
    return RowTable(table.dataset, table.skipped, indices=inner, shares=table.shares)


def some_texts(examples: RowTable | RowStream, count: int, seed: int) -> list[str]:
    """Prompts, or texts, of a seeded sample of rows; of a stream, its first. The same on every process."""
    if isinstance(examples, RowStream):
        mine = [text_of(example) for example in itertools.islice(examples, -(-count // examples.world_size))]
        examples.set_epoch(0)  # back to where it stood
        return gather_object(mine)[:count]
    order = random.Random(seed).sample(range(len(examples)), min(count, len(examples)))
    return [text_of(example) for example in examples.__getitems__(order)]


def some_examples(examples: RowTable | RowStream) -> list[Any]:
    """Two of the training rows, to be one batch; of a stream, its first."""
    if isinstance(examples, RowStream):
        examples.set_epoch(0)
        return list(itertools.islice(examples, 1))
    return examples.__getitems__([BatchRow(row, 0) for row in range(min(2, len(examples)))])


def text_of(example: Any) -> str:
    return example.prompt if isinstance(example, Example) else example.text[:CUT]


def reads_new_rows(processor: LangBridgeProcessor, examples: RowTable | RowStream) -> bool:
    """Whether the prompts hold a token that was added to the encoder's tokenizer.

    Only then are the new rows worth training: it costs a backward pass through the frozen encoder. Of a stream the
    first 1,000 rows are asked.
    """
    added = processor.encoder_tokenizer.convert_ids_to_tokens(processor.new_token_ids)
    streamed = isinstance(examples, RowStream)
    texts = some_texts(examples, 1000, 0) if streamed else (text_of(example) for example in examples)
    return any(token in source for text in texts for source in processor.layout.sources(text) for token in added)


def load_processor(recipe: Recipe) -> Any:
    """The bridge's processor, or the plain language model's tokenizer, without any weights."""
    if recipe.encoder is None:
        return load_tokenizer(recipe.language_model)
    arguments = recipe.to_bridge_arguments()
    if recipe.begins_with is None:
        return LangBridgeProcessor.from_bases(**arguments)
    folder = checkpoint_folder(recipe.begins_with)
    config = arguments["config"] = read_config(folder)
    if config.connector != recipe.connector:
        raise LangBridgeError(f"connector: got {recipe.connector}, but {recipe.init} has {config.connector}")
    processor = LangBridgeProcessor.from_bases(**arguments)
    _check_tokens(recipe, processor, folder)
    return processor


def _check_tokens(recipe: Recipe, processor: LangBridgeProcessor, folder: Path) -> None:
    """Raise `LangBridgeError` where the bridge that the run begins with reads prompts in other tokens than the recipe
    says."""
    wanted = {
        "drop_bare_tokens": recipe.drop_bare_tokens and bool(bare_ids(processor.encoder_tokenizer)),
        "split_digits": processor.split_digits,
    }
    found = {"drop_bare_tokens": bool(processor.bare_token_ids)}
    file = folder / "processor_config.json"
    if file.is_file():  # a bridge may have been saved without its processor
        found["split_digits"] = bool(json.loads(file.read_text(encoding="utf-8")).get("split_digits"))
    for key, there in found.items():
        if wanted[key] != there:
            raise LangBridgeError(
                f"{key}: got {str(wanted[key]).lower()}, but {recipe.init}, which the run begins with, was trained "
                f"with {str(there).lower()}; set it to that, or begin without this bridge"
            )


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
            dtype=_precisions(recipe, float32=not recipe.freeze_encoder),
            processor=processor,
        )
    if recipe.dtype == "auto":
        device = device_of(recipe)
        for base in (bridge.encoder, bridge.language_model):
            in_fitting_precision(base, device)
    return bridge


def device_of(recipe: Recipe) -> torch.device:
    """Where a run that cuts nothing up has its model. Raises `LangBridgeError`."""
    return usable_device("cpu" if recipe.train.use_cpu else None)


def _precisions(recipe: Recipe, *, float32: bool) -> dict[str, Any]:
    """Those of both bases. float32: of an encoder that is trained, from the first reading of its weights: rounded, it
    would start as another one, and lose small updates."""
    frozen = precision(recipe.dtype)
    return {"encoder_config": torch.float32 if float32 else frozen, "text_config": frozen}


def _bridge_to_begin_with(recipe: Recipe, folder: Path) -> LangBridgeModel:
    """A bridge between the recipe's models; a base that is in its folder is another by now."""
    bases = {ENCODER: recipe.encoder, LANGUAGE_MODEL: recipe.language_model}
    trained = read_config(folder).encoder_trained
    if trained:
        del bases[ENCODER]
    outside = {role: base for role, base in bases.items() if not (folder / role).is_dir()}
    # In half precision a trained encoder would lose what it learned, frozen or not.
    precisions = _precisions(recipe, float32=trained or not recipe.freeze_encoder)
    return LangBridgeModel.from_pretrained(folder, **outside, dtype=precisions)
