"""What a sequence is made of: the parts of a template, where it begins, what ends an answer. Text and counts only,
neither torch nor transformers; `layout.py` makes tokens of it.

A row is a list of parts: `Own` text is read by the language model as its own tokens, a `Soft` text (a source) by the
encoder, whose soft prompts stand in its place. A template is a string that says which is which. With the prompt "Tom",
the worked examples "1+1=2 " and the target "4", soft prompts in brackets, their end vector a dot, and what is learned
behind the bar:

    the paper     <soft>Q: {prompt} A:</soft>               <s>[Q: Tom A:].|4</s>
    as own text   Q: <soft>{prompt}</soft> A:               <s>Q: [Tom]. A:|4</s>
    augmented     <soft>{prompt}</soft>{prompt}             <s>[Tom].Tom|4</s>
    few-shot      So: {shots}<soft>{prompt}</soft> A:       <s>So: 1+1=2 [Tom]. A:|4</s>
    segments      <soft>Q: {prompt}</soft>so<soft>A:</soft> <s>[Q: Tom].so[A:].|4</s>

The first two are also what `Q: {prompt} A:` is with `template_in` encoder and lm. Worked examples stand in front where
`{shots}` is not said. A template `chat` is the one that the language model's tokenizer brings for conversations; with
`chat: <soft>{prompt}</soft>{prompt}` the language model reads what the user says as its own text too.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from langbridge.errors import LangBridgeError

FIELD, SHOTS = "{prompt}", "{shots}"
"""Places in a template: the prompt's, and that of worked examples."""

OPEN, CLOSE = "<soft>", "</soft>"
"""Around what the encoder reads."""

CHAT = "chat"
"""The template that is the language model's own: the one its tokenizer brings for conversations. `chat: TURN` says what
stands in it where the user speaks, and is `chat: <soft>{prompt}</soft>` if left out; for a model that reads text alone
`chat: {prompt}`."""

END_VECTORS = 1
"""Positions after the soft prompts of a source: its end vector's."""


class Own(NamedTuple):
    """Text that the language model reads as its own tokens."""

    text: str


class Soft(NamedTuple):
    """Text that the encoder reads, and that reaches the language model as soft prompts and an end vector."""

    text: str


Part = Own | Soft


def sources_of(rows: Sequence[Sequence[Part]]) -> list[str]:
    """The texts that the encoder reads, row by row."""
    return [part.text for row in rows for part in row if isinstance(part, Soft)]


def least_positions(template: str, soft: int) -> int:
    """Of a row without its target, where no tokenizer can be asked: `soft` prompts, an end vector for each source, and
    a begin token."""
    return soft + END_VECTORS * max(template.count(OPEN), 1) + 1


_PROMPT, _SHOTS = "\0prompt\0", "\0shots\0"
"""The fields in the parts of a template that is read, so that a system message with braces stays what it is."""


