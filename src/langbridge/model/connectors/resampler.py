"""A fixed number of soft prompts, whatever the source's length."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from langbridge.model.connectors.base import Connector
from langbridge.model.memory import Memory


class ResamplerConnector(Connector):
    """A one-layer Perceiver resampler (Flamingo, arXiv 2204.14198): `num_latents` queries read the real
    states and each other.

    The last LayerNorm runs over d_lm and covers the end vector too; its gain starts at the language model's
    embedding scale, which is thereby the scale of every soft prompt.
    """

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

    def forward(self, states: Float[Tensor, "batch src d_encoder"], mask: Int[Tensor, "batch src"]) -> Memory:
        batch = states.shape[0]
        latents = self.latents.to(states.dtype).expand(batch, -1, -1)
        read = self._attend(self.norm_latents(latents), self.norm_states(states), mask)
        latents = latents + read
        latents = self.dropout(latents + self.down(nn.functional.gelu(self.up(latents))))
        memory = self.with_end(self.project(latents), mask.new_ones(batch, self.num_latents))
        return memory._replace(soft_prompts=self.norm(memory.soft_prompts))

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
