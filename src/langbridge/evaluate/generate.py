"""Greedy answers to many prompts, from a bridge or from a plain language model, batched in the same way.

Nothing here scores or formats: a bridge's processor applies its own template, a plain model's prompts come
with theirs.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from langbridge.errors import LangBridgeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from langbridge.model import LangBridgeModel, LangBridgeProcessor

Progress = Callable[[int], object]
"""Called after every batch with the number of prompts it answered, as `tqdm.update` is."""


def generate_texts(
    model: "LangBridgeModel",
    processor: "LangBridgeProcessor",
    prompts: Sequence[str],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 256,
    progress: Progress | None = None,
) -> list[str]:
    """What a bridge answers to each prompt, in the order of the prompts."""

    def answer(texts: list[str]) -> list[str]:
        inputs = processor(texts, return_tensors="pt").to(model.device)
        return _continued(model, dict(inputs), processor.tokenizer, processor.batch_decode, max_new_tokens)

    return _in_batches(prompts, batch_size, answer, progress)


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
        rows = [tokenizer(text)["input_ids"] for text in texts]
        inputs = _left_padded(rows, language_model.device)
        return _continued(language_model, inputs, tokenizer, tokenizer.batch_decode, max_new_tokens)

    return _in_batches(prompts, batch_size, answer, progress)


def _in_batches(
    prompts: Sequence[str],
    batch_size: int,
    answer: Callable[[list[str]], list[str]],
    progress: Progress | None,
) -> list[str]:
    if batch_size < 1:
        raise LangBridgeError(f"batch_size: expected at least 1, got {batch_size}")
    # Neighbours in length pad little; the longest come first, so that memory runs out at once or never.
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        for index, text in zip(chosen, answer([prompts[index] for index in chosen]), strict=True):
            answers[index] = text
        if progress is not None:
            progress(len(chosen))
    return answers


def _continued(
    model: Any,
    inputs: dict[str, torch.Tensor],
    tokenizer: Any,
    decode: Callable[..., list[str]],
    max_new_tokens: int,
) -> list[str]:
    """Greedy new tokens after `inputs`, as text."""
    pad = tokenizer.pad_token_id
    model.eval()
    with torch.inference_mode():
        sequences = model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=tokenizer.eos_token_id if pad is None else pad,
        )
    new = sequences[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in decode(new, skip_special_tokens=True)]


def _left_padded(rows: list[list[int]], device: torch.device) -> dict[str, torch.Tensor]:
    # By hand: many causal models' tokenizers have no padding token, and a masked position may hold any id.
    longest = max(len(row) for row in rows)
    ids = [[0] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return {
        "input_ids": torch.tensor(ids, device=device),
        "attention_mask": torch.tensor(mask, device=device),
    }