@dataclass(frozen=True)
class Template:
    """What stands around a prompt, read once from a string.

    pieces: its parts, the fields unfilled. end: the id that ends an answer, None for the tokenizer's EOS. whole: it
    writes the whole of a sequence, as a chat template does, so no begin token is put before it. begins: it writes a
    sequence's beginning itself.
    """

    pieces: tuple[Part, ...] = (Own(_SHOTS), Soft(_PROMPT))
    end: int | None = None
    whole: bool = False
    begins: bool = False

    def parts(self, prompt: str, shots: str = "", prefix: str = "", own: str | None = None) -> list[Part]:
        """A prompt in its template; braces in it are only braces. shots: worked examples that the language model reads
        itself. prefix: the beginning of its answer. own: what it reads itself in the prompt's place, instead of it."""
        values = {Soft: {_PROMPT: prompt, _SHOTS: shots}, Own: {_PROMPT: prompt if own is None else own, _SHOTS: shots}}

        def filled(part: Part) -> Part:
            kind = type(part)
            return kind(re.sub(f"{_PROMPT}|{_SHOTS}", lambda field: values[kind][field[0]], part.text))

        parts = [filled(part) for part in self.pieces]
        last = parts.pop() if isinstance(parts[-1], Own) else Own("")
        return [*parts, Own(last.text + prefix)]  # in one, because together they become tokens

    def sources(self, prompt: str) -> list[str]:
        """What the encoder reads of a prompt."""
        return sources_of([self.parts(prompt)])

    def text(self, prompt: str, shots: str = "") -> str:
        """The whole of it as one text, whichever model reads it."""
        return "".join(part.text for part in self.parts(prompt, shots))

    @property
    def reads_prompt(self) -> bool:
        """Whether the language model reads the prompt as its own tokens, too, so that a row's length depends on it."""
        return any(_PROMPT in part.text for part in self.pieces if isinstance(part, Own))

    @property
    def around(self) -> tuple[str, str]:
        """All text before the prompt and all text after it, for a language model alone: its own text, where the prompt
        is in that, else all there is. Raises `LangBridgeError` where the prompt stands there twice."""
        pieces = [part for part in self.pieces if isinstance(part, Own) or not self.reads_prompt]
        return self._around("".join(part.text for part in pieces))

    @property
    def source(self) -> tuple[str, str]:
        """The text around the prompt in what the encoder reads. Raises `LangBridgeError` where it has two sources."""
        return self._around("\0".join(part.text for part in self.pieces if isinstance(part, Soft)))

    def _around(self, text: str) -> tuple[str, str]:
        before, *after = text.replace(_SHOTS, "").split(_PROMPT)
        if len(after) != 1 or "\0" in before + after[0]:
            raise LangBridgeError(f"template: this needs one that has {FIELD} once and one source for the encoder")
        return before, after[0]


def template_of(tokenizer: Any, template: str, template_in: str = "encoder", system: str | None = None) -> Template:
    """A template by its settings, with the language model's tokenizer. Raises `LangBridgeError`.

    template_in: who reads the text around the prompt, `encoder` or `lm`, where the template does not say it.
    """
    check_template(template, system)
    if chats(template):
        return _chat(tokenizer, template, system)
    if template_in not in ("encoder", "lm"):
        raise LangBridgeError(f"template_in: got {template_in!r}, expected 'encoder' or 'lm'")
    if OPEN not in template:
        whole = template_in == "encoder"
        template = f"{OPEN}{template}{CLOSE}" if whole else template.replace(FIELD, f"{OPEN}{FIELD}{CLOSE}")
    # A template off a model's card may write the begin token, which would be the second, and is none to the encoder.
    begin = str(tokenizer.bos_token) if begin_ids(tokenizer) else ""
    if template.startswith(OPEN):
        template = OPEN + template.removeprefix(OPEN).removeprefix(begin)
    opening = begin if template.startswith(begin) else ""
    if SHOTS not in template:
        template = opening + SHOTS + template.removeprefix(opening)
    return Template(_pieces(template), begins=bool(opening))


def _pieces(template: str) -> tuple[Part, ...]:
    texts = re.split(f"{OPEN}(.*?){CLOSE}", template.replace(FIELD, _PROMPT).replace(SHOTS, _SHOTS), flags=re.DOTALL)
    pieces = [Soft(text) if number % 2 else Own(text) for number, text in enumerate(texts)]
    return tuple(part for part in pieces if part.text)


def chats(template: str) -> bool:
    """Whether it is the language model's own chat template."""
    return template.partition(":")[0] == CHAT


def turn_of(template: str) -> str:
    """What a chat template's setting says of the user's turn; empty where it says nothing."""
    return template.partition(":")[2].removeprefix(" ")


def _turn(template: str) -> str:
    """What stands where the user speaks to a bridge."""
    return turn_of(template) or f"{OPEN}{FIELD}{CLOSE}"


