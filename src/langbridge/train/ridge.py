"""The closed-form start of a connector that is an affine map: ridge regression of the language model's input embeddings
on the encoder's states.

From a random connector the language model learns to write fluent answers long before it reads the prompt. This start
makes the prompt readable before the first step. Both tokenizers cut the same English text; an encoder token's target
is the mean of the language model's embeddings of the tokens that it shares characters with, white space before a word
not counted. Tokens weigh by the inverse of a power of their frequency (`balance`), or rare words, numbers before all,
would be fitted last. A regression predicts means, which are shorter than what they are means of, and short soft prompts
are read badly: so the map is scaled until its soft prompts are as long as the embeddings.

One forward pass over a few hundred texts; its states and targets are kept in float32, the sums over them are taken and
solved in float64.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from langbridge.model import LangBridgeModel, LangBridgeProcessor
from langbridge.train.prepare import some_texts
from langbridge.train.recipe import Recipe

HELD_OUT = 0.1
"""Share of the token types that a fit is judged on which has not seen them. Texts held out would judge nothing: nearly
all their types stand in the others, too."""

BATCH = 32
ROWS = 4096
"""Tokens whose states and targets stand in float64 at once."""


class NoOffsetsWarning(UserWarning):
    """A tokenizer gives no character offsets, so the ridge start is not possible and the start is random."""


@dataclass(frozen=True, kw_only=True)
class RidgeFit:
    """What the regression found; `explained` is the share of the embeddings' variance, 1 at best.

    explained_held_out: by a fit that had not seen these types of token, which is what reading a word of another
        language asks for. scale: what the map was multiplied by, for soft prompts as long as embeddings.
    """

    texts: int
    tokens: int
    explained: float
    explained_held_out: float
    scale: float

    def __str__(self) -> str:
        return (
            f"ridge start: {self.texts} texts, {self.tokens} tokens, variance explained {self.explained:.3f}"
            f" (of types held out {self.explained_held_out:.3f}), scaled by {self.scale:.2f}"
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
    states, targets, ids = collect(model, processor, texts)
    weights = torch.bincount(ids)[ids].double() ** -balance
    held_out = _some_types(ids)
    seen, unseen = (_Moments.of(states, targets, weights, part) for part in (~held_out, held_out))
    unseen_explained = seen.fit(penalty).explained(states, targets, weights, held_out)
    fit = (seen + unseen).fit(penalty)
    scale = fit.scale(states, targets, weights)
    model.connector.set_affine(fit.weight * scale, fit.bias * scale, end_vector(model, processor, fit.target_mean))
    return RidgeFit(
        texts=len(texts),
        tokens=len(states),
        explained=fit.explained(states, targets, weights),
        explained_held_out=unseen_explained,
        scale=scale,
    )


def _some_types(ids: Int[Tensor, " tokens"]) -> Bool[Tensor, " tokens"]:
    """The tokens of a fixed sample of the types, at least one of them and never all."""
    types = ids.unique()
    order = torch.randperm(len(types), generator=torch.Generator().manual_seed(0))
    return torch.isin(ids, types[order[: min(max(1, round(len(types) * HELD_OUT)), len(types) - 1)]])


@dataclass(frozen=True, kw_only=True)
class _Affine:
    """States to embeddings: `states @ weight + bias`."""

    weight: Float[Tensor, "d_encoder d_lm"]
    bias: Float[Tensor, " d_lm"]
    target_mean: Float[Tensor, " d_lm"]

    def explained(self, states: Tensor, targets: Tensor, weights: Tensor, part: Tensor | None = None) -> float:
        """The share of the weighted variance of these tokens' targets about the fit's own mean."""
        unexplained = variance = 0.0
        for share, some_states, some_targets in _in_double(states, targets, weights, part):
            unexplained += float(share @ (some_targets - some_states @ self.weight - self.bias).square().sum(1))
            variance += float(share @ (some_targets - self.target_mean).square().sum(1))
        return 1 - unexplained / variance if variance else 0.0

    def scale(self, states: Tensor, targets: Tensor, weights: Tensor) -> float:
        """How much longer targets are than what the map makes of their states, in the weighted mean."""
        wanted = made = 0.0
        for share, some_states, some_targets in _in_double(states, targets, weights):
            wanted += float(share @ some_targets.norm(dim=1))
            made += float(share @ (some_states @ self.weight + self.bias).norm(dim=1))
        return wanted / made


@dataclass(frozen=True)
class _Moments:
    """Weighted sums over tokens, in float64, from which a regression follows: of the weights, states, targets, and
    their products."""

    total: Float[Tensor, ""]
    states: Float[Tensor, " d_encoder"]
    targets: Float[Tensor, " d_lm"]
    gram: Float[Tensor, "d_encoder d_encoder"]
    cross: Float[Tensor, "d_encoder d_lm"]

    @classmethod
    def of(cls, states: Tensor, targets: Tensor, weights: Tensor, part: Tensor) -> "_Moments":
        """Of the tokens in `part`."""
        d_encoder, d_lm = states.shape[1], targets.shape[1]
        shapes = [(), (d_encoder,), (d_lm,), (d_encoder, d_encoder), (d_encoder, d_lm)]
        sums = cls(*(torch.zeros(shape, dtype=torch.float64) for shape in shapes))
        for share, some_states, some_targets in _in_double(states, targets, weights, part):
            weighted = share[:, None] * some_states
            sums.total.add_(share.sum())
            sums.states.add_(weighted.sum(0))
            sums.targets.add_(share @ some_targets)
            sums.gram.addmm_(weighted.T, some_states)
            sums.cross.addmm_(weighted.T, some_targets)
        return sums

    def __add__(self, other: "_Moments") -> "_Moments":
        return _Moments(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def fit(self, penalty: float) -> _Affine:
        """The regression of targets on states with this penalty, relative to the mean variance of a coordinate."""
        state_mean, target_mean = self.states / self.total, self.targets / self.total
        gram = self.gram / self.total - torch.outer(state_mean, state_mean)
        cross = self.cross / self.total - torch.outer(state_mean, target_mean)
        gram += penalty * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        weight = torch.linalg.solve(gram, cross)
        return _Affine(weight=weight, bias=target_mean - state_mean @ weight, target_mean=target_mean)


def _in_double(
    states: Tensor, targets: Tensor, weights: Tensor, part: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Weights, states and targets in float64, some rows at a time: of the tokens in `part`, or of all."""
    for first in range(0, len(states), ROWS):
        rows: Any = slice(first, first + ROWS)
        if part is not None:
            rows = first + part[rows].nonzero().flatten()
        yield weights[rows], states[rows].double(), targets[rows].double()


