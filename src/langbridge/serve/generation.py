"""What a causal model writes after its inputs, cut exactly at stop strings, wherever tokens happen to end."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from langbridge.model.language_models import end_ids
from langbridge.serve.caching import growing_cache
from langbridge.serve.engine import SEED, Decoding, digest

Decode = Callable[[Sequence[int]], str]

DECODING = (
    "repetition_penalty", "no_repeat_ngram_size", "temperature", "top_k", "top_p", "min_p", "typical_p",
    "suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias",
)  # fmt: skip
"""What a model's generation config may ask for, and `generate` then does, greedy or not."""

_SLACK = 8
"""Tokens looked at beyond a stop string's own length: the first ones of a window may decode to half a character."""


def continuations(
    model: Any,
    inputs: dict[str, torch.Tensor],
    tokenizer: Any,
    decode: Decode,
    decoding: Decoding,
    *,
    ends: Sequence[int | None] = (),
) -> list[tuple[list[int], str, bool]]:
    """What is written in each row: ids without the end, text, and whether it ended before the limit of new tokens.

    decode: text of new tokens, special ones left out. ends: ids that end a text, besides the model's and the
    tokenizer's. Strings of `decoding.stop` cut a text as `cut_at_first` says.
    """
    # A decoder of its own begins with the token that it starts from.
    start = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    ending = Ending.of(model, tokenizer, decode, decoding.stop, ends)
    final = ending.final
    options = {"do_sample": False, "num_beams": 1, **decoding.options}
    model.eval()
    if not {"use_cache", "cache_implementation", "past_key_values"} & options.keys():
        cache = growing_cache(model)
        options |= {} if cache is None else {"past_key_values": cache}
    with torch.inference_mode():
        sequences = model.generate(
            **inputs,
            **options,
            max_new_tokens=decoding.max_new_tokens,
            # An end, so that what fills up a row that came to a stop string is not taken for its text.
            pad_token_id=min(final) if final else 0,
            **({"eos_token_id": sorted(final)} if final else {}),
            **({"stopping_criteria": StoppingCriteriaList([_Watch(start, ending)])} if ending.stop else {}),
        )
    return [ending.read(row, decoding.max_new_tokens) for row in sequences[:, start:].tolist()]


def own_decoding(model: Any) -> dict[str, Any]:
    """An entry of a run's settings, where a model's generation config changes what it writes: published chat models
    have penalties there, which apply to greedy decoding as well."""
    config, plain = model.generation_config, GenerationConfig()
    found = {name: getattr(config, name, None) for name in DECODING}
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


@dataclass(frozen=True)
class Ending:
    """Where an answer ends: at one of some ids, or at a stop string, wherever in its tokens that begins and ends.

    decode: text of new tokens, special ones left out. mends: it mends the text over the borders of tokens (a space
    before a comma), so that pieces cannot be decoded apart.
    """

    final: frozenset[int]
    stop: tuple[str, ...]
    decode: Decode
    mends: bool = False

    @classmethod
    def of(
        cls, model: Any, tokenizer: Any, decode: Decode, stop: Sequence[str], more: Sequence[int | None] = ()
    ) -> "Ending":
        """The model's ids and the tokenizer's, `more`, and stop strings that are special tokens, which text never
        shows."""
        added = tokenizer.added_tokens_decoder.items()
        special = [id for id, token in added if token.special and token.content in stop]
        found = [*end_ids(model.generation_config), tokenizer.eos_token_id, *more, *special]
        return cls(
            frozenset(int(id) for id in found if id is not None),
            tuple(text for text in stop if text),
            decode,
            bool(getattr(tokenizer, "clean_up_tokenization_spaces", False)),
        )

    def read(self, row: list[int], limit: int = 0) -> tuple[list[int], str, bool]:
        """Ids without the end, text, and whether it ended before the limit."""
        end = next((place for place, token in enumerate(row) if token in self.final), None)
        ids = row[:end]
        text, stopped = cut_at_first(self.decode(ids), self.stop)
        return ids, text, stopped or end is not None or len(row) < limit

    def stopped(self, row: list[int]) -> bool:
        """Whether a row holds a stop string. The few last tokens are cheap to look at; what stands in them counts only
        as a part of the whole."""
        text = self.decode(row[-self._window :]) if self.stop else ""
        return any(string in text for string in self.stop) and cut_at_first(self.decode(row), self.stop)[1]

    def settled(self, text: str) -> str:
        """A text without what the next token may still change: half a character at its end, or what may be the
        beginning of a stop string."""
        text = text.rstrip("\N{REPLACEMENT CHARACTER}")
        begun = (n for string in self.stop for n in range(1, len(string)) if text.endswith(string[:n]))
        return text[: len(text) - max(begun, default=0)]

    @property
    def _window(self) -> int:
        # A token that is decoded at all stands for one byte at least.
        return max((len(text.encode()) for text in self.stop), default=0) + _SLACK


class Growing:
    """The text of ids that grow: only what follows its last whole character is decoded again, with the tokens right
    before that, which decide on its space. Else an answer would take the square of its length."""

    def __init__(self, ending: Ending):
        self._ending = ending
        self._text, self._known = "", (0, 0)  # up to a place, and between which places the tokens before it stand

    def of(self, ids: Sequence[int]) -> str:
        if self._ending.mends:
            return self._ending.decode(ids)
        (start, end), decode = self._known, self._ending.decode
        before, now = decode(ids[start:end]), decode(ids[start:])
        text = self._text + now[len(before) :]
        if len(now) > len(before) and not now.endswith("\N{REPLACEMENT CHARACTER}"):
            self._text, self._known = text, (end, len(ids))
        return text


class _Watch(StoppingCriteria):
    """Ends a row as soon as its text holds a stop string."""

    def __init__(self, start: int, ending: Ending):
        self.start, self.ending = start, ending

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> Any:
        ended = [self.ending.stopped(row) for row in input_ids[:, self.start :].tolist()]
        return torch.tensor(ended, device=input_ids.device)


@contextmanager
def seeded(batch: list[Any], seed: int = SEED) -> Iterator[None]:
    """Random numbers inside depend only on the seed and the batch, not on what was drawn before or is asked later;
    outside they go on as if nothing had been drawn.

    batch: what is asked, with the place of each among several samples of the same question, or they would be the same.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed_of(batch, seed))
        yield


def seed_of(batch: list[Any], seed: int = SEED) -> int:
    """What random numbers of a batch are drawn by; see `seeded`."""
    return int(digest({"seed": seed, "batch": batch}), 16) % 2**63
