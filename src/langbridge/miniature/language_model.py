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

from langbridge.miniature import world
from langbridge.miniature.corpus import careless, solved_problems
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
    steps: int = 3000
    batch_size: int = 48
    learning_rate: float = 2e-3
    shares: dict[str, float] = field(default_factory=lambda: {"en": 0.91, "es": 0.03, "de": 0.03, "fr": 0.03})
    haste: float = 0.6
    """Share of the English problems that are written carelessly."""
    noise: float = 0.5
    """Largest deviation of the noise on a problem's embeddings, relative to their own root mean square."""


def batch_texts(step: int, recipe: LanguageModelRecipe, seed: int) -> list[tuple[str, str]]:
    rng = random.Random(f"{seed}/language-model/{step}")
    return list(solved_problems(rng, recipe.batch_size, recipe.shares, recipe.haste))


def noisy(embeddings: Tensor, where: Tensor, most: float, seed: int) -> Tensor:
    """Gaussian noise on embeddings (batch, seq, hidden) `where` a mask (batch, seq) says.

    Each row draws its deviation, between 0 and `most` times the embeddings' root mean square. A model of this size
    otherwise reads its own embeddings only, to the last digit, as large ones do not (compare NEFTune, Jain et al.
    2024).
    """
    generator = torch.Generator().manual_seed(seed)
    strength = most * torch.rand(len(embeddings), 1, 1, generator=generator)
    scale = strength * embeddings.detach().square().mean().sqrt()
    return embeddings + torch.randn(embeddings.shape, generator=generator) * scale * where[..., None]


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
        asked = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, (row, problem) in enumerate(zip(rows, problems, strict=True)):
            ids[i, : len(row)] = torch.tensor(row)
            weight[i, : len(row)] = 0.1  # the problem's own words: most cannot be foreseen
            weight[i, len(problem) : len(row)] = 1.0
            asked[i, : len(problem)] = True
        real = weight[:, 1:] > 0
        embeddings = noisy(model.model.embed_tokens(ids), asked, recipe.noise, seed * 1_000_003 + step)
        with torch.autocast("cpu", torch.bfloat16):
            states = model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, :-1]
            losses = F.cross_entropy(model.lm_head(states[real]).float(), ids[:, 1:][real], reduction="none")
        weight = weight[:, 1:][real]
        solution = weight == 1.0
        return {"loss": (losses * weight).sum() / weight.sum(), "solution": losses[solution].mean().detach()}

    fit(
        model, loss_of, steps=recipe.steps, learning_rate=recipe.learning_rate,
        warmup=min(200, max(1, recipe.steps // 10)), state=state, log=log,
    )  # fmt: skip
    return model


@torch.no_grad()
def held_out_solved(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int = 200) -> dict[str, float]:
    """The share of held-out English problems solved word for word, `tidy` as rendered and `careless`.

    A solution is solved where each of its tokens is the likeliest one after those before it, as greedy decoding
    would write it.
    """
    problems = list(world.problems("validation", count))
    rng = random.Random("held-out careless")
    ways = {"tidy": [world.render(p, "en") for p in problems], "careless": [careless(rng, p) for p in problems]}
    solved = {}
    for way, texts in ways.items():
        right = 0
        for text, problem in zip(texts, problems, strict=True):
            asked = tokenizer(text + SEPARATOR).input_ids
            ids = tokenizer(text + SEPARATOR + world.solution(problem) + tokenizer.eos_token).input_ids
            likeliest = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, len(asked) - 1 : -1].argmax(-1)
            right += int(likeliest.tolist() == ids[len(asked) :])
        solved[way] = right / count
    return solved
