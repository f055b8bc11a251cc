"""Soft prompts, and cross-attention from the language model's layers to what the encoder read.

After LayAlign (arXiv 2502.11405): encoder layers are mixed anew for each layer of the language model, whose own frozen
projections make queries, keys and values of it, and a gate that starts at 0 lets it in. So a fresh bridge is exactly
the linear one.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from langbridge.errors import LangBridgeError
from langbridge.model.connectors.linear import LinearConnector
from langbridge.model.memory import Memory


class LayerwiseConnector(LinearConnector):
    """The linear connector, and for every reached layer a mix of the encoder's layers, and a gate.

    What a layer reads at a position is the sum of `memory`'s maps of the encoder layers' states, weighed by the layer's
    `shares`: at first all 1, and the maps those of the soft prompts, so that it reads what the soft prompts say.

    encoder_layers: how many layers' states stand side by side in what it is given. every: reaches the first of every so
    many layers of the language model. gate_scale: how many times faster than its weight a gate moves.
    """

    def __init__(
        self, d_encoder: int, d_lm: int, rms: float, *, encoder_layers: int = 1, every: int = 1, gate_scale: float = 1.0
    ):
        super().__init__(d_encoder, d_lm, rms)
        self.encoder_layers, self.every, self.gate_scale = encoder_layers, every, gate_scale
        self.memory = nn.Linear(d_encoder, d_lm)
        self._as_soft_prompts()

    def reach(self, config: PreTrainedConfig, language_model: PreTrainedModel | None) -> None:
        layers = config.get_text_config(decoder=True).num_hidden_layers
        reached = len(range(0, layers, self.every))
        self.shares = nn.Parameter(torch.ones(reached, self.encoder_layers))
        self.gates = nn.Parameter(torch.zeros(reached))
        if language_model is not None:
            self._reached(language_model)

    def forward(self, states: Float[Tensor, "batch src d_encoder"], mask: Int[Tensor, "batch src"]) -> Memory:
        pieces = states.unflatten(-1, (self.encoder_layers, -1))
        maps = self.memory.weight.unflatten(1, (self.encoder_layers, -1))
        read = torch.einsum("bsne,dne->bsnd", pieces, maps)
        return super().forward(states, mask)._replace(keys_values=read.flatten(2), keys_values_mask=mask)

    def prepare(self, language_model: PreTrainedModel, memory: Memory) -> Memory:
        """Keys and values of every reached layer, side by side: what each makes of the memory as of states of its own,
        without positions."""
        read = memory.keys_values
        assert read is not None, "forward gives it"
        pieces, found = read.unflatten(-1, (self.encoder_layers, -1)), []
        for layer, shares in zip(self._reached(language_model), self.shares, strict=True):
            mixed = torch.einsum("bsnd,n->bsd", pieces, shares) + self.memory.bias
            found += [part.flatten(2).to(read.device) for part in layer.keys_and_values(mixed)]
        return memory._replace(keys_values=torch.cat(found, dim=-1))

    @contextmanager
    def inject(self, language_model: PreTrainedModel, memory: Memory) -> Iterator[None]:
        reached, mask = self._reached(language_model), memory.keys_values_mask
        assert memory.keys_values is not None, "prepare gives it"
        assert mask is not None, "forward gives it"
        widths = [width for layer in reached for width in layer.widths]
        parts = iter(memory.keys_values.split(widths, dim=-1))
        # A row that read nothing gets nothing; its mask would make a softmax of no numbers.
        some = mask.bool().any(1)[:, None, None]
        seen = (mask.bool()[:, None] | ~some)[:, None]
        with ExitStack() as hooks:
            for layer, gate in zip(reached, (self.gates * self.gate_scale).tanh(), strict=True):
                add = layer.adding(next(parts), next(parts), seen, gate * some)
                hooks.callback(layer.attention.register_forward_hook(add, with_kwargs=True).remove)
            yield

    @torch.no_grad()
    def set_affine(
        self, weight: Float[Tensor, "d_encoder d_lm"], bias: Float[Tensor, " d_lm"], end: Float[Tensor, " d_lm"]
    ) -> None:
        super().set_affine(weight, bias, end)
        self._as_soft_prompts()

    def _as_soft_prompts(self) -> None:
        self.memory.load_state_dict(self.linear.state_dict())

    def _reached(self, language_model: PreTrainedModel) -> "list[_Layer]":
        layers = getattr(language_model.get_decoder(), "layers", None)
        if layers is None:
            raise _unreachable(language_model, "its decoder has no `layers`")
        return [_Layer.of(layer, language_model) for layer in layers[:: self.every]]


@dataclass(frozen=True)
class _Layer:
    """A layer of the language model: its self-attention, and the norm before that, where there is one."""

    norm: nn.Module
    attention: Any

    @classmethod
    def of(cls, layer: nn.Module, language_model: PreTrainedModel) -> "_Layer":
        """Raises `LangBridgeError` where it has no separate projections."""
        attention: Any = getattr(layer, "self_attn", None)
        missing = [name for name in ("q_proj", "k_proj", "v_proj", "o_proj") if not hasattr(attention, name)]
        if missing or not hasattr(attention, "head_dim"):
            raise _unreachable(language_model, f"{type(layer).__name__}.self_attn has no {', '.join(missing)}")
        if attention.q_proj.out_features != attention.o_proj.in_features:  # a gate in it, or other heads
            raise _unreachable(language_model, "its q_proj makes more than queries")
        return cls(getattr(layer, "input_layernorm", nn.Identity()), attention)

    @property
    def widths(self) -> tuple[int, int]:
        """Of keys and values, all heads together."""
        return self.attention.k_proj.out_features, self.attention.v_proj.out_features

    def keys_and_values(self, states: Float[Tensor, "batch memory d_lm"]) -> tuple[Tensor, Tensor]:
        """Of states before the norm: (batch, memory, heads, dim) each."""
        weight = self.attention.k_proj.weight
        precise = weight.dtype if weight.is_floating_point() else states.dtype  # quantised ones cast by themselves
        states = self.norm(states.to(weight.device, precise))
        return self._heads("k", states), self._heads("v", states)

    def adding(self, keys: Tensor, values: Tensor, seen: Tensor, gate: Tensor) -> Any:
        """A hook on the self-attention that adds to its output what its queries find, times the gate."""

        def split(part: Tensor, like: Tensor) -> Tensor:
            heads = part.unflatten(-1, (-1, self.attention.head_dim))
            return heads.to(like).transpose(1, 2)

        def add(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            query = self._heads("q", args[0] if args else kwargs["hidden_states"]).transpose(1, 2)
            found = nn.functional.scaled_dot_product_attention(
                query,
                split(keys, query),
                split(values, query),
                attn_mask=seen.to(query.device),
                scale=self.attention.scaling,
                enable_gqa=True,
            )
            added = self.attention.o_proj(found.transpose(1, 2).flatten(2))
            return (output[0] + gate.to(added) * added, *output[1:])

        return add

    def _heads(self, name: str, states: Float[Tensor, "batch seq d_lm"]) -> Float[Tensor, "batch seq heads dim"]:
        """The projection `name` by head, normed where the layer norms it: each head (Qwen 3, Gemma 3) or all at once
        (OLMo 2)."""
        projected = getattr(self.attention, f"{name}_proj")(states)
        norm = getattr(self.attention, f"{name}_norm", nn.Identity())
        at_once = getattr(norm, "weight", projected[0, 0]).numel() == projected.shape[-1]
        if at_once:
            projected = norm(projected)
        heads: Tensor = projected.unflatten(-1, (-1, self.attention.head_dim))
        return heads if at_once else norm(heads)


def _unreachable(language_model: PreTrainedModel, why: str) -> LangBridgeError:
    return LangBridgeError(
        f"connector: layerwise reaches into language models whose layers have a `self_attn` with q_proj, k_proj, "
        f"v_proj and o_proj (Llama, Mistral, Qwen, Gemma, SmolLM); {type(language_model).__name__} is built otherwise: "
        f"{why}. Use connector: linear"
    )
