"""A connector whose soft prompts are convex mixes of the language model's own embeddings.

Its affine map says a point, as the linear connector's does; the soft prompt is the mean of the language model's rows,
each weighed by a softmax of minus its squared distance from that point. So it has the linear connector's parameters,
one more for how sharp the mix is, its closed-form start, and cannot leave what the language model's own embeddings
span.

Within `by_name` it is found by its name, as a connector of an installed package is: `registered/` stands for such a
package.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer

from langbridge.model import Connector, ConnectorSettings, Memory

SHARPNESS = 8.0
"""Of the softmax before training, in units of one over the rows' mean squared distance from their mean."""


REGISTERED = Path(__file__).parent / "registered"


@contextmanager
def by_name() -> Iterator[None]:
    sys.path.append(str(REGISTERED))
    try:
        yield
    finally:
        sys.path.remove(str(REGISTERED))


def text_rows(table: Tensor, tokenizer: Any) -> Tensor:
    """The rows of an embedding table that stand for text: (rows, d_lm), float32."""
    kept = sorted(set(range(len(table))) - set(tokenizer.all_special_ids))
    return table[kept].float()


@cache
def _rows_of(language_model: str) -> Tensor:
    weights = load_file(Path(language_model) / "model.safetensors")
    return text_rows(weights["model.embed_tokens.weight"], AutoTokenizer.from_pretrained(language_model))


class MixtureConnector(Connector):
    def __init__(self, d_encoder: int, d_lm: int, rms: float, language_model: str):
        super().__init__(d_lm, rms)
        self.language_model = language_model
        self.linear = nn.Linear(d_encoder, d_lm)
        self.log_sharpness = nn.Parameter(torch.zeros(()))

    def forward(self, states: Tensor, mask: Tensor) -> Memory:
        rows = _rows_of(self.language_model).to(states)
        scale = SHARPNESS / (rows - rows.mean(0)).square().sum(1).mean()
        point = self.linear(states)
        # The point's own length is the same for all rows and falls out.
        near = 2 * point @ rows.T - rows.square().sum(1)
        return self.with_end((self.log_sharpness.exp() * scale * near).softmax(-1) @ rows, mask)

    @torch.no_grad()
    def set_affine(self, weight: Tensor, bias: Tensor, end: Tensor) -> None:
        self.linear.weight.copy_(weight.T)
        self.linear.bias.copy_(bias)
        self.end.copy_(end)


class MixtureSettings(ConnectorSettings):
    closed_form = True

    kind: str = "mixture"

    language_model: str
    """Folder of the language model whose rows are mixed."""

    def build(self, d_encoder: int, d_lm: int, rms: float) -> MixtureConnector:
        return MixtureConnector(d_encoder, d_lm, rms, self.language_model)
