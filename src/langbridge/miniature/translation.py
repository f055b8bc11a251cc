"""The other parent: the encoder of a small translation model between the twelve languages, of mT5's architecture.

What makes its states shared between languages, beside many-to-many translation: the target's language is told to
the decoder only, so the encoder cannot prepare for it, and the tokens of parallel texts are drawn together by a
contrast (below) against texts that share their names, numbers and length.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerFast

from langbridge.miniature.corpus import Pair, problem_pairs, sentence_pairs
from langbridge.miniature.fitting import fit
from langbridge.miniature.tokenization import language_tag


@dataclass(frozen=True, kw_only=True)
class TranslationRecipe:
    """Sizes and schedule; seeds are the build's."""

    vocab_size: int = 2700
    d_model: int = 128
    layers: int = 4
    decoder_layers: int = 2
    heads: int = 4
    d_ff: int = 256
    steps: int = 9000
    sentence_groups: int = 8
    problem_groups: int = 3
    group_size: int = 8
    problem_group_size: int = 4
    problem_every: int = 4
    """Every how many steps the batch holds whole problems instead of sentences."""
    learning_rate: float = 3e-3
    contrast: float = 0.5
    """Weight of the contrast beside the translation loss."""
    temperature: float = 0.04


def new_model(tokenizer: PreTrainedTokenizerFast, recipe: TranslationRecipe) -> MT5ForConditionalGeneration:
    model = MT5ForConditionalGeneration(
        MT5Config(
            vocab_size=len(tokenizer),
            d_model=recipe.d_model,
            d_kv=recipe.d_model // recipe.heads,
            d_ff=recipe.d_ff,
            num_layers=recipe.layers,
            num_decoder_layers=recipe.decoder_layers,
            num_heads=recipe.heads,
            dropout_rate=0.0,
            tie_word_embeddings=True,
            attn_implementation="eager",
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    )
    # T5 draws embeddings with deviation 1; tied to the output without T5's old scaling the loss would start near 70.
    with torch.no_grad():
        model.shared.weight.mul_(recipe.d_model**-0.5)
    return model


def late_interaction(first: Tensor, first_mask: Tensor, second: Tensor, second_mask: Tensor) -> Tensor:
    """How well every text's tokens find their like in every other text: (texts a, texts b), at most 1.

    The mean over a text's tokens of the largest cosine with a token of the other text, both ways (ColBERT's score,
    Khattab and Zaharia 2020, made symmetric). States are (texts, seq, d), masks (texts, seq) of 0 and 1.
    """
    first, second = F.normalize(first, dim=-1), F.normalize(second, dim=-1)
    a, n, d = first.shape
    b, m, _ = second.shape
    cosine = (first.reshape(a * n, d) @ second.reshape(b * m, d).T).reshape(a, n, b, m)
    first_real, second_real = first_mask.bool(), second_mask.bool()
    forward = cosine.masked_fill(~second_real[None, None], -1.0).amax(3)
    forward = (forward * first_mask[:, :, None]).sum(1) / first_mask.sum(1)[:, None]
    backward = cosine.masked_fill(~first_real[:, :, None, None], -1.0).amax(1)
    backward = (backward * second_mask[None]).sum(2) / second_mask.sum(1)[None]
    return (forward + backward) / 2


def translation_losses(
    model: MT5ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    pairs: list[Pair],
    recipe: TranslationRecipe,
) -> dict[str, Tensor]:
    """Each pair translated both ways, and its tokens drawn together."""
    sources = tokenizer([p.first for p in pairs] + [p.second for p in pairs], padding=True, return_tensors="pt")
    states = model.encoder(**sources).last_hidden_state
    mask = sources.attention_mask
    # A text that changes language is read, never written: the target is rendered in one language.
    targets = tokenizer([p.second for p in pairs] + [p.first for p in pairs], padding=True, return_tensors="pt")
    languages = [p.second_language for p in pairs] + [p.first_language for p in pairs]
    tags = torch.tensor(tokenizer.convert_tokens_to_ids([language_tag(name) for name in languages]))
    labels = targets.input_ids.masked_fill(targets.attention_mask == 0, -100)
    decoded = model.decoder(
        input_ids=torch.cat([tags[:, None], targets.input_ids[:, :-1]], dim=1),
        encoder_hidden_states=states,
        encoder_attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    real = labels != -100  # the softmax over the vocabulary is the dearest part: real tokens only
    translation = F.cross_entropy(model.lm_head(decoded[real]).float(), labels[real])
    half = len(pairs)
    scores = late_interaction(states[:half], mask[:half], states[half:], mask[half:]) / recipe.temperature
    same = torch.arange(half)
    contrast = (F.cross_entropy(scores, same) + F.cross_entropy(scores.T, same)) / 2
    return {
        "loss": translation + recipe.contrast * contrast,
        "translation": translation.detach(),
        "contrast": contrast.detach(),
    }


def train_translation(
    tokenizer: PreTrainedTokenizerFast,
    recipe: TranslationRecipe,
    *,
    seed: int,
    state: Path,
    log: Callable[[str], None],
    check: Callable[[MT5ForConditionalGeneration], str] | None = None,
) -> MT5ForConditionalGeneration:
    """Build and train the translation model; `model.get_encoder()` is the parent."""
    torch.manual_seed(seed)
    model = new_model(tokenizer, recipe)
    encoder_size = sum(p.numel() for p in model.encoder.parameters())
    log(f"translation model: {model.num_parameters():,} parameters, {encoder_size:,} in its encoder")

    def loss_of(step: int) -> dict[str, Tensor]:
        rng = random.Random(f"{seed}/translation/{step}")
        if step % recipe.problem_every == 0:
            pairs = problem_pairs(rng, recipe.problem_groups, recipe.problem_group_size)
        else:
            pairs = sentence_pairs(rng, recipe.sentence_groups, recipe.group_size)
        with torch.autocast("cpu", torch.bfloat16):
            return translation_losses(model, tokenizer, pairs, recipe)

    fit(
        model, loss_of, steps=recipe.steps, learning_rate=recipe.learning_rate,
        warmup=min(300, max(1, recipe.steps // 10)), state=state, log=log,
        check=None if check is None else lambda step: check(model),
    )  # fmt: skip
    return model
