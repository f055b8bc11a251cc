"""The language model's tokens nearest to each soft prompt.

A soft prompt need not be near any token to work. Where it is, the tokens' scripts show whether a language is expressed
in another one's tokens (the paper's authors suspect that Bengali comes out near Chinese).
"""

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langbridge.analyze.scripts import NO_SCRIPT, script_of
from langbridge.analyze.states import encoder_tokens
from langbridge.errors import LangBridgeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from langbridge.model import LangBridgeModel, LangBridgeProcessor

END = "[end]"
OTHERS = "·"
"""Marks, in the listing, tokens that are not the prompt's own."""
_CHUNK = 8192
"""Vocabulary rows compared at once."""


@dataclass(frozen=True)
class Neighbour:
    """A token of the language model, and its embedding's cosine with a soft prompt."""

    id: int
    text: str
    script: str
    cosine: float


@dataclass(frozen=True)
class SoftPrompt:
    """One soft prompt: the encoder token that it was made of, and the language model's tokens nearest to it."""

    source: str
    own: bool
    """Whether it was made of the prompt itself: not of the template or a special token, and not the end vector."""
    norm: float
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Nearest:
    """All soft prompts of a prompt, the end vector last, and what to hold them against."""

    soft_prompts: tuple[SoftPrompt, ...]
    embedding_norm: float
    """The median norm of the language model's embeddings."""
    vocabulary_scripts: dict[str, float]
    """The share of each script among the vocabulary's tokens: what a nearest token's would be by chance."""

    def scripts(self) -> dict[str, float]:
        """The share of each script among the tokens nearest to the prompt's own soft prompts, one for each; most
        frequent first. Template and special tokens are left out: they are the same in every language."""
        return _shares([one.nearest[0].script for one in self.own])

    @property
    def own(self) -> tuple[SoftPrompt, ...]:
        """The soft prompts of the prompt itself, at least one."""
        return tuple(one for one in self.soft_prompts if one.own)

    @property
    def norm(self) -> float:
        """The median norm of the prompt's own soft prompts."""
        return statistics.median(one.norm for one in self.own)


def nearest_tokens(
    model: "LangBridgeModel",
    processor: "LangBridgeProcessor",
    prompt: str,
    *,
    top: int = 5,
    source_language: str | None = None,
) -> Nearest:
    """The `top` tokens of the language model nearest to each soft prompt of `prompt`, which is put in the template.
    source_language: of the prompt, for encoders that mark it.

    The placeholder and rows that no token uses are left out. Embeddings are compared as the language model
    computes them, with its scaling. Raises `LangBridgeError`.
    """
    if not prompt.strip():
        raise LangBridgeError("prompt: the text is empty")
    if top < 1:
        raise LangBridgeError(f"--top: expected at least 1, got {top}")
    batch = processor([prompt], source_language=source_language).to(model.device)
    model.eval()
    with torch.inference_mode():
        soft, mask = model.soft_prompts(batch["encoder_input_ids"], batch["encoder_attention_mask"])
        soft = soft[0, mask[0].bool()].float()
        sources = _sources(processor, prompt, len(soft), source_language)
        table = model.language_model.get_input_embeddings()
        vocabulary = len(processor.tokenizer)
        ids = [i for i in range(min(vocabulary, table.num_embeddings)) if i != processor.soft_prompt_token_id]
        cosines, norms = _cosines(soft, table, torch.tensor(ids))
    best = cosines.topk(min(top, len(ids)), dim=1)
    texts = [token_text(processor.tokenizer, i) for i in ids]
    scripts = [script_of(text) for text in texts]
    found = [
        SoftPrompt(
            source,
            mine,
            float(vector.norm()),
            tuple(
                Neighbour(ids[place], texts[place], scripts[place], value)
                for value, place in zip(values.tolist(), places.tolist(), strict=True)
            ),
        )
        for (source, mine), vector, values, places in zip(sources, soft, *best, strict=True)
    ]
    return Nearest(tuple(found), float(norms.median()), _shares(scripts))


def token_text(tokenizer: "PreTrainedTokenizerBase", token: int) -> str:
    """A token as text, or as the tokenizer writes it where it is not a whole character."""
    text = str(tokenizer.decode([token]))
    return text if text.strip() else str(tokenizer.convert_ids_to_tokens(token))


def as_text(found: Nearest) -> str:
    """A line for each soft prompt, those that are not the prompt's own with a dot, then the scripts."""
    # A newline or a space as a token would not be seen.
    sources = [s if s.strip() and s.isprintable() else repr(s) for s in (one.source for one in found.soft_prompts)]
    width = max(map(len, sources))
    lines = []
    for number, (source, one) in enumerate(zip(sources, found.soft_prompts, strict=True)):
        near = [(n.text, "-" if n.script == NO_SCRIPT else n.script, n.cosine) for n in one.nearest]
        tokens = "  ".join(f"{text!r} {script} {cosine:.2f}" for text, script, cosine in near)
        lines.append(f"{number:>3}{' ' if one.own else OTHERS} {source:<{width}}  {tokens}")
    lines += [
        "",
        f"{OTHERS} not the prompt's own (template, special tokens, end vector): left out below",
        f"scripts of the nearest tokens: {_percents(found.scripts())}",
        f"scripts of the vocabulary:     {_percents(found.vocabulary_scripts)}",
        f"norm: soft prompts {found.norm:.2f}, embeddings {found.embedding_norm:.2f} (medians)",
    ]
    return "\n".join(lines)


def _cosines(soft: Tensor, table: torch.nn.Module, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(soft, ids) cosines on the CPU, and the norms of the embeddings."""
    device = next(table.parameters()).device
    directions = torch.nn.functional.normalize(soft, dim=1).to(device)
    cosines, norms = [], []
    for chunk in ids.split(_CHUNK):
        rows = table(chunk.to(device)).float()
        norms.append(rows.norm(dim=1).cpu())
        cosines.append((directions @ torch.nn.functional.normalize(rows, dim=1).T).cpu())
    return torch.cat(cosines, dim=1), torch.cat(norms)


def _sources(processor: "LangBridgeProcessor", prompt: str, soft: int, language: str | None) -> list[tuple[str, bool]]:
    """What each soft prompt was made of, and whether that is the prompt's own."""
    if not processor.connector.token_aligned:  # each reads all tokens
        return [*((f"[latent {i}]", True) for i in range(soft - 1)), (END, False)]
    (read,) = encoder_tokens(processor, [prompt], None, [language])
    if not any(read.own):
        raise LangBridgeError(f"prompt: the encoder's tokenizer leaves nothing of {prompt!r}")
    texts = map(str, processor.encoder_tokenizer.convert_ids_to_tokens(read.ids))
    found = zip(read.ids, texts, read.own, strict=True)
    return [*((text, own) for token, text, own in found if token not in processor.bare_token_ids), (END, False)]


def _shares(scripts: list[str]) -> dict[str, float]:
    return {script: count / len(scripts) for script, count in Counter(scripts).most_common()}


def _percents(shares: dict[str, float]) -> str:
    """Large vocabularies have tokens of some sixty scripts: those under half a per cent are summed up."""
    shown = {script: share for script, share in shares.items() if share >= 0.005}
    lines = [f"{script} {100 * share:.0f} %" for script, share in shown.items()]
    if rest := len(shares) - len(shown):
        lines.append(f"{rest} other{'s' if rest > 1 else ''} {100 * (1 - sum(shown.values())):.1f} %")
    return ", ".join(lines)
