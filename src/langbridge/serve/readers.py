"""How a request becomes ids, by the kind of model: the only thing in which a bridge and a plain model differ.

A prompt becomes tokens once: its length, its cut and the model's inputs are of the same ids.
"""

import abc
import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeProcessor
from langbridge.model.language_marks import knows_language, own_mark
from langbridge.model.language_models import positions
from langbridge.model.layout import Layout, Row
from langbridge.model.sequence import CHAT, FIELD, Own, Part, Template, chats, content_of, conversation
from langbridge.serve.engine import Answer, PromptTooLong, Request
from langbridge.serve.templates import fill, template_text

_log = logging.getLogger(__name__)

DEFAULT_POSITIONS = 2048
"""Of a plain model that does not say, as lm-evaluation-harness has it."""

_NO_TURNS = "messages: a conversation needs the template `chat`, which this model is not asked through"


@dataclass(frozen=True)
class Reading:
    """What a model reads of one request.

    ids: the writing model's prompt, with placeholders for soft prompts; empty for an encoder-decoder.
    sources: rows of the encoder. after: the continuation that is scored.
    length: all tokens there are to compute. cut: the prompt lost its beginning.
    way: where requests go two ways (`routing.py`), its own.
    """

    ids: list[int]
    sources: list[list[int]]
    after: list[int]
    length: int
    cut: bool = False
    way: str | None = None

    def answered(self, text: str, tokens: int, ended: bool) -> Answer:
        """The answer to it. ended: before the limit of new tokens."""
        finish: Literal["stop", "length"] = "stop" if ended else "length"
        return Answer(text, tokens, finish, self.length, self.cut, sum(map(len, self.sources)), self.way)


