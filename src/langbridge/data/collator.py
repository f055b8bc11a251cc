"""From pairs to a batch. Every decision about tokens is the processor's; this hands it the texts."""

import copy
import random
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from langbridge.data.cuts import Cuts
from langbridge.data.examples import CUT_WHOLE, MARKER, Example, TextExample
from langbridge.data.text_noise import SCRIPTS, TextNoise
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
        self._noise, self._seed = TextNoise(), 0

    def with_noise(self, noise: TextNoise, seed: int) -> Self:
        """The same for training rows: what the language model reads of a prompt as its own tokens is drawn, by the
        seed, the example's `step` and its origin."""
        noisy = copy.copy(self)
        noisy._noise, noisy._seed = noise, seed
        return noisy

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        try:
            with self.cuts.counting(origins_of(examples)):
                batch = dict(
                    self.processor(
                        [example.prompt for example in examples],
                        targets=[example.target for example in examples],
                        own_prompts=self._own_prompts(examples),
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

    def _own_prompts(self, examples: Sequence[Example]) -> list[str] | None:
        """What the language model reads itself in the prompts' places; None for the prompts."""
        if not self._noise:
            return None
        seeds = [f"text/{self._seed}/{example.step}/{example.origin}" for example in examples]
        own = [
            self._noise.copy_of(example.prompt, random.Random(seed), self._scripts)
            for example, seed in zip(examples, seeds, strict=True)
        ]
        changed = [row for row, example in enumerate(examples) if own[row] not in ("", example.prompt)]
        lengths = self._read([examples[row] for row in changed], [own[row] for row in changed])
        for row, length in zip(changed, lengths, strict=True):
            if length > self.max_length:
                own[row] = ""
        return own

    @cached_property
    def _scripts(self) -> list[str]:
        """Those that the language model's tokenizer can write."""
        placeholder = self.processor.soft_prompt_token_id
        return [script for script in SCRIPTS if placeholder not in self.processor.tokenizer(script)["input_ids"]]

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
            for example, read in zip(examples, self._taken(examples), strict=True)
        ]

    def _taken(self, examples: Sequence[Example]) -> list[int]:
        """How many positions each prompt takes, or 0 where none can take too many."""
        return [0] * len(examples) if self._always_room else self._read(examples)

    def _read(self, examples: Sequence[Example], own: Sequence[str] | None = None) -> list[int]:
        """How many positions each prompt takes; with what the language model reads in its place, the target's too."""
        if not examples:
            return []
        with warnings.catch_warnings():
            # The batch cuts long prompts as well, and warns then.
            warnings.filterwarnings("ignore", "prompts of rows")
            rows = self.processor(
                [example.prompt for example in examples],
                targets=None if own is None else [example.target for example in examples],
                own_prompts=own,
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
