"""The reading score: how much a language model reads of what the bridge tells it.

Early in training, and for good with too little data or too small a learning rate, a bridge sits on a plateau: the
language model writes fluent answers without reading the prompt, and the loss alone does not show it. So the loss on
held-out rows is taken twice, with each row's own soft prompts and with another row's. What the swap costs is the score,
in nats a target token: about 0 where the prompt is not read.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from langbridge.model.configuration import IGNORE
from langbridge.model.modeling import LangBridgeModel

Batch = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ReadingScore:
    """`score` is `other` - `own`, in nats a target token, with its standard error over rows.

    by_row: of each row, what the swap costs it, in nats, and its target tokens.
    """

    score: float
    error: float
    own: float
    other: float
    rows: int
    by_row: tuple[tuple[float, int], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, own: Sequence[float], other: Sequence[float], tokens: Sequence[int]) -> "ReadingScore":
        """From every row's two losses, summed over its target tokens."""
        costs = tuple((b - a, count) for a, b, count in zip(own, other, tokens, strict=True))
        score, error = _ratio(costs)
        total = sum(tokens)
        return cls(
            score=score, error=error, own=sum(own) / total, other=sum(other) / total, rows=len(tokens), by_row=costs
        )

    def less(self, other: "ReadingScore") -> tuple[float, float]:
        """By how much it is above another score of the same rows, with the standard error of the difference."""
        pairs = zip(self.by_row, other.by_row, strict=True)
        return _ratio([(a - b, tokens) for (a, tokens), (b, _) in pairs])

    def logs(self) -> dict[str, float]:
        """The figures under the names that the log has them by."""
        return {
            "reading_score": self.score,
            "reading_score_error": self.error,
            "reading_own_loss": self.own,
            "reading_other_loss": self.other,
        }


def with_other_prompts(batch: Batch, bare: Collection[int] = ()) -> Batch:
    """The same sequences and targets behind another row's prompt; no row keeps its own. bare: the encoder's tokens that
    get no soft prompt.

        prompts of   0   1   2          0  1  2    rows of the batch, by length
        targets of   0   1   2    ->    1  2  0    whose prompt each gets

    Each row gets the next longer prompt, cut to the length of its own; the longest row gets the shortest, repeated.
    So every row has as many soft prompts as before, and what the swap costs is not a matter of their number. The last
    token, in most encoders an end mark, stays last.
    """
    mask = batch["encoder_attention_mask"].bool()
    sources = [ids[real].tolist() for ids, real in zip(batch["encoder_input_ids"], mask, strict=True)]
    spoken = [sum(token not in bare for token in ids) for ids in sources]
    assert len(sources) > 1, "one row alone has no other's prompt"
    by_length = sorted(range(len(sources)), key=lambda row: (spoken[row], len(sources[row]), row))
    swapped = []
    for row, own in enumerate(sources):
        place = by_length.index(row) + 1
        others = [other for other in [*by_length[place:], *by_length] if spoken[other]]
        theirs = sources[others[0]] if spoken[row] else own
        body, last = theirs[:-1], theirs[-1:]
        if all(token in bare for token in body):
            body, last = theirs, []
        wanted = spoken[row] - sum(token not in bare for token in last)
        kept: list[int] = []
        for token in itertools.cycle(body):
            if wanted <= 0:
                break
            kept.append(token)
            wanted -= token not in bare
        swapped.append(torch.tensor([*kept, *last]))
    pad = {"encoder_input_ids": swapped, "encoder_attention_mask": [torch.ones_like(ids) for ids in swapped]}
    return {**batch, **{name: nn.utils.rnn.pad_sequence(rows, batch_first=True) for name, rows in pad.items()}}


@torch.no_grad()
def reading_score(model: LangBridgeModel, batches: Iterable[Batch]) -> ReadingScore:
    """Take the score on batches of at least two rows each, with labels. The model's mode is left as it was.

    The standard error is that of a ratio of sums over rows (differences by target tokens).
    """
    was_training = model.training
    model.eval()
    own: list[float] = []
    other: list[float] = []
    tokens: list[int] = []
    for batch in batches:
        own += _row_losses(model, batch)
        other += _row_losses(model, with_other_prompts(batch, frozenset(model.config.bare_token_ids or [])))
        tokens += (batch["labels"][:, 1:] != IGNORE).sum(1).tolist()
    model.train(was_training)
    return ReadingScore.of(own, other, tokens)


def of_like_length(lengths: Sequence[int], parts: int) -> Iterator[list[int]]:
    """The rows in so many batches, each of like length, so that it is held against prompts of about its own."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for part in range(parts):
        yield order[len(order) * part // parts : len(order) * (part + 1) // parts]


def _ratio(rows: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """The sum of values over that of tokens, with its standard error over rows."""
    total, count = sum(tokens for _, tokens in rows), len(rows)
    ratio = sum(value for value, _ in rows) / total
    residues = [(value - ratio * tokens) ** 2 for value, tokens in rows]
    return ratio, math.sqrt(sum(residues) * count / (count - 1)) / total


def _row_losses(model: LangBridgeModel, batch: Batch) -> list[float]:
    """The sum of the target tokens' losses of every row."""
    moved = {name: tensor.to(model.device) for name, tensor in batch.items()}
    losses = model(**moved, return_logits=False).token_losses
    assert losses is not None
    labels = batch["labels"][:, 1:] != IGNORE
    return [float(part.sum()) for part in losses.double().split(labels.sum(1).tolist())]
