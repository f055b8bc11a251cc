"""Reading scores of numbers and of verbs apart: what another row's soft prompts cost the tokens of the solution that
say a number of the problem, and those that say whether a verb was a gain or a loss.

Of the numbers only the start's and each event's count: totals follow from them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.model.configuration import IGNORE
from langbridge.model.reading import reading_score

SIGNS = ("+", "-")
KINDS = ("numbers", "verbs")
BATCH = 16


def reading(folder: Path, rows: Sequence[Mapping[str, str]]) -> dict[str, tuple[float, float]]:
    """Nats a token of each kind, and their standard error, on rows with `query` and `response`."""
    model = LangBridgeModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = LangBridgeProcessor.from_pretrained(folder)
    ordered = sorted(rows, key=lambda row: len(row["query"]))
    batches = [
        processor([row["query"] for row in part], targets=[row["response"] for row in part])
        for part in (ordered[first : first + BATCH] for first in range(0, len(ordered), BATCH))
    ]
    scores = {kind: reading_score(model, [_only(batch, kind, processor) for batch in batches]) for kind in KINDS}
    return {kind: (found.score, found.error) for kind, found in scores.items()}


def _only(batch: Mapping[str, torch.Tensor], kind: str, processor: LangBridgeProcessor) -> dict[str, Any]:
    """The batch with labels at the tokens of one kind alone."""
    labels = torch.full_like(batch["labels"], IGNORE)
    for row, ids in enumerate(batch["labels"].tolist()):
        texts = [processor.tokenizer.decode([one]).strip() if one != IGNORE else "" for one in ids]
        for place, text in enumerate(texts):
            told = texts[place - 1] if place else ""
            if kind_of(told, text) == kind:
                labels[row, place] = ids[place]
    return {**batch, "labels": labels}


def kind_of(before: str, token: str) -> str | None:
    """Of a token of the solution, by the one before it."""
    if token in SIGNS:
        return "verbs"
    return "numbers" if token.isdigit() and before in (*SIGNS, "with") else None
