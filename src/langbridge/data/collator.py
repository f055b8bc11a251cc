"""From pairs to a batch. Every decision about tokens is the processor's; this hands it the texts."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langbridge.data.cuts import Cuts
from langbridge.data.examples import CUT_WHOLE, MARKER, Example, TextExample
from langbridge.data.usable_rows import identity_of
from langbridge.errors import LangBridgeError
from langbridge.files import BadRow

if TYPE_CHECKING:
    from langbridge.model import LangBridgeProcessor

ROWS = "rows"
"""The batch's key for the rows' origins, for error messages; not an argument of `forward`."""

_LEAST_TARGET = 2
"""A token of the target, and its end."""


def origins_of(examples: Sequence[Example | TextExample]) -> list[str]:
    """Where each example came from."""
    return [example.origin for example in examples]


def marker_of(processor: "LangBridgeProcessor") -> str | None:
    """The text that the language model's tokenizer reads as the mark of a soft prompt; None where no text is."""
    added = processor.tokenizer.added_tokens_decoder.get(processor.soft_prompt_token_id)
    return None if added is None else added.content


def marked(origin: str, marker: str) -> BadRow:
    """What is wrong with a row whose text holds `marker`."""
    return BadRow(
        f"{origin}: the text contains {marker!r}, the token that marks soft prompts; remove it from the text, or build "
        "the bridge with another soft_prompt_token_id",
        MARKER,
    )


def identity_of_processor(processor: "LangBridgeProcessor", **settings: Any) -> str | None:
    """As `Judge.identity`, of a collator with this processor and these settings of its own."""
    about = {**processor.to_dict(), "layout": asdict(processor.layout), **settings}
    return identity_of([processor.tokenizer, processor.encoder_tokenizer], about)


class LabelledCollator:
    """Turns `Example`s into the arguments of the model's `forward`, labels included.

    max_encoder_length, max_length: limits in tokens, as the processor's; longer prompts and targets are cut. with_rows:
    add the rows' origins to the batch, a list of text under the key `rows`, to be taken out before `forward`.
    """

    def __init__(
        self, processor: "LangBridgeProcessor", *, max_encoder_length: int, max_length: int, with_rows: bool = False
    ) -> None:
        self.processor = processor
        self.max_encoder_length = max_encoder_length
        self.max_length = max_length
        self.with_rows = with_rows
        self.cuts = Cuts()
        """What it has cut so far; made here, before a loader's workers, who share it."""

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        try:
            with self.cuts.counting(origins_of(examples)):
                batch = dict(
                    self.processor(
                        [example.prompt for example in examples],
                        targets=[example.target for example in examples],
                        max_encoder_length=self.max_encoder_length,
                        max_length=self.max_length,
                        truncation=True,
                        return_tensors="pt",
                    )
                )
        except LangBridgeError as error:
            raise LangBridgeError(f"{error} (the rows are {', '.join(origins_of(examples))})") from None
        if self.with_rows:
            batch[ROWS] = origins_of(examples)
        return batch

    @cached_property
    def accepts_all(self) -> bool:
        """Whether even the longest prompt leaves room for a token of target, and no text can be a mark."""
        return self._always_room and marker_of(self.processor) is None

    @cached_property
    def _always_room(self) -> bool:
        longest = self.processor.longest_head(self.max_encoder_length)
        return longest is not None and longest + _LEAST_TARGET <= self.max_length

    @property
    def identity(self) -> str | None:
        """As `Judge.identity`."""
        return identity_of_processor(
            self.processor, max_encoder_length=self.max_encoder_length, max_length=self.max_length
        )

    def misfits(self, examples: Sequence[Example]) -> list[BadRow | None]:
        """For each pair that truncation would remove its target whole or that it holds a mark, or None."""
        marker, template = marker_of(self.processor), self.processor.layout
        return [
            marked(example.origin, marker)
            if marker is not None and (marker in example.target or (template.reads_prompt and marker in example.prompt))
            else self._misfit(example, read)
            for example, read in zip(examples, self._read(examples), strict=True)
        ]

    def _read(self, examples: Sequence[Example]) -> list[int]:
        """How many positions each prompt takes, or 0 where none can take too many."""
        if self._always_room or not examples:
            return [0] * len(examples)
        with warnings.catch_warnings():
            # The batch cuts long prompts as well, and warns then.
            warnings.filterwarnings("ignore", "prompts of rows")
            rows = self.processor(
                [example.prompt for example in examples],
                max_encoder_length=self.max_encoder_length,
                truncation="encoder",
                return_tensors=None,
            )
        return [sum(mask) for mask in rows["attention_mask"]]

    def _misfit(self, example: Example, read: int) -> BadRow | None:
        if read + _LEAST_TARGET <= self.max_length:
            return None
        return BadRow(
            f"{example.origin}: the prompt takes {read} of the {self.max_length} positions (max_length), which leaves "
            "no room for the target; raise max_length, or lower max_encoder_length to cut the prompt",
            CUT_WHOLE,
        )
