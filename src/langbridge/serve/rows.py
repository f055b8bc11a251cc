"""A request on its way through a `LiveEngine`: what it reads, what is written of its answer, what is told of that."""

import logging
from collections.abc import Sequence

import torch

from langbridge.errors import LangBridgeError
from langbridge.serve.engine import Answer, Decoding
from langbridge.serve.generation import Ending, Growing, cut_at_first
from langbridge.serve.live import Piece, Tell, Ticket, Token, Unavailable
from langbridge.serve.readers import Reading
from langbridge.serve.sampling import Choice

_log = logging.getLogger(__name__)

_CONTEXT = 4
"""Tokens before a token that are decoded with it, because alone it may lose its space or be half a character."""


class Asked(Ticket):
    """written: ids of the answer so far, which stay where it has to begin again. gone: nobody waits for it, or its end
    is told."""

    def __init__(self, reading: Reading, decoding: Decoding, ending: Ending, tell: Tell, owner: str = ""):
        self.reading, self.decoding, self.ending = reading, decoding, ending
        self.owner, self._tell = owner, tell
        self.written: list[int] = []
        self.gone = False
        self._growing, self._told, self._length = Growing(ending), "", 0
        self._tokens: list[tuple[int, Token]] = []  # those that are not told yet, and where their text begins

    def cancel(self) -> None:
        self.gone = True

    def write(self, token: int, told: Token | None = None) -> None:
        """One more token, and what is to be told of it, if anything."""
        ending, limit = self.ending, self.decoding.max_new_tokens
        if told is not None and token not in ending.final:
            self._tokens.append((self._length, told))
        self.written.append(token)
        whole = self._growing.of(self.written)
        self._length = len(whole.rstrip("\N{REPLACEMENT CHARACTER}"))
        text, stopped = cut_at_first(whole, ending.stop)
        if not (stopped or token in ending.final or len(self.written) >= limit):
            settled = ending.settled(text)
            self._piece(settled, len(settled))
            return
        ids, text, early = ending.read(self.written, limit)
        self._piece(text, len(text) if stopped else None)
        self.end(self.reading.answered(text, len(ids), early))

    def end(self, what: Answer | BaseException) -> None:
        """Tell the end. An error that is not about the request is `Unavailable`."""
        if isinstance(what, Exception) and not isinstance(what, LangBridgeError):
            _log.error("an answer could not be written", exc_info=what)
            error = Unavailable(f"the answer could not be written: {type(what).__name__}: {what}")
            error.__cause__, what = what, error
        self._say(what)
        self.gone = True

    def _piece(self, text: str, until: int | None) -> None:
        """What is new of a text, and the tokens that begin before a place in it: a stop string's own are never told."""
        new = text[len(self._told) :] if text.startswith(self._told) else ""
        tokens = [token for begin, token in self._tokens if until is None or begin < until]
        if new or tokens:
            self._told, self._tokens = self._told + new, self._tokens[len(tokens) :]
            self._say(Piece(new, tuple(tokens)))

    def _say(self, what: Piece | Answer | BaseException) -> None:
        if self.gone:
            return
        try:
            self._tell(what)
        except Exception:  # whoever listens is no reason to stop for the others
            _log.exception("an answer could not be told")
            self.gone = True

    def shown(self, token: int) -> str:
        """A token's text after those before it."""
        before: Sequence[int] = self.written[-_CONTEXT:]
        return self.ending.decode([*before, token])[len(self.ending.decode(before)) :]


class Row(Asked):
    """One that is written in this process."""

    def __init__(self, reading: Reading, decoding: Decoding, choice: Choice, ending: Ending, tell: Tell, owner: str):
        super().__init__(reading, decoding, ending, tell, owner)
        self.choice = choice

    @property
    def ids(self) -> list[int]:
        """Prompt and answer so far, as the writing model has them."""
        return self.reading.ids + self.written

    @property
    def length(self) -> int:
        """Tokens to compute before the next one."""
        return self.reading.length + len(self.written)

    def telling(self, token: int, logits: torch.Tensor) -> Token | None:
        """What is to be told of the next token, of the logits (vocab,) from which it was chosen."""
        likeliest = self.decoding.log_probabilities
        if likeliest is None:
            return None
        values = logits.log_softmax(-1)
        top = values.topk(min(likeliest, len(values)))
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        return Token(self.shown(token), float(values[token]), [(self.shown(id), value) for id, value in pairs])


def check_new_tokens(asked: int, most: int | None) -> None:
    if asked < 1 or (most is not None and asked > most):
        raise LangBridgeError(
            f"max_new_tokens: got {asked}, expected at least 1" + (f" and at most {most}" if most else "")
        )