def check_template(template: str, system: str | None = None) -> None:
    """What a template's settings must be, whatever the tokenizer. Raises `LangBridgeError`."""
    if system is not None and not chats(template):
        raise LangBridgeError(
            f"system: a system message belongs to `template: {CHAT}`; in another template write it into the text"
        )
    if chats(template):
        if OPEN not in (turn := _turn(template)) or SHOTS in turn:
            raise LangBridgeError(
                f"template: got {template!r}, expected behind {CHAT!r}: what stands where the user speaks, with "
                f"{OPEN}{FIELD}{CLOSE} and without {SHOTS}"
            )
        template = turn
    if OPEN not in template and CLOSE not in template:
        if template.count(FIELD) != 1:
            raise LangBridgeError(
                f"template: got {template!r}, expected {CHAT!r} (the language model's own chat template), or text that "
                f"contains {FIELD} exactly once, or between {OPEN} and {CLOSE}"
            )
        return
    marks = re.findall(f"{OPEN}|{CLOSE}", template)
    if marks != [OPEN, CLOSE] * (len(marks) // 2):
        raise LangBridgeError(f"template: got {template!r}, expected every {OPEN} to be closed by a {CLOSE}")
    if not any(FIELD in text for text in re.findall(f"{OPEN}(.*?){CLOSE}", template, flags=re.DOTALL)):
        raise LangBridgeError(f"template: got {template!r}, expected {FIELD} between {OPEN} and {CLOSE}")
    if template.count(SHOTS) > 1:
        raise LangBridgeError(f"template: got {template!r}, expected {SHOTS} at most once")


def gives_own_copy(template: str) -> bool:
    """Whether the language model reads the prompt as its own tokens besides, where no tokenizer can be asked."""
    return OPEN in template and FIELD in re.sub(f"{OPEN}.*?{CLOSE}", "", template, flags=re.DOTALL)


def begin_ids(tokenizer: Any) -> list[int]:
    """The begin token as an id, where the tokenizer puts it before a text by itself. A tokenizer may have one and never
    write it, because its model has not seen it there (SmolLM2, Qwen2)."""
    begin = tokenizer.bos_token_id
    return [begin] if begin is not None and tokenizer("a", verbose=False)["input_ids"][:1] == [begin] else []


def begun(ids: list[int], begin: list[int]) -> list[int]:
    """A sequence's first tokens with the begin token before them, once."""
    return ids if ids[: len(begin)] == begin else [*begin, *ids]


# Chat templates

_WORDS, _ANSWER = "LangBridgeWords{}End", "LangBridgeAnswerEnd"
"""Stand for texts while a chat template is rendered. Letters and digits alone, which no template trims or escapes."""


def conversation(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    template: str,
    system: str | None,
    add_generation_prompt: bool,
    variables: Mapping[str, Any] = MappingProxyType({}),
) -> list[Part]:
    """The parts of a conversation in the tokenizer's chat template: what the user says is `Soft`, all else `Own`.

    template: `chat`, or `chat: TURN`, where TURN says what else stands with what the user says. messages: `role`
    (system, user, assistant) and `content` of each. system: the system message, unless the messages begin with one;
    None leaves it to the template. variables: what else the tokenizer is told of it (`tools`, `enable_thinking`).
    """
    turns = [{**message, "content": content_of(message, number)} for number, message in enumerate(messages)]
    if system is not None and (not turns or turns[0]["role"] != "system"):
        turns.insert(0, {"role": "system", "content": system})
    said: list[str] = []
    for turn in turns:
        if turn["role"] == "user":
            said.append(turn["content"])
            turn["content"] = _WORDS.format(len(said))
    if not said:
        raise LangBridgeError("messages: none is the user's; expected at least one with the role 'user'")
    texts = re.split(_WORDS.format(r"(\d+)"), _render(tokenizer, turns, add_generation_prompt, variables))
    found = texts[1::2]
    if found != [str(number) for number in range(1, len(said) + 1)]:
        raise _misplaced(left_out=len(set(found)) < len(said))
    around = Template(_pieces(_turn(template)))
    parts: list[Part] = [Own(texts[0])]
    for words, after in zip(said, texts[2::2], strict=True):
        parts += around.parts(words, prefix=after)
    return _joined(parts)


def _joined(parts: Sequence[Part]) -> list[Part]:
    """The parts with own text that follows on own text in one, because together they become tokens."""
    found: list[Part] = []
    for kind, run in itertools.groupby(parts, type):
        texts = [part.text for part in run]
        found += map(Soft, texts) if kind is Soft else [Own("".join(texts))]
    return found


def _chat(tokenizer: Any, template: str, system: str | None) -> Template:
    words = _WORDS.format(0)
    before, _, after = conversation(tokenizer, [{"role": "user", "content": words}], CHAT, system, True)
    asked = [{"role": "user", "content": words}, {"role": "assistant", "content": _ANSWER}]
    *_, rest = conversation(tokenizer, asked, CHAT, system, False)
    # The first token that is no text: <|im_end|>, <|eot_id|>, <end_of_turn>, </s>.
    ids = tokenizer(_around(_ANSWER, rest.text)[1], add_special_tokens=False)["input_ids"]
    end = next((token for token in ids if token in tokenizer.added_tokens_decoder), None)
    pieces = _joined([Own(before.text + _SHOTS), *_pieces(_turn(template)), Own(after.text)])
    return Template(tuple(pieces), end=end, whole=True, begins=True)


def _render(
    tokenizer: Any, turns: list[dict[str, Any]], add_generation_prompt: bool, variables: Mapping[str, Any]
) -> str:
    if not tokenizer.chat_template:
        raise LangBridgeError(
            f"template: got {CHAT!r}, but the language model's tokenizer has no chat template; use an "
            f"instruction-tuned model that has one, or write the template as text with {FIELD} in it"
        )
    try:
        text = str(
            tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=add_generation_prompt, **variables
            )
        )
    except Exception as error:  # a template raises whatever it likes
        system = any(turn["role"] == "system" for turn in turns)
        remedy = "; leave the system message out, or put its text into the prompts" if system else ""
        raise LangBridgeError(
            f"template: the language model's chat template refuses the roles "
            f"{', '.join(str(turn['role']) for turn in turns)}: {error}{remedy}"
        ) from error
    for turn in turns:
        if turn["role"] == "system" and turn["content"].strip() not in text:
            raise LangBridgeError(
                "system: the language model's chat template leaves the system message out; put its text into the "
                "prompts"
            )
    return text


