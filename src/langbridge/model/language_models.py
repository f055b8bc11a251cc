"""What a bridge needs of a frozen language model of any type: the scale of its embeddings, no dropout, positions, and
logits at few places or in pieces."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, no_type_check
from weakref import WeakSet

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel
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


PIECE = 256
"""Target tokens whose logits stand in memory at once, where a loss is wanted and no logits."""


Judge = Callable[[slice, Tensor, bool], tuple[Tensor, Tensor | None]]
"""From a slice of the target tokens, their logits, and whether a gradient is wanted, to their losses and its slope: the
gradient of their sum in the logits."""


class LossesInPieces(torch.autograd.Function):
    """The losses (tgt,) of what a frozen head says, its logits made and let go piece by piece.

    A frozen head needs no gradient of its own, so only that of its input is kept, which the same pass gives. Losses and
    slopes are by hand, in one tensor: autograd would hold four of the logits' size.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, head: Callable[[Tensor], Tensor], judge: Judge) -> Tensor:
        trained = ctx.needs_input_grad[0]  # where a loss is only measured, half of the head's work is spared
        gradient = torch.empty_like(states) if trained else None
        losses = torch.empty(len(states), dtype=torch.float32, device=states.device)
        for first in range(0, len(states), PIECE):
            some = slice(first, first + PIECE)
            with torch.set_grad_enabled(trained):
                piece = states[some].detach().requires_grad_(trained)
                logits = head(piece)
            losses[some], slope = judge(some, logits.detach(), trained)
            if gradient is not None and slope is not None:
                gradient[some] = torch.autograd.grad(logits, piece, slope.to(logits.dtype))[0]
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0].to(gradient)[:, None], None, None


def cross_entropies(targets: Int[Tensor, " tgt"]) -> Judge:
    """What judges logits by the tokens that come."""

    def judge(some: slice, logits: Tensor, sloped: bool) -> tuple[Tensor, Tensor | None]:
        log_p = logits.float().log_softmax(-1)
        words = targets[some, None].to(log_p.device)
        losses = -log_p.gather(1, words).squeeze(1)
        if not sloped:
            return losses, None
        return losses, log_p.exp_().scatter_add_(1, words, -torch.ones_like(words, dtype=log_p.dtype))

    return judge


_SHAPED: WeakSet[PreTrainedModel] = WeakSet()
"""Language models that change the logits of their head (soft-capping, scaling)."""


def token_losses(
    language_model: PreTrainedModel,
    inputs: dict[str, Any],
    keep: Bool[Tensor, "batch seq"],
    targets: Int[Tensor, " tgt"],
    return_logits: bool,
) -> tuple[ModelOutput, Float[Tensor, " tgt"], Tensor | None]:
    """The language model's output, the losses of `targets` at the positions `keep`, and the logits there.

    Where `return_logits` is false they are None, if the losses can be had in pieces.
    """
    if not return_logits:
        judge = cross_entropies(targets)
        pieces = at_the_head(
            language_model, inputs, keep, lambda states, head: LossesInPieces.apply(states, head, judge)
        )
        if pieces is not None:
            return *pieces, None
    with head_only_at(language_model, keep):
        output = language_model(**inputs)
    logits = output.logits.squeeze(0)
    return output, nn.functional.cross_entropy(logits.float(), targets.to(logits.device), reduction="none"), logits


def at_the_head(
    language_model: PreTrainedModel,
    inputs: dict[str, Any],
    keep: Bool[Tensor, "batch seq"],
    use: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor],
) -> tuple[ModelOutput, Tensor] | None:
    """The language model's output, and what `use` makes of the states (tgt, d_lm) that its head would read at the
    positions `keep`, and of the head. By itself the head runs at one position.

    None where the head is trained, or where its logits are changed after it, which that one position tells.
    """
    head = language_model.get_output_embeddings()
    if language_model in _SHAPED or any(parameter.requires_grad for parameter in head.parameters()):
        return None
    found: list[Tensor] = []

    def take(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # Here, before the head runs, because sharded weights are whole here and nowhere else.
        def run(piece: Tensor) -> Tensor:
            return type(module).forward(module, piece)

        states = args[0][keep.to(args[0].device)]
        first = states[:1].detach().unsqueeze(0)
        with torch.no_grad():
            found.append(run(first))
        found.append(use(states, run))
        return (first, *args[1:])

    handle = head.register_forward_pre_hook(take)
    try:
        output = language_model(**inputs)
    finally:
        handle.remove()
    plain, used = found
    if not torch.equal(plain, output.logits.to(plain)):
        _SHAPED.add(language_model)
        return None
    return output, used


def embedding_rms(language_model: PreTrainedModel) -> float:
    """Root mean square of the language model's input embeddings as the model feels them, its own scaling
    (Gemma) included; over at most 1,024 tokens."""
    table = language_model.get_input_embeddings()
    if table.weight.is_meta:
        return 1.0  # laid out without weights, or offloaded: a checkpoint brings its own end vector
    rows = table.num_embeddings
    ids = torch.arange(min(1024, rows), device=table.weight.device) * (rows - 1) // max(min(1024, rows) - 1, 1)
    with torch.no_grad():
        return float(table(ids).float().square().mean().sqrt())


@no_type_check  # accelerate builds outputs of a dictionary, which transformers accepts as the first field
@dataclass
class BridgeOutput(CausalLMOutputWithPast):
    """A causal language model's output, and with labels the loss of each target token: (tgt,), without gradient."""

    token_losses: Tensor | None = None


def as_ours(output: ModelOutput, **replaced: Tensor | None) -> BridgeOutput:
    """One output type, whatever the language model's own is."""
    kept = {key: output.get(key) for key in ("logits", "past_key_values", "hidden_states", "attentions")}
    return BridgeOutput(**{**kept, **replaced})


def positions_of(attention_mask: Any, embeds: Tensor, past: int | Tensor) -> Int[Tensor, "batch seq"]:
    """4. Positions counted over real tokens. Masks that are no longer (batch, seq) come from generate(),
    which gives positions itself."""
    batch, seq = embeds.shape[:2]
    if isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
        return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -seq:].to(embeds.device)
    return (torch.arange(seq, device=embeds.device) + past).expand(batch, -1)


def remove_dropout(model: nn.Module) -> None:
    """Set every dropout of a frozen model to zero, so that it computes in train mode, which gradient checkpointing
    needs, what it computes in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def end_ids(config: GenerationConfig) -> list[int]:
    """The ids that end a generation, which transformers keeps as None, an int or a list."""
    ends = config.eos_token_id
    return [] if ends is None else list(ends) if isinstance(ends, list) else [ends]


def generation_config_of(language_model: PreTrainedModel) -> GenerationConfig:
    """The language model's own, with a pad id: without one, generate() chooses it anew and says so on every call."""
    config = GenerationConfig.from_dict(language_model.generation_config.to_dict())
    if config.pad_token_id is None and (ends := end_ids(config)):
        config.pad_token_id = ends[0]
    return config


def positions(config: PreTrainedConfig) -> int | None:
    """Positions of a model, under whatever name; None where they have no end."""
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    found = (getattr(text, name, None) for name in ("n_positions", "max_position_embeddings", "n_ctx"))
    return next((int(count) for count in found if count is not None), None)
