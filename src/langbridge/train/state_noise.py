"""Noise on what the connector reads, in training alone.

Of English the encoder's states are always clean; of another language they lie beside those of the English words. A
connector that learns its task from blurred states fits less of what only English states have (as NEFTune blurs the
embeddings of a language model, Jain et al., 2024; here the blur follows each coordinate's own scale).
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from langbridge.model.connectors.base import Connector


def blur_states(connector: Connector, share: float) -> Any:
    """Have the connector read noisy states while it is in training mode; the handle's `remove()` ends that.

    share: the noise's standard deviation, as a share of the one that each coordinate has over the batch's real tokens.
    """

    def blurred(module: Any, arguments: tuple[Any, ...]) -> Any:
        return (blur(arguments[0], arguments[1], share), *arguments[1:]) if module.training else None

    return connector.register_forward_pre_hook(blurred)


def blur(
    states: Float[Tensor, "batch src d_connector"], mask: Int[Tensor, "batch src"], share: float
) -> Float[Tensor, "batch src d_connector"]:
    """States with Gaussian noise added."""
    scale = states.detach()[mask.bool()].std(0, correction=0)
    return states + share * scale * torch.randn_like(states)
