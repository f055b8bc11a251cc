"""How many examples a second the data pipeline gives, against what the training step consumes.

    python benchmarks/data_pipeline.py --data FILE [--batch-size 32] [--steps 4] [--rounds 3] [--out FILE]

FILE has JSON lines with `query` and `response`. The model is the bridge of `training_step.py`: about 100 million
parameters, vocabulary 32,000, random weights, only the connector is trained; its tokenizers are learned from FILE.

prepare    reading FILE, checking every row and writing the table, once
pipeline   an epoch in batches of like length: rows from the table, both tokenizers, collating; by this process alone,
           and by a loader's workers, one for each core, their start and end included
stream     the same without a table, `streaming: true`
step       forward, backward and update on batches that lie ready, with a thread for each core

The measurements take turns, round by round, and each is given as its median; what runs in this process alone also by
the seconds that it had a core, which other work on the machine hardly touches. The last line is one JSON document.

Measured on two cores that other work shared (load 6 to 11), 7,473 pairs of GSM8K, `--rounds 3 --steps 2`: pipeline 470
examples/s in one process and 517 with two workers, stream 464, step 0.64, so 804 times what the step consumes; by the
seconds of a core 1,899 against 2.5, 754 times. The table was prepared at 4,426 rows/s.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

# Threads that wait for others must not count as work, nor keep a core from it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch.utils.data import DataLoader
from training_step import SEED, build, learn_tokenizer, ours

from langbridge.data import Data, LabelledCollator, RowStream, RowTable, open_data
from langbridge.files import write_atomically
from langbridge.train.sampler import LengthGrouped

STEP = "step"


def consumed(batches: Iterable[dict[str, Any]]) -> int:
    return sum(len(batch["input_ids"]) for batch in batches)


def rates(batches: Iterable[dict[str, Any]]) -> tuple[float, float]:
    """Examples a second, and a second of a core in this process."""
    started, core = time.perf_counter(), time.process_time()
    count = consumed(batches)
    return count / (time.perf_counter() - started), count / max(time.process_time() - core, 1e-9)


def trained(model: Any, batches: list[dict[str, Any]]) -> tuple[float, float]:
    """The same of whole updates, the optimiser's included."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def steps() -> Iterator[dict[str, Any]]:
        for batch in batches:
            ours(model, batch, int((batch["labels"] != -100).sum())).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield batch

    return rates(steps())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--steps", type=int, default=4, help="batches that the model is timed on, spread over the epoch"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.cores)

    data = Data(path=str(options.data))
    with tempfile.TemporaryDirectory() as cache:
        started = time.perf_counter()
        table = open_data(data, regime="labelled", seed=SEED, cache_dir=cache)
        prepare = len(table) / (time.perf_counter() - started)
        assert isinstance(table, RowTable)
        model, processor = build(learn_tokenizer(list(table)))
        collate: Callable[[Any], Any] = LabelledCollator(processor, max_encoder_length=1024, max_length=1152)
        sampler = list(LengthGrouped(table.lengths.tolist(), options.batch_size, SEED))

        def loader(workers: int) -> DataLoader:
            return DataLoader(table, batch_sampler=sampler, num_workers=workers, collate_fn=collate)

        def stream(workers: int) -> DataLoader:
            rows = open_data(
                Data(path=data.path, streaming=True), regime="labelled", seed=SEED, batch_size=options.batch_size
            )
            assert isinstance(rows, RowStream)
            return DataLoader(rows, batch_size=options.batch_size, num_workers=workers, collate_fn=collate)

        # Evenly over the epoch in the order of length, so that the few are like the whole.
        by_length = sorted(sampler, key=lambda rows: table.lengths[[int(row) for row in rows]].sum())
        chosen = [by_length[len(by_length) * (2 * i + 1) // (2 * options.steps)] for i in range(options.steps)]
        ready = [collate(table.__getitems__(rows)) for rows in chosen]
        trained(model, ready[:1])  # the first step also allocates

        measured: dict[str, list[tuple[float, float]]] = {}
        ways = {
            "pipeline, 1 core": lambda: rates(itertools.islice(loader(0), 60)),
            f"pipeline, {options.cores} cores": lambda: rates(loader(options.cores)),
            f"stream, {options.cores} cores": lambda: rates(stream(options.cores)),
            STEP: lambda: trained(model, ready),
        }
        for number in range(options.rounds):
            for name, measure in ways.items():
                measured.setdefault(name, []).append(measure())
                print(f"round {number + 1}  {name}: {measured[name][-1][0]:.1f} examples/s", flush=True)

    found = {name: statistics.median(wall for wall, _ in pairs) for name, pairs in measured.items()}
    core = {name: statistics.median(core for _, core in measured[name]) for name in ("pipeline, 1 core", STEP)}
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"\n{len(table)} rows, prepared at {prepare:.0f} rows/s; "
        f"batches of {options.batch_size}, {parameters:,} parameters"
    )
    print(f"{'':20}  {'examples/s':>10}  {'x step':>7}  {'examples/s of a core':>20}  {'x step':>7}")
    for name, wall in found.items():
        own = f"{core[name]:20.1f}  {core[name] / core[STEP]:7.1f}" if name in core else ""
        print(f"{name:20}  {wall:10.1f}  {wall / found[STEP]:7.1f}  {own}".rstrip())
    document = json.dumps(
        {
            "rows": len(table),
            "batch_size": options.batch_size,
            "cores": options.cores,
            "parameters": parameters,
            "prepared_rows_per_second": prepare,
            "examples_per_second": found,
            "examples_per_second_of_a_core": core,
            "ratio": found[f"pipeline, {options.cores} cores"] / found[STEP],
            "ratio_by_core": core["pipeline, 1 core"] / core[STEP],
        }
    )
    if options.out:
        write_atomically(options.out, document + "\n")
    print(document)


if __name__ == "__main__":
    main()
