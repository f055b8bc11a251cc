"""LangBridge: give an English-centric language model the languages of a multilingual encoder, with English
training data only.

`import langbridge` is light: the names below are imported from their rooms on first use (PEP 562), so that
    neither torch nor transformers is loaded before
it is needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langbridge.model.configuration import LangBridgeConfig
    from langbridge.model.registering import LangBridgeModel, LangBridgeProcessor

__version__ = "0.1.0"

_HOME = {
    "LangBridgeConfig": "langbridge.model.configuration",
    "LangBridgeModel": "langbridge.model.registering",
    "LangBridgeProcessor": "langbridge.model.registering",
}

__all__ = ["LangBridgeConfig", "LangBridgeModel", "LangBridgeProcessor", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'langbridge' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
