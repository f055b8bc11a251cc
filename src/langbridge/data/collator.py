"""From examples to a batch. Every decision about tokens is the processor's; this hands it the texts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langbridge.data.examples import Example
from langbridge.errors import LangBridgeError

if TYPE_CHECKING:
    from langbridge.model import LangBridgeProcessor

ROWS = "rows"
"""The batch's key of the rows' origins, for who wants to name them; it is no argument of `forward`."""


class LabelledCollator:
    """Turns `Example`s into the arguments of the model's `forward`, labels included.

    max_encoder_length, max_length: limits in tokens, as the processor's. with_rows: add the rows' origins to the batch,
    a list of text under the key `rows`, which has to be taken out before `forward`.
    """

    def __init__(
        self,
        processor: "LangBridgeProcessor",
        *,
        max_encoder_length: int,
        max_length: int,
        with_rows: bool = False,
    ) -> None:
        self.processor = processor
        self.max_encoder_length = max_encoder_length
        self.max_length = max_length
        self.with_rows = with_rows

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        batch = self._processed(examples)
        batch = dict(batch)
        if self.with_rows:
            batch[ROWS] = [example.origin for example in examples]
        return batch

    def _processed(self, examples: Sequence[Example], return_tensors: str | None = "pt") -> Any:
        try:
            return self.processor(
                [example.prompt for example in examples],
                targets=[example.target for example in examples],
                max_encoder_length=self.max_encoder_length,
                max_length=self.max_length,
                truncation=True,
                return_tensors=return_tensors,
            )
        except LangBridgeError as error:
            origins = ", ".join(example.origin or "unknown" for example in examples)
            raise LangBridgeError(f"{error} (rows {origins})") from None
