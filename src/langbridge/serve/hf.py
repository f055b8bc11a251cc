"""An engine on Hugging Face's models: a bridge, a causal language model or an encoder-decoder, in this process."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from transformers import PreTrainedModel

from langbridge.errors import LangBridgeError
from langbridge.model.bases import spread_values
from langbridge.model.configuration import IGNORE
from langbridge.model.language_models import head_only_at
from langbridge.serve.batching import in_batches, padded
from langbridge.serve.engine import GREEDY, SEED, Answer, Decoding, Engine, Likelihood, Request
from langbridge.serve.generation import Ending, continuations, own_decoding, seeded
from langbridge.serve.readers import Reader, Reading
from langbridge.serve.rolling import Question, answered, rolling_batch
from langbridge.serve.sampling import Choice

_WHOLE, _SAMPLED = 1 << 20, 1 << 10
"""A tensor up to the first size counts in full, a larger one by so many values spread over it: training that reaches
a tensor moves nearly all of its values, and reading billions of them would take longer than the questions."""


class HFEngine(Engine):
    """A model and the reader of its requests, asked in batches of like length.

    batch_size: requests at once; halved where memory runs out. Greedy answers make room for the next one as they end
    (`rolling.py`); by beams, by chance, or with another cache, a batch is written until its longest is.
    """

    def __init__(self, model: PreTrainedModel, reader: Reader, batch_size: int = 16):
        if batch_size < 1:
            raise LangBridgeError(f"batch_size: expected at least 1, got {batch_size}")
        self.model, self.reader, self.batch_size = model.eval(), reader, batch_size
        self.chats = reader.chats

    @property
    def device(self) -> torch.device:
        return self.model.device

    @cached_property
    def identity(self) -> dict[str, Any]:
        return {
            "kind": self.reader.kind,
            "model": model_fingerprint(self.model),
            "dtype": str(self._writer.dtype).removeprefix("torch."),
            **self.reader.identity,
            "seed": SEED,
            **own_decoding(self.model),
        }

    def shown(self, request: Request) -> str:
        return self.reader.shown(request)

    def generate(self, requests: Sequence[Request], decoding: Decoding = GREEDY) -> Iterator[tuple[int, Answer]]:
        readings = self.reader.read(requests, new_tokens=decoding.max_new_tokens)
        keys = [one.drawn_by for one in requests]

        def answer(places: list[int], batch: list[int]) -> list[Answer]:
            rows = [places[number] for number in batch]
            with seeded([keys[place] for place in rows], decoding.seed):
                return self._write([readings[place] for place in rows], decoding)

        rolling = rolling_batch(self.model, decoding)
        for bridged in (True, False):  # apart, since a connector may reach into the language model's layers
            places = [place for place, one in enumerate(readings) if bool(one.sources) == bridged]
            if rolling is not None:
                for one in answered(rolling, self._questions(places, readings, decoding), self.batch_size):
                    yield one.place, one.answer
                continue
            lengths = [readings[place].length for place in places]
            for number, found in in_batches(lengths, self.batch_size, partial(answer, places)):
                yield places[number], found

    def _questions(self, places: list[int], readings: list[Reading], decoding: Decoding) -> list[Question]:
        ending = Ending.of(self.model, self.reader.tokenizer, self.reader.decode, decoding.stop, self.reader.ends)
        ends = sorted(ending.final)
        return [
            Question(
                place,
                readings[place],
                decoding,
                Choice(self.model, decoding, len(readings[place].ids), ends, place, self.device),
                ending,
            )
            for place in places
        ]

    def score(self, requests: Sequence[Request], continuations: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        readings = self.reader.read(requests, continuations=continuations)

        def answer(batch: list[int]) -> list[Likelihood]:
            return self._score([readings[place] for place in batch])

        yield from in_batches([one.length for one in readings], self.batch_size, answer)

    def _write(self, readings: Sequence[Reading], decoding: Decoding) -> list[Answer]:
        reader = self.reader
        written = continuations(
            self.model,
            self._inputs(readings, "left"),
            reader.tokenizer,
            reader.decode,
            decoding,
            ends=reader.ends,
        )
        return [one.answered(text, len(ids), end) for one, (ids, text, end) in zip(readings, written, strict=True)]

    @property
    def _writer(self) -> Any:
        """The model that writes: of a bridge its language model."""
        return self.model.language_model if self.reader.kind == "bridge" else self.model

    @torch.inference_mode()
    def _score(self, readings: Sequence[Reading]) -> list[Likelihood]:
        scores: dict[int, tuple[float, bool]] = {}
        for bridged in (True, False):  # after no prompt, a bridge's language model scores alone
            places = [place for place, one in enumerate(readings) if one.after and bool(one.sources) == bridged]
            if places:
                rows = [readings[place] for place in places]
                scores.update(zip(places, per_row(self._logits(rows), [one.after for one in rows]), strict=True))
        return [Likelihood(*scores.get(place, (0.0, True)), one.cut, one.way) for place, one in enumerate(readings)]

    def _logits(self, readings: Sequence[Reading]) -> torch.Tensor:
        """(tgt, vocab): the logits at the tokens of all continuations, end to end."""
        if self.model.config.is_encoder_decoder:
            labels = self._tensor([one.after for one in readings], 0, "right")
            logits = self.model(**self._inputs(readings, "right"), labels=labels).logits
            return torch.cat([row[: len(one.after)] for row, one in zip(logits, readings, strict=True)])
        if readings[0].sources:
            labels = self._tensor([[IGNORE] * len(one.ids) + one.after for one in readings], IGNORE, "right")
            found: torch.Tensor = self.model(**self._inputs(readings, "right"), labels=labels).logits
            return found  # at target positions only
        # Padded on the right, no causal model sees a pad before its text, so there is no mask. The last token of a row
        # is scored and never read.
        ids = self._tensor([[*one.ids, *one.after][:-1] for one in readings], 0, "right")
        keep = torch.zeros_like(ids, dtype=torch.bool)
        for row, one in zip(keep, readings, strict=True):
            row[len(one.ids) - 1 : len(one.ids) - 1 + len(one.after)] = True
        with head_only_at(self._writer, keep):
            return torch.as_tensor(self._writer(input_ids=ids, use_cache=False).logits.squeeze(0))

    def _inputs(self, readings: Sequence[Reading], side: str) -> dict[str, torch.Tensor]:
        """A batch of what is read, and of what is scored after it."""
        sources = [row for one in readings for row in one.sources]
        if self.model.config.is_encoder_decoder:
            return self._padded("", sources, self.reader.pad_id, "right")
        own = self._padded("", [[*one.ids, *one.after] for one in readings], self.reader.pad_id, side)
        return {**own, **self._padded("encoder_", sources, self.reader.source_pad_id, "right")} if sources else own

    def _padded(self, name: str, rows: Sequence[list[int]], pad: int, side: str) -> dict[str, torch.Tensor]:
        return {
            f"{name}input_ids": self._tensor(rows, pad, side),
            f"{name}attention_mask": self._tensor([[1] * len(row) for row in rows], 0, side),
        }

    def _tensor(self, rows: Sequence[Sequence[int]], pad: int, side: str) -> torch.Tensor:
        return padded(rows, pad, side).to(self.device)


def per_row(logits: torch.Tensor, rows: Sequence[list[int]]) -> list[tuple[float, bool]]:
    """Sum and greediness of each row's tokens, from (tgt, vocab) logits laid end to end."""
    counts = [len(row) for row in rows]
    tokens = torch.tensor([token for row in rows for token in row], device=logits.device)
    values = logits.float().log_softmax(-1).gather(-1, tokens[:, None]).squeeze(-1)
    greedy = logits.argmax(-1) == tokens
    pairs = zip(values.split(counts), greedy.split(counts), strict=True)
    return [(float(value.sum()), bool(hit.all())) for value, hit in pairs]


def model_fingerprint(model: Any) -> str:
    """A hash over the names, shapes and values of a model's parameters, in whatever precision they are loaded."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters(), key=lambda item: item[0]):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype};".encode())
        if parameter.is_meta:
            continue
        values = spread_values(parameter, parameter.numel() if parameter.numel() <= _WHOLE else _SAMPLED)
        kept = values.float() if values.is_floating_point() else values
        digest.update(kept.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
