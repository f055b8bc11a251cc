"""The bridge itself, without a language model: the encoder, its new embedding rows, and the connector.

What serves prompt embeddings to a language model that runs elsewhere needs this alone.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from langbridge.errors import LangBridgeError
from langbridge.model.bases import ENCODER
from langbridge.model.configuration import LangBridgeConfig
from langbridge.model.connectors.base import Connector, LayerMix
from langbridge.model.encoders import check_source, encoder_width, layers_read, length_limit, load_tied, make_room
from langbridge.model.loading import open_checkpoint
from langbridge.model.memory import Memory


class Bridge(nn.Module):
    """Reads prompts in any language into the input space of a language model.

    `LangBridgeModel` is one with its language model. It inherits rather than holds one, so that `encoder.*`,
    `connector.*` and `new_rows` are the names of its weights in memory as in checkpoints.
    """

    config: LangBridgeConfig
    encoder: PreTrainedModel
    new_rows: nn.Parameter | None
    encoder_length_limit: int | None
    """The longest encoder input in tokens, None where there is no limit."""

    def __init__(self, config: LangBridgeConfig, encoder: PreTrainedModel, d_lm: int, rms: float = 1.0):
        """d_lm, rms: width and root mean square of the language model's input embeddings. The connector is fresh."""
        super().__init__()
        self.config, self.encoder = config, encoder
        self._connect_encoder(d_lm, rms)
        self.freeze()
        self.eval()

    def _connect_encoder(self, d_lm: int, rms: float, language_model: PreTrainedModel | None = None) -> None:
        """The part of `__init__` that `LangBridgeModel` shares."""
        self.encoder_length_limit = length_limit(self.encoder)
        settings = self.config.connector
        width = encoder_width(self._encoder_config)
        self._layers = layers_read(self._encoder_config, settings)
        if self._layers is not None and not settings.mix_layers:
            width *= len(self._layers)
        self.connector: Connector = settings.build(width, d_lm, rms)
        self.connector.reach(self.config.text_config, language_model)
        if self._layers is not None and settings.mix_layers:
            self.connector.mix = LayerMix(len(self._layers))
        bare = torch.tensor(self.config.bare_token_ids or [], dtype=torch.long)
        self.register_buffer("_bare_ids", bare, persistent=False)
        self._attach_new_rows(self.config.new_token_ids or [])

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *, encoder: Any = None, **kwargs: Any) -> "Bridge":
        """Load the encoder and the connector of a checkpoint, and no language model.

        encoder: the encoder's folder or hub id, where the checkpoint does not find it. Other keywords are those of
        `LangBridgeModel.from_pretrained`. Raises `LangBridgeError`.
        """
        checkpoint, options = open_checkpoint(pretrained_model_name_or_path, kwargs)
        base = checkpoint.base(ENCODER, encoder, options)
        bridge = cls(checkpoint.config, base, d_lm=len(checkpoint.state["connector.end"]))
        bridge._settle(options.device_map, beside=base)
        bridge.load_trained(checkpoint.state, str(checkpoint.folder))
        return bridge

    def _settle(self, device_map: Any, beside: PreTrainedModel) -> None:
        """Put connector and new rows on the devices where they are needed, in the precision that training needs.

        beside: the base whose embeddings the connector stands beside, and whose precision it follows.
        """
        target = beside.get_input_embeddings().weight.device
        if target.type == "meta":
            target = self.encoder.device
        named = device_map if isinstance(device_map, dict) else {}
        if device_map is not None and ENCODER not in named and self.encoder.device != target:
            self.encoder.to(target)
        # What is trained stays in full precision under half-precision bases, or small updates are lost; under
        # double precision it follows.
        precise = torch.promote_types(torch.float32, beside.dtype)
        self.connector.to(named.get("connector", target), precise)
        if self.new_rows is not None:
            self.new_rows.data = self.new_rows.data.to(self.encoder.device, precise)

    # What is trained

    def freeze(self) -> None:
        """Make exactly the parameters trainable that the config says. Loading and `set_training_regime` end here."""
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

    @property
    def encoder_learns(self) -> bool:
        """Whether any weight in the encoder is marked as trained, by the regime or by hand."""
        return any(weight.requires_grad for weight in self.encoder.parameters())

    def trainable_parameter_names(self) -> set[str]:
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def train(self, mode: bool = True) -> "Bridge":
        """`nn.Module.train`, except that a frozen encoder stays in eval mode."""
        super().train(mode)
        if self.config.freeze_encoder:
            self.encoder.eval()
        return self

    def load_trained(self, state: dict[str, Tensor], where: str) -> None:
        """Load what a checkpoint holds, in place. Raises `LangBridgeError` where it is another bridge's."""
        for name in ("connector", "encoder"):
            part = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
            if part or name == "connector":
                load_tied(self.get_submodule(name), part, where)
        if self.new_rows is not None:
            if "new_rows" not in state:
                raise LangBridgeError(f"{where}: the weights do not fit the config: missing ['new_rows']")
            with torch.no_grad():
                self.new_rows.copy_(state["new_rows"])

    # Reading

    def read(
        self,
        encoder_input_ids: Int[Tensor, "sources src"],
        encoder_attention_mask: Int[Tensor, "sources src"] | None = None,
    ) -> Memory:
        """The soft prompts of some sources, each with the end vector last, and the mask of the real ones."""
        if encoder_attention_mask is None:
            encoder_attention_mask = torch.ones_like(encoder_input_ids)
        states = self.encode(encoder_input_ids, encoder_attention_mask)
        return self.connect(states, self.spoken(encoder_input_ids, encoder_attention_mask))

    def soft_prompts(
        self,
        encoder_input_ids: Int[Tensor, "sources src"],
        encoder_attention_mask: Int[Tensor, "sources src"] | None = None,
    ) -> tuple[Float[Tensor, "sources soft d_lm"], Int[Tensor, "sources soft"]]:
        """As `read`, without what a connector may add to them."""
        memory = self.read(encoder_input_ids, encoder_attention_mask)
        return memory.soft_prompts, memory.mask

    def encode(
        self,
        encoder_input_ids: Int[Tensor, "sources src"],
        encoder_attention_mask: Int[Tensor, "sources src"] | None = None,
    ) -> Float[Tensor, "sources src d_encoder"]:
        """1. The encoder's hidden states: of its last layer, or of those that the connector reads, side by side. States
        of padding mean nothing, and affect no others."""
        if encoder_attention_mask is None:
            encoder_attention_mask = torch.ones_like(encoder_input_ids)
        check_source(encoder_input_ids, encoder_attention_mask, self.encoder_length_limit, self._encoder_config)
        # Encoders with absolute positions count padding, and tell it by its id: so pads are moved to the
        # right, and given the pad id.
        order = torch.argsort(encoder_attention_mask.bool().logical_not().int(), dim=1, stable=True)
        mask = encoder_attention_mask.gather(1, order)
        ids = encoder_input_ids.gather(1, order).masked_fill(mask == 0, self._encoder_config.pad_token_id or 0)
        # By what is marked, not by the config: parts of the encoder, or adapters in it, may be trained by hand.
        learns = torch.is_grad_enabled() and self.encoder_learns
        if learns and not self.config.encoder_trained:
            self.config.encoder_trained = True  # whatever is marked, frozen or merged later
        with torch.set_grad_enabled(learns or (torch.is_grad_enabled() and self.config.train_new_rows)):
            device, layers = self.encoder.device, self._layers
            inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
            if layers is None:
                states = self.encoder(**inputs).last_hidden_state
            else:
                hidden = self.encoder(**inputs, output_hidden_states=True).hidden_states
                states = torch.cat([hidden[layer] for layer in layers], dim=-1)
        back = torch.argsort(order, dim=1).to(states.device)
        return states.gather(1, back.unsqueeze(-1).expand_as(states))

    def connect(self, states: Float[Tensor, "sources src d_encoder"], mask: Int[Tensor, "sources src"]) -> Memory:
        """2. What the connector makes of the states of the tokens in the mask (`spoken`), in its own precision."""
        return Memory(*self.connector(self.layered(states), mask.to(self.connector.end.device)))

    def layered(self, states: Float[Tensor, "sources src layered"]) -> Float[Tensor, "sources src d_connector"]:
        """What the connector reads of the encoder's states, in its own precision: one layer where it mixes several."""
        states = states.to(self.connector.end.device, self.connector.end.dtype)
        return states if self.connector.mix is None else self.connector.mix(states)

    def spoken(
        self, encoder_input_ids: Int[Tensor, "sources src"], encoder_attention_mask: Int[Tensor, "sources src"]
    ) -> Int[Tensor, "sources src"]:
        """The tokens that get a soft prompt: all but padding, and those that stand for no character where the bridge
        leaves these out."""
        bare = torch.isin(encoder_input_ids, self._bare_ids.to(encoder_input_ids.device))
        return encoder_attention_mask * ~bare

    @property
    def _encoder_config(self) -> PreTrainedConfig:
        config = self.config.encoder_config
        assert isinstance(config, PreTrainedConfig), "a model is built of configs, not of their dicts"
        return config

    # The new rows

    def _attach_new_rows(self, new_token_ids: list[int]) -> None:
        """Embedding rows for tokens added to the encoder's tokenizer, as a small parameter of ours that is
        laid over the encoder's table.

        So the table itself stays as published, and neither gradient nor weight decay can touch its other
        rows. Rows start at the mean embedding.
        """
        self.new_rows = None
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
