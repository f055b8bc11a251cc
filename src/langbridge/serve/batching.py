"""Many inputs through a model: neighbours in length together, the longest first, smaller batches where memory ends."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch.nn.utils.rnn import pad_sequence

from langbridge.errors import LangBridgeError

Answer = TypeVar("Answer")


def in_batches(
    lengths: Sequence[int], batch_size: int, answer: Callable[[list[int]], Sequence[Answer]]
) -> Iterator[tuple[int, Answer]]:
    """Place and answer of each item, batch by batch.

    lengths: of the items, in tokens where that can be known: they are taken in descending order, so that little is
    padded and memory runs out at once or never. answer: the answers to the items at some places.

    A batch that does not fit into memory is tried again in halves, and later batches keep the smaller size. Raises
    `LangBridgeError` where not even one item fits.
    """
    if batch_size < 1:
        raise LangBridgeError(f"batch_size: expected at least 1, got {batch_size}")
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    start = 0
    while start < len(order):
        batch = order[start : start + batch_size]
        try:
            found = answer(batch)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                raise too_large(error) from error
            found = None
        if found is None:  # outside the handler: the traceback keeps the failed batch's tensors alive
            batch_size = len(batch) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        start += len(batch)
        yield from zip(batch, found, strict=True)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has ended, on an accelerator or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and re.search("out of memory|(can't allocate|not enough) memory", str(error), re.IGNORECASE) is not None
    )


def too_large(error: BaseException) -> LangBridgeError:
    return LangBridgeError(
        f"memory: not even one input at a time fits ({error}); use a smaller model, a lower precision, or fewer new "
        "tokens"
    )


def padded(rows: Sequence[Sequence[int]], pad: int, side: str) -> torch.Tensor:
    """(batch, longest): ids in one tensor. side: `left` or `right`, where the padding stands."""
    return pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], True, pad, side)
