"""Unlabelled text to a batch: how long the encoder's part is, and what the language model is to write.

LangBridge, appendix D.1, trains base language models on plain text: a batch draws the encoder's length from U[32, 1024]
and the language model's from U[128, 1152 - it]; the text's beginning is read by the encoder, and what follows it is
written.
"""

import random
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from langbridge.data.collator import ROWS, identity_of_processor, marked, marker_of, origins_of
from langbridge.data.examples import TOO_SHORT, TextExample
from langbridge.data.splitting import split_text, token_count
from langbridge.errors import LangBridgeError
from langbridge.files import BadRow

if TYPE_CHECKING:
    from langbridge.model import LangBridgeProcessor

_CHARACTERS = 8  # a token of the language model; a first guess that is doubled where it falls short


class Lengths(NamedTuple):
    """What a batch drew, in tokens: the encoder's, and the language model's own (BOS, end vector, target, EOS)."""

    encoder: int
    lm: int


def drawn_lengths(
    seed: int,
    step: int | str,
    *,
    min_encoder_length: int = 32,
    max_encoder_length: int = 1024,
    min_lm_length: int = 128,
    max_length: int = 1152,
) -> Lengths:
    """The lengths of the batch `step`: a function of the arguments alone, so the same on every rank and on resuming."""
    rng = random.Random(f"lengths/{seed}/{step}")
    encoder = rng.randint(min_encoder_length, max_encoder_length)
    return Lengths(encoder, rng.randint(min_lm_length, max(min_lm_length, max_length - encoder)))


