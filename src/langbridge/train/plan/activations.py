"""What a training step keeps in memory between the forward and the backward pass, without taking that memory.

The model is laid out in tensors without storage and run at the sizes of the step; every tensor that autograd would
keep is counted once, parameters apart. So it holds for any architecture, precision and batch, and needs no formula.
Attention that goes through `scaled_dot_product_attention` counts as a fused kernel does: queries, keys, values,
output, one number a query, and the mask with whatever is added to the scores. Attention written out in the model
counts with its whole matrix, as it would be kept.
"""

import copy
import json
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM, PreTrainedConfig

from langbridge.model.encoders import build_encoder
from langbridge.model.language_models import remove_dropout


class _Fused(torch.autograd.Function):
    """Attention as a fused kernel keeps it."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        # A mask of booleans is turned into numbers to add to the scores.
        ctx.save_for_backward(query, key, value, output, sums, None if mask is None else mask.to(query.dtype))
        return output

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise NotImplementedError("laid out to be counted, not to be trained")


class _FusedAttention(TorchFunctionMode):
    """Every call of `scaled_dot_product_attention` is one of `_Fused`."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        names = ("query", "key", "value", "attn_mask")
        named = dict(zip(names, args, strict=False)) | (kwargs or {})
        tensors = [named[name] for name in names[:3]]
        if torch.is_autocast_enabled("cpu"):  # which does not look into a function of ours
            tensors = [tensor.to(torch.get_autocast_dtype("cpu")) for tensor in tensors]
        return _Fused.apply(*tensors, named.get("attn_mask"))


def kept_by_encoder(
    config: PreTrainedConfig, rows: int, length: int, *, dtype: torch.dtype, bf16: bool, trained: bool
) -> int:
    """Bytes kept of an encoder that reads `rows` of `length` tokens; where it is frozen, a gradient runs through it
    to new embedding rows. `bf16` is mixed precision."""

    def run(model: nn.Module) -> None:
        model.requires_grad_(trained).train(trained)
        if not trained:
            model.get_input_embeddings().weight.requires_grad_(True)
        model(input_ids=torch.zeros(rows, length, dtype=torch.long), attention_mask=_ones(rows, length))

    return _kept(build_encoder, run, config, dtype, bf16, ("encoder", rows, length, trained))


def kept_by_language_model(
    config: PreTrainedConfig, rows: int, length: int, *, dtype: torch.dtype, bf16: bool, trained: frozenset[str] | None
) -> int:
    """Bytes kept of a language model that reads `rows` of `length` embedded positions, its logits apart. A gradient
    runs through it to its input; `trained` names the layers whose weights are trained too, None stands for all."""

    def run(model: nn.Module) -> None:
        model.requires_grad_(trained is None)
        if trained is not None:
            remove_dropout(model)  # as a bridge does with the language model that it leaves as it is
            for name in trained:
                model.get_submodule(name).requires_grad_(True)
        width = model.get_input_embeddings().embedding_dim
        embeds = torch.empty(rows, length, width, dtype=dtype, requires_grad=True)
        # The base model: the head runs at target positions only, and its logits are counted apart.
        model.base_model(inputs_embeds=embeds, attention_mask=_ones(rows, length), use_cache=False)

    about = ("language model", rows, length, trained)
    return _kept(AutoModelForCausalLM.from_config, run, config, dtype, bf16, about)


_COUNTED: dict[Hashable, int] = {}
"""Earlier counts: planning many runs asks for the same bases at the same sizes."""


def _kept(
    build: Callable[[PreTrainedConfig], nn.Module],
    run: Callable[[nn.Module], None],
    config: PreTrainedConfig,
    dtype: torch.dtype,
    bf16: bool,
    about: tuple[Hashable, ...],
) -> int:
    # The vocabulary does not count: its rows are looked up and not kept.
    shape = json.dumps({key: value for key, value in config.to_dict().items() if key != "vocab_size"}, default=str)
    key = (shape, dtype, bf16, about)
    if key not in _COUNTED:
        config = copy.deepcopy(config)
        config.dtype = dtype
        _COUNTED[key] = _count(lambda: build(config), run, bf16)
    return _COUNTED[key]


def _count(build: Callable[[], nn.Module], run: Callable[[nn.Module], None], bf16: bool) -> int:
    kept: dict[int, Tensor] = {}  # by storage; holding the tensors keeps their ids from being reused
    with FakeTensorMode():
        model = build().train()
        own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()._cdata
            if storage not in own:
                kept[storage] = tensor
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16), hooks, _FusedAttention():
            run(model)
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _ones(rows: int, length: int) -> Tensor:
    return torch.ones(rows, length, dtype=torch.long)
