"""How many English examples a bridge needs to reach 80 per cent in English: ridge start against random start.

    python benchmarks/ridge_start.py [--cap 200000] [--out benchmarks/results/ridge_start.json]

Both starts in one run, on the miniature's parents, with the same data in the same order, the same optimiser (AdamW,
constant rate, batches of 16) and the same validation problems (English, greedy). Each start gets the best of the
learning rates it is tried with (a rate that is past the best so far is stopped); accuracy is measured after the start
and then at intervals that grow by a sixth. A start that has not arrived at the cap is reported as "> cap". The last
line is one JSON document.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from langbridge.evaluate.answers import last_number
from langbridge.evaluate.scores import accuracy
from langbridge.files import write_atomically
from langbridge.miniature import parents
from langbridge.miniature.dataset import held_out_rows, write_training
from langbridge.serve.engine import Decoding
from langbridge.serve.load import bridge_engine
from langbridge.train import Recipe
from langbridge.train.loop import build_trainer
from langbridge.train.prepare import build_model, prepare
from langbridge.train.ridge import start_connector

GOAL = 0.8
BATCH = 16
RATES = {"ridge": (3e-4,), "random": (6e-4, 2e-3)}


class Watch(TrainerCallback):
    """Measure English accuracy at growing intervals, and stop at the goal."""

    def __init__(self, measure: Callable[[], Any], curve: list, label: str) -> None:
        self.measure, self.curve, self.label, self.next = measure, curve, label, 12

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if state.global_step < self.next and state.global_step < state.max_steps:
            return control
        self.next = max(self.next + 12, self.next * 7 // 6)
        score = self.measure()
        self.curve.append((state.global_step * BATCH, score.mean, score.stderr))
        print(f"{self.label}: {state.global_step * BATCH} examples  English {score}", flush=True)
        if score.mean >= GOAL:
            control.should_training_stop = True
        return control


def run(init: str, rate: float, data: Path, cap: int, problems: int) -> dict:
    settings = {
        "encoder": parents.ENCODER,
        "language_model": parents.LANGUAGE_MODEL,
        "init": init,
        "data.path": data,
        "train.learning_rate": rate,
        "train.per_device_train_batch_size": BATCH,
        "train.max_steps": cap // BATCH,
        "train.lr_scheduler_type": "constant",
        "train.logging_steps": 1_000_000,
    }
    demo = Path(__file__).parents[1] / "recipes" / "miniature" / "demo.yaml"
    recipe = Recipe.load(demo, [f"{key}={value}" for key, value in settings.items()])
    torch.manual_seed(recipe.seed)
    prepared = prepare(recipe)
    processor = prepared.processor
    model = build_model(recipe, processor)
    fit = start_connector(model, processor, prepared.training, recipe)
    tests = held_out_rows("en", problems, split="validation")

    def measure() -> Any:
        mode = model.training
        answers = bridge_engine(model, processor, 100).answers([t["question"] for t in tests], Decoding(64))
        model.train(mode)
        return accuracy([last_number(one.text) == t["answer"] for one, t in zip(answers, tests, strict=True)])

    started = time.monotonic()
    first = measure()
    curve = [(0, first.mean, first.stderr)]
    label = f"{init} lr {rate:g}"
    print(f"{label}: 0 examples  English {first}  {fit or ''}", flush=True)
    if first.mean < GOAL:
        with tempfile.TemporaryDirectory() as folder:
            trainer = build_trainer(model, prepared, Path(folder), run={}, tell=lambda _: None)
            trainer.add_callback(Watch(measure, curve, label))
            trainer.train()
    arrived = next((n for n, mean, _ in curve if mean >= GOAL), None)
    return {
        "init": init,
        "rate": rate,
        "examples": arrived,
        "cap": cap,
        "curve": curve,
        "s": time.monotonic() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cap", type=int, default=200_000)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "train.jsonl"
        write_training(data, options.cap)
        runs, best = [], dict.fromkeys(RATES)
        for init, rates in RATES.items():
            for rate in rates:
                # Past what another rate needed, a rate is no longer the best one.
                runs.append(run(init, rate, data, best[init] or options.cap, options.problems))
                best[init] = runs[-1]["examples"] or best[init]
    for init, count in best.items():
        print(f"{init:>7}: {f'> {options.cap}' if count is None else count} examples to {GOAL:.0%} in English")
    if best["ridge"] is not None:
        # A start that is there before the first step is counted as one batch.
        ratio = (best["random"] or options.cap) / max(best["ridge"], BATCH)
        print(f"random / ridge: {'' if best['random'] else 'more than '}{ratio:.1f}")
    document = json.dumps({"goal": GOAL, "best": best, "runs": runs})
    if options.out:
        write_atomically(options.out, document + "\n")
    print(document)


if __name__ == "__main__":
    main()
