"""Many questions that are asked together: a row that has its answer makes room for the next question, so that none
waits for the longest answer of a batch."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from langbridge.errors import LangBridgeError
from langbridge.serve.batch import Batch
from langbridge.serve.batching import out_of_memory, too_large
from langbridge.serve.engine import Answer, Decoding
from langbridge.serve.generation import DECODING, Ending
from langbridge.serve.readers import Reading
from langbridge.serve.rows import Row
from langbridge.serve.sampling import Choice

_FREE = 4
"""New prompts are read when a quarter of the rows is free: reading is a pass of its own, which the others wait for."""


def rolling_batch(model: PreTrainedModel, decoding: Decoding) -> Batch | None:
    """What writes such answers; None where they cannot be written like this: it takes a causal model whose cache is one
    of keys and values, and greedy answers with no more settings than a model's generation config may have."""
    options = {**decoding.options}
    chosen = bool(options.pop("do_sample", False)) or options.pop("num_beams", 1) != 1
    if chosen or options.keys() - {*DECODING}:
        return None
    try:
        return Batch(model)
    except LangBridgeError:
        return None


class Question(Row):
    """Nobody reads its answer before that is whole. place: among the questions."""

    def __init__(self, place: int, reading: Reading, decoding: Decoding, choice: Choice, ending: Ending):
        self.place, self.found = place, list[object]()
        super().__init__(reading, decoding, choice, ending, self.found.append, "")

    def write(self, token: int, told: object = None) -> None:
        self.written.append(token)
        ending, limit = self.ending, self.decoding.max_new_tokens
        if token in ending.final or len(self.written) >= limit or ending.stopped(self.written):
            ids, text, early = ending.read(self.written, limit)
            self.end(self.reading.answered(text, len(ids), early))

    @property
    def answer(self) -> Answer:
        """Its answer, or the error that came instead."""
        (found,) = self.found
        if isinstance(found, Answer):
            return found
        assert isinstance(found, BaseException)
        raise found


def answered(batch: Any, questions: Sequence[Question], size: int) -> Iterator[Question]:
    """The questions as they have their answers, `size` written at a time, the longest prompts first.

    batch: empty, a `rolling_batch`. Where memory ends, all that are written begin again where they are, half as many at
    a time. Raises `LangBridgeError` where not even one fits.
    """
    waiting = sorted(questions, key=lambda one: one.length)
    while waiting or batch.rows:
        free = size - len(batch.rows)
        read = min(free, len(waiting)) if not batch.rows or free * _FREE >= size else 0
        joining, done, failure = [waiting.pop() for _ in range(read)], list[Question](), None
        try:
            with torch.inference_mode():
                batch.join(joining) if joining else batch.step()
                done = [one for one in batch.rows if one.gone]
                batch.leave()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            failure = error.with_traceback(None)  # which keeps the tensors alive
        if failure is not None:
            back = batch.begin_again(joining)
            if len(back) == 1:
                raise too_large(failure) from failure
            size = len(back) // 2
            waiting += back
        yield from done
