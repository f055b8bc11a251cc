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


def rolls(model: PreTrainedModel, decoding: Decoding) -> bool:
    """Whether answers can be written like this: by a causal model whose cache is one of keys and values, greedily, with
    no more settings than a model's generation config may have."""
    try:
        Batch(model)
    except LangBridgeError:
        return False
    options = {**decoding.options}
    chosen = bool(options.pop("do_sample", False)) or options.pop("num_beams", 1) != 1
    return not (chosen or options.keys() - {*DECODING})


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


def answered(model: PreTrainedModel, questions: Sequence[Question], size: int) -> Iterator[Question]:
    """The questions as they have their answers, `size` written at a time, the longest prompts first.

    Where memory ends, all that are written begin again where they are, half as many at a time. Raises `LangBridgeError`
    where not even one fits, and for a model whose answers cannot be written together.
    """
    batch: Any = Batch(model)
    waiting, joining = sorted(questions, key=lambda one: one.length), list[Question]()
    while waiting or batch.rows:
        free = size - len(batch.rows)
        if free * _FREE >= size or not batch.rows:
            joining = [waiting.pop() for _ in range(min(free, len(waiting)))]
        done, failure = list[Question](), None
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
            back = [*dict.fromkeys([*batch.clear(), *joining])]
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(back) == 1:
                raise too_large(failure) from failure
            size, joining = len(back) // 2, []
            waiting += back
            continue
        joining = []
        yield from done
