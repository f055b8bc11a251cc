"""`generate()` of a bridge: transformers' own, with the encoder run once and its soft prompts given to the passes that
read their places."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import GenerationMixin
from transformers.cache_utils import Cache

from langbridge.errors import LangBridgeError
from langbridge.model.sequence import sources_of_rows

_SOURCE_KEYS = (
    "encoder_input_ids",
    "encoder_attention_mask",
    "soft_prompts",
    "soft_prompt_mask",
    "soft_prompt_positions",
)


class BridgeGenerationMixin(GenerationMixin):
    """What `LangBridgeModel` adds to `GenerationMixin`."""

    if TYPE_CHECKING:
        config: Any
        encoder: Any
        soft_prompts: Any
        _placeholders: Any

    def generate(  # type: ignore[override]
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | None = None,
        encoder_input_ids: Int[Tensor, "sources src"] | None = None,
        encoder_attention_mask: Int[Tensor, "sources src"] | None = None,
        **kwargs: Any,
    ) -> Any:
        """`GenerationMixin.generate`, with the encoder run once, before any expansion to beams or to
        several sequences a row.

        Returns, as ever, prompt and continuation; the processor's `batch_decode` leaves the placeholders out.
        Right-padded prompts are moved to the right, because a pad between prompt and continuation is read by
        the language model.
        """
        places = self._placeholders(input_ids, attention_mask)
        past = _length(kwargs.get("past_key_values"))
        if past and not bool(places[:, past:].any()):
            # The cache has read the source: a conversation goes on, or an assistant model is asked again.
            kwargs = {key: value for key, value in kwargs.items() if key not in _SOURCE_KEYS}
            return super().generate(input_ids, attention_mask=attention_mask, **kwargs)
        if encoder_input_ids is None:
            if kwargs.get("soft_prompts") is None and bool(places.any()):
                raise no_source(self.config.soft_prompt_token_id)
            return super().generate(input_ids, attention_mask=attention_mask, **kwargs)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        order = torch.argsort(attention_mask, dim=1, stable=True)
        input_ids, attention_mask = input_ids.gather(1, order), attention_mask.gather(1, order)
        with torch.no_grad():
            soft, soft_mask = self.soft_prompts(encoder_input_ids, encoder_attention_mask)
        if not bool(soft[soft_mask.bool()].isfinite().all()):
            raise LangBridgeError(
                f"encoder: its states in {self.encoder.dtype} are not finite numbers; load it in bfloat16 or float32 "
                "(T5 and its kin overflow in float16)"
            )
        places = self._placeholders(input_ids, attention_mask)
        soft, soft_mask = _by_row(soft, soft_mask, places)
        source = {
            # The ids ride along for an assistant model, which is a bridge of its own and encodes for itself.
            "encoder_input_ids": encoder_input_ids,
            "encoder_attention_mask": encoder_attention_mask,
            "soft_prompts": soft,
            "soft_prompt_mask": soft_mask,
            "soft_prompt_positions": places,
        }
        return super().generate(input_ids, attention_mask=attention_mask, **{**kwargs, **source})

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: Tensor, past_key_values: Cache | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Give a pass the soft prompts of the placeholders that it reads, and none once the cache has read all. A
        generated id is never taken for a placeholder."""
        inputs = super().prepare_inputs_for_generation(input_ids, past_key_values=past_key_values, **kwargs)
        places = inputs.get("soft_prompt_positions")
        if places is None:
            return inputs
        past = _length(past_key_values)
        if past >= places.shape[1]:
            for key in _SOURCE_KEYS:
                inputs.pop(key, None)
            return inputs
        # Nearly always the whole prompt; a part of it where it is read in chunks, or a cache holds its beginning.
        end = past + inputs["input_ids"].shape[1]
        inputs["soft_prompt_positions"] = nn.functional.pad(places, (0, max(0, end - places.shape[1])))[:, past:end]
        mask = inputs["soft_prompt_mask"]
        number, first = mask.cumsum(1), places[:, :past].sum(1, keepdim=True).to(mask.device)
        last = places[:, :end].sum(1, keepdim=True).to(mask.device)
        inputs["soft_prompt_mask"] = mask * ((number > first) & (number <= last))
        return inputs


def _by_row(
    soft: Float[Tensor, "sources soft d_lm"], soft_mask: Int[Tensor, "sources soft"], places: Bool[Tensor, "batch seq"]
) -> tuple[Float[Tensor, "batch joined d_lm"], Int[Tensor, "batch joined"]]:
    """The sources of each row end to end, because what expands rows to beams expands them by the batch."""
    counts = sources_of_rows(places.sum(1).tolist(), soft_mask.sum(1).tolist())
    if len(soft) == len(places):
        return soft, soft_mask
    rows = zip(soft.split(counts), soft_mask.bool().split(counts), strict=True)
    joined = [some[real] for some, real in rows]
    masks = [soft_mask.new_ones(len(row)) for row in joined]
    return nn.utils.rnn.pad_sequence(joined, batch_first=True), nn.utils.rnn.pad_sequence(masks, batch_first=True)


def no_source(placeholder: int | None) -> LangBridgeError:
    return LangBridgeError(
        f"input_ids holds placeholders (id {placeholder}) but there is no encoder_input_ids to fill them; pass "
        "everything that the processor returns"
    )


def _length(cache: Cache | None) -> int:
    """Positions that a cache has read."""
    return 0 if cache is None else int(cache.get_seq_length())
