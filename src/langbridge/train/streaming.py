"""A stream as an endless row of batches, and where in it a run stands.

To Hugging Face's loop it is one long epoch: were the stream's own end an end of the loop's epoch, what did not fill an
update there would leak into the next one.
"""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from langbridge.data.stream import RowStream
from langbridge.errors import LangBridgeError


class StreamLoader:
    """Batches of a `RowStream`, epoch after epoch; a last, short batch of an epoch is left out.

    `options` are `DataLoader`'s. `state_dict` is the position after the last batch that was given out, whatever workers
    have read ahead; the stream itself takes it back with `load_state_dict`.
    """

    def __init__(self, stream: RowStream, batch_size: int, **options: Any) -> None:
        if stream.batch_size != batch_size:
            raise LangBridgeError(f"train_dataset: a stream in batches of {stream.batch_size}, expected {batch_size}")
        self.dataset, self.batch_size, self.options = stream, batch_size, options
        self.epoch = stream.state_dict()["epoch"]
        self.batches = stream.state_dict()["examples"] // batch_size

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "examples": self.batches * self.batch_size}

    def __iter__(self) -> Iterator[Any]:
        while True:
            self.dataset.load_state_dict(self.state_dict())
            for batch in DataLoader(self.dataset, batch_size=self.batch_size, drop_last=True, **self.options):
                self.batches += 1
                yield batch
            if not self.batches:
                raise LangBridgeError(f"data: the stream ended before a batch of {self.batch_size} rows was full")
            self.epoch, self.batches = self.epoch + 1, 0
