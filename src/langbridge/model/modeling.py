"""A bridge with its language model (LangBridge, arXiv 2401.10695, section 3).

The layout of a sequence is the processor's business: it writes one placeholder id per soft prompt, and one
for the end vector, anywhere in `input_ids`. The model fills the placeholders. Everything after the embeddings
is the language model's own: cache, beams, sampling, streaming, quantisation.
"""

import inspect
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.utils import can_return_tuple

from langbridge.errors import LangBridgeError
from langbridge.model.bases import ENCODER, LANGUAGE_MODEL
from langbridge.model.bridge import Bridge
from langbridge.model.configuration import IGNORE, LangBridgeConfig
from langbridge.model.encoders import build_encoder, check_language_model
from langbridge.model.generation import BridgeGenerationMixin, embedded_already, no_source
from langbridge.model.language_models import (
    BridgeOutput,
    as_ours,
    embedding_rms,
    generation_config_of,
    positions_of,
    remove_dropout,
    token_losses,
)
from langbridge.model.loading import LoadOptions, fresh, open_checkpoint
from langbridge.model.memory import Memory
from langbridge.model.saving import (
    check_kept,
    check_no_adapters,
    for_everybody,
    mark_trained_encoder,
    save_checkpoint,
)
from langbridge.model.teaching import Lesson, Pass, Places, follow, listen

_UPLOADING = ("commit_message", "commit_description", "private", "token", "revision", "create_pr", "tags")
"""Keywords of `push_to_hub` that `save_pretrained` passes on."""


