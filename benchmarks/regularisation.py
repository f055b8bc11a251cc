"""What the ridge start's regularisation does to transfer: English and the other languages by penalty.

    python benchmarks/regularisation.py [--out benchmarks/results/regularisation.json]

On the miniature's parents, for each penalty: the regression's fit on held-out English, then accuracy in all twelve
languages with the start alone and after the demo's training. Validation problems, greedy; the demo's recipe is not
chosen by this table but by English alone (docs/log.md). The last line is one JSON document.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch

from langbridge.cli.demo import demo_recipe
from langbridge.evaluate.answers import last_number
from langbridge.files import write_atomically
from langbridge.languages import group_of
from langbridge.miniature import parents
from langbridge.miniature.dataset import held_out_rows, write_training
from langbridge.miniature.grammar import LANGUAGES
from langbridge.model import LangBridgeModel, LangBridgeProcessor
from langbridge.serve.engine import Decoding
from langbridge.serve.load import bridge_engine
from langbridge.train import Recipe
from langbridge.train.loop import build_trainer
from langbridge.train.prepare import build_model, prepare
from langbridge.train.ridge import start_connector

PENALTIES = (1e-6, 1e-4, 1e-2, 1e-1, 1.0)


def transfer(model: LangBridgeModel, processor: LangBridgeProcessor, problems: int) -> dict[str, float]:
    """Accuracy by language."""
    found = {}
    for language in LANGUAGES:
        tests = held_out_rows(language, problems, split="validation")
        answers = bridge_engine(model, processor, 100).answers([t["question"] for t in tests], Decoding(48))
        right = [last_number(one.text) == test["answer"] for one, test in zip(answers, tests, strict=True)]
        found[language] = sum(right) / problems
    return found


def describe(scores: dict[str, float]) -> str:
    low = [score for language, score in scores.items() if group_of(language) == "low"]
    high = [score for language, score in scores.items() if group_of(language) == "high" and language != "en"]
    return f"en {scores['en']:.3f}  other high {sum(high) / len(high):.3f}  low {sum(low) / len(low):.3f}"


def run(penalty: float, data: Path, problems: int) -> dict:
    settings = {
        "encoder": parents.ENCODER,
        "language_model": parents.LANGUAGE_MODEL,
        "data.path": data,
        "ridge.penalty": penalty,
        "train.logging_steps": 1_000_000,
    }
    recipe = Recipe.load(demo_recipe(), [f"{key}={value}" for key, value in settings.items()])
    torch.manual_seed(recipe.seed)
    prepared = prepare(recipe)
    processor = prepared.processor
    model = build_model(recipe, processor)
    fit = start_connector(model, processor, prepared.training, recipe)
    assert fit is not None, "the miniature has a closed-form start"
    before = transfer(model.eval(), processor, problems)
    print(f"penalty {penalty:g}  fit {fit.explained_held_out:.3f}  start:   {describe(before)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        build_trainer(model, prepared, Path(folder), run={}, tell=lambda _: None).train()
    after = transfer(model.eval(), processor, problems)
    print(f"penalty {penalty:g}  fit {fit.explained_held_out:.3f}  trained: {describe(after)}", flush=True)
    return {"penalty": penalty, "explained_held_out": fit.explained_held_out, "start": before, "trained": after}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, default=6_400)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "train.jsonl"
        write_training(data, options.examples)
        runs = [run(penalty, data, options.problems) for penalty in PENALTIES]
    document = json.dumps({"examples": options.examples, "problems": options.problems, "runs": runs})
    if options.out:
        write_atomically(options.out, document + "\n")
    print(document)


if __name__ == "__main__":
    main()
