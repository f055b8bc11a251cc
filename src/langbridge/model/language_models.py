"""What the bridge asks of a frozen language model, whatever its type: its scale, its silence (no dropout),
its positions, its head at few places."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast, ModelOutput


@contextmanager
def head_only_at(language_model: PreTrainedModel, keep: Bool[Tensor, "batch seq"]) -> Iterator[None]:
    """Let the output head see only the positions `keep`, as one row. What follows the head (soft-capping,
    scaling) stays the language model's own."""

    def gather(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][keep.to(args[0].device)].unsqueeze(0), *args[1:])

    handle = language_model.get_output_embeddings().register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def embedding_rms(language_model: PreTrainedModel) -> float:
    """Root mean square of the language model's input embeddings as the model feels them, its own scaling
    (Gemma) included; over at most 1,024 tokens."""
    table = language_model.get_input_embeddings()
    if table.weight.is_meta:
        return 1.0  # laid out without weights, or offloaded: a checkpoint brings its own end vector
    ids = torch.linspace(
        0, table.num_embeddings - 1, min(1024, table.num_embeddings), device=table.weight.device
    ).long()
    with torch.no_grad():
        return float(table(ids).float().square().mean().sqrt())


def as_ours(output: ModelOutput, **replaced: Tensor) -> CausalLMOutputWithPast:
    """One output type, whatever the language model's own is."""
    kept = {key: output.get(key) for key in ("logits", "past_key_values", "hidden_states", "attentions")}
    return CausalLMOutputWithPast(**{**kept, **replaced})


def positions_of(attention_mask: Any, embeds: Tensor, past: int | Tensor) -> Int[Tensor, "batch seq"]:
    """4. Positions counted over real tokens. Masks that are no longer (batch, seq) come from generate(),
    which gives positions itself."""
    batch, seq = embeds.shape[:2]
    if isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
        return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -seq:].to(embeds.device)
    return (torch.arange(seq, device=embeds.device) + past).expand(batch, -1)


def remove_dropout(model: nn.Module) -> None:
    """Set every dropout of a frozen model to zero, so that it may follow train() (gradient checkpointing
    asks for that) and compute the same as in eval()."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def generation_config_of(language_model: PreTrainedModel) -> GenerationConfig:
    """The language model's own, with a pad id: without one, generate() chooses it anew and says so on every
    call."""
    config = GenerationConfig.from_dict(language_model.generation_config.to_dict())
    if config.pad_token_id is None and config.eos_token_id is not None:
        eos = config.eos_token_id
        config.pad_token_id = eos if isinstance(eos, int) else eos[0]
    return config
