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

_UNUSED: Mapping[str, Any] = {
    "temperature": 1.0, "top_k": 0, "top_p": 1.0, "typical_p": 1.0, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0
}  # fmt: skip
"""Values that change nothing, besides None."""


class Choice:
    """What chooses a row's next token: transformers' own processors, in the order in which `generate` has them.

    model: whose `generation_config` holds where `decoding` says nothing. start: tokens of the prompt. ends: ids that
    end the answer. key: what random numbers are drawn by, with the seed, as alone in `HFEngine`.
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
        try:
            self._processors = hf.LogitsProcessorList(_processors(given, start, list(ends), device))
        except (TypeError, ValueError) as error:  # transformers' own words for what a value has to be
            raise LangBridgeError(f"decoding: {error}") from error
        self._generator: torch.Generator | None = None
        if options["do_sample"]:
            self._generator = torch.Generator(device).manual_seed(seed_of([key], decoding.seed))

    @property
    def likeliest(self) -> bool:
        """Whether it takes the likeliest token, whatever came before."""
        return self._generator is None and not self._processors

    def __call__(self, ids: Sequence[int], logits: torch.Tensor) -> int:
        """The next token. ids: prompt and answer so far. logits: (vocab,), in single precision."""
        scores = logits[None]
        if self._processors:
            scores = self._processors(torch.tensor([ids], device=logits.device), scores.clone())
        if self._generator is None:
            return int(scores.argmax())
        return int(torch.multinomial(scores.softmax(-1), 1, generator=self._generator))


def _processors(
    given: Mapping[str, Any], start: int, ends: list[int], device: torch.device
) -> list[hf.LogitsProcessor]:
    makers: dict[str, Callable[[Any], hf.LogitsProcessor]] = {
        "sequence_bias": hf.SequenceBiasLogitsProcessor,
        "repetition_penalty": hf.RepetitionPenaltyLogitsProcessor,
        "no_repeat_ngram_size": hf.NoRepeatNGramLogitsProcessor,
        "bad_words_ids": lambda words: hf.NoBadWordsLogitsProcessor(words, ends),
        "suppress_tokens": lambda ids: hf.SuppressTokensLogitsProcessor(ids, device=device),
        "begin_suppress_tokens": lambda ids: hf.SuppressTokensAtBeginLogitsProcessor(ids, start, device=device),
    }
    if given.get("do_sample"):
        makers |= {
            "temperature": hf.TemperatureLogitsWarper,
            "top_k": hf.TopKLogitsWarper,
            "top_p": hf.TopPLogitsWarper,
            "min_p": hf.MinPLogitsWarper,
            "typical_p": hf.TypicalLogitsWarper,
        }
    return [make(given[name]) for name, make in makers.items() if name in given]
