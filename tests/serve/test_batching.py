"""Batches by length, halved where memory ends."""

import pytest
import torch

from langbridge.errors import LangBridgeError
from langbridge.serve.batching import in_batches


def test_the_longest_come_first_and_the_order_comes_back() -> None:
    batches: list[list[str]] = []

    def answer(batch: list[str]) -> list[str]:
        batches.append(batch)
        return [item.upper() for item in batch]

    kept: list[str] = []
    found = in_batches(["a", "ccc", "bb", "dddd"], 3, answer, done=lambda batch, answers: kept.extend(answers))
    assert found == ["A", "CCC", "BB", "DDDD"]
    assert batches == [["dddd", "ccc", "bb"], ["a"]]
    assert kept == ["DDDD", "CCC", "BB", "A"]


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

    assert in_batches(list(range(7)), 5, answer, key=lambda item: item) == [0, 2, 4, 6, 8, 10, 12]
    assert sizes == [5, 2, 2, 2, 1]


def test_not_even_one_fits_and_other_errors_are_not_swallowed() -> None:
    def full(batch: list[str]) -> list[str]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def broken(batch: list[str]) -> list[str]:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(LangBridgeError, match="not even one input at a time fits"):
        in_batches(["a", "b"], 2, full)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        in_batches(["a", "b"], 2, broken)
