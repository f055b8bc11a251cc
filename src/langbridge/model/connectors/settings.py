"""What is known of a connector without building it: processor, recipe, plan and analyses ask this, never a kind's name.

A connector is named by its kind, or by a mapping with its kind and settings:

    connector: linear
    connector: {kind: resampler, num_latents: 32}

Kinds of other packages are found by the entry points of the group `langbridge.connectors`, each a class of settings.
Neither torch nor transformers is imported here, so that a recipe can be read without them.
"""

import dataclasses
from bisect import bisect_right
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar

from langbridge.errors import LangBridgeError
from langbridge.schema import Variants, build, check_bounds

if TYPE_CHECKING:
    from langbridge.model.connectors.base import Connector

GROUP = "langbridge.connectors"
"""Entry points of packages that bring connectors: `kind = "module:SettingsClass"`."""

_OURS = {
    "linear": "langbridge.model.connectors.settings:LinearSettings",
    "mlp": "langbridge.model.connectors.settings:MLPSettings",
    "resampler": "langbridge.model.connectors.settings:ResamplerSettings",
}

_LONGEST = 1 << 30
"""Encoder tokens, more than any text has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConnectorSettings(Variants):
    """The settings of a kind of connector, and what follows from them. Each kind has a subclass with fields of its own.

    token_aligned: soft prompt i was made at encoder token i, so that what is known of the token holds of it.
    closed_form: the connector is one affine map a position, so that a ridge regression can be written into it
        (`Connector.set_affine`).
    """

    token_aligned: ClassVar[bool] = True
    closed_form: ClassVar[bool] = False

    kind: str
    """The kind's name."""

    encoder_layers: tuple[int, ...] | None = None
    """The layers of the encoder that it reads, their states side by side in this order: n is the output of layer n, 0
    the embeddings. Null for the last one alone."""

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.encoder_layers is not None and min(self.encoder_layers) < 0:
            raise LangBridgeError(f"encoder_layers: expected numbers from 0, got {list(self.encoder_layers)}")

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
        """A fresh connector. d_encoder: width of the states that it reads, of all its layers together. d_lm, rms: width
        and root mean square of the language model's input embeddings."""
        raise NotImplementedError(f"{type(self).__name__} says how a connector of kind {self.kind} is built")

    def to_dict(self) -> dict[str, Any]:
        """The kind and every setting as plain values, for YAML and JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }

    def __str__(self) -> str:
        """The kind, and the settings that are not the default."""
        fields = [field for field in dataclasses.fields(self) if field.name != "kind"]
        set_ = [f"{f.name} {getattr(self, f.name)}" for f in fields if getattr(self, f.name) != f.default]
        return f"{self.kind} ({', '.join(set_)})" if set_ else self.kind

    @staticmethod
    def as_mapping(value: Any, path: str = "connector") -> dict[str, Any]:
        """A connector as it is named (by kind alone, or by kind and settings), as kind and settings."""
        if isinstance(value, ConnectorSettings):
            return value.to_dict()
        if isinstance(value, str):
            return {"kind": value}
        if isinstance(value, Mapping) and isinstance(value.get("kind"), str):
            return dict(value)
        raise LangBridgeError(
            f"{path}: expected a kind ({', '.join(_kinds())}), or a mapping with a kind and its settings, got {value!r}"
        )

    @staticmethod
    def variant(mapping: Mapping[str, Any], path: str = "connector") -> type["ConnectorSettings"]:
        """The settings' class of the mapping's kind."""
        kind = mapping["kind"]
        if kind in _OURS:
            module, _, name = _OURS[kind].partition(":")
            return getattr(import_module(module), name)
        found = [point for point in entry_points(group=GROUP) if point.name == kind]
        if not found:
            raise LangBridgeError(
                f"{path}: expected one of {', '.join(_kinds())}, got {kind!r}; a kind of another package needs that "
                f"package installed (entry points {GROUP!r})"
            )
        settings = found[0].load()
        if not (isinstance(settings, type) and issubclass(settings, ConnectorSettings)):
            raise LangBridgeError(
                f"{path}: the entry point {kind!r} of {GROUP!r} is {found[0].value}, expected a subclass of "
                "ConnectorSettings"
            )
        return settings

    @staticmethod
    def read(value: Any, path: str = "connector", num_latents: Any = None) -> "ConnectorSettings":
        """The settings of a connector as it is named, or as they are. Raises `LangBridgeError`.

        num_latents: stood beside the kind in recipes and checkpoints from before the kinds had settings of their own,
            whatever the kind; those that know it take it.
        """
        if isinstance(value, ConnectorSettings):
            return value
        mapping = ConnectorSettings.as_mapping(value, path)
        settings = ConnectorSettings.variant(mapping, path)
        if num_latents is not None and any(field.name == "num_latents" for field in dataclasses.fields(settings)):
            mapping.setdefault("num_latents", num_latents)
        return build(settings, mapping, path)


def _kinds() -> list[str]:
    return [*_OURS, *sorted(point.name for point in entry_points(group=GROUP) if point.name not in _OURS)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearSettings(ConnectorSettings):
    """Of the paper's connector, one affine map a position."""

    closed_form = True

    kind: str = "linear"

    def build(self, d_encoder: int, d_lm: int, rms: float) -> "Connector":
        from langbridge.model.connectors.linear import LinearConnector

        return LinearConnector(d_encoder, d_lm, rms)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLPSettings(ConnectorSettings):
    """Of the two-layer perceptron, a position at a time."""

    kind: str = "mlp"

    def build(self, d_encoder: int, d_lm: int, rms: float) -> "Connector":
        from langbridge.model.connectors.mlp import MLPConnector

        return MLPConnector(d_encoder, d_lm, rms)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResamplerSettings(ConnectorSettings):
    """Of the Perceiver resampler, which makes the same number of soft prompts of any source."""

    token_aligned = False

    kind: str = "resampler"

    num_latents: int = dataclasses.field(default=64, metadata={"at_least": 1})
    """Soft prompts to a source."""

    def soft_length(self, src_length: int) -> int:
        return self.num_latents

    def build(self, d_encoder: int, d_lm: int, rms: float) -> "Connector":
        from langbridge.model.connectors.resampler import ResamplerConnector

        return ResamplerConnector(d_encoder, d_lm, rms, self.num_latents)
