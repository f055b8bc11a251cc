"""Answers in OpenAI's form: whole, and piece by piece."""

import secrets
import time
from collections.abc import Sequence
from typing import Any

from langbridge.serve.engine import Answer
from langbridge.serve.live import Token

_LEAST = -9999.0
"""What OpenAI's API says for a probability of 0, whose logarithm JSON cannot say."""


class Reply:
    """To one request: what all of its objects have in common, and choices in the form of text completions.

    count: answers to a prompt.
    """

    kind, chunk, prefix = "text_completion", "text_completion", "cmpl"

    def __init__(self, model: str, answers: int, count: int, probabilities: bool):
        self.head = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": None,
        }
        self.count, self.probabilities = count, probabilities
        self._said = [""] * answers
        self._tokens: list[list[Token]] = [[] for _ in range(answers)]
        self._length = [0] * answers

    def keep(self, place: int, tokens: Sequence[Token]) -> None:
        """Tokens of the answer at a place, for `whole`."""
        self._tokens[place] += tokens

    def more(self, place: int, text: str, tokens: Sequence[Token]) -> dict[str, Any]:
        """A chunk with more text of the answer at a place."""
        self._said[place] += text
        return self._chunk(place, text, tokens, None)

    def last(self, place: int, answer: Answer) -> dict[str, Any]:
        """The chunk that ends an answer, with what was not yet said of it."""
        return self._chunk(place, answer.text[len(self._said[place]) :], (), answer.finish)

    def first(self) -> list[dict[str, Any]]:
        """The chunks before any text."""
        return []

    def used(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The chunk after all text."""
        return {**self.head, "object": self.chunk, "choices": [], "usage": self.usage(answers)}

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        choices = []
        for place, answer in enumerate(answers):
            choices.append(self._choice(place, answer.text, self._tokens[place], answer.finish))
        return {**self.head, "object": self.kind, "choices": choices, "usage": self.usage(answers)}

    def usage(self, answers: Sequence[Answer]) -> dict[str, Any]:
        read = answers[:: self.count]  # once, however many answers there are to it
        prompt, written = sum(one.prompt_tokens for one in read), sum(one.tokens for one in answers)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"encoder_tokens": sum(one.encoder_tokens for one in read)},
        }

    def _chunk(self, place: int, text: str, tokens: Sequence[Token], finish: str | None) -> dict[str, Any]:
        return {**self.head, "object": self.chunk, "choices": [self._choice(place, text, tokens, finish)]}

    def _choice(self, place: int, text: str, tokens: Sequence[Token], finish: str | None) -> dict[str, Any]:
        found = self._log_probabilities(place, tokens) if self.probabilities else None
        return {"index": place, "text": text, "logprobs": found, "finish_reason": finish}

    def _log_probabilities(self, place: int, tokens: Sequence[Token]) -> dict[str, Any]:
        offsets = []
        for token in tokens:
            offsets.append(self._length[place])
            self._length[place] += len(token.text)
        # Several tokens may have one text, as all parts of characters do; of them the likeliest, the first, is told.
        likeliest = [{text: max(value, _LEAST) for text, value in reversed(token.top)} for token in tokens]
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [max(token.log_probability, _LEAST) for token in tokens],
            "top_logprobs": likeliest,
            "text_offset": offsets,
        }


class ChatReply(Reply):
    kind, chunk, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def first(self) -> list[dict[str, Any]]:
        opening = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return [
            {**self.head, "object": self.chunk, "choices": [{"index": place, **opening}]}
            for place in range(len(self._said))
        ]

    def _choice(self, place: int, text: str, tokens: Sequence[Token], finish: str | None) -> dict[str, Any]:
        found = {"content": [_in_chat(token) for token in tokens], "refusal": None} if self.probabilities else None
        return {"index": place, "message": _message(text), "logprobs": found, "finish_reason": finish}

    def _chunk(self, place: int, text: str, tokens: Sequence[Token], finish: str | None) -> dict[str, Any]:
        choice = self._choice(place, text, tokens, finish)
        del choice["message"]
        return {
            **self.head,
            "object": self.chunk,
            "choices": [{**choice, "delta": {"content": text} if text or finish is None else {}}],
        }


def _message(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text, "refusal": None}


def _in_chat(token: Token) -> dict[str, Any]:
    return {
        **_token(token.text, token.log_probability),
        "top_logprobs": [_token(text, value) for text, value in token.top],
    }


def _token(text: str, value: float) -> dict[str, Any]:
    # A token that is a part of a character has no text of its own.
    return {
        "token": text,
        "logprob": max(value, _LEAST),
        "bytes": None if "\N{REPLACEMENT CHARACTER}" in text else list(text.encode()),
    }
