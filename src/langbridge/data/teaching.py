"""Batches for a language model that teaches its own bridge: with each row, what its teacher reads of it.

student   [begin] own text, [soft prompts] | rest | continuation [end]
teacher   [begin] own text,   the prompt   | rest | continuation [end]      all of it as its own tokens
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langbridge.data.collator import LabelledCollator, identity_of_processor, marked, marker_of
from langbridge.data.examples import CUT_WHOLE, Example, TextExample
from langbridge.data.unlabelled import Lengths, UnlabelledCollator
from langbridge.files import BadRow
from langbridge.model.sequence import Own, Part, Soft, Template

if TYPE_CHECKING:
    from langbridge.model import LangBridgeProcessor
    from langbridge.model.layout import Row

TEACHER_IDS, TEACHER_MASK = "teacher_input_ids", "teacher_attention_mask"
"""The batch's keys for what the teacher reads."""

PROMPT_CUT = "prompt too long"
"""The reason for a row of which the encoder would read less than the teacher."""

_LEAST = 2
"""A token of the continuation, and its end."""


class TaughtPairs(LabelledCollator):
    """`LabelledCollator` with the teacher's sequences. A prompt that the encoder would cut is a misfit, because the
    teacher would read more of it; a target is cut where either sequence has no more room for it."""

    accepts_all = False

    @property
    def identity(self) -> str | None:
        limits = {"max_encoder_length": self.max_encoder_length, "max_length": self.max_length}
        return identity_of_processor(self.processor, taught=True, **limits)

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        batch = super().__call__(examples)
        with self.cuts.counting([example.origin for example in examples]):
            prompts = [example.prompt for example in examples]
            return with_teacher(batch, self.processor, prompts, self.processor.layout, self.max_length)

    def misfits(self, examples: Sequence[Example]) -> list[BadRow | None]:
        """For each pair why the teacher and the bridge cannot both read it, or None."""
        template, marker = self.processor.layout, marker_of(self.processor)
        fit = [
            marked(example.origin, marker) if marker and marker in example.prompt + example.target else None
            for example in examples
        ]
        readable = [example for example, bad in zip(examples, fit, strict=True) if bad is None]
        student = self.processor.tokens.rows(
            [template.parts(example.prompt) for example in readable],
            whole=template.whole,
            max_encoder_length=self.max_encoder_length,
            cut=("encoder",),
        )
        teacher = teacher_heads(self.processor, [example.prompt for example in readable], template)
        judged = iter(map(self._judged, readable, student, teacher))
        return [next(judged) if bad is None else bad for bad in fit]

    def _judged(self, example: Example, student: "Row", teacher: "Row") -> BadRow | None:
        if student.prompt_cut:
            limit = self.processor.tokens.longest_source(self.max_encoder_length)
            return BadRow(
                f"{example.origin}: the prompt has more than {limit} encoder tokens (max_encoder_length, or the "
                "encoder's own limit), so that the teacher would read more of it than the encoder; raise the limit, "
                "shorten the prompt, or leave such rows out with data.on_bad_row: skip",
                PROMPT_CUT,
            )
        taken = max(len(student.ids), len(teacher.ids))
        if taken + _LEAST <= self.max_length:
            return None
        return BadRow(
            f"{example.origin}: the prompt takes {taken} of the {self.max_length} positions (max_length), which leaves "
            "no room for the continuation; raise max_length, or shorten the prompt",
            CUT_WHOLE,
        )


class TaughtAnswers(TaughtPairs):
    """`TaughtPairs` of prompts and their answers; a row is a text, the prompt, or a pair, whose target is not read."""

    answers: Mapping[str, str] | None = None
    """By prompt; None as long as they are not made, then the end is all that follows a prompt."""

    def __call__(self, examples: Sequence[Example | TextExample]) -> dict[str, Any]:
        return super().__call__([self._pair(example) for example in examples])

    def misfits(self, examples: Sequence[Example | TextExample]) -> list[BadRow | None]:
        """As those of pairs; answers are made for what remains."""
        return super().misfits([Example(prompt_of(example), "", example.origin) for example in examples])

    def _pair(self, example: Example | TextExample) -> Example:
        prompt = prompt_of(example)
        return Example(prompt, "" if self.answers is None else self.answers[prompt], example.origin, example.step)


def prompt_of(example: Example | TextExample) -> str:
    """What is asked by a row of which the answer is not read."""
    return example.prompt if isinstance(example, Example) else example.text


class TaughtTexts(UnlabelledCollator):
    """`UnlabelledCollator` with the teacher's sequences, which are as long as a prefix is in the language model's own
    tokens: a batch draws the lengths of the student's."""

    def _processed(self, prefixes: list[str], starts: list[str], lengths: Lengths) -> dict[str, Any]:
        return with_teacher(super()._processed(prefixes, starts, lengths), self.processor, prefixes, Template())


def with_teacher(
    batch: dict[str, Any],
    processor: "LangBridgeProcessor",
    prompts: Sequence[str],
    template: Template,
    max_length: int | None = None,
) -> dict[str, Any]:
    """The batch and what a teacher reads of its rows, padded on the right as they are. Where the teacher's sequence
    would be longer than `max_length`, the end of the continuation is taken out of both, with a warning."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from langbridge.model.configuration import IGNORE
    from langbridge.model.processing import CutWarning

    taught, cut = [], []
    for row, head in enumerate(teacher_heads(processor, prompts, template)):
        places = (batch["labels"][row] != IGNORE).nonzero().flatten()
        kept = places if max_length is None else places[: max(max_length - len(head.ids), 0)]
        if len(kept) < len(places):
            cut.append(row)
            left_out = places[len(kept) :]
            batch["labels"][row][left_out] = IGNORE
            batch["attention_mask"][row][left_out] = 0
        taught.append(torch.cat([torch.tensor(head.ids), batch["input_ids"][row][kept]]))
    if cut:
        warnings.warn(CutWarning("targets", cut, f"fit max_length={max_length} behind the teacher's"), stacklevel=2)
    pad, _ = processor.pad_ids
    return batch | {
        TEACHER_IDS: pad_sequence(taught, batch_first=True, padding_value=pad),
        TEACHER_MASK: pad_sequence([torch.ones_like(ids) for ids in taught], batch_first=True),
    }


def teacher_heads(processor: "LangBridgeProcessor", prompts: Sequence[str], template: Template) -> "list[Row]":
    """Prompts in their template as the language model's own tokens."""
    rows = [as_own_text(template.parts(prompt)) for prompt in prompts]
    return processor.tokens.rows(rows, whole=template.whole) if rows else []


def as_own_text(parts: Sequence[Part]) -> list[Part]:
    """All up to the last source as one text, as a language model reads it that has no bridge, and what follows by
    itself, so that it is the same tokens as behind soft prompts."""
    last = max(place for place, part in enumerate(parts) if isinstance(part, Soft)) + 1
    texts = ("".join(part.text for part in some) for some in (parts[:last], parts[last:]))
    return [Own(text) for text in texts if text]
