"""A small perceptron on every position."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from langbridge.model.connectors.base import Connector
from langbridge.model.memory import Memory


class MLPConnector(Connector):
    """Two affine maps with a GELU between, twice as wide inside as the encoder."""

    def __init__(self, d_encoder: int, d_lm: int, rms: float = 1.0):
        super().__init__(d_lm, rms)
        self.up = nn.Linear(d_encoder, 2 * d_encoder)
        self.down = nn.Linear(2 * d_encoder, d_lm)

    def forward(self, states: Float[Tensor, "batch src d_encoder"], mask: Int[Tensor, "batch src"]) -> Memory:
        return self.with_end(self.down(nn.functional.gelu(self.up(states))), mask)
