"""What a bridge has read, laid out by row."""

import torch

from langbridge.model import Memory


def test_as_many_sources_as_rows_may_be_divided_otherwise() -> None:
    """Two sources for the first row, none for the second."""
    soft = torch.arange(6.0).reshape(2, 3, 1)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    memory = Memory(soft, mask, keys_values=soft + 10, keys_values_mask=mask)
    places = torch.tensor([[True] * 5, [False] * 5])
    by_row = memory.by_row(places)
    assert by_row.keys_values is not None
    assert by_row.keys_values_mask is not None
    assert by_row.keys_values_mask.sum(1).tolist() == [5, 0]
    assert by_row.keys_values[0, :, 0].tolist() == [10, 11, 13, 14, 15]
    assert memory.by_row(torch.tensor([[True] * 2 + [False], [True] * 3])) is memory
