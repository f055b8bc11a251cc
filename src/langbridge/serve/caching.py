"""Keys and values of a long generation, without copying all of them at every token.

transformers' own dynamic cache concatenates: every new token copies the whole cache into fresh memory, which on a
CPU takes about as long as the model itself.
"""

import inspect
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Positions that are reserved at a time."""


def growing_cache(model: Any) -> DynamicCache | None:
    """An empty cache for a causal model; None where the model's own kind (sliding windows, states) is needed."""
    if model.config.is_encoder_decoder or "past_key_values" not in inspect.signature(model.forward).parameters:
        return None
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.layers = [GrowingLayer() for _ in cache.layers]
    return cache


class GrowingLayer(DynamicLayer):
    """A `DynamicLayer` whose keys and values, (batch, heads, seq, d_head), are views of tensors with room for more."""

    _roomy: tuple[torch.Tensor, ...] = ()
    _views: tuple[torch.Tensor, ...] = ()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[..., :0, :], value_states[..., :0, :]
        past, length = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        old, new = (self.keys, self.values), (key_states, value_states)
        # Beams, crops and moves between devices put other tensors in the views' place: these are copied as well.
        stale = any(mine is not seen for mine, seen in zip(old, self._views or (None, None), strict=True))
        if stale or length > self._roomy[0].shape[-2]:
            self._roomy = tuple(one.new_empty(*one.shape[:-2], length + ROOM, one.shape[-1]) for one in new)
            for roomy, one in zip(self._roomy, old, strict=True):
                roomy[..., :past, :] = one
        for roomy, one in zip(self._roomy, new, strict=True):
            roomy[..., past:length, :] = one
        self.keys, self.values = self._views = tuple(roomy[..., :length, :] for roomy in self._roomy)
        return self.keys, self.values
