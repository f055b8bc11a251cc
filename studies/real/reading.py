"""A measurement: the loss of gold English solutions behind questions in one language, and behind other questions.

MGSM's question i is GSM8K's test question i in every language, so that one solution, English and with its calculator
marks as in the training, serves all languages. It stands behind the prompt in the layout that the bridge was trained
in. `own` is its loss behind question i, `other` behind question i + 1 (behind the last the first), whole and not cut;
both are sums over target tokens, in nats, kept for every question, with the number of tokens. The same over *number
tokens*: target tokens with a digit in their text.

`en-careless` is English with one letter in ten mistyped: a language that no bridge was trained on and that needs no
data of another, to ask whether it tells when to stop.
"""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.data import CausalCollator, Example, LabelledCollator
from langbridge.errors import LangBridgeError
from langbridge.files import read_jsonl, text_field
from langbridge.model.configuration import IGNORE
from langbridge.model.language_models import token_losses
from langbridge.model.tokenizers import load_tokenizer
from langbridge.train import Recipe
from studies.real.nearest import NearestRows, digits_of

ENGLISH, CARELESS = "en", "en-careless"
WITHOUT, INSTEAD = "en-without-{}", "en-instead-{}"
"""English whose words did not arrive from a language (`missing.py`)."""
ALTERED = tuple(name.format("") for name in (WITHOUT, INSTEAD))
MISTYPED = 0.1


class Questions:
    """The first `count` questions of MGSM, by language, and their English solutions. Raises `LangBridgeError` for a
    file that is missing or too short."""

    def __init__(self, data: Path, count: int) -> None:
        if not data.is_dir():
            raise LangBridgeError(f"--data {data}: no such folder; expected one with gsm8k/ and mgsm/")
        if count < 2:
            raise LangBridgeError(f"--questions: got {count}, expected at least 2: each is held against another")
        self.data, self.count = data, count
        self.solutions = self._read("gsm8k/test.jsonl", "answer")

    def __getitem__(self, language: str) -> list[str]:
        if language == CARELESS:
            return [careless(text, number) for number, text in enumerate(self[ENGLISH])]
        return self._read(f"mgsm/mgsm_{language}.jsonl", "question")

    def _read(self, name: str, field: str) -> list[str]:
        path = self.data / name
        found = [text_field(row, field, f"{path}, row {number}") for number, row in read_jsonl(path)]
        if len(found) < self.count:
            raise LangBridgeError(f"{path}: has {len(found)} rows, expected at least {self.count} (--questions)")
        return found[: self.count]


def careless(text: str, seed: int) -> str:
    """The text as typed in a hurry: of its letters one in ten in the other case, swapped with the next character, or
    left out. Digits stay."""
    rng, characters = random.Random(seed), list(text)
    for place, character in enumerate(text):
        if not character.isalpha() or rng.random() >= MISTYPED:
            continue
        fault = rng.choice(["case", "swapped", "left out"])
        if fault == "swapped" and place + 1 < len(text) and not text[place + 1].isdigit():
            characters[place : place + 2] = characters[place + 1], characters[place]
        elif fault == "case":
            characters[place] = characters[place].swapcase()
        else:
            characters[place] = ""
    return "".join(characters)


class Reader:
    """What reads questions: a bridge with its language model, or the language model alone.

    losses: a batch's target tokens' losses, row by row. nearest: None where there are no soft prompts.
    """

    def __init__(
        self, collate: Any, losses: Callable[[dict[str, Any]], Any], tokenizer: Any, size: int,
        nearest: NearestRows | None = None,
    ) -> None:  # fmt: skip
        self.collate, self.losses, self.tokenizer, self.size, self.nearest = collate, losses, tokenizer, size, nearest

    @classmethod
    def of_bridge(cls, folder: Path, recipe: Recipe, template: str | None = None) -> "Reader":
        """template: instead of the bridge's own."""
        model: Any = LangBridgeModel.from_pretrained(folder, dtype=recipe.dtype).eval()
        processor = LangBridgeProcessor.from_pretrained(folder)
        processor.template = template or processor.template
        # As below: with a template that gives the language model the question's text as well, a row in some languages
        # takes more than the training's own limit, and the solution would be cut.
        positions = model.language_model.config.max_position_embeddings
        collate = LabelledCollator(processor, max_encoder_length=recipe.max_encoder_length, max_length=positions)
        return cls(collate, lambda batch: model(**batch, return_logits=False).token_losses, processor.tokenizer,
                   recipe.train.per_device_eval_batch_size, NearestRows(model, processor))  # fmt: skip

    @classmethod
    def of_language_model(cls, recipe: Recipe) -> "Reader":
        """It reads the question where a bridge would have soft prompts, in the same template."""
        tokenizer: Any = load_tokenizer(recipe.language_model)
        model: Any = AutoModelForCausalLM.from_pretrained(recipe.language_model, dtype=recipe.dtype).eval()
        model.requires_grad_(False)
        # Some languages take ten times the tokens that English takes.
        collate = CausalCollator(tokenizer, template=recipe.template, system=recipe.system,
                                 max_length=model.config.max_position_embeddings)  # fmt: skip

        def losses(batch: dict[str, Any]) -> Any:
            labels = batch.pop("labels")
            learned = labels[:, 1:] != IGNORE
            keep = torch.nn.functional.pad(learned, (0, 1))
            return token_losses(model, {**batch, "use_cache": False}, keep, labels[:, 1:][learned], False)[1]

        return cls(collate, losses, tokenizer, recipe.train.per_device_eval_batch_size)

    def sums(self, prompts: Sequence[str], targets: Sequence[str]) -> list[dict[str, float]]:
        """For each pair the loss of the target behind the prompt, summed over its tokens and over its number tokens,
        and how many there are of each."""
        found: list[dict[str, float]] = [{}] * len(prompts)
        by_length = sorted(range(len(prompts)), key=lambda row: len(prompts[row]) + len(targets[row]))
        for first in range(0, len(by_length), self.size):
            rows = by_length[first : first + self.size]
            batch = self.collate([Example(prompts[row], targets[row], f"question {row}") for row in rows])
            labels = [row[row != IGNORE] for row in batch["labels"][:, 1:]]
            with torch.inference_mode():
                losses = self.losses(batch).double().split([len(ids) for ids in labels])
            for row, ids, loss in zip(rows, labels, losses, strict=True):
                number = torch.tensor([bool(digits_of(self.tokenizer.decode([int(i)]))) for i in ids])
                found[row] = {
                    "loss": float(loss.sum()), "tokens": len(ids),
                    "number_loss": float(loss[number].sum()), "number_tokens": int(number.sum()),
                }  # fmt: skip
        return found


def measure(reader: Reader, questions: Questions, language: str) -> dict[str, Any]:
    """The measurement of one language, as its file holds it: lists by question, counts and seconds."""
    started = time.monotonic()
    prompts, targets = questions[language], questions.solutions
    own, other = reader.sums(prompts, targets), reader.sums([*prompts[1:], prompts[0]], targets)
    found: dict[str, Any] = {"language": language, "questions": len(prompts)}
    for kind in ("", "number_"):
        found[f"{kind}own"] = [one[f"{kind}loss"] for one in own]
        found[f"{kind}other"] = [one[f"{kind}loss"] for one in other]
        found[f"{kind}tokens"] = [one[f"{kind}tokens"] for one in own]
    if reader.nearest is not None:
        found |= reader.nearest.counts(prompts, questions[ENGLISH])
    return {**found, "seconds": round(time.monotonic() - started, 1)}