class Reader(abc.ABC):
    """The requests of one model. kind: as reports call it. ends: ids that end an answer, besides the model's own.
    pad_id, source_pad_id: what fills up a batch."""

    kind: str
    tokenizer: PreTrainedTokenizerBase
    chats: bool
    ends: Sequence[int | None] = ()
    pad_id: int = 0
    source_pad_id: int = 0

    @property
    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """All settings here that an answer depends on."""

    @abc.abstractmethod
    def shown(self, request: Request) -> str:
        """The whole prompt as one text, whichever model reads which part."""

    @abc.abstractmethod
    def read(
        self, requests: Sequence[Request], *, new_tokens: int = 0, continuations: Sequence[str] | None = None
    ) -> list[Reading]:
        """What the model reads of each request, with room left for so many new tokens, or for its continuation."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of new tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


class BridgeReader(Reader):
    """A bridge's requests.

    config: the language model's. template: instead of the processor's own. shots_in: `encoder` sends worked examples
    through the encoder with the question, as the paper does; `lm` gives them to the language model as its own tokens.
    max_encoder_length: longer prompts lose their beginning, and so do those that are more than the encoder reads, or
    than the language model has positions for beside examples, template and answer.
    strict: such a prompt is an error instead, and so is a language that the encoder has no mark for.
    """

    kind = "bridge"

    def __init__(
        self,
        processor: LangBridgeProcessor,
        config: PreTrainedConfig,
        *,
        template: str | None = None,
        shots_in: str = "encoder",
        max_encoder_length: int | None = None,
        strict: bool = False,
    ):
        if shots_in not in ("encoder", "lm"):
            raise LangBridgeError(f"shots_in: got {shots_in!r}, expected 'encoder' or 'lm'")
        if template is not None:
            processor = copy.copy(processor)
            processor.template, processor.system = template, processor.system if chats(template) else None
            processor.template_in = "lm" if chats(template) else processor.template_in
        _ = processor.layout  # refuses a template that cannot be, before anything is asked
        self.processor, self.config, self.strict = processor, config, strict
        self.shots_in, self.max_encoder_length = shots_in, max_encoder_length
        self.tokenizer, self.chats = processor.tokenizer, chats(processor.template)
        self.ends = [processor.answer_end_id]
        self.pad_id, self.source_pad_id = processor.pad_ids
        self._known: dict[str, bool] = {}

    @property
    def identity(self) -> dict[str, Any]:
        processor = self.processor
        return {
            "template": self.tokenizer.chat_template if self.chats else processor.template,
            "template_in": processor.template_in,
            **({"system": processor.system} if self.chats else {}),
            **({"turn": processor.template} if self.chats and processor.template != CHAT else {}),
            "max_encoder_length": self.max_encoder_length,
            **({"languages": "marked"} if own_mark(processor.encoder_tokenizer) is not None else {}),
            "shots_in": self.shots_in,
        }

    def shown(self, request: Request) -> str:
        return "".join(part.text for part in self._parts(request, self.processor.layout))

    def decode(self, ids: Sequence[int]) -> str:
        return self.processor.decode(ids)

    def read(
        self, requests: Sequence[Request], *, new_tokens: int = 0, continuations: Sequence[str] | None = None
    ) -> list[Reading]:
        template, tokens = self.processor.layout, self._tokens
        keys = [(self._parts(request, template), self._language(request.language)) for request in requests]
        # Continuations of one prompt share its tokens.
        parts, languages = zip(*dict.fromkeys(keys), strict=True) if keys else ((), ())
        laid = tokens.rows(parts, whole=template.whole, languages=languages)
        rows = dict(zip(dict.fromkeys(keys), laid, strict=True))
        readings = []
        for place, (request, key) in enumerate(zip(requests, keys, strict=True)):
            if continuations is None:
                readings.append(self._reading(request, rows[key], [], new_tokens, place))
            elif request.messages or request.shots or request.prompt.strip():
                # The language model's text begins after the soft prompts as a training target does, so the space that
                # separates words in one text is not part of it.
                after = self._own(continuations[place].removeprefix(" "))
                readings.append(self._reading(request, rows[key], after, len(after), place))
            else:  # after no prompt a text is scored by the language model alone, as a plain model scores it
                begin, after = self.tokenizer.bos_token_id, self._own(continuations[place])
                ids = [self.tokenizer.eos_token_id if begin is None else begin]
                readings.append(Reading(ids, [], after, len(ids) + len(after)))
        return readings

    def _parts(self, request: Request, template: Template) -> tuple[Part, ...]:
        if request.messages and not self.chats:
            raise LangBridgeError(_NO_TURNS)
        if request.messages:
            asked = conversation(self.tokenizer, request.messages, self.processor.template, self.processor.system, True)
            return (*asked, Own(request.prefix))
        shots, prompt = self._split(request)
        return tuple(template.parts(prompt, shots, request.prefix))

    def _split(self, request: Request) -> tuple[str, str]:
        """What the language model and what the encoder reads of examples and prompt."""
        return (request.shots, request.prompt) if self.shots_in == "lm" else ("", request.shots + request.prompt)

    @property
    def _tokens(self) -> Layout:
        # Without a limit: a prompt that is too long is cut here, where it keeps its end.
        return replace(self.processor.tokens, encoder_limit=None)

    def _own(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _reading(self, request: Request, row: Row, after: list[int], room: int, place: int) -> Reading:
        """A row that leaves room for what follows it: of a prompt that is too long its end, of a conversation all or an
        error."""
        longest = max(range(len(row.sources)), key=lambda number: len(row.sources[number]))
        source, total = row.sources[longest], positions(self.config)
        if request.messages and total is not None and len(row.ids) + room > total:
            raise PromptTooLong(
                f"the conversation takes {len(row.ids)} of the language model's positions, and the answer leaves "
                f"{max(total - room, 0)} for it; shorten it, or let the model write less (--max-new-tokens)"
            )
        others = [one for number, one in enumerate(row.sources) if number != longest]
        around = row.own + sum(map(self._tokens.soft_positions, others))
        limit = self._limit(around, room, self._split(request)[0])
        cut = limit is not None and len(source) > limit
        if limit is not None and cut:
            if self.strict or request.messages:
                raise PromptTooLong(
                    f"prompt {place + 1}: it has {len(source)} encoder tokens, and there is room for {limit} beside "
                    "template and answer; shorten it, or let the model write less (--max-new-tokens)"
                )
            source = without_beginning(source, limit, self.processor.encoder_tokenizer)
            row = self._tokens.with_sources(row, [*row.sources[:longest], source, *row.sources[longest + 1 :]])
        return Reading(row.ids, row.sources, after, sum(map(len, row.sources)) + row.own + len(after), cut)

    def _limit(self, around: int, new_tokens: int, shots: str) -> int | None:
        """How many of the encoder's tokens a source may have; None where there is no limit."""
        limits = [self.max_encoder_length, self.processor.encoder_length_limit]
        total = positions(self.config)
        if total is not None:
            least = self._tokens.most_positions(self.processor.encoder_tokenizer.num_special_tokens_to_add() + 1)
            if (room := total - around - new_tokens) < least:
                what = "examples, template and beginning" if shots else "template and beginning"
                if self.processor.layout.reads_prompt:
                    what = f"the prompt's own text, which is not cut, {what}"
                fewer = (
                    ", give fewer examples, or let them go through the encoder (--shots-in encoder)" if shots else ""
                )
                raise PromptTooLong(
                    f"the language model has positions for {total} tokens, of which {around} go to {what} and "
                    f"{new_tokens} to the answer: expected at least {least} left for the prompt, got {max(0, room)}; "
                    f"let it write less (--max-new-tokens){fewer}"
                )
            limits.append(self._tokens.source_in(room))
        return min((limit for limit in limits if limit is not None), default=None)

    def _language(self, language: str | None) -> str | None:
        if language is None or self.strict:
            return language
        if language not in self._known:
            self._known[language] = knows_language(self.processor.encoder_tokenizer, language)
            if not self._known[language]:
                _log.warning("the encoder's tokenizer has no mark for %r: it is told English", language)
        return language if self._known[language] else None


