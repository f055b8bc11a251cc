"""How each row of a batch gets its next token: by its own settings, and by random numbers of its own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import transformers as hf

from langbridge.errors import LangBridgeError
from langbridge.serve.engine import Decoding
from langbridge.serve.generation import DECODING, seed_of

TOP_K = 50
"""Where nobody says, as in transformers' `generate`."""

FEW = 1024
"""Tokens among which `top_p` is looked for first."""

_UNUSED: Mapping[str, Any] = {
    "temperature": 1.0, "top_k": 0, "top_p": 1.0, "typical_p": 1.0, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0
}  # fmt: skip
"""Values that change nothing, besides None."""


class Choice:
    """What chooses a row's next token: transformers' own processors, in the order in which `generate` has them.

    model: whose `generation_config` holds where `decoding` says nothing. start: tokens of the prompt. ends: ids that
    end the answer. key: what random numbers are drawn by, with the seed. device: the model's.
    """

    def __init__(self, model: Any, decoding: Decoding, start: int, ends: Sequence[int], key: Any, device: torch.device):
        options = {name: getattr(model.generation_config, name, None) for name in DECODING}
        options |= {"do_sample": False, "top_k": TOP_K if options["top_k"] is None else options["top_k"]}
        options |= decoding.options
        unknown = [name for name in options if name not in ("do_sample", "num_beams", *DECODING)]
        if unknown or options.pop("num_beams", 1) != 1:
            raise LangBridgeError(
                f"decoding: got {', '.join(unknown) or 'num_beams'}, which is not for requests that are answered as "
                f"they come; expected do_sample, {', '.join(DECODING)}"
            )
        given = {name: value for name, value in options.items() if value not in (None, _UNUSED.get(name))}
        self._generator: torch.Generator | None = None
        # Tokens are drawn in double precision, which Apple's GPUs do not have.
        device = self._device = torch.device("cpu") if device.type == "mps" else device
        try:
            self._processors = _made(given, _processors(start, list(ends), device))
            if options["do_sample"]:
                self._generator = torch.Generator(device).manual_seed(seed_of([key], decoding.seed))
                self._scaled, self._warpers = _made(given, _SCALE), _made(given, _WARPERS)
                self._top_k, self._top_p = int(given.get("top_k", 0)), float(given.get("top_p", 1))
                _made(given, {"top_k": hf.TopKLogitsWarper, "top_p": hf.TopPLogitsWarper})  # says what they may be
        except (TypeError, ValueError) as error:  # transformers' own words for what a value has to be
            raise LangBridgeError(f"decoding: {error}") from error

    @property
    def likeliest(self) -> bool:
        """Whether it takes the likeliest token, whatever came before."""
        return self._generator is None and not self._processors

    def __call__(self, ids: Sequence[int], logits: torch.Tensor) -> int:
        """The next token. ids: prompt and answer so far. logits: (vocab,), in single precision."""
        scores, before = logits[None].to(self._device), torch.tensor([ids], device=self._device)
        if self._processors:
            scores = self._processors(before, scores.clone())
        if self._generator is None:
            return int(scores.argmax())
        scores, tokens = self._cut(self._scaled(before, scores))
        # One random number a token, where `multinomial` of torch takes one for every word of the vocabulary.
        sums = self._warpers(before, scores)[0].double().softmax(-1).cumsum(-1)
        if not bool(sums[-1].isfinite()):  # the place would be beyond the vocabulary, and end the answers of all
            raise LangBridgeError("the logits at this temperature are not finite numbers; give a higher temperature")
        drawn = torch.rand(1, generator=self._generator, device=sums.device) * sums[-1]
        place = torch.searchsorted(sums, drawn, right=True)
        return int(place if tokens is None else tokens[0, place])

    def _cut(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What `top_k` and `top_p` leave, and which tokens these are if not all: to find a few of a vocabulary of
        150,000 takes a tenth of the time that sorting it does."""
        few, tokens = scores.topk(min(self._top_k or FEW, scores.shape[1]))
        share = 1.0 if self._top_k else float((few.logsumexp(-1) - scores.logsumexp(-1)).exp())
        if self._top_p >= 1:
            return (few, tokens) if self._top_k else (scores, None)
        if self._top_p < share:
            return hf.TopPLogitsWarper(self._top_p / share)(tokens, few), tokens
        return hf.TopPLogitsWarper(self._top_p)(tokens, scores), None


Makers = Mapping[str, Callable[[Any], hf.LogitsProcessor]]


def _made(given: Mapping[str, Any], makers: Makers) -> hf.LogitsProcessorList:
    return hf.LogitsProcessorList([make(given[name]) for name, make in makers.items() if name in given])


def _processors(start: int, ends: list[int], device: torch.device) -> Makers:
    return {
        "sequence_bias": hf.SequenceBiasLogitsProcessor,
        "repetition_penalty": hf.RepetitionPenaltyLogitsProcessor,
        "no_repeat_ngram_size": hf.NoRepeatNGramLogitsProcessor,
        "bad_words_ids": lambda words: hf.NoBadWordsLogitsProcessor(words, ends),
        "suppress_tokens": lambda ids: hf.SuppressTokensLogitsProcessor(ids, device=device),
        "begin_suppress_tokens": lambda ids: hf.SuppressTokensAtBeginLogitsProcessor(ids, start, device=device),
    }


_SCALE: Makers = {"temperature": hf.TemperatureLogitsWarper}
_WARPERS: Makers = {"min_p": hf.MinPLogitsWarper, "typical_p": hf.TypicalLogitsWarper}
"""Of sampling, before and after `top_k` and `top_p`."""
