"""What the ridge start's regularisation does to transfer: English and the other languages by penalty.

    python benchmarks/regularisation.py [--out benchmarks/results/regularisation.json]
    python benchmarks/regularisation.py --choose --problems 400

On the miniature's parents, for each penalty: the variance that the regression explains, of all its tokens and of types
that a fit has not seen, then accuracy in all twelve languages with the start alone and after the demo's training.
Validation problems, greedy. The last line is one JSON document.

--choose: what the demo's recipe is chosen by, English alone and without any training: of the penalties the largest
whose start solves as many English problems as the best one's, but for one standard error (the one-standard-error rule:
Breiman et al. 1984, *Classification and Regression Trees*, section 3.4.3).
"""

import argparse
import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from langbridge.train.prepare import Prepared, build_model, prepare
from langbridge.train.ridge import RidgeFit, start_connector

PENALTIES = (1e-6, 1e-4, 1e-2, 1e-1, 1.0)
CANDIDATES = (1e-6, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def transfer(
    model: LangBridgeModel, processor: LangBridgeProcessor, problems: int, languages: Sequence[str] = LANGUAGES
) -> dict[str, float]:
    """Accuracy by language."""
    found = {}
    for language in languages:
        tests = held_out_rows(language, problems, split="validation")
        answers = bridge_engine(model, processor, 100).answers([t["question"] for t in tests], Decoding(48))
        right = [last_number(one.text) == test["answer"] for one, test in zip(answers, tests, strict=True)]
        found[language] = sum(right) / problems
    return found


def describe(scores: dict[str, float]) -> str:
    low = [score for language, score in scores.items() if group_of(language) == "low"]
    high = [score for language, score in scores.items() if group_of(language) == "high" and language != "en"]
    return f"en {scores['en']:.3f}  other high {sum(high) / len(high):.3f}  low {sum(low) / len(low):.3f}"


def started(penalty: float, data: Path) -> tuple[Prepared, LangBridgeModel, RidgeFit]:
    """The demo's bridge with this penalty, before any training."""
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
    model = build_model(recipe, prepared.processor)
    assert isinstance(model, LangBridgeModel)
    fit = start_connector(model, prepared.processor, prepared.training, recipe)
    assert fit is not None, "the miniature has a closed-form start"
    return prepared, model.eval(), fit


def run(penalty: float, data: Path, problems: int) -> dict[str, Any]:
    prepared, model, fit = started(penalty, data)
    before = transfer(model, prepared.processor, problems)
    print(
        f"penalty {penalty:g}  fit {fit.explained:.3f} ({fit.explained_held_out:.3f})  start:   {describe(before)}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        build_trainer(model, prepared, Path(folder), run={}, tell=lambda _: None).train()
    after = transfer(model.eval(), prepared.processor, problems)
    print(
        f"penalty {penalty:g}  fit {fit.explained:.3f} ({fit.explained_held_out:.3f})  trained: {describe(after)}",
        flush=True,
    )
    explained = {"explained": fit.explained, "explained_held_out": fit.explained_held_out}
    return {"penalty": penalty, **explained, "start": before, "trained": after}


def choose(data: Path, problems: int) -> dict[str, Any]:
    """English accuracy of the starts, and the penalty that the rule takes."""
    solved = {}
    for penalty in CANDIDATES:
        prepared, model, _ = started(penalty, data)
        solved[penalty] = transfer(model, prepared.processor, problems, ["en"])["en"]
        error = math.sqrt(solved[penalty] * (1 - solved[penalty]) / problems)
        print(f"penalty {penalty:g}  English, start alone: {100 * solved[penalty]:.1f} ± {100 * error:.1f}", flush=True)
    best = max(solved.values())
    least = best - math.sqrt(best * (1 - best) / problems)
    return {"english": solved, "chosen": max(penalty for penalty, share in solved.items() if share >= least)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, default=6_400)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument(
        "--choose", action="store_true", help="the starts in English alone, and the penalty they choose"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "train.jsonl"
        write_training(data, options.examples)
        if options.choose:
            found = choose(data, options.problems)
        else:
            found = {"runs": [run(penalty, data, options.problems) for penalty in PENALTIES]}
    document = json.dumps({"examples": options.examples, "problems": options.problems, **found})
    if options.out:
        write_atomically(options.out, document + "\n")
    print(document)


if __name__ == "__main__":
    main()
