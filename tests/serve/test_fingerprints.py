"""What tells two models apart, at the sizes of real vocabularies."""

import torch

from langbridge.model.bases import spread_values
from langbridge.serve.hf import model_fingerprint

BEYOND_FLOAT32 = 2**24 + 1
"""The first count that float32 cannot hold: tables of published models have more values."""


def test_places_of_a_large_table_are_within_it_and_reach_its_ends() -> None:
    counted = torch.arange(4 * 5).reshape(4, 5).t()  # not contiguous
    assert spread_values(counted, 3).tolist() == [0, int(counted.flatten()[10]), 19]
    assert spread_values(counted, 20).tolist() == counted.flatten().tolist()
    table = torch.zeros(1, 1).expand(BEYOND_FLOAT32, 3)
    assert len(spread_values(table, 1000)) == 1000


def test_a_model_with_a_large_table_has_a_fingerprint_and_its_table_is_not_copied() -> None:
    def model(value: float) -> torch.nn.Module:
        held = torch.nn.Module()
        table = torch.full((1, 1), value, dtype=torch.bfloat16).expand(BEYOND_FLOAT32, 1 << 20)  # terabytes if copied
        held.register_parameter("table", torch.nn.Parameter(table, requires_grad=False))
        return held

    assert model_fingerprint(model(1.0)) == model_fingerprint(model(1.0)) != model_fingerprint(model(2.0))
