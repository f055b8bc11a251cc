"""Answering requests as they come, for a server: what it asks, and what it is told. Neither torch nor transformers."""

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from langbridge.errors import LangBridgeError
from langbridge.serve.engine import GREEDY, Answer, Decoding, Request


@dataclass(frozen=True)
class Token:
    """A written token. log_probability: natural log, under the model's own distribution, before temperature and top-p.
    top: the likeliest tokens at its place and theirs, the likeliest first."""

    text: str
    log_probability: float
    top: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Piece:
    """More text of an answer, and, where they were asked for, the further tokens whose text begins in it."""

    text: str
    tokens: Sequence[Token] = ()


Tell = Callable[[Piece | Answer | BaseException], object]
"""Called with the pieces of an answer and then, once, with its end: the whole answer, or what went wrong. It is called
in a thread of the engine's, which it must not hold up."""


@dataclass(frozen=True)
class Load:
    """How much an engine has to do. waiting: requests that are not yet written. running: those that are, of at most
    `slots`."""

    waiting: int
    running: int
    slots: int


class Busy(LangBridgeError):
    """The queue is full. after: seconds in which there may be room."""

    def __init__(self, message: str, after: float):
        super().__init__(message)
        self.after = after


class Unavailable(LangBridgeError):
    """What writes the answers cannot be reached, or failed: the request may be good, and its answer come later."""


class Ticket(abc.ABC):
    """A request that was taken."""

    @abc.abstractmethod
    def cancel(self) -> None:
        """Give it up: nothing more is told of it, and its place is free before the next token is written."""


class LiveEngine(abc.ABC):
    """A model that takes requests at any time and answers several at once. What one is answered does not depend on the
    others."""

    chats: bool = False
    """Whether it answers in turns, of which it writes the end itself."""
    positions: int | None = None
    """Tokens that the language model has room for, prompt and answer together; None where that has no end or is not
    known."""

    @property
    @abc.abstractmethod
    def load(self) -> Load:
        """How much there is to do at this moment."""

    @abc.abstractmethod
    def submit(self, request: Request, decoding: Decoding = GREEDY, *, tell: Tell, owner: str = "") -> Ticket:
        """Take a request. owner: whose it is; owners take turns, however many requests one of them has.

        Raises what is wrong with the request (`PromptTooLong`, `LangBridgeError`), and `Busy` where the queue is full.
        What goes wrong later is told: `Unavailable` where it is not the request's fault.
        """

    def pieces(self, request: Request, decoding: Decoding = GREEDY) -> Iterator[Piece]:
        """The answer to a request as it is written. Closed early, the iterator gives it up."""
        news: SimpleQueue[Piece | Answer | BaseException] = SimpleQueue()
        ticket = self.submit(request, decoding, tell=news.put)
        try:
            while isinstance(found := news.get(), Piece):
                yield found
        finally:
            ticket.cancel()
        if isinstance(found, BaseException):
            raise found

    @abc.abstractmethod
    def close(self, seconds: float = 0.0) -> None:
        """Take no more; wait so long for what is being written or waits, then give it up. Returns when all have their
        end told."""
