"""Batches for a plain language model, without encoder and soft prompts: the paper's trained baselines.

pair    [begin] prompt in its template | target [end]     loss after the bar
text    [begin] | text [EOS]
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from langbridge.data.collator import ROWS, origins_of
from langbridge.data.cuts import Cuts
from langbridge.data.examples import CUT_WHOLE, Example, TextExample
from langbridge.data.usable_rows import identity_of
from langbridge.errors import LangBridgeError
from langbridge.files import BadRow
from langbridge.model.sequence import begin_ids, begun, template_of


class CausalCollator:
    """Turns `Example`s or `TextExample`s into `input_ids`, `attention_mask` and `labels`, each (batch, seq).

    tokenizer: the language model's. template: text with `{prompt}` in it once, or `chat`, put around every prompt;
    system: as in `LangBridgeProcessor`. max_length: limit in tokens of the whole sequence; a longer target is cut and
    keeps its end, as the processor does it, and a longer text is cut without one. with_rows: as in `LabelledCollator`.

    Padding is on the right, masked by length and not by id: where pad is EOS, EOS is learned all the same.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        template: str = "{prompt}",
        system: str | None = None,
        max_length: int,
        with_rows: bool = False,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise LangBridgeError("tokenizer: it has no EOS token, so a target cannot end; set tokenizer.eos_token")
        self.tokenizer = tokenizer
        self.template = template_of(tokenizer, template, "lm", system)
        self.max_length = max_length
        self.with_rows = with_rows
        self.cuts = Cuts()
        """As in `LabelledCollator`; a text is no target, and is cut in silence as in `UnlabelledCollator`."""

    accepts_all = False

    @property
    def identity(self) -> str | None:
        """As `Judge.identity`."""
        return identity_of([self.tokenizer], {"template": asdict(self.template), "max_length": self.max_length})

    def __call__(self, examples: Sequence[Example | TextExample]) -> dict[str, Any]:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        from langbridge.model.configuration import IGNORE

        ids, masks, labels, cut = [], [], [], []
        for example, (head, tail, whole) in zip(examples, self._ids(examples), strict=True):
            if not tail:
                raise self._cut_whole(example, len(head))
            if not whole and isinstance(example, Example):
                cut.append(example.origin)
            ids.append(torch.tensor(head + tail))
            masks.append(torch.ones_like(ids[-1]))
            labels.append(torch.tensor([IGNORE] * len(head) + tail))
            labels[-1][0] = IGNORE  # it is predicted from nothing, with or without BOS
        if cut:
            self.cuts.add("targets", f"fit max_length={self.max_length}", cut)
        pad = self.tokenizer.pad_token_id
        pad = self.tokenizer.eos_token_id if pad is None else pad
        batch: dict[str, Any] = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad),
            "attention_mask": pad_sequence(masks, batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE),
        }
        if self.with_rows:
            batch[ROWS] = origins_of(examples)
        return batch

    def misfits(self, examples: Sequence[Example | TextExample]) -> list[BadRow | None]:
        """For each example that no token of its target would be left, or None."""
        return [
            None if tail else self._cut_whole(example, len(head))
            for example, (head, tail, _) in zip(examples, self._ids(examples), strict=True)
        ]

    def _ids(self, examples: Sequence[Example | TextExample]) -> Iterator[tuple[list[int], list[int], bool]]:
        """Prompt, target and whether that is whole; the target is empty where the limit leaves only its EOS."""
        tokenizer, template = self.tokenizer, self.template
        eos, begin = tokenizer.eos_token_id, begin_ids(tokenizer)
        prompts = [template.text(e.prompt) if isinstance(e, Example) else "" for e in examples]
        targets = [e.target if isinstance(e, Example) else e.text for e in examples]
        # In one call, which a fast tokenizer spreads over the cores.
        ids = tokenizer([*prompts, *targets], add_special_tokens=False, verbose=False)["input_ids"]
        for example, prompt_ids, target_ids in zip(examples, ids, ids[len(examples) :], strict=False):
            pair = isinstance(example, Example)
            head = prompt_ids if pair and template.whole else begun(prompt_ids, begin)
            end = eos if template.end is None or not pair else template.end
            room = self.max_length - len(head)
            if len(target_ids) < room:
                yield head, [*target_ids, end], True
            elif not pair:
                yield head, target_ids[: max(room, 0)], False
            else:
                kept = target_ids[: max(room - 1, 0)]
                yield head, [*kept, end] if kept else [], False

    def _cut_whole(self, example: Example | TextExample, read: int) -> BadRow:
        return BadRow(
            f"{example.origin}: the prompt has {read} tokens, and max_length {self.max_length} leaves no room for the "
            "target; raise the limit or shorten the prompt",
            CUT_WHOLE,
        )
