"""Many inputs through a model: neighbours in length together, the longest first, smaller batches where memory ends."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from langbridge.errors import LangBridgeError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

Progress = Callable[[int], object]
"""Called after every batch with the number of inputs it answered, as `tqdm.update` is."""


def in_batches(
    items: Sequence[Item],
    batch_size: int,
    answer: Callable[[list[Item]], Sequence[Answer]],
    *,
    key: Callable[[Item], int] = len,  # type: ignore[assignment]
    progress: Progress | None = None,
    done: Callable[[list[Item], Sequence[Answer]], object] | None = None,
) -> list[Answer]:
    """The answer to each item, in the order of the items.

    answer: the answers to one batch. key: the length of an item, in tokens where that can be known: items are taken in
    its descending order, so that little is padded and memory runs out at once or never. done: called with every
    finished batch, in order to keep it.

    A batch that does not fit into memory is tried again in halves, and later batches keep the smaller size. Raises
    `LangBridgeError` where not even one item fits.
    """
    if batch_size < 1:
        raise LangBridgeError(f"batch_size: expected at least 1, got {batch_size}")
    order = sorted(range(len(items)), key=lambda index: key(items[index]), reverse=True)
    answers: dict[int, Answer] = {}
    start = 0
    while start < len(order):
        chosen = order[start : start + batch_size]
        batch = [items[index] for index in chosen]
        try:
            found = answer(batch)
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                raise LangBridgeError(
                    f"memory: not even one input at a time fits ({error}); use a smaller model, a lower precision, or "
                    "fewer new tokens"
                ) from error
            shrunk = True
        else:
            shrunk = False
        if shrunk:  # outside the handler: the traceback keeps the failed batch's tensors alive
            batch_size = len(batch) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        answers.update(zip(chosen, found, strict=True))
        if done is not None:
            done(batch, found)
        if progress is not None:
            progress(len(batch))
        start += len(batch)
    return [answers[index] for index in range(len(items))]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on an accelerator or on the processor."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )
