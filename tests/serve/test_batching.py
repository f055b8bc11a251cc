"""Batches by length, halved where memory ends."""

import pytest
import torch

from langbridge.errors import LangBridgeError
from langbridge.serve.batching import in_batches


def test_the_longest_come_first_and_are_handed_over_batch_by_batch() -> None:
    batches: list[list[int]] = []

    def answer(batch: list[int]) -> list[str]:
        batches.append(batch)
        return [f"{place}!" for place in batch]

    found = in_batches([1, 3, 2, 4], 3, answer)
    assert next(found) == (3, "3!")
    assert batches == [[3, 1, 2]], "the rest waits"
    assert list(found) == [(1, "1!"), (2, "2!"), (0, "0!")]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
        MemoryError(),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_and_stays_so(error: Exception) -> None:
    sizes: list[int] = []

    def answer(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise error
        return [2 * item for item in batch]

    assert dict(in_batches(range(7), 5, answer)) == {place: 2 * place for place in range(7)}
    assert sizes == [5, 2, 2, 2, 1]


def test_not_even_one_fits_and_other_errors_are_not_swallowed() -> None:
    def full(batch: list[int]) -> list[str]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def broken(batch: list[int]) -> list[str]:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(LangBridgeError, match="not even one input at a time fits"):
        list(in_batches([1, 1], 2, full))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(in_batches([1, 1], 2, broken))