class LangBridgeModel(Bridge, PreTrainedModel, BridgeGenerationMixin):
    """A multilingual encoder bridged to a frozen language model. The forward pass, a method a sentence:

    1. `encode`: the encoder turns `encoder_input_ids` into hidden states (batch, src, d_encoder); frozen, it runs
    without gradient and without dropout.
    2. `connect`: the connector maps states and mask to soft prompts and mask, (batch, soft, d_lm), the end vector last.
    3. `embed`: the real soft prompts of each row fill that row's placeholders in the embedded `input_ids`.
    4. `place`: positions are counted over real tokens only, so that padding takes no position.
    5. `run`: the language model runs, frozen in every parameter, its output head included.
    6. `learn`: with labels, the sum of next-token losses over target positions, divided by their number; the head runs
    at those positions only.

    Or the language model is its own teacher (`follow`): the loss is how far it is, reading the prompt through the
    bridge, from what it makes of the prompt as its own tokens (`teaching.py`).
    """

    config_class = LangBridgeConfig
    config: LangBridgeConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(
        self,
        config: LangBridgeConfig,
        encoder: PreTrainedModel | None = None,
        language_model: PreTrainedModel | None = None,
    ):
        """Assemble a bridge of given parts, or of randomly initialised ones from the sub-configs. The
        connector is always fresh."""
        PreTrainedModel.__init__(self, config)
        if encoder is None:
            encoder = build_encoder(config.encoder_config)
        if language_model is None:
            check_language_model(config.text_config, "text_config")
            language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.encoder, self.language_model = encoder, language_model
        self.table_rows = language_model.get_input_embeddings().num_embeddings  # as it came; a checkpoint loads that
        config.text_config = (
            language_model.config
        )  # one object: generate() and the caches read ours, the language model its own
        # Not on saving: sharding gives an instance a class of its own.
        config.architectures = [type(self).__name__]
        self._language_model_arguments = frozenset(inspect.signature(language_model.forward).parameters)
        remove_dropout(language_model)
        self._connect_encoder(
            language_model.get_input_embeddings().embedding_dim, embedding_rms(language_model), language_model
        )
        self.generation_config = generation_config_of(language_model)
        self.post_init()
        self.freeze()
        self.eval()

    @classmethod
    def from_bases(
        cls, encoder: Any, language_model: Any, connector: Any = "linear", dtype: Any = None, **kwargs: Any
    ) -> "LangBridgeModel":
        """A fresh bridge between two bases, each a local folder, a hub id or a model in memory.

        connector: a kind, a mapping with a kind and its settings, or `ConnectorSettings`.

        `dtype`, `device_map`, `attn_implementation`, `quantization_config` and `max_memory` and its kin are as in
        `from_pretrained`, every other keyword goes to `LangBridgeConfig`. Raises `LangBridgeError` where a base is
        missing or of the wrong kind, and where one in memory is otherwise than these ask.
        """
        options = LoadOptions.taken_from(kwargs := {**kwargs, "dtype": dtype})
        config, first, second = fresh(encoder, language_model, options, connector=connector, **kwargs)
        model = cls(config, encoder=first, language_model=second)
        model._settle(options.device_map, beside=second)
        return model

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: Any, *, encoder: Any = None, language_model: Any = None, **kwargs: Any
    ) -> "LangBridgeModel":
        """Load a checkpoint from a folder or hub id.

        Bases: an explicit `encoder=` / `language_model=` (folder, hub id or model) is always obeyed; otherwise a folder
            inside the checkpoint, then the recorded path (relative to the checkpoint, then as written), then the
            recorded hub id and revision. Each is checked against the recorded fingerprint. An encoder that was trained
            is in the checkpoint itself, and needs no base.
        dtype: of the bases, or a dict by sub-config as below; the connector and the new rows stay in float32 (or more),
            since they are what is trained.
        device_map: of the language model; encoder and connector go where its embeddings are, or where the keys
            `encoder` and `connector` of a dict say.
        attn_implementation: one word for both, or a dict by sub-config (`encoder_config`, `text_config`).
        quantization_config: of the language model; a dict with the keys `encoder` and `language_model` also quantises
            the encoder, unless that was trained.
        max_memory, offload_folder, offload_buffers: of the language model, beside `device_map="auto"`.
        config, revision: as everywhere in transformers, and so the keywords of fetching from the hub.
        """
        checkpoint, options = open_checkpoint(pretrained_model_name_or_path, kwargs)
        first = checkpoint.base(ENCODER, encoder, options)
        second = checkpoint.base(LANGUAGE_MODEL, language_model, options)
        model = cls(checkpoint.config, encoder=first, language_model=second)
        model._settle(options.device_map, beside=second)
        model.load_trained(checkpoint.state, str(checkpoint.folder))
        if (checkpoint.folder / "generation_config.json").is_file():
            model.generation_config = type(model.generation_config).from_pretrained(checkpoint.folder)
        return model

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: Any,
        state_dict: dict[str, Tensor] | None = None,
        is_main_process: bool = True,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write the small checkpoint: what was trained, an encoder that was changed included, and where the rest comes
        from.

        state_dict: weights that are elsewhere by now, such as those of a sharded model, whose bases are then taken to
            be as they were or as the config says.
        is_main_process: False writes nothing.
        push_to_hub: uploads it as well, as `repo_id` or under the folder's name; further keywords as in `push_to_hub`.
            Other keywords of transformers' own method are ignored.

        Raises `LangBridgeError` where the language model was changed, which is lost in a small checkpoint:
        `export_merged` writes a whole one.
        """
        check_no_adapters(self)
        if state_dict is None:
            check_kept(self)
        mark_trained_encoder(self, compare=state_dict is None)
        if not is_main_process:
            return
        save_checkpoint(self, save_directory, state_dict)
        if push_to_hub:
            uploading = {name: kwargs[name] for name in _UPLOADING if name in kwargs}
            self.push_to_hub(kwargs.get("repo_id") or Path(save_directory).resolve().name, **uploading)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Upload the small checkpoint, as every model of transformers does. Raises `LangBridgeError` where others could
        not load it, because a base is on no hub."""
        check_no_adapters(self)
        mark_trained_encoder(self)
        with for_everybody(self.config):
            return super().push_to_hub(*args, **kwargs)

    def freeze(self) -> None:
        self.language_model.requires_grad_(False)
        super().freeze()

    # The forward pass

    def connect(self, states: Float[Tensor, "sources src d_encoder"], mask: Int[Tensor, "sources src"]) -> Memory:
        return self.connector.prepare(self.language_model, super().connect(states, mask))

    def embed(
        self,
        input_ids: Int[Tensor, "batch seq"],
        memory: Memory | None = None,
        attention_mask: Any = None,
        soft_prompt_positions: Bool[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq d_lm"]:
        """3. The embedded sequence with the real soft prompts of each row in that row's placeholders, in order: what a
        server of prompt embeddings sends. A row takes as many consecutive sources as fill its placeholders: one, or one
        for each turn of the user.

        memory: what `read` gives. None for rows without a prompt: their only placeholder, if there is one, is for the
            end vector, which depends on no prompt. So begins the unconditional half of classifier-free guidance.
        soft_prompt_positions: where the placeholders are, instead of every real position that holds the placeholder id.

        Raises `LangBridgeError` where a row has more or fewer placeholders than soft prompts.
        """
        embeds = self.get_input_embeddings()(input_ids)
        places = soft_prompt_positions
        if places is None:
            places = self._placeholders(input_ids, attention_mask)
        places = places.to(embeds.device)
        if memory is None:
            if bool((places.sum(1) > 1).any()):
                raise no_source(self.config.soft_prompt_token_id)
            return torch.where(places.unsqueeze(-1), self.connector.end_vector().to(embeds), embeds)
        return memory.laid_into(embeds, places)

    def place(
        self,
        embeds: Float[Tensor, "batch seq d_lm"],
        attention_mask: Any,
        position_ids: Int[Tensor, "batch seq"] | None,
        past_key_values: Cache | None,
    ) -> dict[str, Any]:
        """4. What the language model is given: the embeddings, what it sees of them, and positions counted over real
        tokens, where it takes positions."""
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        # A missing mask together with explicit positions is read by transformers as several sequences packed
        # into one.
        if attention_mask is None and past_key_values is None:
            attention_mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
        inputs = {"inputs_embeds": embeds, "past_key_values": past_key_values, "attention_mask": attention_mask}
        if "position_ids" in self._language_model_arguments:
            inputs["position_ids"] = (
                positions_of(attention_mask, embeds, past) if position_ids is None else position_ids
            )
        return inputs

    def run(self, logits_to_keep: int | Tensor = 0, **inputs: Any) -> BridgeOutput:
        """5. The language model's own output."""
        if "logits_to_keep" in self._language_model_arguments:
            if isinstance(logits_to_keep, int) and logits_to_keep:
                # By index: a slice is a strided view of the states, and from a frozen head torch would then copy the
                # whole table for every row.
                logits_to_keep = torch.arange(-logits_to_keep, 0, device=inputs["inputs_embeds"].device)
            inputs["logits_to_keep"] = logits_to_keep
        return as_ours(self.language_model(**inputs))

    def learn(
        self,
        labels: Int[Tensor, "batch seq"],
        num_items_in_batch: int | Tensor | None = None,
        return_logits: bool = True,
        **inputs: Any,
    ) -> BridgeOutput:
        """6. The loss of the target tokens; see `forward`."""
        keep = before_targets(labels, inputs["attention_mask"])
        targets = labels[:, 1:][keep[:, :-1]]
        inputs.setdefault("use_cache", False)
        output, losses, logits = token_losses(self.language_model, inputs, keep, targets, return_logits)
        loss = losses.sum() / _items(keep, num_items_in_batch, losses.device)
        return as_ours(output, loss=loss, logits=logits, token_losses=losses.detach())

    def listen(self, lesson: Lesson, places: Places) -> Pass:
        """What the language model, the teacher, makes of a lesson's rows; without gradient."""
        with torch.no_grad():
            embeds = self.embed(lesson.input_ids, None, lesson.attention_mask)
            inputs = self.place(embeds, lesson.attention_mask, None, None) | {"use_cache": False}
        return listen(self.language_model, inputs, lesson, places)

    def follow(
        self,
        lesson: Lesson,
        places: Places,
        heard: Pass,
        num_items_in_batch: int | Tensor | None = None,
        **inputs: Any,
    ) -> BridgeOutput:
        """6. How far the language model is from its teacher, `heard`, in the same units as the loss of `learn`."""
        inputs.setdefault("use_cache", False)
        total, divergences = follow(self.language_model, inputs, lesson, places, heard)
        return BridgeOutput(
            loss=total / _items(places.learned, num_items_in_batch, total.device),
            token_losses=None if divergences is None else divergences.detach(),
        )

    @can_return_tuple
    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"] | None = None,
        attention_mask: Int[Tensor, "batch seq"] | Any | None = None,
        position_ids: Int[Tensor, "batch seq"] | None = None,
        past_key_values: Cache | None = None,
        encoder_input_ids: Int[Tensor, "sources src"] | None = None,
        encoder_attention_mask: Int[Tensor, "sources src"] | None = None,
        memory: Memory | None = None,
        soft_prompt_positions: Bool[Tensor, "batch seq"] | None = None,
        labels: Int[Tensor, "batch seq"] | None = None,
        num_items_in_batch: int | Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        return_logits: bool = True,
        lesson: Lesson | None = None,
        inputs_embeds: Float[Tensor, "batch seq d_lm"] | None = None,
        **kwargs: Any,
    ) -> BridgeOutput:
        """The six sentences above: read, embed, inject, run.

        memory: what `read` gives, instead of `encoder_input_ids` (generation reads once).
        soft_prompt_positions: as in `embed`.
        labels: aligned with `input_ids` and shifted here; -100 is not learned, and column 0 never is.
        num_items_in_batch: the divisor of the loss, where a batch is one of several that make a step.
        return_logits: False where labels are given and the loss is all that is wanted; logits are then made in
            pieces, which saves most of what is left of their memory, and may be None.
        inputs_embeds: what `embed` gives, instead of `input_ids`; a connector that reaches into the language model's
            layers needs `memory` and `soft_prompt_positions` besides.
        lesson: where labels are given, what a teacher reads: the loss is then the distance from it, labels say at which
            tokens, and there are no logits.

        Without labels the logits are (batch, seq, vocab). **With labels they are (tgt, vocab)**: the target
        positions in row-major order, because logits nowhere else are needed and cost most of the memory. So are
        `token_losses`, (tgt,).
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise LangBridgeError("forward: expected either input_ids or inputs_embeds")
        if inputs_embeds is not None and encoder_input_ids is not None:
            raise embedded_already()
        if memory is None and encoder_input_ids is not None:
            memory = self.read(encoder_input_ids, encoder_attention_mask)
        if inputs_embeds is None:
            if memory is None and _has_read(past_key_values):  # tokens, also where one has the placeholder's id
                inputs_embeds = self.get_input_embeddings()(input_ids)
            else:
                if soft_prompt_positions is None:
                    soft_prompt_positions = self._placeholders(input_ids, attention_mask)
                inputs_embeds = self.embed(input_ids, memory, attention_mask, soft_prompt_positions)
        inputs = kwargs | self.place(inputs_embeds, attention_mask, position_ids, past_key_values)
        if lesson is not None:
            assert labels is not None, "a lesson is for rows with targets"
            assert soft_prompt_positions is not None, "a lesson is no part of a generation"
            mask = inputs["attention_mask"]
            places = Places.of(mask, before_targets(labels, mask), soft_prompt_positions, lesson)
            heard = self.listen(lesson, places)  # before the connector reaches into the language model
        with self._injected(memory, soft_prompt_positions):
            if labels is None:
                return self.run(logits_to_keep, **inputs)
            if lesson is not None:
                return self.follow(lesson, places, heard, num_items_in_batch, **inputs)
            return self.learn(labels, num_items_in_batch, return_logits, **inputs)

    def _injected(
        self, memory: Memory | None, places: Bool[Tensor, "batch seq"] | None
    ) -> AbstractContextManager[None]:
        """The pass of the language model with what its connector brings into its layers."""
        if memory is None or places is None or not self.connector.injects:
            return nullcontext()
        recomputed = any(getattr(module, "gradient_checkpointing", False) for module in self.language_model.modules())
        if self.training and torch.is_grad_enabled() and recomputed:
            raise LangBridgeError(
                f"gradient checkpointing: the layers are computed again when {type(self.connector).__name__}, which "
                "reaches into them, no longer does; switch it off"
            )
        return self.connector.inject(self.language_model, memory.by_row(places))

    def set_attn_implementation(
        self, attn_implementation: str | dict[str, Any], allow_all_kernels: bool = False
    ) -> None:
        """One word for both, or a dict by sub-config (`encoder_config`, `text_config`), as in `from_pretrained`."""
        if not isinstance(attn_implementation, dict):
            super().set_attn_implementation(attn_implementation, allow_all_kernels)
            return
        # By the bases themselves: in an encoder with a copy of its config transformers recognises no sub-config.
        for name, base in (("encoder_config", self.encoder), ("text_config", self.language_model)):
            if name in attn_implementation:
                base.set_attn_implementation(attn_implementation[name], allow_all_kernels)

    # What transformers asks of a causal model

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)

    def init_weights(self) -> None:
        """Nothing: the parts come initialised, and transformers' own pass would overwrite them."""

    def _placeholders(self, input_ids: Tensor, attention_mask: Any) -> Bool[Tensor, "batch seq"]:
        """Real positions that hold the placeholder id. A pad that happens to share the id is none."""
        if self.config.soft_prompt_token_id is None:
            return torch.zeros_like(input_ids, dtype=torch.bool)
        found = input_ids == self.config.soft_prompt_token_id
        if isinstance(attention_mask, Tensor) and attention_mask.shape == input_ids.shape:
            found = found & attention_mask.bool().to(found.device)
        return found


def before_targets(labels: Int[Tensor, "batch seq"], mask: Any) -> Bool[Tensor, "batch seq"]:
    """The positions whose next token is learned."""
    learned = labels[:, 1:] != IGNORE
    if isinstance(mask, Tensor) and mask.shape == labels.shape:
        # A row's first token is never learned: column 0 has nothing before it, and in a left-padded row
        # there is only padding.
        learned = learned & mask[:, :-1].bool()
    return nn.functional.pad(learned, (0, 1))


def _has_read(cache: Cache | None) -> bool:
    """Whether there is anything in a cache. A length on the device, which a static cache has once it is in use, is not
    fetched from there for each token."""
    length = 0 if cache is None else cache.get_seq_length()
    return isinstance(length, Tensor) or length > 0


def _items(learned: Tensor, given: int | Tensor | None, device: torch.device) -> int | Tensor:
    """The divisor of a loss."""
    count = learned.sum().clamp(min=1) if given is None else given
    return count.to(device) if isinstance(count, Tensor) else count
