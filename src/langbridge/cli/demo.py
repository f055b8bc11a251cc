"""`langbridge demo`: the whole experiment in miniature, through the ordinary parts.

English problems are written, a bridge is trained on them by the same code as `langbridge train`, and bridge and plain
language model answer held-out problems in twelve languages.
"""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langbridge.errors import LangBridgeError

if TYPE_CHECKING:
    from langbridge.evaluate.scores import Score

COLUMNS = {"floor": "guessing signs", "lm": "LM alone", "bridge": "bridge"}
EXAMPLES = ("sw", "te", "zh")
MAX_NEW_TOKENS = 48
"""The longest solution has 41 tokens."""


def demo_recipe() -> Path:
    """The demo's recipe: in the checkout, or in the installed package."""
    package = Path(__file__).parents[1]
    for folder in (package.parents[1] / "recipes", package / "recipes"):
        if (folder / "miniature" / "demo.yaml").is_file():
            return folder / "miniature" / "demo.yaml"
    raise LangBridgeError(f"recipes/miniature/demo.yaml: neither beside nor inside {package}; install again")


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for everything.")] = Path("demo"),
    problems: Annotated[int, typer.Option("--problems", min=2, help="Problems in each language.")] = 200,
    examples: Annotated[int, typer.Option("--examples", min=50, help="English training problems.")] = 6400,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the results.")] = False,
) -> None:
    """Train the miniature bridge on English alone and score it in 12 languages beside the plain language model."""
    from langbridge.evaluate.answers import last_number
    from langbridge.evaluate.scores import accuracy, difference, mean_score
    from langbridge.evaluate.table import as_json, as_text, draw_bars
    from langbridge.files import write_atomically, write_jsonl
    from langbridge.miniature import parents
    from langbridge.miniature.dataset import held_out_rows, write_tests, write_training
    from langbridge.miniature.grammar import LANGUAGES
    from langbridge.miniature.language_model import SEPARATOR
    from langbridge.serve.engine import Decoding, Request
    from langbridge.serve.hf import HFEngine
    from langbridge.serve.load import bridge_engine, load_bridge
    from langbridge.serve.readers import CausalReader
    from langbridge.train.recipe import Recipe
    from langbridge.train.run import train

    started = time.monotonic()

    def note(line: str) -> None:
        if not quiet:
            print(f"[{time.monotonic() - started:4.0f} s] {line}", file=sys.stderr, flush=True)

    parents.check()
    note(f"writing {examples} English training problems and {problems} held-out problems in 12 languages")
    write_training(out / "data" / "train.jsonl", examples)
    write_tests(out / "data" / "test", problems)
    recipe = Recipe.load(
        demo_recipe(),
        [
            f"encoder={parents.ENCODER}",
            f"language_model={parents.LANGUAGE_MODEL}",
            f"data.path={out / 'data' / 'train.jsonl'}",
            "data.language=en",
        ],
    )
    note("training the bridge on English")
    final = train(recipe, out, progress=not quiet)
    bridge_folder = out / "bridge"
    shutil.rmtree(bridge_folder, ignore_errors=True)
    os.replace(final, bridge_folder)

    model, processor = load_bridge(bridge_folder, rows=64)
    lm, decoding = model.language_model, Decoding(MAX_NEW_TOKENS)
    engines = {
        # The plain model reads the question as its own tokens; the separator asks for the solution, as it learned.
        # Few at once: a Thai question is 600 of its tokens, and their cache must stay small.
        "lm": HFEngine(
            lm, CausalReader(processor.tokenizer, lm.config, template="{prompt}" + SEPARATOR), batch_size=32
        ),
        "bridge": bridge_engine(model, processor, 64),
    }
    scores: dict[str, dict[str, Score]] = {}
    samples: list[dict[str, Any]] = []
    differences: dict[str, Score] = {}
    for language in LANGUAGES:
        tests = held_out_rows(language, problems)
        requests = [Request(test["question"], language=language) for test in tests]
        answers = {
            name: [answer.text.strip() for answer in engine.answers(requests, decoding)]
            for name, engine in engines.items()
        }
        correct = {
            name: [last_number(text, language) == test["answer"] for text, test in zip(texts, tests, strict=True)]
            for name, texts in answers.items()
        }
        floor = {"floor": mean_score([test["guess"] for test in tests])}
        found = scores[language] = floor | {name: accuracy(marks) for name, marks in correct.items()}
        differences[language] = difference(correct["bridge"], correct["lm"])
        samples += [
            {**test, "lm": lm, "bridge": bridge}
            for test, lm, bridge in zip(tests, answers["lm"], answers["bridge"], strict=True)
        ]
        note(f"{language}  LM alone {found['lm']}   bridge {found['bridge']}")

    write_atomically(out / "table.json", as_json(scores))
    write_jsonl(out / "samples.jsonl", samples)
    draw_bars(scores, COLUMNS, out / "accuracy.png", "One English-only connector, twelve languages (miniature)")
    table = as_text(scores, differences, COLUMNS)
    write_atomically(out / "table.txt", table + "\n")
    typer.echo(f"Accuracy, per cent, on {problems} held-out problems in each language, with standard errors\n")
    typer.echo(table)
    for language in EXAMPLES:
        sample = next(row for row in samples if row["language"] == language)
        typer.echo(f"\n[{language}] {sample['question']}  (answer: {sample['answer']})")
        typer.echo(f"  LM alone: {sample['lm']}")
        typer.echo(f"  bridge:   {sample['bridge']}")
    typer.echo(f"\n{out}: table.json, accuracy.png, samples.jsonl, bridge/   {time.monotonic() - started:.0f} s")
