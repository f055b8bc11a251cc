"""What is known of a connector without building it: processor, recipe, plan and analyses ask this, never a kind's name.

A connector is named by its kind, or by a mapping with its kind and settings:

    connector: linear
    connector: {kind: resampler, num_latents: 32}

Kinds of other packages are found by the entry points of the group `langbridge.connectors`, each a class of settings.
Neither torch nor transformers is imported here, so that a recipe can be read without them.
"""

from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, ModelWrapValidatorHandler, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from langbridge.errors import LangBridgeError
from langbridge.registry import Registry
from langbridge.settings import Settings

if TYPE_CHECKING:
    from langbridge.model.connectors.base import Connector

GROUP = "langbridge.connectors"
"""Entry points of packages that bring connectors: `kind = "module:SettingsClass"`."""

_OURS = {
    "linear": "langbridge.model.connectors.settings:LinearSettings",
    "layerwise": "langbridge.model.connectors.settings:LayerwiseSettings",
    "mlp": "langbridge.model.connectors.settings:MLPSettings",
    "resampler": "langbridge.model.connectors.settings:ResamplerSettings",
}

_LONGEST = 1 << 30
"""Encoder tokens, more than any text has."""


class ConnectorSettings(Settings):
    """The settings of a kind of connector, and what follows from them. Each kind has a subclass with fields of its own.

    token_aligned: soft prompt i was made at encoder token i, so that what is known of the token holds of it.
    closed_form: the connector is one affine map a position, so that a ridge regression can be written into it
        (`Connector.set_affine`).
    """

    token_aligned: ClassVar[bool] = True
    closed_form: ClassVar[bool] = False

    kind: str
    """The kind's name."""

    encoder_layers: tuple[NonNegativeInt, ...] | None = Field(default=None, min_length=1)
    """The layers of the encoder that it reads, their states side by side in this order: n is the output of layer n, 0
    the embeddings. Null for the last one alone."""

    mix_layers: bool = False
    """Whether it reads one mean of those layers, with learned weights, rather than each; of all layers where none are
    named."""

    def soft_length(self, src_length: int) -> int:
        """How many soft prompts a source of `src_length` real encoder tokens gets, the end vector **not** counted.

        The one statement of it: the processor lays out the placeholders by this, without seeing the model. It must not
        fall where `src_length` grows.
        """
        return src_length

    def longest_source(self, soft: int) -> int | None:
        """The most encoder tokens that make at most `soft` soft prompts; None where any number of them does."""
        if self.soft_length(_LONGEST) <= soft:
            return None
        return bisect_right(range(_LONGEST), soft, key=self.soft_length) - 1

    def build(self, d_encoder: int, d_lm: int, rms: float) -> "Connector":
        """A fresh connector. d_encoder: width of the states that it reads, of all its layers together, or of their mix.
        d_lm, rms: width and root mean square of the language model's input embeddings."""
        raise NotImplementedError(f"{type(self).__name__} says how a connector of kind {self.kind} is built")

    def __str__(self) -> str:
        """The kind, and the settings that are not the default."""
        changed = self.model_dump(exclude={"kind"}, exclude_defaults=True)
        named = ", ".join(f"{name} {value}" for name, value in changed.items())
        return f"{self.kind} ({named})" if named else self.kind

    @classmethod
    def read(cls, value: Any, path: str = "connector", num_latents: Any = None) -> "ConnectorSettings":
        """The settings of a connector as it is named, or as they are. Raises `LangBridgeError`.

        num_latents: stood beside the kind in recipes and checkpoints from before the kinds had settings of their own,
            whatever the kind.
        """
        if num_latents is not None and value == "resampler":
            value = {"kind": value, "num_latents": num_latents}
        return super().read(value, path)

    @model_validator(mode="wrap")
    @classmethod
    def _by_kind(cls, value: Any, handler: ModelWrapValidatorHandler["ConnectorSettings"]) -> "ConnectorSettings":
        if cls is not ConnectorSettings or isinstance(value, ConnectorSettings):
            return handler(value)
        mapping = {"kind": value} if isinstance(value, str) else value
        if not (isinstance(mapping, Mapping) and isinstance(mapping.get("kind"), str)):
            raise LangBridgeError(
                f"expected a kind ({', '.join(_REGISTRY.names)}), or a mapping with a kind and its settings, got "
                f"{value!r}"
            )
        return _REGISTRY.find(mapping["kind"]).model_validate(mapping)


_REGISTRY = Registry(GROUP, _OURS, ConnectorSettings)


class LinearSettings(ConnectorSettings):
    """Of the paper's connector, one affine map a position."""

    closed_form = True

    kind: str = "linear"

    def build(self, d_encoder: int, d_lm: int, rms: float) -> "Connector":
        from langbridge.model.connectors.linear import LinearConnector

        return LinearConnector(d_encoder, d_lm, rms)


class LayerwiseSettings(ConnectorSettings):
    """Of the linear connector with cross-attention in the language model's layers."""

    closed_form = True

    kind: str = "layerwise"

    every: PositiveInt = 1
    """It reaches every how-many-th layer of the language model, the first one included."""

    gate_scale: PositiveFloat = 10.0
    """How many times faster than other weights a gate moves. Gates start at 0, and an optimiser's step is no longer
    than the learning rate: at 1, a short run leaves them all but closed."""

    def build(self, d_encoder: int, d_lm: int, rms: float) -> "Connector":
        from langbridge.model.connectors.layerwise import LayerwiseConnector

        layers = 1 if self.mix_layers else len(self.encoder_layers or (0,))
        return LayerwiseConnector(
            d_encoder, d_lm, rms, encoder_layers=layers, every=self.every, gate_scale=self.gate_scale
        )


class MLPSettings(ConnectorSettings):
    """Of the two-layer perceptron, a position at a time."""

    kind: str = "mlp"

    def build(self, d_encoder: int, d_lm: int, rms: float) -> "Connector":
        from langbridge.model.connectors.mlp import MLPConnector

        return MLPConnector(d_encoder, d_lm, rms)


class ResamplerSettings(ConnectorSettings):
    """Of the Perceiver resampler, which makes the same number of soft prompts of any source."""

    token_aligned = False

    kind: str = "resampler"

    num_latents: PositiveInt = 64
    """Soft prompts to a source."""

    def soft_length(self, src_length: int) -> int:
        return self.num_latents

    def build(self, d_encoder: int, d_lm: int, rms: float) -> "Connector":
        from langbridge.model.connectors.resampler import ResamplerConnector

        return ResamplerConnector(d_encoder, d_lm, rms, self.num_latents)
