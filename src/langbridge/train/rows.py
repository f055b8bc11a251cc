"""The rows of a run: those it trains on, held-out ones, and a few that the reading score is taken on."""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accelerate.utils import gather_object

from langbridge.data import BatchRow, Example, Regime, RowTable, open_data, open_validation
from langbridge.data.stream import RowStream
from langbridge.train.objectives import objective_of
from langbridge.train.recipe import Recipe

CUT = 2000
"""Characters of an unlabelled text, which may be a book, that the start and the search for white space look at."""


@dataclass
class Rows:
    """The rows of a run, which are of the kind `kind`. `reading` are kept apart for the reading score, of the kind
    `reading_kind`; none: no score."""

    kind: Regime

    training: Any
    validation: dict[Regime, RowTable]
    reading: RowTable | None = None
    reading_kind: Regime | None = None

    @property
    def lengths(self) -> Any:
        """Of the training rows, in characters; None for a stream."""
        return None if isinstance(self.training, RowStream) else self.training.lengths


def open_rows(recipe: Recipe, judges: Mapping[Regime, Any]) -> Rows:
    """All rows of a run, checked; `judges` are the collators, which know what they cannot use."""
    objective = objective_of(recipe)
    kind = objective.kind
    rows = Rows(
        kind,
        open_data(
            recipe.data,
            regime=kind,
            seed=recipe.seed,
            judge=judges[kind],
            batch_size=recipe.train.per_device_train_batch_size,
        ),
        open_validation(recipe.data, regime=kind, judges=dict(judges)),
    )
    if objective.bridged and recipe.train.reading_score_steps:
        _set_apart(rows, recipe)
    return rows


def _set_apart(rows: Rows, recipe: Recipe) -> None:
    """Choose the rows of the reading score: held-out ones if there are any, or else a few of the training's."""
    import numpy as np

    wanted, rng = recipe.train.reading_rows, random.Random(f"{recipe.seed}/reading")
    if rows.validation:
        kind = rows.kind if rows.kind in rows.validation else next(iter(rows.validation))
        table = rows.validation[kind]
        if len(table) > 1:
            rows.reading_kind, rows.reading = (
                kind,
                _chosen(table, rng.sample(range(len(table)), min(wanted, len(table)))),
            )
    elif isinstance(rows.training, RowTable) and len(rows.training) >= 40:
        count = min(wanted, len(rows.training) // 20)
        apart = sorted(rng.sample(range(len(rows.training)), count))
        rows.reading, rows.reading_kind = _chosen(rows.training, apart), rows.kind
        rows.training = _chosen(rows.training, np.setdiff1d(np.arange(len(rows.training)), apart))


def _chosen(table: RowTable, positions: Any) -> RowTable:
    import numpy as np

    inner = np.asarray(positions) if table.indices is None else table.indices[positions]
    return RowTable(table.dataset, table.skipped, indices=inner, shares=table.shares)


def some_texts(examples: Any, count: int, seed: int) -> list[str]:
    """Prompts, or texts, of a seeded sample of rows; of a stream, its first. The same on every process."""
    if isinstance(examples, RowStream):
        mine = [text_of(example) for example in itertools.islice(examples, -(-count // examples.world_size))]
        examples.set_epoch(0)  # back to where it stood
        return gather_object(mine)[:count]
    order = random.Random(seed).sample(range(len(examples)), min(count, len(examples)))
    return [text_of(example) for example in examples.__getitems__(order)]


def some_examples(examples: Any) -> list[Any]:
    """Two of the training rows, to be one batch; of a stream, its first."""
    if isinstance(examples, RowStream):
        examples.set_epoch(0)
        return list(itertools.islice(examples, 1))
    return examples.__getitems__([BatchRow(row, 0) for row in range(min(2, len(examples)))])


def text_of(example: Any) -> str:
    return example.prompt if isinstance(example, Example) else example.text[:CUT]
