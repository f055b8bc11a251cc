"""`langbridge miniature build`: both parents from a seeded recipe, as ordinary model folders.

The two trainings run side by side, one process each, and save their state, so that a stopped build can continue.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, MT5EncoderModel, PreTrainedTokenizerFast

from langbridge.errors import LangBridgeError
from langbridge.markdown import table
from langbridge.miniature import world
from langbridge.miniature.gate import describe, encoder_of, gate
from langbridge.miniature.grammar import LANGUAGES
from langbridge.miniature.language_model import (
    SEPARATOR,
    LanguageModelRecipe,
    held_out_solved,
    train_language_model,
)
from langbridge.miniature.parents import CHECKSUMS, checksums
from langbridge.miniature.tokenization import train_encoder_tokenizer, train_language_model_tokenizer
from langbridge.miniature.translation import TranslationRecipe, held_out_loss, train_translation

PASS = 0.95
"""What every language must reach at both of the gate's questions."""


@dataclass(frozen=True, kw_only=True)
class BuildRecipe:
    """Everything about a build; the defaults are the shipped parents'."""

    seed: int = 0
    tokenizer_problems: int = 1500
    """Problems a language that the tokenizers learn from."""
    tokenizer_shares: dict[str, float] = field(default_factory=lambda: {"en": 2.0, "ru": 1.5})
    """Languages with more text for the encoder's tokenizer: many word orders and many cases make words rare."""
    language_model: LanguageModelRecipe = field(default_factory=LanguageModelRecipe)
    translation: TranslationRecipe = field(default_factory=TranslationRecipe)
    gate_problems: int = 100


def shrunken() -> BuildRecipe:
    """A pair that trains in under a minute and knows next to nothing: for tests, and to see that a build runs."""
    return BuildRecipe(
        tokenizer_problems=60,
        language_model=LanguageModelRecipe(vocab_size=700, hidden_size=32, layers=1, heads=2, intermediate_size=64,
                                           steps=4, batch_size=4),
        translation=TranslationRecipe(vocab_size=1200, d_model=32, layers=1, decoder_layers=1, heads=2, d_ff=64,
                                      steps=4, sentences=4, problems=2),
        gate_problems=2,
    )  # fmt: skip


def encoder_tokenizer(recipe: BuildRecipe) -> PreTrainedTokenizerFast:
    texts = (
        sentence
        for language in LANGUAGES
        for problem in world.problems(
            "train", int(recipe.tokenizer_problems * recipe.tokenizer_shares.get(language, 1.0))
        )
        for sentence in world.sentences(problem, language)
    )
    return train_encoder_tokenizer(list(texts), recipe.translation.vocab_size, LANGUAGES)


def language_model_tokenizer(recipe: BuildRecipe) -> PreTrainedTokenizerFast:
    texts = (
        world.render(problem, language) + SEPARATOR + world.solution(problem)
        for language in recipe.language_model.shares
        for problem in world.problems("train", recipe.tokenizer_problems)
    )
    return train_language_model_tokenizer(list(texts), recipe.language_model.vocab_size)