def _around(mark: str, text: str) -> tuple[str, str]:
    if text.count(mark) != 1:
        raise _misplaced(left_out=mark not in text)
    before, after = text.split(mark)
    return before, after


def _misplaced(*, left_out: bool) -> LangBridgeError:
    what = "leaves a message out" if left_out else "writes a message more than once"
    return LangBridgeError(
        f"template: the language model's chat template {what}, so its place cannot be given to soft prompts; write the "
        f"template as text with {FIELD} in it"
    )


def content_of(message: Mapping[str, Any], number: int) -> str:
    """The text of one of a conversation's messages. Raises `LangBridgeError` where it has none."""
    text = message_text(message.get("content"))
    if text is None or message.get("role") not in ("system", "user", "assistant"):
        raise LangBridgeError(
            f"messages, {number}: got {message!r}, expected `role` (system, user or assistant) and `content` (text)"
        )
    return text


def message_text(content: Any) -> str | None:
    """A message's text, joined where it comes in parts (`{"type": "text", "text": ...}`); None where it is no text."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else None
    texts = [
        part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
        for part in content
    ]
    return "".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else None


def sources_of_rows(places: Sequence[int], given: Sequence[int]) -> list[int]:
    """How many sources each row takes: consecutive ones, as many as fill its placeholders.

    places: placeholders a row. given: soft prompts a source, end vectors included. Raises `LangBridgeError`.
    """
    if list(places) == list(given):
        return [1] * len(places)
    counts, first = [], 0
    for row, wanted in enumerate(places):
        filled, last = 0, first
        while filled < wanted and last < len(given):
            filled += given[last]
            last += 1
        if filled != wanted:
            raise _mismatch(row, wanted, given[row] if len(places) == len(given) else filled)
        counts.append(last - first)
        first = last
    if first < len(given):
        raise _mismatch(len(places) - 1, places[-1], places[-1] + sum(given[first:]))
    return counts


def _mismatch(row: int, wanted: int, given: int) -> LangBridgeError:
    return LangBridgeError(
        f"row {row}: input_ids holds {wanted} placeholders but the encoder's input gives {given} soft prompts, the end "
        "vector included. Build both with one LangBridgeProcessor of this checkpoint; whoever lays out input_ids by "
        "hand writes one placeholder per soft prompt and one for the end vector."
    )
