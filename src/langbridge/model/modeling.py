"""The bridge: an encoder, a connector and a language model, composed (LangBridge, arXiv 2401.10695, section
3).

The layout of a sequence is the processor's business: it writes one placeholder id per soft prompt, and one
for the end vector, anywhere in `input_ids`. The model fills the placeholders. Everything after the embeddings
is the language model's own: cache, beams, sampling, streaming, quantisation.
"""

import inspect
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache

from langbridge.errors import LangBridgeError
from langbridge.model.configuration import IGNORE, LangBridgeConfig
from langbridge.model.encoders import (
    build_encoder,
    check_language_model,
    check_source,
    encoder_width,
    length_limit,
    make_room,
)
from langbridge.model.generation import BridgeGenerationMixin, no_source
from langbridge.model.language_models import (
    BridgeOutput,
    as_ours,
    embedding_rms,
    generation_config_of,
    positions_of,
    remove_dropout,
    token_losses,
)
from langbridge.model.registering import register
from langbridge.model.sequence import sources_of_rows


class LangBridgeModel(PreTrainedModel, BridgeGenerationMixin):
    """A multilingual encoder bridged to a frozen language model. The forward pass:

    1. The encoder turns `encoder_input_ids` into hidden states (batch, src, d_encoder); frozen, it runs
    without gradient and without dropout.
    2. The connector maps states and mask to soft prompts and mask, (batch, soft, d_lm), the end vector last.
    3. The real soft prompts of each row fill that row's placeholders in the embedded `input_ids`.
    4. Positions are counted over real tokens only, so that padding takes no position.
    5. The language model runs, frozen in every parameter, its output head included.
    6. With labels: the sum of next-token losses over target positions, divided by their number; the head runs
    at those positions only.
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
        super().__init__(config)
        if encoder is None:
            encoder = build_encoder(config.encoder_config)
        if language_model is None:
            check_language_model(config.text_config, "text_config")
            language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.encoder, self.language_model = encoder, language_model
        config.text_config = (
            language_model.config
        )  # one object: generate() and the caches read ours, the language model its own
        self._language_model_arguments = frozenset(inspect.signature(language_model.forward).parameters)
        self._length_limit = length_limit(encoder)
        remove_dropout(language_model)
        self.connector = config.connector.build(
            encoder_width(config.encoder_config, config.connector.encoder_layers),
            language_model.get_input_embeddings().embedding_dim,
            embedding_rms(language_model),
        )
        self._attach_new_rows(config.new_token_ids or [])
        self.generation_config = generation_config_of(language_model)
        self.post_init()
        self.freeze()
        self.eval()

    @classmethod
    def from_bases(
        cls,
        encoder: Any,
        language_model: Any,
        connector: Any = "linear",
        dtype: torch.dtype | str | None = None,
        **kwargs: Any,
    ) -> "LangBridgeModel":
        """A fresh bridge between two bases, each a local folder, a hub id or a model in memory.

        connector: a kind, a mapping with a kind and its settings, or `ConnectorSettings`.

        `device_map`, `attn_implementation` and `quantization_config` go to the bases, every other keyword to
        `LangBridgeConfig`. Raises `LangBridgeError` where a base is missing or of the wrong kind.
        """
        from langbridge.model.checkpoint import from_bases

        return from_bases(cls, encoder, language_model, connector=connector, dtype=dtype, **kwargs)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Any,
        *,
        encoder: Any = None,
        language_model: Any = None,
        **kwargs: Any,
    ) -> "LangBridgeModel":  # type: ignore[override]
        """Load a checkpoint. See `langbridge.model.checkpoint.load` for how the bases are found and for the
        keywords."""
        from langbridge.model.checkpoint import load

        return load(cls, pretrained_model_name_or_path, encoder=encoder, language_model=language_model, **kwargs)

    def save_pretrained(self, save_directory: Any, state_dict: dict[str, Tensor] | None = None, **kwargs: Any) -> None:  # type: ignore[override]
        """Write the small checkpoint: what was trained, and where the rest comes from. Other keywords of
        transformers' own method are ignored."""
        from langbridge.model.checkpoint import save

        save(self, save_directory, state_dict=state_dict)

    # What is trained

    def freeze(self) -> None:
        """Make exactly the parameters trainable that the config says. Loading and `set_training_regime` end
        here."""
        self.language_model.requires_grad_(False)
        if not self.config.freeze_encoder:
            self.config.encoder_trained = True  # and stays so: freezing it later does not bring the base back
        for parameter in self.encoder.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(not self.config.freeze_encoder)
        self.connector.requires_grad_(True)
        if self.new_rows is not None:
            self.new_rows.requires_grad_(self.config.train_new_rows or not self.config.freeze_encoder)

    def set_training_regime(self, freeze_encoder: bool, train_new_rows: bool = False) -> None:
        """Choose what is trained beside the connector (LangBridge, appendix D.1)."""
        if train_new_rows and self.new_rows is None:
            raise LangBridgeError(
                "train_new_rows: this bridge has no new rows, because its encoder's tokenizer keeps all "
                "whitespace; set it to false"
            )
        self.config.freeze_encoder, self.config.train_new_rows = freeze_encoder, train_new_rows
        self.freeze()
        self.train(self.training)

    def trainable_parameter_names(self) -> set[str]:
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def train(self, mode: bool = True) -> "LangBridgeModel":
        """As ever, except that a frozen encoder stays in eval mode. The language model follows, or it would
        lose gradient checkpointing; it has no dropout."""
        super().train(mode)
        if self.config.freeze_encoder:
            self.encoder.eval()
        return self

    # The forward pass, one method per sentence

    def encode(
        self,
        encoder_input_ids: Int[Tensor, "sources src"],
        encoder_attention_mask: Int[Tensor, "sources src"] | None = None,
    ) -> Float[Tensor, "sources src d_encoder"]:
        """1. The encoder's hidden states: of its last layer, or of those that the connector reads, side by side. What
        stands under padding means nothing, and changes nothing elsewhere."""
        if encoder_attention_mask is None:
            encoder_attention_mask = torch.ones_like(encoder_input_ids)
        check_source(encoder_input_ids, encoder_attention_mask, self._length_limit, self._encoder_config)
        # Encoders with absolute positions count padding, and tell it by its id: so pads are moved to the
        # right, and given the pad id.
        order = torch.argsort(encoder_attention_mask.bool().logical_not().int(), dim=1, stable=True)
        mask = encoder_attention_mask.gather(1, order)
        ids = encoder_input_ids.gather(1, order).masked_fill(mask == 0, self._encoder_pad_id)
        trained = not self.config.freeze_encoder or self.config.train_new_rows
        with torch.set_grad_enabled(torch.is_grad_enabled() and trained):
            device, layers = self.encoder.device, self.config.connector.encoder_layers
            inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
            if layers is None:
                states = self.encoder(**inputs).last_hidden_state
            else:
                hidden = self.encoder(**inputs, output_hidden_states=True).hidden_states
                states = torch.cat([hidden[layer] for layer in layers], dim=-1)
        back = torch.argsort(order, dim=1).to(states.device)
        return states.gather(1, back.unsqueeze(-1).expand_as(states))

    def soft_prompts(
        self,
        encoder_input_ids: Int[Tensor, "sources src"],
        encoder_attention_mask: Int[Tensor, "sources src"] | None = None,
    ) -> tuple[Float[Tensor, "sources soft d_lm"], Int[Tensor, "sources soft"]]:
        """2. Soft prompts with the end vector last, and the mask of the real ones. The connector computes
        in its own precision."""
        states = self.encode(encoder_input_ids, encoder_attention_mask)
        if encoder_attention_mask is None:
            encoder_attention_mask = torch.ones_like(encoder_input_ids)
        end = self.connector.end
        return self.connector(states.to(end.device, end.dtype), encoder_attention_mask.to(end.device))

    def fill(
        self,
        input_ids: Int[Tensor, "batch seq"],
        positions: Bool[Tensor, "batch seq"],
        soft: Float[Tensor, "sources soft d_lm"],
        soft_mask: Int[Tensor, "sources soft"],
    ) -> Float[Tensor, "batch seq d_lm"]:
        """3. The embedded sequence with the real soft prompts of each row in that row's placeholders, in
        order. A row takes as many consecutive sources as fill its placeholders: one, or one for each turn of the user.

        Raises `LangBridgeError` where a row has more or fewer placeholders than soft prompts.
        """
        embeds = self.language_model.get_input_embeddings()(input_ids)
        soft, soft_mask, positions = soft.to(embeds), soft_mask.to(embeds.device), positions.to(embeds.device)
        sources_of_rows(positions.sum(1).tolist(), soft_mask.sum(1).tolist())
        return embeds.masked_scatter(positions.unsqueeze(-1), soft[soft_mask.bool()])

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"] | Any | None = None,
        position_ids: Int[Tensor, "batch seq"] | None = None,
        past_key_values: Cache | None = None,
        encoder_input_ids: Int[Tensor, "sources src"] | None = None,
        encoder_attention_mask: Int[Tensor, "sources src"] | None = None,
        soft_prompts: Float[Tensor, "_ soft d_lm"] | None = None,
        soft_prompt_mask: Int[Tensor, "_ soft"] | None = None,
        soft_prompt_positions: Bool[Tensor, "batch seq"] | None = None,
        labels: Int[Tensor, "batch seq"] | None = None,
        num_items_in_batch: int | Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        return_logits: bool = True,
        **kwargs: Any,
    ) -> BridgeOutput:
        """The six sentences above.

        soft_prompts, soft_prompt_mask: computed beforehand, by source or by row, instead of `encoder_input_ids`
            (generation encodes once).
        soft_prompt_positions: where the placeholders are, instead of every real position that holds the
            placeholder id.
        labels: aligned with `input_ids` and shifted here; -100 is not learned, and column 0 never is.
        num_items_in_batch: the divisor of the loss, where a batch is one of several that make a step.
        return_logits: False where labels are given and the loss is all that is wanted; logits are then made in
            pieces, which saves most of what is left of their memory, and may be None.

        Without labels the logits are (batch, seq, vocab). **With labels they are (tgt, vocab)**: the target
        positions in row-major order, because logits nowhere else are needed and cost most of the memory. So are
        `token_losses`, (tgt,).
        """
        if soft_prompts is None and encoder_input_ids is not None:
            soft_prompts, soft_prompt_mask = self.soft_prompts(encoder_input_ids, encoder_attention_mask)
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if soft_prompts is not None:
            if soft_prompt_positions is None:
                soft_prompt_positions = self._placeholders(input_ids, attention_mask)
            embeds = self.fill(input_ids, soft_prompt_positions, soft_prompts, soft_prompt_mask)
        elif past_key_values is None:
            embeds = self._without_source(input_ids, self._placeholders(input_ids, attention_mask))
        else:
            embeds = self.language_model.get_input_embeddings()(input_ids)

        inputs: dict[str, Any] = {"inputs_embeds": embeds, "past_key_values": past_key_values, **kwargs}
        # A missing mask together with explicit positions is read by transformers as several sequences packed
        # into one.
        if attention_mask is None and past_key_values is None:
            attention_mask = torch.ones_like(input_ids)
        inputs["attention_mask"] = attention_mask
        if "position_ids" in self._language_model_arguments:
            inputs["position_ids"] = (
                positions_of(attention_mask, embeds, past) if position_ids is None else position_ids
            )

        if labels is None:
            if "logits_to_keep" in self._language_model_arguments:
                inputs["logits_to_keep"] = logits_to_keep
            return as_ours(self.language_model(**inputs))

        targets = labels[:, 1:]
        learned = targets != IGNORE
        if isinstance(attention_mask, Tensor) and attention_mask.shape == input_ids.shape:
            # A row's first token is never learned: column 0 has nothing before it, and in a left-padded row
            # there is only padding.
            learned = learned & attention_mask[:, :-1].bool()
        inputs.setdefault("use_cache", False)
        keep = nn.functional.pad(learned, (0, 1))
        output, losses, logits = token_losses(self.language_model, inputs, keep, targets[learned], return_logits)
        count = learned.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        if isinstance(count, Tensor):
            count = count.to(losses.device)
        return as_ours(output, loss=losses.sum() / count, logits=logits, token_losses=losses.detach())

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

    # Inside

    @property
    def encoder_length_limit(self) -> int | None:
        """The longest encoder input in tokens, None where there is no limit."""
        return self._length_limit

    @property
    def _encoder_config(self) -> PreTrainedConfig:
        config = self.config.encoder_config
        assert isinstance(config, PreTrainedConfig), "a model is built of configs, not of their dicts"
        return config

    @property
    def _encoder_pad_id(self) -> int:
        return self._encoder_config.pad_token_id or 0

    def _placeholders(self, input_ids: Tensor, attention_mask: Any) -> Bool[Tensor, "batch seq"]:
        """Real positions that hold the placeholder id. A pad that happens to share the id is none."""
        if self.config.soft_prompt_token_id is None:
            return torch.zeros_like(input_ids, dtype=torch.bool)
        found = input_ids == self.config.soft_prompt_token_id
        if isinstance(attention_mask, Tensor) and attention_mask.shape == input_ids.shape:
            found = found & attention_mask.bool().to(found.device)
        return found

    def _without_source(
        self, input_ids: Int[Tensor, "batch seq"], places: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch seq d_lm"]:
        """The embedded sequence of rows that have no prompt. Their only placeholder, if there is one, is for the end
        vector, which depends on no prompt: so begins the unconditional half of classifier-free guidance."""
        if bool((places.sum(1) > 1).any()):
            raise no_source(self.config.soft_prompt_token_id)
        embeds = self.language_model.get_input_embeddings()(input_ids)
        return torch.where(places.unsqueeze(-1).to(embeds.device), self.connector.end_vector().to(embeds), embeds)

    def _attach_new_rows(self, new_token_ids: list[int]) -> None:
        """Embedding rows for tokens added to the encoder's tokenizer, as a small parameter of ours that is
        laid over the encoder's table.

        So the table itself stays as published, and neither gradient nor weight decay can touch its other
        rows. Rows start at the mean embedding.
        """
        self.new_rows: nn.Parameter | None = None
        if not new_token_ids:
            return
        table, mean, self._new_rows_scale = make_room(self.encoder, new_token_ids)
        self.new_rows = nn.Parameter(mean.repeat(len(new_token_ids), 1))
        self.register_buffer("_new_ids", torch.tensor(new_token_ids), persistent=False)
        table.register_forward_hook(self._lay_new_rows)

    def _lay_new_rows(self, _module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert self.new_rows is not None, "this hook is attached together with the rows"
        match = args[0].unsqueeze(-1) == self._new_ids.to(args[0].device)  # (batch, src, new)
        rows = self.new_rows.to(output.device)[match.int().argmax(-1)] * self._new_rows_scale
        return torch.where(match.any(-1, keepdim=True), rows.to(output.dtype), output)


register()