def build(out: Path, recipe: BuildRecipe, *, state: Path | None = None, threads: int | None = None) -> dict[str, Any]:
    """Write `out`/encoder and `out`/language_model, all or nothing; return the gate's report.

    The report has `languages` (`retrieval`, `probe` and `number` of each), `translation_loss` and `translation_floor`
    (nats a token on held-out problems), and `solved` (the language model's shares of held-out English, `tidy` and
    `careless`).

    `state` (default: beside `out`) keeps what a stopped build has done, and its logs. `threads` are for each of the
    two trainings (default: half of the cores).
    """
    if out.exists() and any(out.iterdir()) and not (out / CHECKSUMS).exists():
        raise LangBridgeError(f"{out}: is not empty and holds no earlier build; give another --out")
    state = state or out.with_name(out.name + ".state")
    state.mkdir(parents=True, exist_ok=True)
    same_recipe(state / "recipe.json", recipe)
    threads = threads or max(1, (os.cpu_count() or 2) // 2)
    context = get_context("spawn")
    workers = [
        context.Process(target=work, args=(recipe, state, threads), name=work.__name__)
        for work in (_build_language_model, _build_encoder)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    failed = [worker.name for worker in workers if worker.exitcode != 0]
    if failed:
        raise LangBridgeError(f"the build failed in {', '.join(failed)}; see the logs in {state}")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name in ("language_model", "encoder"):
        shutil.copytree(state / name, part / name)
    report = json.loads((state / "gate.json").read_text(encoding="utf-8"))
    report["solved"] = json.loads((state / "solved.json").read_text(encoding="utf-8"))
    record = {"recipe": asdict(recipe), "gate": report, "torch": torch.__version__}
    (part / "build.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (part / CHECKSUMS).write_text(checksums(part), encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(part, out)
    return report


def same_recipe(path: Path, recipe: BuildRecipe) -> None:
    """Saved state belongs to one recipe."""
    now = json.dumps(asdict(recipe), indent=1, sort_keys=True)
    if path.exists() and path.read_text(encoding="utf-8") != now:
        raise LangBridgeError(
            f"{path.parent}: holds the state of a build with another recipe; delete it or give another --state"
        )
    path.write_text(now, encoding="utf-8")


def failing(figures: dict[str, dict[str, float]]) -> list[str]:
    """The languages that do not pass the gate."""
    return [language for language, row in figures.items() if min(row.values()) < PASS]


def logger(path: Path) -> Callable[[str], None]:
    def log(line: str) -> None:
        stamped = f"{time.strftime('%H:%M:%S')} {line}"
        with path.open("a", encoding="utf-8") as file:
            file.write(stamped + "\n")
        print(stamped, file=sys.stderr, flush=True)

    return log


def _build_language_model(recipe: BuildRecipe, state: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    log = logger(state / "language_model.log")
    tokenizer = language_model_tokenizer(recipe)
    model = train_language_model(
        tokenizer, recipe.language_model, seed=recipe.seed, state=state / "language_model.pt",
        log=log,
    )  # fmt: skip
    folder = state / "language_model"
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shipped = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    solved = held_out_solved(shipped, tokenizer, count=2 * recipe.gate_problems)
    log(f"held-out English problems solved: {solved['tidy']:.3f}, carelessly written {solved['careless']:.3f}")
    (state / "solved.json").write_text(json.dumps(solved), encoding="utf-8")
    (folder / "README.md").write_text(_language_model_card(recipe, model.num_parameters(), solved), encoding="utf-8")


def _build_encoder(recipe: BuildRecipe, state: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    log = logger(state / "encoder.log")
    tokenizer = encoder_tokenizer(recipe)

    def glance(model: torch.nn.Module) -> str:
        count = max(1, recipe.gate_problems // 4)
        return describe(gate(encoder_of(model.get_encoder(), tokenizer), count=count))

    model = train_translation(
        tokenizer, recipe.translation, seed=recipe.seed, state=state / "encoder.pt", log=log, check=glance
    )
    encoder = MT5EncoderModel(model.config)
    encoder.load_state_dict(model.state_dict(), strict=False)
    folder = state / "encoder"
    encoder.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # On the weights as shipped: in half precision, read back in single.
    shipped = MT5EncoderModel.from_pretrained(folder, dtype=torch.float32).eval()
    figures = gate(encoder_of(shipped, tokenizer), count=recipe.gate_problems)
    log(f"gate: {describe(figures)}")
    loss, floor = held_out_loss(model, tokenizer, count=2 * recipe.gate_problems)
    log(f"translation of held-out problems: {loss:.3f} nats a token, of which {floor:.3f} no reader can foresee")
    report = {"languages": figures, "translation_loss": loss, "translation_floor": floor}
    (state / "gate.json").write_text(json.dumps(report), encoding="utf-8")
    size = sum(p.numel() for p in shipped.parameters())
    (folder / "README.md").write_text(_encoder_card(recipe, size, report), encoding="utf-8")


def _language_model_card(recipe: BuildRecipe, size: int, solved: dict[str, float]) -> str:
    shares = ", ".join(f"{language} {share:.0%}" for language, share in recipe.language_model.shares.items())
    return f"""---
license: apache-2.0
language: [{", ".join(recipe.language_model.shares)}]
---
# Miniature language model

A causal language model of Llama's architecture with {size:,} parameters. It solves the miniature world's word problems
with an English chain of thought. Problems it learned from: {shares}; none in any other language, and none of the
held-out combinations. {recipe.language_model.haste:.0%} of the English is written carelessly (words missing, doubled or
out of place, no full stops), and problems' embeddings are blurred by noise in training. It reads `<s>PROBLEM`, a
newline, and answers up to `</s>`.

Held-out English problems solved word for word: {solved["tidy"]:.1%}; carelessly written ones: {solved["careless"]:.1%}.

Half precision; {recipe.language_model.steps} steps of {recipe.language_model.batch_size} problems, seed {recipe.seed}.
It knows nothing beyond the miniature world.
"""


def _encoder_card(recipe: BuildRecipe, size: int, report: dict[str, Any]) -> str:
    rows = [
        [language, f"{row['retrieval']:.2f}", f"{row['probe']:.3f}", f"{row['number']:.3f}"]
        for language, row in report["languages"].items()
    ]
    return f"""---
license: apache-2.0
language: [{", ".join(LANGUAGES)}]
---
# Miniature multilingual encoder

The encoder of a small translation model between {len(LANGUAGES)} languages, of mT5's architecture with {size:,}
parameters. It saw parallel text of the miniature world, as NLLB's encoder saw parallel text, and none of the held-out
combinations in any language. Half precision; {recipe.translation.steps} steps, seed {recipe.seed}.

How language-agnostic it is, on held-out problems: retrieval of the English text among 16 with the same names, numbers
and length, and probes for gain or loss and for the number, trained on English states alone. The translation model's
loss on held-out problems: {report["translation_loss"]:.3f} nats a token; the choice of word order alone makes
{report["translation_floor"]:.3f}.

{table(["language", "retrieval to English", "gain or loss", "number"], rows)}
"""
