"""The cache that grows in place holds what transformers' own cache holds, whatever is done to it between tokens."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)
from transformers.cache_utils import DynamicLayer

from langbridge.serve.caching import ROOM, GrowingLayer, growing_cache

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def test_it_holds_what_the_ordinary_layer_holds() -> None:
    """Past its room, after beams change places, rows are chosen or repeated, and it is cropped or emptied."""
    layers = (GrowingLayer(), DynamicLayer())
    changes = {
        3: lambda layer: layer.reorder_cache(torch.tensor([2, 0, 0])),
        70: lambda layer: layer.crop(-5),
        80: lambda layer: layer.batch_select_indices(torch.tensor([1])),
        90: lambda layer: layer.batch_repeat_interleave(3),
        100: lambda layer: layer.reset(),
    }
    torch.manual_seed(0)
    for step in range(120):
        for layer in layers:
            changes.get(step, lambda layer: None)(layer)
        rows = 1 if 80 <= step < 90 else 3
        new = [torch.randn(rows, 2, 5 if step == 0 else 1, 4) for _ in range(2)]
        found, wanted = (layer.update(*new) for layer in layers)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)), step
        assert layers[0].get_seq_length() == layers[1].get_seq_length()


def test_a_token_is_added_in_place_until_the_room_is_used_up() -> None:
    layer = GrowingLayer()
    places = set()
    for _ in range(2 * ROOM):
        keys, _ = layer.update(torch.randn(1, 1, 1, 4), torch.randn(1, 1, 1, 4))
        places.add(keys.data_ptr())
    assert len(places) == 2


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}])
def test_a_model_writes_the_same_with_it(settings: dict) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, initializer_range=0.5)).eval()
    inputs = {"input_ids": torch.tensor([[0, 7, 8], [5, 9, 4]]), "attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]])}
    written = []
    for cache in (growing_cache(model), DynamicCache(config=model.config)):
        torch.manual_seed(1)
        written.append(model.generate(**inputs, **settings, past_key_values=cache, max_new_tokens=ROOM + 10))
    assert torch.equal(*written)


def test_models_that_keep_something_else_keep_it() -> None:
    for model in (
        MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4)),
        MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, state_size=4)),
    ):
        assert growing_cache(model) is None
    whole = AutoModelForCausalLM.from_config(MistralConfig(**SIZES, sliding_window=None))
    assert growing_cache(whole) is not None