class CausalReader(Reader):
    """Requests of a plain causal language model.

    template: a name or text of `templates.py`, `chat` for the one that the tokenizer brings, or `chat: TURN` for that
    with a text around what the user says; by default the tokenizer's, if there is one. max_length: of prompt and
    answer; longer prompts lose their beginning.
    """

    kind = "causal"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: PreTrainedConfig,
        *,
        template: str | None = None,
        max_length: int | None = None,
    ):
        if template is None:
            template = CHAT if tokenizer.chat_template else "plain"
        self.tokenizer, self.chats, self.template = tokenizer, chats(template), template_text(template)
        if self.chats and not tokenizer.chat_template:
            raise LangBridgeError(f"template: got {template!r}, but the model's tokenizer has no chat template")
        self.max_length, self.config = max_length, config

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "template": self.tokenizer.chat_template if self.chats else self.template,
            **({"turn": self.template} if self.chats and self.template != FIELD else {}),
            **({} if self.max_length is None else {"max_length": self.max_length}),
        }

    @property
    def limit(self) -> int:
        """Tokens that the model reads."""
        own = self.tokenizer.model_max_length
        return self.max_length or positions(self.config) or (own if own < 10**9 else DEFAULT_POSITIONS)

    def shown(self, request: Request) -> str:
        if request.messages and not self.chats:
            raise LangBridgeError(_NO_TURNS)
        filled = partial(fill, self.template, language=request.language or "en")
        asked = filled(request.prompt, shots=request.shots)
        if not self.chats:
            return asked + request.prefix
        messages = [
            {**turn, "content": filled(content_of(turn, number))} if turn.get("role") == "user" else turn
            for number, turn in enumerate(request.messages)
        ] or [{"role": "user", "content": asked}]
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template raises whatever it likes
            roles = ", ".join(turn["role"] for turn in messages)
            raise LangBridgeError(f"messages: the model's chat template refuses turns of {roles}: {error}") from error
        return str(text) + request.prefix

    def read(
        self, requests: Sequence[Request], *, new_tokens: int = 0, continuations: Sequence[str] | None = None
    ) -> list[Reading]:
        texts = [self.shown(request) for request in requests]
        if continuations is not None:
            return [self._pair(text, after) for text, after in zip(texts, continuations, strict=True)]
        room = self.limit - new_tokens
        if room < 1:
            raise PromptTooLong(
                f"max_new_tokens: {new_tokens} new tokens leave no room for a prompt: the model reads {self.limit} in "
                "all; give fewer"
            )
        rows = [self._ids(text) for text in texts]
        return [Reading(row[-room:], [], [], len(row), len(row) > room) for row in rows]

    def _pair(self, text: str, continuation: str) -> Reading:
        """A prompt and what follows it, divided as the harness divides them: spaces at a prompt's end are the first of
        what follows."""
        if text:
            whole = self._ids(text + continuation)
            before = len(self._ids(text.rstrip()))
        else:
            whole, before = [self._begin or 0, *self._ids(continuation, special=False)], 1
        most = self.limit + 1  # the last token is scored and never read
        after = whole[before:]
        return Reading(whole[-most : len(whole) - len(after)], [], after, len(whole), len(whole) > most)

    @property
    def _begin(self) -> int | None:
        begin = self.tokenizer.bos_token_id
        return self.tokenizer.eos_token_id if begin is None else begin

    @cached_property
    def _begin_text(self) -> str | None:
        return None if self._begin is None else str(self.tokenizer.decode(self._begin))

    def _ids(self, text: str, special: bool = True) -> list[int]:
        # A template may write the begin token itself, which the tokenizer would double.
        special = special and not (self._begin_text is not None and text.startswith(self._begin_text))
        return list(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


class EncoderDecoderReader(CausalReader):
    """Requests of an encoder-decoder: the encoder reads the prompt, and the decoder begins by itself."""

    kind = "seq2seq"

    def read(
        self, requests: Sequence[Request], *, new_tokens: int = 0, continuations: Sequence[str] | None = None
    ) -> list[Reading]:
        readings = []
        for place, request in enumerate(requests):
            text, after = self.shown(request), "" if continuations is None else continuations[place]
            if continuations is not None:
                text, after = text.rstrip(), text[len(text.rstrip()) :] + after
            source, ids = self._ids(text), self._ids(after, special=False)
            kept = without_beginning(source, self.limit, self.tokenizer)
            readings.append(Reading([], [kept], ids, len(source) + len(ids), len(source) > self.limit))
        return readings


def without_beginning(row: list[int], limit: int, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """A row of an encoder in so many tokens. Its end is the question; special tokens at its front stay."""
    if len(row) <= limit:
        return row
    bare, one = (tokenizer(text)["input_ids"] for text in ("", "a"))
    first = next((i for i, pair in enumerate(zip(bare, one, strict=False)) if pair[0] != pair[1]), len(bare))
    return row[:first] + row[first + len(row) - limit :]
