"""Connectors: from the encoder's hidden states to soft prompts in the language model's input space.

Mask in, mask out, so that no connector can forget padding. Every connector appends one learned `end` vector,
which tells the language model that the source is over. Architectures as in LangBridge (arXiv 2401.10695,
section 3, and its appendix on connectors): `linear` is the paper's; `mlp` and `resampler` are the
alternatives its authors also wrote, so that checkpoints of all three load.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from langbridge.model.configuration import CONNECTORS
from langbridge.model.sequence import soft_length


class Connector(nn.Module, ABC):
    """What every connector answers to. Concrete connectors are final.

    kind: the name in the configuration.
    end: the learned end vector, (d_lm).
    """

    kind: str
    num_latents: int = 0

    def __init__(self, d_lm: int, rms: float):
        super().__init__()
        # At the scale of the language model's own embeddings: std 1 would be some fifty times louder than any
        # token it has ever read.
        self.end = nn.Parameter(torch.randn(d_lm) * rms)

    @abstractmethod
    def forward(
        self, states: Float[Tensor, "batch src d_encoder"], mask: Int[Tensor, "batch src"]
    ) -> tuple[Float[Tensor, "batch soft d_lm"], Int[Tensor, "batch soft"]]:
        """Soft prompts with the end vector last, and which of them are real."""

    def soft_lengths(self, src_lengths: list[int]) -> list[int]:
        """Soft prompts of each row by its number of real encoder tokens; the end vector is **not**
        counted."""
        return [soft_length(self.kind, length, self.num_latents) for length in src_lengths]

    def end_vector(self) -> Float[Tensor, " d_lm"]:
        """The end vector as the language model reads it."""
        return self.end

    def _with_end(
        self, soft: Float[Tensor, "batch soft d_lm"], mask: Int[Tensor, "batch soft"]
    ) -> tuple[Float[Tensor, "batch soft+1 d_lm"], Int[Tensor, "batch soft+1"]]:
        batch = soft.shape[0]
        end = self.end.to(soft.dtype).expand(batch, 1, -1)
        return torch.cat([soft, end], dim=1), torch.cat([mask, mask.new_ones(batch, 1)], dim=1)


class LinearConnector(Connector):
    """One affine map a position: the paper's connector."""

    kind = "linear"

    def __init__(self, d_encoder: int, d_lm: int, rms: float = 1.0):
        super().__init__(d_lm, rms)
        self.linear = nn.Linear(d_encoder, d_lm)

    def forward(
        self, states: Float[Tensor, "batch src d_encoder"], mask: Int[Tensor, "batch src"]
    ) -> tuple[Float[Tensor, "batch soft d_lm"], Int[Tensor, "batch soft"]]:
        return self._with_end(self.linear(states), mask)


class MLPConnector(Connector):
    """Two affine maps with a GELU between, twice as wide inside as the encoder."""

    kind = "mlp"

    def __init__(self, d_encoder: int, d_lm: int, rms: float = 1.0):
        super().__init__(d_lm, rms)
        self.up = nn.Linear(d_encoder, 2 * d_encoder)
        self.down = nn.Linear(2 * d_encoder, d_lm)

    def forward(
        self, states: Float[Tensor, "batch src d_encoder"], mask: Int[Tensor, "batch src"]
    ) -> tuple[Float[Tensor, "batch soft d_lm"], Int[Tensor, "batch soft"]]:
        return self._with_end(self.down(nn.functional.gelu(self.up(states))), mask)


class ResamplerConnector(Connector):
    """A one-layer Perceiver resampler (Flamingo, arXiv 2204.14198): `num_latents` queries read the real
    states and each other.

    The last LayerNorm runs over d_lm and covers the end vector too; its gain starts at the language model's
    embedding scale, which is thereby the scale of every soft prompt.
    """

    kind = "resampler"
    heads = 8
    d_head = 64

    def __init__(self, d_encoder: int, d_lm: int, rms: float = 1.0, num_latents: int = 64):
        super().__init__(d_lm, rms)
        inner = self.heads * self.d_head
        self.num_latents = num_latents
        self.latents = nn.Parameter(torch.randn(num_latents, d_encoder))
        self.norm_states = nn.LayerNorm(d_encoder)
        self.norm_latents = nn.LayerNorm(d_encoder)
        self.query = nn.Linear(d_encoder, inner, bias=False)
        self.key = nn.Linear(d_encoder, inner, bias=False)
        self.value = nn.Linear(d_encoder, inner, bias=False)
        self.output = nn.Linear(inner, d_encoder, bias=False)
        self.up = nn.Linear(d_encoder, 4 * d_encoder)
        self.down = nn.Linear(4 * d_encoder, d_encoder)
        self.dropout = nn.Dropout(0.1)
        self.project = nn.Linear(d_encoder, d_lm, bias=False)
        self.norm = nn.LayerNorm(d_lm)
        nn.init.constant_(self.norm.weight, rms)

    def forward(
        self, states: Float[Tensor, "batch src d_encoder"], mask: Int[Tensor, "batch src"]
    ) -> tuple[Float[Tensor, "batch soft d_lm"], Int[Tensor, "batch soft"]]:
        batch = states.shape[0]
        latents = self.latents.to(states.dtype).expand(batch, -1, -1)
        read = self._attend(self.norm_latents(latents), self.norm_states(states), mask)
        latents = latents + read
        latents = self.dropout(latents + self.down(nn.functional.gelu(self.up(latents))))
        soft, soft_mask = self._with_end(self.project(latents), mask.new_ones(batch, self.num_latents))
        return self.norm(soft), soft_mask

    def end_vector(self) -> Float[Tensor, " d_lm"]:
        return self.norm(self.end)

    def _attend(
        self,
        latents: Float[Tensor, "batch latents d_encoder"],
        states: Float[Tensor, "batch src d_encoder"],
        mask: Int[Tensor, "batch src"],
    ) -> Float[Tensor, "batch latents d_encoder"]:
        """Latents attend to the real states and to all latents."""
        batch, count, _ = latents.shape
        read = torch.cat([states, latents], dim=1)
        visible = torch.cat([mask.bool(), mask.new_ones(batch, count).bool()], dim=1)

        def split(x: Tensor) -> Tensor:  # (batch, n, heads * d_head) -> (batch, heads, n, d_head)
            return x.unflatten(-1, (self.heads, self.d_head)).transpose(1, 2)

        out = nn.functional.scaled_dot_product_attention(
            split(self.query(latents)),
            split(self.key(read)),
            split(self.value(read)),
            attn_mask=visible[:, None, None, :],
        )
        return self.output(out.transpose(1, 2).flatten(2))


def build_connector(kind: str, d_encoder: int, d_lm: int, rms: float, num_latents: int) -> Connector:
    """A fresh connector of a kind; `rms` is the root mean square of the language model's input embeddings."""
    if kind == "linear":
        return LinearConnector(d_encoder, d_lm, rms)
    if kind == "mlp":
        return MLPConnector(d_encoder, d_lm, rms)
    assert kind == "resampler", f"the configuration admits only {CONNECTORS}"
    return ResamplerConnector(d_encoder, d_lm, rms, num_latents)