class UnlabelledCollator:
    """Turns `TextExample`s into the arguments of the model's `forward`, labels included.

    seed: of the drawn lengths, together with the examples' `step`, which a sampler tags with `BatchRow` and a
        `RowStream` by itself. Examples without one (a validation set) draw by their origins.
    min_encoder_length .. max_length: bounds of the draw in tokens, as in `drawn_lengths`.
    with_rows: as in `LabelledCollator`.

    A text that is shorter than its batch drew is cut in proportion to the draw: half way between the shortest prefix
    and the whole text where the draw was half way between its bounds. One without room for both a prefix of
    `min_encoder_length` tokens and a continuation is a misfit, and an error in a batch; its text never becomes a target
    as a whole. A continuation that goes on beyond the limit does not end in a trained EOS, because it does not end.
    """

    def __init__(
        self,
        processor: "LangBridgeProcessor",
        *,
        seed: int,
        min_encoder_length: int = 32,
        max_encoder_length: int = 1024,
        min_lm_length: int = 128,
        max_length: int = 1152,
        with_rows: bool = False,
    ) -> None:
        if processor.encoder_length_limit is not None:
            max_encoder_length = min(max_encoder_length, processor.encoder_length_limit)
        if min_encoder_length > max_encoder_length:
            raise LangBridgeError(
                f"min_encoder_length: {min_encoder_length} is more than max_encoder_length {max_encoder_length}"
            )
        if max_encoder_length + min_lm_length > max_length:
            raise LangBridgeError(
                f"max_length: {max_length} is less than max_encoder_length {max_encoder_length} and min_lm_length "
                f"{min_lm_length} together"
            )
        self.processor = processor
        self.seed = seed
        self._shortest = min_encoder_length
        self.bounds = {
            "min_encoder_length": min_encoder_length,
            "max_encoder_length": max_encoder_length,
            "min_lm_length": min_lm_length,
            "max_length": max_length,
        }
        self.with_rows = with_rows

    accepts_all = False

    @property
    def identity(self) -> str | None:
        """As `Judge.identity`."""
        return identity_of_processor(self.processor, **self.bounds)

    def misfits(self, examples: Sequence[TextExample]) -> list[BadRow | None]:
        """For each text that it is too short or that it holds a mark, or None."""
        marker = marker_of(self.processor)
        return [self._misfit(example, marker) for example in examples]

    def _misfit(self, example: TextExample, marker: str | None) -> BadRow | None:
        if marker is not None and marker in example.text:
            return marked(example.origin, marker)
        try:
            self._halves(example, self._shortest)
        except BadRow as error:
            return error
        return None

    def __call__(self, examples: Sequence[TextExample]) -> dict[str, Any]:
        lengths = self.lengths(examples)
        prefixes, continuations = zip(*(self._halves(example, lengths.encoder) for example in examples), strict=True)
        starts, counts = self._starts(continuations, lengths.encoder + lengths.lm)
        try:
            batch = self._processed(list(prefixes), starts, lengths)
        except LangBridgeError as error:
            raise LangBridgeError(f"{error} (the rows are {', '.join(origins_of(examples))})") from None
        whole = [start == text for start, text in zip(starts, continuations, strict=True)]
        self._untrain_false_ends(batch, whole, counts)
        if self.with_rows:
            batch[ROWS] = origins_of(examples)
        return batch

    def lengths(self, examples: Sequence[TextExample]) -> Lengths:
        """What a batch of these examples draws."""
        steps = {example.step for example in examples}
        if len(steps) > 1:
            raise LangBridgeError(
                f"one batch holds rows that were tagged for the steps {sorted(map(str, steps))}; open the stream with "
                "the batch size of its loader"
            )
        (step,) = steps
        return drawn_lengths(self.seed, step if step is not None else "|".join(origins_of(examples)), **self.bounds)

    def _processed(self, prefixes: list[str], starts: list[str], lengths: Lengths) -> dict[str, Any]:
        with warnings.catch_warnings():
            # Cutting is intended here: no warning.
            warnings.filterwarnings("ignore", "targets of rows")
            return dict(
                self.processor(
                    prefixes,
                    targets=starts,
                    max_encoder_length=lengths.encoder,
                    max_length=lengths.encoder + lengths.lm,
                    truncation="target",
                    apply_template=False,
                )
            )

    def _halves(self, example: TextExample, length: int) -> tuple[str, str]:
        """Prefix and continuation. Raises `BadRow` for a text that is too short."""
        tokenizer = self.processor.encoder_tokenizer
        halves = split_text(example.text, tokenizer, length)
        if halves is None and length > self._shortest:
            # The whole text would be prefix. `length` is beyond it, so counting its tokens costs no more than a batch.
            special = tokenizer.num_special_tokens_to_add(pair=False)
            longest = token_count(example.text.rstrip(), tokenizer) + special - 1
            share = (length - self._shortest) / (self.bounds["max_encoder_length"] - self._shortest)
            length = self._shortest + int(share * max(longest - self._shortest, 0))
            halves = split_text(example.text, tokenizer, length)
        if halves is None:
            raise BadRow(
                f"{example.origin}: the text is too short, expected more than {self._shortest} encoder tokens "
                "(min_encoder_length), so that a continuation is left",
                TOO_SHORT,
            )
        return halves

    def _starts(self, texts: Sequence[str], limit: int) -> tuple[list[str], list[int]]:
        """Of each continuation as much as `limit` tokens may need, and its tokens."""
        starts, counts = [], []
        for text in texts:
            window = _CHARACTERS * limit
            while True:
                count = token_count(text[:window], self.processor.tokenizer)
                if count > limit or window >= len(text):
                    break
                window *= 2
            starts.append(text[:window])
            counts.append(count)
        return starts, counts

    def _untrain_false_ends(self, batch: dict[str, Any], whole: list[bool], counts: list[int]) -> None:
        """Take EOS out of the labels of rows whose text goes on behind it."""
        from langbridge.model.configuration import IGNORE

        for row, labels in enumerate(batch["labels"]):
            trained = (labels != IGNORE).nonzero().flatten()
            if not whole[row] or len(trained) - 1 < counts[row]:
                labels[trained[-1]] = IGNORE
