"""What a run is made of, out of its recipe: models and tokenizers, rows and their collators, the connector's start."""

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object

from langbridge.data import BatchRow, Example, LabelledCollator, Regime, RowTable, open_data, open_validation
from langbridge.data.stream import RowStream
from langbridge.model import LangBridgeModel, LangBridgeProcessor, build_bridge
from langbridge.model.devices import in_fitting_precision, precision, usable_device
from langbridge.model.encoders import load_config, load_language_model
from langbridge.model.tokenizers import load_tokenizer
from langbridge.train.recipe import Recipe
from langbridge.train.ridge import RidgeFit, ridge_start

CUT = 2000
"""Characters of an unlabelled text, which may be a book, that the start and the search for white space look at."""


@dataclass
class Rows:
    """The rows of a run. `reading` are kept apart for the reading score, of the kind `reading_kind`; none: no score."""

    training: Any
    validation: dict[Regime, RowTable]
    reading: RowTable | None = None
    reading_kind: Regime = "labelled"

    @property
    def lengths(self) -> Any:
        """Of the training rows, in characters; None for a stream."""
        return None if isinstance(self.training, RowStream) else self.training.lengths


def load_processor(recipe: Recipe) -> Any:
    """The bridge's processor, or the plain language model's tokenizer, without any weights."""
    if recipe.regime == "lm_only":
        return load_tokenizer(recipe.language_model)
    return LangBridgeProcessor.from_bases(**recipe.to_bridge_arguments())


def build_model(recipe: Recipe, processor: Any = None) -> tuple[Any, Any]:
    """The bridge and its processor, or the plain language model and its tokenizer; what is trained is in float32.

    processor: as `load_processor` gives it, where it has been asked already.
    """
    if recipe.regime == "lm_only":
        config = load_config(recipe.language_model, "language model")
        model = load_language_model(recipe.language_model, config, dtype=torch.float32)
        return model, processor or load_tokenizer(recipe.language_model)
    bridge, processor = build_bridge(
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
    return bridge, processor


def collators(recipe: Recipe, processor: Any) -> dict[Regime, Any]:
    """What batches the rows of the training and of the validation, by their kind."""
    kind = recipe.data.kind(recipe.regime)
    return {name: _collator(recipe, processor, name) for name in {kind, *recipe.data.validation_sources(kind)}}


def _collator(recipe: Recipe, processor: Any, kind: Regime) -> Any:
    lengths = {"max_encoder_length": recipe.max_encoder_length, "max_length": recipe.max_length}
    if recipe.regime == "lm_only":
        from langbridge.data.causal import CausalCollator

        return CausalCollator(
            processor, template=recipe.template, system=recipe.system, max_length=recipe.max_length, with_rows=True
        )
    if kind == "labelled":
        return LabelledCollator(processor, **lengths, with_rows=True)
    from langbridge.data.unlabelled import UnlabelledCollator

    return UnlabelledCollator(
        processor,
        seed=recipe.seed,
        min_encoder_length=recipe.min_encoder_length,
        min_lm_length=recipe.min_lm_length,
        **lengths,
        with_rows=True,
    )


def open_rows(recipe: Recipe, judges: Mapping[Regime, Any]) -> Rows:
    """All rows of a run, checked; `judges` are the collators, which know what they cannot use."""
    kind = recipe.data.kind(recipe.regime)
    rows = Rows(
        open_data(
            recipe.data,
            regime=kind,
            seed=recipe.seed,
            judge=judges[kind],
            batch_size=recipe.train.per_device_train_batch_size,
        ),
        open_validation(recipe.data, regime=kind, judges=dict(judges)),
    )
    if recipe.regime != "lm_only" and recipe.train.reading_score_steps:
        _set_apart(rows, kind, recipe)
    return rows


def _set_apart(rows: Rows, kind: Regime, recipe: Recipe) -> None:
    """Choose the rows of the reading score: held-out ones if there are any, or else a few of the training's."""
    import numpy as np

    wanted, rng = recipe.train.reading_rows, random.Random(f"{recipe.seed}/reading")
    if rows.validation:
        rows.reading_kind = kind if kind in rows.validation else next(iter(rows.validation))
        table = rows.validation[rows.reading_kind]
        if len(table) > 1:
            rows.reading = _chosen(table, rng.sample(range(len(table)), min(wanted, len(table))))
    elif isinstance(rows.training, RowTable) and len(rows.training) >= 40:
        count = min(wanted, len(rows.training) // 20)
        apart = sorted(rng.sample(range(len(rows.training)), count))
        rows.reading, rows.reading_kind = _chosen(rows.training, apart), kind
        rows.training = _chosen(rows.training, np.setdiff1d(np.arange(len(rows.training)), apart))


def _chosen(table: RowTable, positions: Any) -> RowTable:
    import numpy as np

    inner = np.asarray(positions) if table.indices is None else table.indices[positions]
    return RowTable(table.dataset, table.skipped, indices=inner, shares=table.shares)


def reading_batches(rows: Rows, collate: Callable[..., dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """The reading score's rows as batches of like length and at most `size` rows, none of a single row.

    Four batches where the rows suffice: unlabelled rows draw one length of their prefix a batch.
    """
    assert rows.reading is not None, "asked for only where there are rows"
    table = rows.reading
    order = sorted(range(len(table)), key=lambda row: table.lengths[row])
    parts = max(1, len(order) // max(size, 2), min(4, len(order) // 4))
    batches = []
    for part in range(parts):
        chosen = order[len(order) * part // parts : len(order) * (part + 1) // parts]
        batches.append(collate(table.__getitems__([BatchRow(row, part) for row in chosen])))
        batches[-1].pop("rows", None)
    return batches


def some_texts(examples: Any, count: int, seed: int) -> list[str]:
    """Prompts, or texts, of a seeded sample of rows; of a stream, its first. The same on every process."""
    if isinstance(examples, RowStream):
        mine = [_text(example) for example in itertools.islice(examples, -(-count // examples.world_size))]
        examples.set_epoch(0)  # back to where it stood
        return gather_object(mine)[:count]
    order = random.Random(seed).sample(range(len(examples)), min(count, len(examples)))
    return [_text(example) for example in examples.__getitems__(order)]


def _text(example: Any) -> str:
    return example.prompt if isinstance(example, Example) else example.text[:CUT]


def reads_new_rows(processor: LangBridgeProcessor, examples: Any) -> bool:
    """Whether the prompts hold a token that was added to the encoder's tokenizer.

    Only then are the new rows worth training: it costs a backward pass through the frozen encoder. Of a stream the
    first 1,000 rows are asked.
    """
    added = processor.encoder_tokenizer.convert_ids_to_tokens(processor.new_token_ids)
    streamed = isinstance(examples, RowStream)
    texts = some_texts(examples, 1000, 0) if streamed else (_text(example) for example in examples)
    return any(token in processor.layout.read(text) for text in texts for token in added)


def start_connector(
    model: LangBridgeModel, processor: LangBridgeProcessor, examples: Any, recipe: Recipe
) -> RidgeFit | None:
    """Apply `init`: ridge on a seeded sample of the training prompts, or the random connector as it is (None)."""
    if recipe.init == "random" or not recipe.connector.closed_form:
        return None
    texts = some_texts(examples, recipe.ridge.texts, recipe.seed)
    return ridge_start(model, processor, texts, penalty=recipe.ridge.penalty, balance=recipe.ridge.balance)
