"""From the `data` block of a recipe to the rows of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langbridge.data.examples import Judge, Skipped
from langbridge.data.settings import Data, OnBadRow, Regime, Source
from langbridge.data.table import RowTable, dataset_table, source_table

if TYPE_CHECKING:
    from langbridge.data.stream import RowStream


def open_data(
    data: Data,
    *,
    regime: Regime,
    seed: int,
    judge: Judge | None = None,
    batch_size: int = 1,
    rank: int | None = None,
    world_size: int | None = None,
    cache_dir: str | Path | None = None,
) -> "RowTable | RowStream":
    """The training rows of `data`: a `RowTable`, all of them checked, or with `streaming: true` a `RowStream`.

    `judge`, the collator that will batch the rows, leaves out those that it could not use (a target that truncation
    would remove whole, a text that is too short to split). `seed` decides which rows a weighted mixture takes.
    `batch_size`, `rank` and `world_size` are a stream's alone. `cache_dir` holds the prepared tables; by default a
    folder in the cache of `datasets` (`HF_DATASETS_CACHE`).

    Raises `LangBridgeError` with file, row and field for the first bad row (a stream when it comes to it); with
    `on_bad_row: skip` such rows are counted in `skipped`.
    """
    if data.streaming:
        from langbridge.data.stream import RowStream

        return RowStream(
            data, regime=regime, seed=seed, batch_size=batch_size, judge=judge, rank=rank, world_size=world_size
        )
    tables = [
        source_table(source, regime, on_bad_row=data.on_bad_row, cache_dir=cache_dir)
        for source in data.training_sources
    ]
    if judge is not None:
        tables = [table.fitting(judge, data.on_bad_row) for table in tables]
    return _mixed(tables, [source.weight for source in data.training_sources], seed)


def open_validation(
    data: Data, *, regime: Regime, judges: dict[Regime, Judge] | None = None, cache_dir: str | Path | None = None
) -> dict[Regime, RowTable]:
    """The held-out sets of `data` by their kind, in their own order; always map-style. `judges` as in `open_data`."""
    opened: dict[Regime, RowTable] = {}
    for kind, source in data.validation_sources(regime).items():
        table = source_table(source, kind, on_bad_row=data.on_bad_row, cache_dir=cache_dir)
        judge = (judges or {}).get(kind)
        opened[kind] = table if judge is None else table.fitting(judge, data.on_bad_row)
    return opened


def open_dataset(
    dataset: Any,
    *,
    regime: Regime,
    input: str = "query",
    output: str = "response",
    text: str = "text",
    on_bad_row: OnBadRow = "error",
    judge: Judge | None = None,
    cache_dir: str | Path | None = None,
) -> RowTable:
    """The same for rows that a program has as a `datasets.Dataset`; columns and templates as in `Data`."""
    source = Source(path="dataset", input=input, output=output, text=text, sample_by="line")
    table = dataset_table(dataset, source, regime, on_bad_row=on_bad_row, cache_dir=cache_dir)
    return table if judge is None else table.fitting(judge, on_bad_row)


def _mixed(tables: Sequence[RowTable], weights: Sequence[float | None], seed: int) -> RowTable:
    """One table of several: every row of each or, with weights, as many of each as keep the shares.

    The source that is smallest for its share gives all its rows; no row is ever given twice.
    """
    if len(tables) == 1:
        return tables[0]
    import datasets
    import numpy as np

    skipped, shares = Skipped(), dict[str, tuple[int, int]]()
    whole = min(len(table) / float(weight or 1) for table, weight in zip(tables, weights, strict=True))
    chosen: list[np.ndarray] = []
    first = 0
    for number, (table, weight) in enumerate(zip(tables, weights, strict=True)):
        inner = table.indices if table.indices is not None else np.arange(len(table))
        if weight is not None:
            # Rounding must not cost the source that is used up a row: 48 / 0.7 * 0.7 is less than 48.
            count = min(max(int(whole * weight + 1e-9), 1), len(table))
            inner = np.sort(np.random.default_rng([seed, number]).permutation(inner)[:count])
        chosen.append(inner + first)
        first += len(table.dataset)
        skipped.update(table.skipped)
        ((path, (_, rows)),) = table.shares.items()
        shares[path if path not in shares else f"{path} ({number})"] = (len(inner), rows)
    whole_table = datasets.concatenate_datasets([table.dataset for table in tables])
    return RowTable(whole_table, skipped, indices=np.concatenate(chosen), shares=shares)
