"""The closed-form start of a connector that is an affine map: ridge regression of the language model's input embeddings
on the encoder's states.

From a random connector the language model learns to write fluent answers long before it reads the prompt. This start
makes the prompt readable before the first step. Both tokenizers cut the same English text; an encoder token's target
is the mean of the language model's embeddings of the characters that they share. Tokens weigh by the inverse of a power
of their frequency (`balance`), or rare words, numbers before all, would be fitted last. One forward pass over a few
hundred texts; its states and targets are kept in float32, the sums over them are taken and solved in float64.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from langbridge.model import LangBridgeModel, LangBridgeProcessor
from langbridge.train.prepare import some_texts
from langbridge.train.recipe import Recipe

HELD_OUT = 0.1
"""Share of the texts that the fit does not see and is judged on."""

BATCH = 32
ROWS = 4096
"""Tokens whose states and targets stand in float64 at once."""


class NoOffsetsWarning(UserWarning):
    """A tokenizer gives no character offsets, so the ridge start is not possible and the start is random."""


@dataclass(frozen=True, kw_only=True)
class RidgeFit:
    """What the regression found; `explained` is the share of the embeddings' variance, 1 at best."""

    texts: int
    tokens: int
    explained: float
    explained_held_out: float

    def __str__(self) -> str:
        return (
            f"ridge start: {self.texts} texts, {self.tokens} tokens, variance explained {self.explained:.3f}"
            f" (held out {self.explained_held_out:.3f})"
        )


def start_connector(
    model: LangBridgeModel, processor: LangBridgeProcessor, examples: Any, recipe: Recipe
) -> RidgeFit | None:
    """Apply `init`: ridge on a seeded sample of the training prompts, or the connector as it is (None)."""
    if recipe.init == "random" or recipe.begins_with is not None or not recipe.connector.closed_form:
        return None
    texts = some_texts(examples, recipe.ridge.texts, recipe.seed)
    return ridge_start(model, processor, texts, penalty=recipe.ridge.penalty, balance=recipe.ridge.balance)


def ridge_start(
    model: LangBridgeModel,
    processor: LangBridgeProcessor,
    prompts: Sequence[str],
    *,
    penalty: float,
    balance: float = 0.0,
) -> RidgeFit | None:
    """Set a connector that has a closed form; None, with a `NoOffsetsWarning`, where it is not possible.

    `penalty` is relative to the mean variance of a state's coordinate; a token of frequency f weighs f ** -balance. The
    end vector starts as what the language model reads where a prompt ends: its newline. Embeddings are taken as the
    model feels them, scaling included.
    """
    for name, tokenizer in (("encoder", processor.encoder_tokenizer), ("language model", processor.tokenizer)):
        if not tokenizer.is_fast:
            warnings.warn(
                f"the {name}'s tokenizer ({type(tokenizer).__name__}) gives no character offsets: no ridge start is "
                "possible, the connector starts at random. A fast tokenizer (tokenizer.json) gives them.",
                NoOffsetsWarning,
                stacklevel=2,
            )
            return None
    texts = [source for prompt in prompts for source in processor.layout.sources(prompt)]
    fitted = max(1, round(len(texts) * (1 - HELD_OUT)))
    states, targets, ids = collect(model, processor, texts[:fitted])
    shares = torch.bincount(ids)[ids].double() ** -balance
    shares /= shares.sum()
    state_mean, target_mean = (torch.zeros(t.shape[1], dtype=torch.float64) for t in (states, targets))
    for rows, some_states, some_targets in _in_double(states, targets):
        state_mean += shares[rows] @ some_states
        target_mean += shares[rows] @ some_targets
    gram = torch.zeros(len(state_mean), len(state_mean), dtype=torch.float64)
    cross = torch.zeros(len(state_mean), len(target_mean), dtype=torch.float64)
    for rows, some_states, some_targets in _in_double(states, targets):
        centred = some_states - state_mean
        weighted = (shares[rows, None] * centred).T
        gram += weighted @ centred
        cross += weighted @ (some_targets - target_mean)
    gram += penalty * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, cross)
    bias = target_mean - state_mean @ weight

    def explained(states: Tensor, targets: Tensor) -> float:
        unexplained, variance, mean = 0.0, 0.0, targets.mean(0, dtype=torch.float64)
        for _, some_states, some_targets in _in_double(states, targets):
            unexplained += float((some_targets - some_states @ weight - bias).square().sum())
            variance += float((some_targets - mean).square().sum())
        return 1 - unexplained / variance

    held_out = collect(model, processor, texts[fitted:])[:2] if fitted < len(texts) else (states, targets)
    model.connector.set_affine(weight, bias, end_vector(model, processor, target_mean))
    return RidgeFit(
        texts=fitted, tokens=len(states), explained=explained(states, targets), explained_held_out=explained(*held_out)
    )


