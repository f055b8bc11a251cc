"""The validation loss: a mean over target tokens, the same whatever the number of processes.

Nor does the batch size change it, but for `unlabelled` texts: how much of one is read is drawn by its batch's number.
Hugging Face's is a mean over batches, in which a token of a short answer weighs more than one of a long answer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer

from langbridge.data import BatchRow
from langbridge.train.objectives import Loss


@torch.no_grad()
def validation_loss(
    trainer: Trainer,
    dataset: Any,
    collate: Callable[[Sequence[Any]], dict[str, Any]],
    lengths: Sequence[int] | None,
    loss: Loss,
) -> tuple[float, int]:
    """The loss in nats a target token over a whole map-style dataset, and the number of target tokens.

    Every process takes a share of the batches. All of them make equally many passes, as sharded models need.
    """
    args = trainer.args
    rows = sorted(range(len(dataset)), key=lambda row: lengths[row] if lengths is not None else 0)
    size, rank, ranks = args.per_device_eval_batch_size, args.process_index, args.world_size
    batches = [
        [BatchRow(row, number) for row in rows[first : first + size]]
        for number, first in enumerate(range(0, len(rows), size))
    ]
    mine = [batches[index % len(batches)] for index in range(rank, len(batches) + -len(batches) % ranks, ranks)]
    counted = len(range(rank, len(batches), ranks))
    loader = DataLoader(
        dataset,
        batch_sampler=mine,
        collate_fn=collate,
        num_workers=args.dataloader_num_workers,
        generator=torch.Generator(),  # or the loader would draw from the run's random numbers
    )
    model: Any = trainer.model
    was_training = model.training
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64)
    for index, batch in enumerate(loader):
        batch.pop("rows", None)
        total, tokens = loss(model, {name: tensor.to(args.device) for name, tensor in batch.items()})
        if index < counted:
            sums += torch.tensor([float(total), int(tokens)], dtype=torch.float64)
    model.train(was_training)
    summed, count = trainer.accelerator.reduce(sums.to(args.device), "sum").tolist()
    return summed / count, int(count)
