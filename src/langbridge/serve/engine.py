"""What every engine is asked, and what it answers with; neither torch nor transformers.

Requests are text and independent of each other: what one is answered does not depend on which others are asked with it.
"""

import abc
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from langbridge.errors import LangBridgeError

SEED = 42


@dataclass(frozen=True)
class Request:
    """A prompt, or a conversation that ends on the user's turn.

    prompt: without the template, which is the engine's. shots: worked examples before it. language: of the prompt, for
    models that are told it. prefix: the beginning of the answer, which goes on after it.
    messages: `role` and `content` of each turn, instead of prompt and shots.
    key: what sampling draws by, where it is not the request itself: several samples of a question have one each.
    """

    prompt: str = ""
    shots: str = ""
    language: str | None = None
    prefix: str = ""
    messages: Sequence[Mapping[str, str]] = ()
    key: Any = None

    @property
    def drawn_by(self) -> Any:
        """What sampling draws by."""
        return dataclasses.astuple(self) if self.key is None else self.key


@dataclass(frozen=True)
class Decoding:
    """How answers are written: greedily, unless `options` say otherwise.

    stop: strings at which an answer is cut. options: more settings by their names in Hugging Face's `generate`
    (`do_sample`, `temperature`, `top_p`, `num_beams`). log_probabilities: a `LiveEngine` tells each token's, with
    so many of the likeliest.
    """

    max_new_tokens: int = 256
    stop: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = SEED
    log_probabilities: int | None = None


GREEDY = Decoding()


@dataclass(frozen=True)
class Answer:
    """text: what was written, its end and its stop string left out. tokens: how many were written. finish: it ended or
    came to a stop string (`stop`), or to the limit of new tokens (`length`). prompt_tokens: of the whole prompt, and
    encoder_tokens: those of them that the encoder read. prompt_cut: the prompt was too long and lost its beginning.
    way: how it was read, `text` or `bridge`, where requests are routed."""

    text: str
    tokens: int
    finish: Literal["stop", "length"] = "stop"
    prompt_tokens: int = 0
    prompt_cut: bool = False
    encoder_tokens: int = 0
    way: str | None = None


@dataclass(frozen=True)
class Likelihood:
    """Of a continuation: the natural log of its probability, and whether greedy decoding would write it."""

    log_probability: float
    greedy: bool
    prompt_cut: bool = False
    way: str | None = None


class PromptTooLong(LangBridgeError):
    """A request has more tokens than the model reads beside its answer."""


class Engine(abc.ABC):
    """A model that answers requests, in whatever order it likes: what comes out has the request's place with it."""

    chats: bool = False
    """Whether it answers in turns, of which it writes the end itself."""
    about: Mapping[str, Any] = MappingProxyType({})
    """What a report says of the model beside its identity: name, revisions."""

    @property
    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that an answer depends on, besides request and settings: model, precision, template."""

    @abc.abstractmethod
    def shown(self, request: Request) -> str:
        """The whole prompt as the model is given it."""

    @abc.abstractmethod
    def generate(self, requests: Sequence[Request], decoding: Decoding = GREEDY) -> Iterator[tuple[int, Answer]]:
        """The answer to each request, with the request's place, when it is written."""

    @abc.abstractmethod
    def score(self, requests: Sequence[Request], continuations: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        """The likelihood of a continuation after each request, with the request's place, when it is known."""

    def answers(self, requests: Sequence[Request | str], decoding: Decoding = GREEDY) -> list[Answer]:
        """The answer to each request, or prompt, in the order of the requests."""
        asked = [Request(one) if isinstance(one, str) else one for one in requests]
        found = dict(self.generate(asked, decoding))
        return [found[index] for index in range(len(asked))]


def digest(settings: Mapping[str, Any]) -> str:
    """A short hash of settings: the same for the same values, whatever their order."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