@torch.no_grad()
def collect(
    model: LangBridgeModel, processor: LangBridgeProcessor, texts: Sequence[str]
) -> tuple[Float[Tensor, "tokens d_encoder"], Float[Tensor, "tokens d_lm"], Int[Tensor, " tokens"]]:
    """What the connector reads of the encoder's states, the mean language-model embeddings of the tokens that theirs
    share characters with, and the tokens' encoder ids.

    States and embeddings are in float32, or float64 where the models are. Tokens without a soft prompt, and those that
    stand for no character, are left out.
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
        ids_and_mask = source["input_ids"].to(model.device), source["attention_mask"].to(model.device)
        encoded = model.layered(model.encode(*ids_and_mask)).to("cpu", precise)
        spoken = model.spoken(*ids_and_mask).bool().cpu()
        read = processor.tokenizer(chunk, add_special_tokens=False, return_offsets_mapping=True)
        for row, (ids, spans) in enumerate(zip(read["input_ids"], read["offset_mapping"], strict=True)):
            if not ids:
                continue
            embeddings = embed(torch.tensor(ids, device=model.device)).to("cpu", torch.float64)
            cut_alike = (_without_space(chunk[row], one) for one in (source["offset_mapping"][row].tolist(), spans))
            touched = touching(*cut_alike)
            real = touched.any(1) & spoken[row]
            weights = touched[real] / touched[real].sum(1, keepdim=True)
            found[places[row]] = encoded[row][real], (weights @ embeddings).to(precise), source["input_ids"][row][real]
    model.train(was_training)
    states, targets, tokens = (torch.cat(parts) for parts in zip(*filter(None, found), strict=True))
    return states, targets, tokens


def touching(source: Tensor, read: Tensor) -> Float[Tensor, "src tokens"]:
    """1 where an encoder token and a language-model token share a character; spans are (tokens, 2), end excluded."""
    start = torch.maximum(source[:, None, 0], read[None, :, 0])
    end = torch.minimum(source[:, None, 1], read[None, :, 1])
    return (end > start).double()


def _without_space(text: str, spans: Sequence[Sequence[int]]) -> Int[Tensor, "tokens 2"]:
    """The spans without the white space before a word: one tokenizer gives it to the word, another does not."""
    cut = [(stop - (len(text[start:stop].lstrip()) or stop - start), stop) for start, stop in spans]
    return torch.tensor(cut)


@torch.no_grad()
def end_vector(model: LangBridgeModel, processor: LangBridgeProcessor, fallback: Tensor) -> Float[Tensor, " d_lm"]:
    """The mean embedding of the newline's tokens, or `fallback` where the vocabulary has none."""
    tokenizer = processor.tokenizer
    ids = tokenizer("\n", add_special_tokens=False)["input_ids"]
    if not ids or tokenizer.unk_token_id in ids:
        return fallback
    embed = model.language_model.get_input_embeddings()
    return embed(torch.tensor(ids, device=model.device)).float().mean(0).to(fallback.device)
