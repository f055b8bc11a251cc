"""A `LiveEngine` on Hugging Face's models, in this process: requests join and leave a running batch between tokens."""

import logging
import threading
import time
from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from langbridge.errors import LangBridgeError
from langbridge.model.language_models import positions
from langbridge.serve.batch import Batch
from langbridge.serve.batching import out_of_memory, too_large
from langbridge.serve.engine import GREEDY, Decoding, PromptTooLong, Request
from langbridge.serve.generation import Ending
from langbridge.serve.live import LiveEngine, Load, Tell, Unavailable
from langbridge.serve.readers import Reader
from langbridge.serve.routing import RoutingReader
from langbridge.serve.rows import Row, check_new_tokens
from langbridge.serve.sampling import Choice
from langbridge.serve.turns import Pace, Turns

_log = logging.getLogger(__name__)

READ_AT_ONCE = 512
"""Tokens of prompts, padding included, that are read between two tokens of the others; one prompt may have more."""


class ContinuousEngine(LiveEngine):
    """A model and the reader of its requests.

    slots: requests that are written at a time; fewer where memory ends. queue: requests that may wait.
    max_new_tokens: the most of an answer; None for what the model has room for.

    One thread of its own runs the model. Requests become tokens in the threads of those who bring them.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        reader: Reader,
        *,
        slots: int = 32,
        queue: int = 256,
        max_new_tokens: int | None = None,
    ):
        if slots < 1:
            raise LangBridgeError(f"slots: expected at least 1, got {slots}")
        if isinstance(reader, RoutingReader) and model.connector.injects:
            raise LangBridgeError(
                f"--route: {type(model.connector).__name__} reaches into the language model's layers, where a prompt "
                "that is text would be read at the same time; leave the route out here"
            )
        if isinstance(reader, RoutingReader) and reader.chats and not reader.takes_turns_as_text:
            raise LangBridgeError(
                f"--route: it was fitted with the template {reader.route.template!r}, which has no place for turns, "
                "and this bridge answers conversations; fit it again without --template, or with --template chat or "
                "'chat: TURN'"
            )
        self.model, self.reader, self.chats = model.eval(), reader, reader.chats
        self.slots, self.queue, self.max_new_tokens = slots, queue, max_new_tokens
        self._batch = Batch(model)
        self.positions = positions(self._batch.writer.config)
        self._reading, self._changed = threading.Lock(), threading.Condition()
        self._turns, self._pace = Turns[Row](), Pace()
        self._joining: list[Row] = []
        self._most, self._answered = slots, 0
        self._until: float | None = None  # when to give up what is left, once it closes
        self._thread = threading.Thread(target=self._work, name="langbridge-engine", daemon=True)
        self._thread.start()

    @property
    def load(self) -> Load:
        with self._changed:
            running = {*self._batch.rows, *self._joining}  # in both for a moment, while its first token is told
            return Load(len(self._turns), len(running), self.slots)

    def submit(self, request: Request, decoding: Decoding = GREEDY, *, tell: Tell, owner: str = "") -> Row:
        with self._changed:
            self._check_open()
        row = self._row(request, decoding, tell, owner)
        with self._changed:
            self._check_open()
            if not (self._turns or self._joining or self._batch.rows):
                self._pace.begun()
            out = self._turns.admit(owner, row, self.queue, lambda one: one.gone)
            if out is row:
                raise self._pace.busy(self.queue)
            self._changed.notify_all()
        if out is not None:
            out.end(self._pace.busy(self.queue))
        return row

    def close(self, seconds: float = 0.0) -> None:
        with self._changed:
            self._until = time.monotonic() + seconds
            self._changed.notify_all()
        self._thread.join()

    def _check_open(self) -> None:
        if self._until is not None:
            raise Unavailable("the engine is closing and takes no more requests")

    def _row(self, request: Request, decoding: Decoding, tell: Tell, owner: str) -> Row:
        asked = decoding.max_new_tokens
        check_new_tokens(asked, self.max_new_tokens)
        with self._reading:  # the tokenizers are not made for several threads
            (reading,) = self.reader.read([request], new_tokens=asked)
        if reading.cut:
            raise PromptTooLong(
                f"the prompt has {reading.length} tokens, which leaves no room for {asked} new ones; shorten it, or "
                "let the model write less"
            )
        ending = Ending.of(self.model, self.reader.tokenizer, self.reader.decode, decoding.stop, self.reader.ends)
        device = self._batch.device
        choice = Choice(self.model, decoding, len(reading.ids), sorted(ending.final), request.drawn_by, device)
        return Row(reading, decoding, choice, ending, tell, owner)

    # The engine's own thread

    def _work(self) -> None:
        with torch.inference_mode():
            while self._wait():
                self._leave()
                with self._changed:
                    self._choose()
                if self._joining:
                    self._guarded(lambda: self._join(self._joining))
                    self._leave()
                if self._batch.rows:
                    self._guarded(self._step)
            left = self._batch.clear()
        with self._changed:
            left += self._turns.all()
        for row in left:
            row.end(Unavailable("the engine was closed before the answer was written"))

    def _wait(self) -> bool:
        """For something to do. False where the engine closes, and nothing is left or time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._turns or self._batch.rows or self._until is not None)
            busy = bool(self._turns or self._batch.rows)
            return self._until is None or (busy and time.monotonic() < self._until)

    def _leave(self) -> None:
        for _ in range(self._batch.leave()):
            self._pace.ended()
            self._answered += 1
            if self._answered % self.slots == 0:  # memory that had ended may be there again
                self._most = min(self._most + 1, self.slots)

    def _choose(self) -> None:
        """Who joins next."""
        self._turns.without(lambda row: row.gone)
        longest = 0
        while self._turns and len(self._batch.rows) + len(self._joining) < self._most:
            row = self._turns.next()
            longest = max(longest, row.length)
            if self._joining and longest * (len(self._joining) + 1) > READ_AT_ONCE:
                self._turns.back(row.owner, row)
                break
            self._joining.append(row)

    def _join(self, rows: list[Row]) -> None:
        try:
            self._batch.join(rows)
            return
        except Exception as error:
            if out_of_memory(error):
                raise
            if len(rows) == 1:
                rows[0].end(error)
                return
        for row in rows:  # one of them is at fault, and is found alone
            self._join([row])

    def _step(self) -> None:
        try:
            self._batch.step()
        except Exception as error:
            if out_of_memory(error):
                raise
            for row in self._batch.clear():
                row.end(error)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Where memory ends, let all rows begin again where they are, fewer at a time."""
        try:
            work()
            self._joining = []
            return
        except (RuntimeError, MemoryError) as error:
            # Without its traceback, which keeps the tensors alive.
            failure = error.with_traceback(None)
        rows, self._joining = self._batch.begin_again(self._joining), []
        if len(rows) == 1:
            rows[0].end(too_large(failure))
            return
        self._most = max(1, len(rows) // 2)
        _log.warning("memory ended with %d requests at a time: going on with %d (%s)", len(rows), self._most, failure)
        with self._changed:
            for row in reversed(rows):
                self._turns.back(row.owner, row)
