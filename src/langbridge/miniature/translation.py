"""The other parent: the encoder of a small translation model between the twelve languages, of mT5's architecture.

What makes its states shared between languages, beside many-to-many translation: the target's language is told to the
decoder only, so the encoder cannot prepare for it; and each word of the translation must be readable, by one linear
map for all source languages, from *some single state* of the source (`lexical_loss`, IBM Model 1 on states). The
second keeps a state about its own word: a connector reads states one by one, as the language model reads words.
"""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerFast

from langbridge.miniature import world
from langbridge.miniature.corpus import Pair, problem_pairs, sentence_pairs, two_languages
from langbridge.miniature.fitting import fit
from langbridge.miniature.tokenization import language_tag


@dataclass(frozen=True, kw_only=True)
class TranslationRecipe:
    """Sizes and schedule; seeds are the build's."""

    vocab_size: int = 2700
    d_model: int = 192
    layers: int = 3
    decoder_layers: int = 2
    heads: int = 6
    d_ff: int = 384
    steps: int = 2200
    sentences: int = 64
    problems: int = 12
    problem_every: int = 4
    """Every how many steps the batch holds whole problems instead of sentences; they have the lexical loss alone,
    where there is one."""
    learning_rate: float = 2e-3
    lexical: float = 1.0
    """Weight of the lexical loss beside the translation loss."""


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
    # T5 draws embeddings with deviation 1; tied to the output, the loss would start near 70.
    with torch.no_grad():
        model.shared.weight.mul_(recipe.d_model**-0.5)
    return model


def lexical_loss(states: Tensor, mask: Tensor, tags: Tensor, labels: Tensor, table: Tensor) -> Tensor:
    """IBM Model 1 (Brown et al. 1993) on encoder states: - log of the mean over source states of p(word | state, tag).

    p is a softmax over the vocabulary of (state + tag's embedding) times the embedding table: the same for every
    source language. states (batch, src, d), mask (batch, src), tags (batch) of token ids, labels (batch, tgt) with
    -100 where there is no word, table (vocab, d).
    """
    batch, src, _ = states.shape
    real = mask.bool()
    queries = states + table[tags][:, None]
    log_p = F.log_softmax((queries[real] @ table.T).float(), dim=-1)
    full = log_p.new_full((batch, src, labels.shape[1]), float("-inf"))
    words = labels.clamp(min=0)[:, None].expand(-1, src, -1)
    full[real] = log_p.gather(1, words[real])
    mixed = full.logsumexp(1) - mask.sum(1, keepdim=True).log()
    return -mixed[labels != -100].mean()


def translation_losses(
    model: MT5ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    pairs: list[Pair],
    recipe: TranslationRecipe,
    translate: bool = True,
) -> dict[str, Tensor]:
    """Each pair translated both ways (if `translate`), and its words read off the states both ways."""
    sources = tokenizer([p.sources[side] for side in (0, 1) for p in pairs], padding=True, return_tensors="pt")
    states = model.encoder(**sources).last_hidden_state
    mask = sources.attention_mask
    targets = tokenizer([p.targets[side] for side in (1, 0) for p in pairs], padding=True, return_tensors="pt")
    names = [language_tag(p.languages[side]) for side in (1, 0) for p in pairs]
    tags = torch.tensor(tokenizer.convert_tokens_to_ids(names))
    labels = targets.input_ids.masked_fill(targets.attention_mask == 0, -100)
    lexical = lexical_loss(states, mask, tags, labels, model.shared.weight)
    losses = {"loss": recipe.lexical * lexical, "lexical": lexical.detach()}
    if translate:
        decoded = model.decoder(
            input_ids=torch.cat([tags[:, None], targets.input_ids[:, :-1]], dim=1),
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        real = labels != -100  # the softmax over the vocabulary costs most: real tokens only
        translation = F.cross_entropy(model.lm_head(decoded[real]).float(), labels[real])
        losses["translation"] = translation.detach()
        losses["loss"] = losses["loss"] + translation
    return losses


@torch.no_grad()
def held_out_loss(
    model: MT5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, count: int = 200
) -> tuple[float, float]:
    """Nats a token on the sentences of held-out problems between random languages, and the floor.

    The floor is what no reader can foresee: the entropy of the word orders, which are drawn at random. The tag of the
    language is given and has no loss.
    """
    rng = random.Random("held-out translation")
    loss = floor = tokens = 0.0
    for problem in world.problems("validation", count):
        source, target = two_languages(rng)
        texts = tokenizer(world.sentences(problem, source, seed=1), padding=True, return_tensors="pt")
        labels = tokenizer(world.sentences(problem, target, seed=2), padding=True, return_tensors="pt")
        tag = torch.tensor(tokenizer.convert_tokens_to_ids([language_tag(target)] * len(labels.input_ids)))
        decoder_ids = torch.cat([tag[:, None], labels.input_ids[:, :-1]], dim=1)
        logits = model(**texts, decoder_input_ids=decoder_ids).logits
        real = labels.attention_mask.bool()
        loss += F.cross_entropy(logits[real], labels.input_ids[real], reduction="sum").item()
        floor += world.order_entropy(problem, target)
        tokens += real.sum().item()
    return loss / tokens, floor / tokens


def train_translation(
    tokenizer: PreTrainedTokenizerFast,
    recipe: TranslationRecipe,
    *,
    seed: int,
    state: Path,
    log: Callable[[str], None],
    check: Callable[[MT5ForConditionalGeneration], str] | None = None,
    keep: Callable[[int, MT5ForConditionalGeneration], object] | None = None,
    keep_at: Collection[int] = (),
) -> MT5ForConditionalGeneration:
    """Build and train the translation model; `model.get_encoder()` is the parent. `keep` is given the model as it is
    after each of the steps `keep_at`."""
    torch.manual_seed(seed)
    model = new_model(tokenizer, recipe)
    encoder_size = sum(p.numel() for p in model.encoder.parameters())
    log(f"translation model: {model.num_parameters():,} parameters, {encoder_size:,} in its encoder")

    def loss_of(step: int) -> dict[str, Tensor]:
        rng = random.Random(f"{seed}/translation/{step}")
        # Whole problems are read, not translated: to follow the order of sentences a decoder of this size needs it
        # written into every state, where a connector has no use for it. (Without the lexical loss nothing else is left
        # to be learned from them.)
        whole = step % recipe.problem_every == 0
        pairs = problem_pairs(rng, recipe.problems) if whole else sentence_pairs(rng, recipe.sentences)
        with torch.autocast("cpu", torch.bfloat16):
            return translation_losses(model, tokenizer, pairs, recipe, translate=not whole or not recipe.lexical)

    fit(
        model, loss_of, steps=recipe.steps, learning_rate=recipe.learning_rate,
        warmup=min(300, max(1, recipe.steps // 10)), state=state, log=log,
        check=None if check is None else lambda step: check(model),
        keep=None if keep is None else lambda step: keep(step, model), keep_at=keep_at,
    )  # fmt: skip
    return model
