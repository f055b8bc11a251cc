"""What a causal model writes after its inputs, cut exactly at stop strings, wherever tokens happen to end."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from langbridge.model.language_models import end_ids
from langbridge.serve.caching import growing_cache

Decode = Callable[[Sequence[int]], str]

_DECODING = (
    "repetition_penalty", "no_repeat_ngram_size", "temperature", "top_k", "top_p", "min_p", "typical_p",
    "suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias",
)  # fmt: skip
"""What a model's generation config may ask for, and `generate` then does, greedy or not."""

_SLACK = 8
"""Tokens looked at beyond a stop string's own length: the first ones of a window may decode to half a character."""


@dataclass(frozen=True)
class Continuation:
    """What was written in one row. cut_off: it reached the limit of new tokens without an end."""

    text: str
    tokens: int
    cut_off: bool


def continuations(
    model: Any,
    inputs: dict[str, torch.Tensor],
    tokenizer: Any,
    decode: Decode,
    *,
    max_new_tokens: int,
    ends: Sequence[int | None] = (),
    stop: Sequence[str] = (),
    **generation: Any,
) -> list[Continuation]:
    """One continuation a row; greedy unless `generation` says otherwise.

    decode: text of new tokens, special ones left out. ends: ids that end a text, besides the model's and the
    tokenizer's. stop: strings at which a text is cut as `cut_at_first` says.
    """
    stop = [text for text in stop if text]
    start = inputs["input_ids"].shape[1]
    watch = _StopStrings(start, stop, decode)
    pad, final = tokenizer.pad_token_id, _end_ids(model, tokenizer, stop, ends)
    model.eval()
    if not {"use_cache", "cache_implementation", "past_key_values"} & generation.keys():
        cache = growing_cache(model)
        generation |= {} if cache is None else {"past_key_values": cache}
    with torch.inference_mode():
        sequences = model.generate(
            **inputs,
            **{"do_sample": False, "num_beams": 1, **generation},
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.eos_token_id if pad is None else pad,
            **({"eos_token_id": sorted(final)} if final else {}),
            **({"stopping_criteria": StoppingCriteriaList([watch])} if stop else {}),
        )
    return [_continuation(row, final, stop, decode, max_new_tokens) for row in sequences[:, start:].tolist()]


def own_decoding(model: Any) -> dict[str, Any]:
    """An entry of a run's settings, where a model's generation config changes what it writes: published chat models
    have penalties there, which apply to greedy decoding as well."""
    config, plain = model.generation_config, GenerationConfig()
    found = {name: getattr(config, name, None) for name in _DECODING}
    changed = {name: value for name, value in found.items() if value not in (None, getattr(plain, name, None))}
    return {"generation_config": changed} if changed else {}


def cut_at_first(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text up to the first of the stop strings in it, and whether there was one.

    Inside a fenced block they do not count: what ends a function's body also begins the next line of a whole program.
    """
    if not (strings := "|".join(re.escape(string) for string in stop if string)):
        return text, False
    fenced = False
    for match in re.finditer(rf"(?=(?:{strings}))|(?P<fence>^[ \t]*```)", text, re.MULTILINE):
        if match["fence"]:
            fenced = not fenced
        elif not fenced:
            return text[: match.start()], True
    return text, False


def _continuation(row: list[int], ends: set[int], stop: Sequence[str], decode: Decode, limit: int) -> Continuation:
    length = next((index for index, token in enumerate(row) if token in ends), None)
    text, stopped = cut_at_first(decode(row if length is None else row[:length]), stop)
    cut_off = length is None and not stopped and len(row) >= limit
    return Continuation(text, len(row) if length is None else length, cut_off)


def _end_ids(model: Any, tokenizer: Any, stop: Sequence[str], more: Sequence[int | None]) -> set[int]:
    """Tokens that end an answer: the model's, and stop strings that are special tokens, which text never shows."""
    special = [id for id, token in tokenizer.added_tokens_decoder.items() if token.special and token.content in stop]
    found = [*end_ids(model.generation_config), tokenizer.eos_token_id, *more, *special]
    return {int(token) for token in found if token is not None}


class _StopStrings(StoppingCriteria):
    """Ends a row as soon as its text holds a stop string.

    Text and not tokens are compared, so a string may begin and end anywhere inside tokens. Only the last tokens are
    decoded at each step; the whole row decides.
    """

    def __init__(self, start: int, stop: Sequence[str], decode: Decode):
        self.start, self.stop, self.decode = start, stop, decode
        # A token that is decoded at all stands for one byte at least.
        self.window = max((len(text.encode()) for text in stop), default=0) + _SLACK

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> Any:
        rows = input_ids[:, self.start :].tolist()
        return torch.tensor([self._ends(row) for row in rows], device=input_ids.device)

    def _holds(self, tokens: list[int]) -> bool:
        text = self.decode(tokens)
        return any(string in text for string in self.stop)

    def _ends(self, row: list[int]) -> bool:
        # The few last tokens are cheap to look at; what stands in them counts only as a part of the whole.
        return self._holds(row[-self.window :]) and cut_at_first(self.decode(row), self.stop)[1]
