"""A batch in several passes where its rows are long: the same gradients with less memory.

Batches of like length put the longest rows of all together, so that one batch in a run needs far more memory than the
others. Run in passes, it need not decide how many rows the rest may have.
"""

import itertools
from typing import Any

import torch

from langbridge.data.teaching import TEACHER_IDS, TEACHER_MASK
from langbridge.model.configuration import IGNORE

_GROUPS = (
    ("attention_mask", ("input_ids", "attention_mask", "labels", "position_ids")),
    ("encoder_attention_mask", ("encoder_input_ids", "encoder_attention_mask")),
    (TEACHER_MASK, (TEACHER_IDS, TEACHER_MASK)),
)
"""A mask, and what has its shape. The encoder's have a row for each source, of which a row may have several."""


def passes_needed(inputs: dict[str, Any], positions: int) -> int:
    """The smallest number of passes in which none has more than `positions`, padding included, of any model; a row
    that alone has more is a pass by itself."""
    lengths = sorted(_lengths(inputs).tolist(), reverse=True)
    for count in range(1, len(lengths)):
        if all(len(part) * part[0] <= positions or len(part) == 1 for part in _cut(lengths, count)):
            return count
    return len(lengths)


def in_passes(inputs: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The rows of a batch in `count` passes, the longest first, each without columns that are padding in all its rows.

    inputs: (batch, seq) tensors, those of the encoder (batch x sources, src), and lists of one entry a row. Where there
    are fewer rows than passes, the shortest row comes again with nothing to learn: models that are cut up among
    processes need as many passes on each.
    """
    if count <= 1:
        return [inputs]
    order = _lengths(inputs).argsort(descending=True, stable=True).tolist()
    passes = [_rows(inputs, part) for part in _cut(order, count)]
    for _ in range(count - len(passes)):
        again = _rows(inputs, order[-1:])
        passes.append({**again, "labels": torch.full_like(again["labels"], IGNORE)})
    return passes


def _lengths(inputs: dict[str, Any]) -> torch.Tensor:
    """Positions of each row: of the language model, or of the encoder or a teacher where they have more. Sources of a
    row are padded to its longest."""
    rows = len(inputs["attention_mask"])
    found = [inputs[mask].sum(1).view(rows, -1) for mask, _ in _GROUPS if mask in inputs]
    return torch.stack([sources.amax(1) * sources.shape[1] for sources in found]).amax(0)


def _cut(items: list[int], count: int) -> list[list[int]]:
    """As many parts, of as equal a number of items as can be; fewer where there are fewer items."""
    count = min(count, len(items))
    edges = [round(len(items) * place / count) for place in range(count + 1)]
    return [items[first:last] for first, last in itertools.pairwise(edges)]


def _rows(inputs: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    count = len(inputs["attention_mask"])
    found: dict[str, Any] = {
        name: value.unflatten(0, (count, -1))[rows].flatten(0, 1)
        if isinstance(value, torch.Tensor)
        else [value[row] for row in rows]
        for name, value in inputs.items()
    }
    for mask, names in _GROUPS:
        if mask in found:
            used = found[mask].bool().any(0)
            found |= {name: found[name][:, used] for name in names if name in found}
    return found
