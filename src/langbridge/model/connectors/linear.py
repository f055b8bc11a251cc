"""The paper's connector."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from langbridge.model.connectors.base import Connector
from langbridge.model.memory import Memory


class LinearConnector(Connector):
    """One affine map a position: the paper's connector."""

    def __init__(self, d_encoder: int, d_lm: int, rms: float = 1.0):
        super().__init__(d_lm, rms)
        self.linear = nn.Linear(d_encoder, d_lm)

    def forward(self, states: Float[Tensor, "batch src d_encoder"], mask: Int[Tensor, "batch src"]) -> Memory:
        return self.with_end(self.linear(states), mask)

    @torch.no_grad()
    def set_affine(
        self, weight: Float[Tensor, "d_encoder d_lm"], bias: Float[Tensor, " d_lm"], end: Float[Tensor, " d_lm"]
    ) -> None:
        self.linear.weight.copy_(weight.T)
        self.linear.bias.copy_(bias)
        self.end.copy_(end)
