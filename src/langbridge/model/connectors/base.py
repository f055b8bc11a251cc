"""What every connector answers to.

Mask in, mask out, so that no connector can forget padding. Every connector appends one learned `end` vector,
which tells the language model that the source is over. Architectures as in LangBridge (arXiv 2401.10695,
section 3, and its appendix on connectors): `linear` is the paper's; `mlp` and `resampler` are the
alternatives its authors also wrote, so that checkpoints of all three load.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from langbridge.model.memory import Memory


class LayerMix(nn.Module):
    """Several layers' states, side by side, to their mean with learned weights; equal ones at first.

    As Peters et al. (arXiv 1802.05365, section 3.2) mix the layers of theirs.
    """

    def __init__(self, layers: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(layers))

    def forward(self, states: Float[Tensor, "batch src layered"]) -> Float[Tensor, "batch src d_encoder"]:
        return torch.einsum("...ld,l->...d", states.unflatten(-1, (len(self.logits), -1)), self.logits.softmax(0))


class Connector(nn.Module, ABC):
    """A module from states and their mask to soft prompts and theirs. Concrete connectors are final.

    A position whose mask is 0 holds anything, and must not reach another one: mixing over positions has to look at the
    mask. How many soft prompts a row gets is what `ConnectorSettings.soft_length` says.

    end: the learned end vector, (d_lm). mix: what makes one layer of the several that it reads, if they are not read
    side by side.
    """

    mix: LayerMix | None

    def __init__(self, d_lm: int, rms: float):
        super().__init__()
        self.register_module("mix", None)
        # At the scale of the language model's own embeddings: std 1 would be some fifty times louder than any
        # token it has ever read.
        self.end = nn.Parameter(torch.randn(d_lm) * rms)

    @abstractmethod
    def forward(self, states: Float[Tensor, "batch src d_encoder"], mask: Int[Tensor, "batch src"]) -> Memory:
        """Soft prompts with the end vector last, and which of them are real (`with_end`); what `inject` brings into the
        language model besides."""

    def reach(self, config: PreTrainedConfig, language_model: PreTrainedModel | None) -> None:
        """Take in what is to be known of the language model, once, before any weight is loaded; by default nothing.

        config: the language model's. language_model: None where the bridge is put together without it. Raises
            `LangBridgeError` where the connector cannot work with it.
        """

    def prepare(self, language_model: PreTrainedModel, memory: Memory) -> Memory:
        """What `inject` needs of the memory in every pass, computed once for all of them; by default as it is.

        memory: what `forward` gives, one entry a source.
        """
        return memory

    def inject(self, language_model: PreTrainedModel, memory: Memory) -> AbstractContextManager[None]:
        """A context around every pass of the language model, in which a connector may reach into its layers (with
        hooks, say); by default none.

        memory: by row, in the order of the pass's rows; in generation also for the passes of one token a row. It must
            leave a row of a batch what it is alone: `keys_values_mask` says which positions are real.
        """
        return nullcontext()

    @property
    def injects(self) -> bool:
        """Whether there is an `inject` of its own, so that every pass needs the memory and not only the one that reads
        the placeholders."""
        return type(self).inject is not Connector.inject

    def end_vector(self) -> Float[Tensor, " d_lm"]:
        """The end vector as the language model reads it."""
        return self.end

    def set_affine(
        self, weight: Float[Tensor, "d_encoder d_lm"], bias: Float[Tensor, " d_lm"], end: Float[Tensor, " d_lm"]
    ) -> None:
        """Become the affine map `states @ weight + bias`, and the end vector: the closed-form start. For connectors
        whose settings say `closed_form`."""
        raise NotImplementedError(f"{type(self).__name__} has no closed-form start")

    def with_end(self, soft: Float[Tensor, "batch soft d_lm"], mask: Int[Tensor, "batch soft"]) -> Memory:
        """Soft prompts and mask with the end vector behind them, always last and always real."""
        batch = soft.shape[0]
        end = self.end.to(soft.dtype).expand(batch, 1, -1)
        return Memory(torch.cat([soft, end], dim=1), torch.cat([mask, mask.new_ones(batch, 1)], dim=1))
