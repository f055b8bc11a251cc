"""What a bridge is: configuration, connectors, the composite model, its processor and its checkpoints.
Imports none of the other rooms.

Tensor axes, the same everywhere:

    batch      rows of a batch
    sources    texts that the encoder reads: one a row, or one for each turn of the user
    src        positions of the encoder's input, padding included
    soft       soft prompts of a row, the end vector included, in the order of the encoder's positions
    tgt        target positions: those whose next token is learned
    seq        positions of the language model's input
    d_encoder  width of the encoder's hidden states
    d_lm       width of the language model's input embeddings
    layers     layers of a model
    vocab      rows of the language model's vocabulary

Names are imported on first use (PEP 562): importing this package loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langbridge.model.bridge import Bridge
    from langbridge.model.checkpoint import build_bridge, export_merged
    from langbridge.model.configuration import LangBridgeConfig
    from langbridge.model.connectors.base import Connector
    from langbridge.model.connectors.settings import ConnectorSettings
    from langbridge.model.memory import Memory
    from langbridge.model.official import import_official
    from langbridge.model.registering import LangBridgeModel, LangBridgeProcessor

_HOME = {
    "Bridge": "bridge",
    "Connector": "connectors.base",
    "ConnectorSettings": "connectors.settings",
    "LangBridgeConfig": "configuration",
    "LangBridgeModel": "registering",
    "LangBridgeProcessor": "registering",
    "Memory": "memory",
    "build_bridge": "checkpoint",
    "export_merged": "checkpoint",
    "import_official": "official",
}

__all__ = [
    "Bridge",
    "Connector",
    "ConnectorSettings",
    "LangBridgeConfig",
    "LangBridgeModel",
    "LangBridgeProcessor",
    "Memory",
    "build_bridge",
    "export_merged",
    "import_official",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'langbridge.model' has no attribute {name!r}")
    return getattr(import_module(f"langbridge.model.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
