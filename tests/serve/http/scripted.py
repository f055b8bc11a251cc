"""A `LiveEngine` that writes the words of a script, so many a second, in threads of its own."""

import threading
import time
from collections.abc import Callable

from langbridge.errors import LangBridgeError
from langbridge.serve.engine import GREEDY, Answer, Decoding, PromptTooLong, Request
from langbridge.serve.live import Busy, LiveEngine, Load, Piece, Tell, Ticket, Token, Unavailable


class ScriptedEngine(LiveEngine):
    """script: what is answered to a request. pause: seconds before each word. read: called for each request that is to
    become tokens. Two requests are written at a time.

    asked, owners: of all requests that were taken. cancelled: those that were given up.
    """

    def __init__(
        self,
        script: Callable[[Request], str] = lambda request: "So it is 28 apples .",
        *,
        pause: float = 0.0,
        read: Callable[[], object] = lambda: None,
        chats: bool = True,
        slots: int = 2,
        queue: int = 64,
    ):
        self.script, self.pause, self.read = script, pause, read
        self.chats, self.slots, self.queue = chats, slots, queue
        self.asked: list[tuple[Request, Decoding]] = []
        self.owners: list[str] = []
        self.cancelled: list[Request] = []
        self._waiting = self._running = 0
        self._lock, self._free = threading.Lock(), threading.Semaphore(slots)
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()

    @property
    def load(self) -> Load:
        return Load(self._waiting, self._running, self.slots)

    def submit(self, request: Request, decoding: Decoding = GREEDY, *, tell: Tell, owner: str = "") -> "_Job":
        text = request.prompt or request.messages[-1]["content"]
        self.read()
        if "too long" in text:
            raise PromptTooLong("shorten it, or let the model write less (--max-new-tokens)")
        if request.language not in (None, "sw"):
            raise LangBridgeError(f"the encoder has no mark for {request.language!r}")
        if "a bug" in text:
            raise KeyError(text)
        with self._lock:
            if self._waiting >= self.queue:
                raise Busy("the queue is full", 1.5)
            self._waiting += 1
            self.asked.append((request, decoding))
            self.owners.append(owner)
        job = _Job(self, request, decoding, tell)
        self._threads.append(threading.Thread(target=job.write, daemon=True))
        self._threads[-1].start()
        return job

    def close(self, seconds: float = 0.0) -> None:
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._closing.set()
        for thread in self._threads:
            thread.join()


class _Job(Ticket):
    def __init__(self, engine: ScriptedEngine, request: Request, decoding: Decoding, tell: Tell):
        self.engine, self.request, self.decoding, self.tell = engine, request, decoding, tell
        self._left = threading.Event()

    def cancel(self) -> None:
        if not self._left.is_set():
            self._left.set()
            self.engine.cancelled.append(self.request)

    def write(self) -> None:
        engine = self.engine
        with engine._free:
            with engine._lock:
                engine._waiting -= 1
                engine._running += 1
            try:
                if not self._left.is_set():
                    end = self._answer()
                    if end is not None and not self._left.is_set():
                        self._left.set()
                        self.tell(end)
            finally:
                with engine._lock:
                    engine._running -= 1

    def _answer(self) -> Answer | Exception | None:
        script, decoding = self.engine.script(self.request), self.decoding
        if script == "unavailable":
            return Unavailable("nobody writes")
        words = [word if number == 0 else f" {word}" for number, word in enumerate(script.split(" "))]
        most = decoding.max_new_tokens
        for word in words[:most]:
            self._left.wait(self.engine.pause)
            if self._left.is_set():
                return None
            if self.engine._closing.is_set():
                return Unavailable("the engine was closed")
            top = [(word, -0.5), ("?", float("-inf"))][: decoding.log_probabilities or 0]
            tokens = [] if decoding.log_probabilities is None else [Token(word, -0.5, top)]
            # As engines do, the last word is left to the answer.
            self.tell(Piece(word if word is not words[-1] else "", tokens))
        written = min(len(words), most)
        finish = "stop" if len(words) <= most else "length"
        prompt = self.request.prompt or "".join(turn["content"] for turn in self.request.messages)
        read = len(prompt.split())
        return Answer("".join(words[:written]), written, finish, read + 5, False, read)
