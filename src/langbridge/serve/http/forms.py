"""Requests in OpenAI's form, and what the engine is asked for them."""

import abc
import dataclasses
import difflib
import secrets
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from langbridge.model.sequence import message_text
from langbridge.serve.engine import Decoding, Request
from langbridge.serve.http.errors import Refusal, shown
from langbridge.serve.http.limits import Limits

_UNHEARD = {
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "prompt_cache_options", "parallel_tool_calls", "prediction", "moderation",
}  # fmt: skip
"""Fields that change no answer."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": (),
    "logit_bias": (),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "suffix": (),
    "tool_choice": ("none", "auto"),
    "tools": (),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Fields that we do not have, and the values with which they change no answer. Nothing, in any form, is one of them."""

_NOTHING: tuple[Any, ...] = (None, "", [], {})


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True)

    include_usage: bool | None = False
    include_obfuscation: bool | None = False


Stop = Annotated[str, Field(max_length=256)]


LEAST_TEMPERATURE = 1e-5
"""Below it there is nothing to draw, and logits divided by it overflow: the likeliest token is taken."""


class Form(BaseModel, abc.ABC):
    """What both kinds of requests have."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    field: ClassVar[str]
    """The one with the prompts."""

    model: str | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    language: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    """Ours: the language of the prompt, for encoders that mark it."""

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def requests(self, limits: Limits, chats: bool) -> list[Request]:
        """All that the engine is asked: of each prompt as many as `n` says. Raises `Refusal`."""
        self._check_fields()
        asked, count = self._asked(chats), self.n or 1
        if len(asked) * count > limits.answers:
            raise Refusal(400, f"n: {len(asked)} prompts times {count} answers, at most {limits.answers}", param="n")
        texts = [one.prompt + "".join(turn["content"] for turn in one.messages) for one in asked]
        if (characters := sum(map(len, texts))) > limits.prompt_characters:
            raise Refusal(
                400,
                f"{self.field}: got {characters} characters, at most {limits.prompt_characters}",
                param=self.field,
                code="context_length_exceeded",
            )
        found = []
        for place, one in enumerate(asked):
            # The same prompt again is another sample of it. The first of several is the answer that one alone would be.
            first = asked[:place].count(one) * count
            for number in range(first, first + count):
                found.append(dataclasses.replace(one, key=(dataclasses.astuple(one), number)) if number else one)
        return found

    def decoding(self, limits: Limits, positions: int | None) -> Decoding:
        """Greedy, unless a temperature, top_p or several answers are asked for. Raises `Refusal`."""
        length = self._length
        if length is not None and length > limits.new_tokens:
            raise Refusal(
                400, f"max_tokens: got {length}, and this server writes at most {limits.new_tokens}", param="max_tokens"
            )
        options: dict[str, Any] = {}
        temperature = self.temperature
        if temperature is None:
            temperature = 0.0 if self.top_p is None and (self.n or 1) == 1 else 1.0
        if temperature > LEAST_TEMPERATURE and self.top_p != 0:
            # All of it is said, because a model's own settings hold for what is not.
            top_p = 1.0 if self.top_p is None else self.top_p
            options = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        seed = secrets.randbits(31) if self.seed is None else self.seed
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Decoding(
            length or limits.default_tokens(positions),
            stop=[text for text in stop if text],
            options=options,
            seed=seed,
            log_probabilities=self._log_probabilities,
        )

    @property
    def _length(self) -> int | None:
        return self.max_tokens

    @property
    @abc.abstractmethod
    def _log_probabilities(self) -> int | None:
        """How many of the likeliest tokens are told, None for no log-probabilities."""

    @abc.abstractmethod
    def _asked(self, chats: bool) -> list[Request]:
        """The prompts. Raises `Refusal`."""

    def _check_fields(self) -> None:
        if self.stream_options is not None and not self.stream:
            raise Refusal(400, "stream_options: only with `stream: true`", param="stream_options")
        for name, value in (self.model_extra or {}).items():
            if name in _UNHEARD or value in _NOTHING or value in _NEUTRAL.get(name, ()):
                continue
            if name in _NEUTRAL:
                raise Refusal(
                    400,
                    f"{name}: got {shown(value)}, which this server cannot do; leave it out",
                    param=name,
                    code="unsupported_parameter",
                )
            close = difflib.get_close_matches(name, [*type(self).model_fields, *_NEUTRAL], 1)
            hint = f"; is it {close[0]!r}?" if close else ""
            raise Refusal(400, f"{shown(name)}: no such field{hint}", param=name[:64], code="unknown_parameter")


class Message(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    role: str
    content: Any = None


class ChatForm(Form):
    """A conversation."""

    field = "messages"

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def _length(self) -> int | None:
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise Refusal(400, "max_tokens: max_completion_tokens says something else", param="max_tokens")
        return self.max_completion_tokens or self.max_tokens

    @property
    def _log_probabilities(self) -> int | None:
        if self.top_logprobs and not self.logprobs:
            raise Refusal(400, "top_logprobs: only with `logprobs: true`", param="top_logprobs")
        return self.top_logprobs or 0 if self.logprobs else None

    def _asked(self, chats: bool) -> list[Request]:
        turns = [_turn(message, f"messages[{number}]") for number, message in enumerate(self.messages)]
        if turns[-1]["role"] != "user":
            raise Refusal(
                400, f"messages: the last is the {turns[-1]['role']}'s, expected the user's", param="messages"
            )
        if chats:
            return [Request(messages=turns, language=self.language)]
        if len(turns) > 1:
            raise Refusal(
                400,
                f"messages: got {len(turns)}, and this model answers one prompt at a time, since its template is not "
                "`chat`; send one message, the user's, with all that it needs to know",
                param="messages",
            )
        return [Request(turns[0]["content"], language=self.language)]


class TextForm(Form):
    """Prompts, each in the model's template."""

    field = "prompt"

    prompt: Any
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @property
    def _log_probabilities(self) -> int | None:
        return self.logprobs

    def _asked(self, chats: bool) -> list[Request]:
        prompts = self.prompt if isinstance(self.prompt, list) else [self.prompt]
        if not prompts:
            raise Refusal(400, "prompt: got an empty list", param="prompt")
        return [Request(_text(text, "prompt"), language=self.language) for text in prompts]


def _turn(message: Message, place: str) -> dict[str, str]:
    role = "system" if message.role == "developer" else message.role
    if role not in ("system", "user", "assistant"):
        got = shown(message.role)
        raise Refusal(400, f"{place}.role: got {got}, expected system, developer, user or assistant", param=place)
    for name, value in (message.model_extra or {}).items():
        if name != "name" and value not in _NOTHING:  # who speaks changes no answer
            raise Refusal(400, f"{place}.{shown(name)}: this server reads role and content alone", param=place)
    return {"role": role, "content": _text(message_text(message.content), f"{place}.content", empty=role != "user")}


def _text(value: Any, place: str, empty: bool = False) -> str:
    if not isinstance(value, str):
        more = "a list of texts" if place == "prompt" else "a list of parts of the type `text`"
        raise Refusal(400, f"{place}: expected text or {more}", param=place)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refusal(400, f"{place}: has half of a surrogate pair in it, which is no character", param=place) from None
    if not empty and not value.strip():
        raise Refusal(400, f"{place}: the text is empty", param=place)
    return value
