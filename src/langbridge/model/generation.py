"""`generate()` of a bridge: transformers' own, with the encoder run once and its soft prompts given to the passes that
read their places."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache

from langbridge.errors import LangBridgeError
from langbridge.model.memory import Memory

_SOURCE_KEYS = ("encoder_input_ids", "encoder_attention_mask", "memory", "soft_prompt_positions")


class BridgeGenerationMixin(GenerationMixin):
    """What `LangBridgeModel` adds to `GenerationMixin`."""

    if TYPE_CHECKING:
        config: Any
        encoder: Any
        connector: Any
        read: Any
        _placeholders: Any

    def generate(  # type: ignore[override]
        self,
        input_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Int[Tensor, "batch seq"] | None = None,
        encoder_input_ids: Int[Tensor, "sources src"] | None = None,
        encoder_attention_mask: Int[Tensor, "sources src"] | None = None,
        inputs: Int[Tensor, "batch seq"] | None = None,
        **kwargs: Any,
    ) -> Any:
        """`GenerationMixin.generate`, with the encoder run once, before any expansion to beams or to
        several sequences a row.

        inputs: another name of `input_ids`. inputs_embeds: what `embed` gives, instead of both models' ids; of it only
            the continuation is returned.

        Returns prompt and continuation; the processor's `batch_decode` leaves the placeholders out. Right-padded
        prompts are moved to the right, because a pad between prompt and continuation is read by the language model.
        """
        if inputs is not None and input_ids is not None:
            raise LangBridgeError("generate: expected either input_ids or inputs, which is another name of it")
        input_ids = inputs if input_ids is None else input_ids
        if input_ids is None or kwargs.get("inputs_embeds") is not None:
            if encoder_input_ids is not None:
                raise embedded_already()
            return super().generate(input_ids, attention_mask=attention_mask, **kwargs)
        places = self._placeholders(input_ids, attention_mask)
        past = _length(kwargs.get("past_key_values"))
        if past and not self.connector.injects and not bool(places[:, past:].any()):
            # The cache has read the source: a conversation goes on, or an assistant model is asked again.
            kwargs = {key: value for key, value in kwargs.items() if key not in _SOURCE_KEYS}
            return super().generate(input_ids, attention_mask=attention_mask, **kwargs)
        if encoder_input_ids is None:
            if kwargs.get("memory") is None and bool(places.any()):
                raise no_source(self.config.soft_prompt_token_id)
            return super().generate(input_ids, attention_mask=attention_mask, **kwargs)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        order = torch.argsort(attention_mask, dim=1, stable=True)
        input_ids, attention_mask = input_ids.gather(1, order), attention_mask.gather(1, order)
        places = places.gather(1, order)
        with torch.no_grad():
            memory = self.read(encoder_input_ids, encoder_attention_mask)
        check_finite(memory, self.encoder)
        source = {
            # The ids ride along for an assistant model, which is a bridge of its own and encodes for itself.
            "encoder_input_ids": encoder_input_ids,
            "encoder_attention_mask": encoder_attention_mask,
            "memory": memory.by_row(places),  # what expands rows to beams expands them by the batch
            "soft_prompt_positions": places,
        }
        return super().generate(input_ids, attention_mask=attention_mask, **{**kwargs, **source})

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Tensor | None = None, **kwargs: Any
    ) -> Any:
        """To beams or several sequences a row. Transformers expands tensors, and a memory is a tuple of them."""
        memory = kwargs.get("memory")
        if memory is not None and expand_size > 1:
            kwargs["memory"] = memory.repeated(expand_size)
        return super()._expand_inputs_for_generation(expand_size, is_encoder_decoder, input_ids, **kwargs)

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: Tensor,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,  # said, or transformers takes it that the model has no use for them
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Give a pass the soft prompts of the placeholders that it reads, and nothing once the cache has read them all,
        unless the connector reaches into every pass. A generated id is never taken for a placeholder."""
        inputs = super().prepare_inputs_for_generation(
            input_ids, past_key_values=past_key_values, inputs_embeds=inputs_embeds, **kwargs
        )
        places = inputs.get("soft_prompt_positions")
        if places is None:
            return inputs
        past = _length(past_key_values)
        if past >= places.shape[1] and not self.connector.injects:
            for key in _SOURCE_KEYS:
                inputs.pop(key, None)
            return inputs
        # Nearly always the whole prompt; a part of it where it is read in chunks, or a cache holds its beginning.
        end = past + (inputs["inputs_embeds"] if inputs.get("input_ids") is None else inputs["input_ids"]).shape[1]
        inputs["soft_prompt_positions"] = nn.functional.pad(places, (0, max(0, end - places.shape[1])))[:, past:end]
        inputs["memory"] = inputs["memory"].of_places(places, past, end)
        return inputs


def check_finite(memory: Memory, encoder: PreTrainedModel) -> None:
    """Raises `LangBridgeError` where an encoder's states were too large for its precision."""
    if not bool(memory.soft_prompts[memory.mask.bool()].isfinite().all()):
        raise LangBridgeError(
            f"encoder: its states in {encoder.dtype} are not finite numbers; load it in bfloat16 or float32 "
            "(T5 and its kin overflow in float16)"
        )


def no_source(placeholder: int | None) -> LangBridgeError:
    return LangBridgeError(
        f"input_ids holds placeholders (id {placeholder}) but there is no encoder_input_ids to fill them; pass "
        "everything that the processor returns"
    )


def embedded_already() -> LangBridgeError:
    return LangBridgeError(
        "encoder_input_ids: its soft prompts go into the placeholders of input_ids, and inputs_embeds hold theirs "
        "already, as `embed` gives them; pass input_ids and encoder_input_ids, or inputs_embeds alone"
    )


def _length(cache: Cache | None) -> int:
    """Positions that a cache has read."""
    return 0 if cache is None else int(cache.get_seq_length())
