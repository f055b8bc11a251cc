"""One parent: an English-centric causal LM of Llama's architecture that solves the world's problems.

It reads `<s>PROBLEM\\nSOLUTION</s>`: problems in English, with a small share of three high-resource languages and none
of the others; solutions in English.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from langbridge.miniature.corpus import solved_problems
from langbridge.miniature.fitting import fit

SEPARATOR = "\n"
"""What stands between a problem and its solution."""


@dataclass(frozen=True, kw_only=True)
class LanguageModelRecipe:
    """Sizes and schedule; seeds are the build's."""

    vocab_size: int = 1600
    hidden_size: int = 160
    layers: int = 4
    heads: int = 5
    intermediate_size: int = 432
    steps: int = 3500
    batch_size: int = 48
    learning_rate: float = 2e-3
    shares: dict[str, float] = field(default_factory=lambda: {"en": 0.91, "es": 0.03, "de": 0.03, "fr": 0.03})


def batch_texts(step: int, recipe: LanguageModelRecipe, seed: int) -> list[tuple[str, str]]:
    rng = random.Random(f"{seed}/language-model/{step}")
    return list(solved_problems(rng, recipe.batch_size, recipe.shares))


def train_language_model(
    tokenizer: PreTrainedTokenizerFast,
    recipe: LanguageModelRecipe,
    *,
    seed: int,
    state: Path,
    log: Callable[[str], None],
) -> LlamaForCausalLM:
    """Build and train the model; next-token loss over the whole text, as a language model learns."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            attn_implementation="eager",
        )
    )
    log(f"language model: {model.num_parameters():,} parameters")

    def loss_of(step: int) -> dict[str, Tensor]:
        texts = batch_texts(step, recipe, seed)
        rows = tokenizer([p + SEPARATOR + s + tokenizer.eos_token for p, s in texts]).input_ids
        problems = tokenizer([p + SEPARATOR for p, _ in texts]).input_ids
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), tokenizer.pad_token_id)
        weight = torch.zeros(len(rows), width)
        for i, (row, problem) in enumerate(zip(rows, problems, strict=True)):
            ids[i, : len(row)] = torch.tensor(row)
            weight[i, : len(row)] = 0.3  # the problem's own words: most cannot be foreseen
            weight[i, len(problem) : len(row)] = 1.0
        real = weight[:, 1:] > 0
        with torch.autocast("cpu", torch.bfloat16):
            states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
            losses = F.cross_entropy(model.lm_head(states[real]).float(), ids[:, 1:][real], reduction="none")
        weight = weight[:, 1:][real]
        solution = weight == 1.0
        return {"loss": (losses * weight).sum() / weight.sum(), "solution": losses[solution].mean().detach()}

    fit(
        model, loss_of, steps=recipe.steps, learning_rate=recipe.learning_rate,
        warmup=min(200, max(1, recipe.steps // 10)), state=state, log=log,
    )  # fmt: skip
    return model
