"""Greedy answers to many prompts, from a bridge or from a plain language model, batched in the same way.

Nothing here scores or formats: a bridge's processor applies its own template, a plain model's prompts come
with theirs.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from langbridge.serve.batching import Progress, in_batches
from langbridge.serve.generation import continuations

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from langbridge.model import LangBridgeModel, LangBridgeProcessor


def generate_texts(
    model: "LangBridgeModel",
    processor: "LangBridgeProcessor",
    prompts: Sequence[str],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 256,
    source_languages: Sequence[str | None] | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """What a bridge answers to each prompt, in the order of the prompts. source_languages: of the prompts, for encoders
    that mark them."""

    def answer(batch: list[tuple[str, str | None]]) -> list[str]:
        texts, languages = zip(*batch, strict=True)
        inputs = processor(texts, source_language=languages, return_tensors="pt").to(model.device)
        found = continuations(
            model,
            dict(inputs),
            processor.tokenizer,
            processor.decode,
            ends=[processor.answer_end_id],
            max_new_tokens=max_new_tokens,
        )
        return [one.text.strip() for one in found]

    return in_batches(
        list(zip(prompts, source_languages or [None] * len(prompts), strict=True)),
        batch_size,
        answer,
        key=lambda item: _length(processor.encoder_tokenizer, item[0]),
        progress=progress,
    )


def generate_texts_lm(
    language_model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[str],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 256,
    progress: Progress | None = None,
) -> list[str]:
    """What a plain causal language model answers to each prompt, in the order of the prompts."""

    def answer(texts: list[str]) -> list[str]:
        inputs = left_padded([tokenizer(text)["input_ids"] for text in texts], language_model.device)

        def decode(tokens: Sequence[int]) -> str:
            return str(tokenizer.decode(tokens, skip_special_tokens=True))

        found = continuations(language_model, inputs, tokenizer, decode, max_new_tokens=max_new_tokens)
        return [one.text.strip() for one in found]

    return in_batches(prompts, batch_size, answer, key=lambda text: _length(tokenizer, text), progress=progress)


def _length(tokenizer: "PreTrainedTokenizerBase", text: str) -> int:
    # Tokens, not characters, of which scripts differ in how many they take to a token.
    return len(tokenizer(text, verbose=False)["input_ids"])


def left_padded(rows: list[list[int]], device: torch.device) -> dict[str, torch.Tensor]:
    """Rows of ids as one batch with its mask, for generation."""
    # By hand: many causal models' tokenizers have no padding token, and a masked position may hold any id.
    longest = max(len(row) for row in rows)
    ids = [[0] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return {
        "input_ids": torch.tensor(ids, device=device),
        "attention_mask": torch.tensor(mask, device=device),
    }
