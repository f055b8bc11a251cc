"""The validation loss over several processes."""

from types import SimpleNamespace

import pytest
import torch

from langbridge.train.validation import validation_loss


@pytest.mark.parametrize(("batches", "ranks"), [(5, 2), (1, 2), (3, 4), (4, 2), (5, 1)])
def test_processes_make_equally_many_passes_and_count_every_batch_once(batches: int, ranks: int) -> None:
    passes, counted = [], []
    for rank in range(ranks):
        seen: list[float] = []

        def loss(_, batch, seen=seen):
            seen.append(float(batch["value"]))
            return batch["value"], 1

        trainer = SimpleNamespace(
            args=SimpleNamespace(per_device_eval_batch_size=1, process_index=rank, world_size=ranks, device="cpu",
                                 dataloader_num_workers=0),
            model=torch.nn.Identity(),
            # A rank without a batch of its own has nothing to divide by; all of them together have.
            accelerator=SimpleNamespace(reduce=lambda sums, _: counted.append(sums.tolist()) or torch.ones(2)),
        )  # fmt: skip
        validation_loss(trainer, Values(batches), lambda rows: {"value": torch.tensor(float(rows[0]))}, None, loss)
        passes.append(len(seen))
    assert passes == [-(-batches // ranks)] * ranks
    assert [sum(column) for column in zip(*counted, strict=True)] == [sum(range(batches)), batches]


class Values(torch.utils.data.Dataset):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row) -> int:
        return int(row)