def _in_double(states: Tensor, targets: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Both in float64, a slice of their rows at a time."""
    for first in range(0, len(states), ROWS):
        rows = slice(first, first + ROWS)
        yield rows, states[rows].double(), targets[rows].double()


@torch.no_grad()
def collect(
    model: LangBridgeModel, processor: LangBridgeProcessor, texts: Sequence[str]
) -> tuple[Float[Tensor, "tokens d_encoder"], Float[Tensor, "tokens d_lm"], Int[Tensor, " tokens"]]:
    """Encoder states, the mean language-model embeddings over their tokens' characters, and the tokens' encoder ids.

    States and embeddings are in float32, or float64 where the models are.
    Tokens that stand for no character (special ones) are left out.
    """
    was_training = model.training
    model.eval()
    embed = model.language_model.get_input_embeddings()
    # As long as the encoder can read; positions of a text's first tokens do not depend on what is cut.
    cut: dict[str, Any] = {"truncation": True, "max_length": model.encoder_length_limit or 1024}
    precise = torch.promote_types(torch.float32, model.dtype)
    found: list[tuple[Tensor, Tensor, Tensor] | None] = [None] * len(texts)
    by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # batches that pad little
    for first in range(0, len(texts), BATCH):
        places = by_length[first : first + BATCH]
        chunk = [texts[index] for index in places]
        source = processor.encoder_tokenizer(
            chunk, padding=True, return_tensors="pt", return_offsets_mapping=True, **cut
        )
        encoded = model.encode(source["input_ids"].to(model.device), source["attention_mask"].to(model.device)).to(
            "cpu", precise
        )
        read = processor.tokenizer(chunk, add_special_tokens=False, return_offsets_mapping=True)
        for row, (ids, spans) in enumerate(zip(read["input_ids"], read["offset_mapping"], strict=True)):
            if not ids:
                continue
            embeddings = embed(torch.tensor(ids, device=model.device)).to("cpu", torch.float64)
            shares = overlap(source["offset_mapping"][row], torch.tensor(spans))
            real = (shares.sum(1) > 0) & source["attention_mask"][row].bool()
            weights = shares[real] / shares[real].sum(1, keepdim=True)
            found[places[row]] = encoded[row][real], (weights @ embeddings).to(precise), source["input_ids"][row][real]
    model.train(was_training)
    states, targets, tokens = (torch.cat(parts) for parts in zip(*filter(None, found), strict=True))
    return states, targets, tokens


def overlap(source: Tensor, read: Tensor) -> Float[Tensor, "src tokens"]:
    """Characters that each encoder token shares with each language-model token; spans are (tokens, 2), end excluded."""
    start = torch.maximum(source[:, None, 0], read[None, :, 0])
    end = torch.minimum(source[:, None, 1], read[None, :, 1])
    return (end - start).clamp(min=0).double()


@torch.no_grad()
def end_vector(model: LangBridgeModel, processor: LangBridgeProcessor, fallback: Tensor) -> Float[Tensor, " d_lm"]:
    """The mean embedding of the newline's tokens, or `fallback` where the vocabulary has none."""
    tokenizer = processor.tokenizer
    ids = tokenizer("\n", add_special_tokens=False)["input_ids"]
    if not ids or tokenizer.unk_token_id in ids:
        return fallback
    embed = model.language_model.get_input_embeddings()
    return embed(torch.tensor(ids, device=model.device)).float().mean(0).to(fallback.device)
