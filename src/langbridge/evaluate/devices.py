"""Where a model runs and how precise it is, checked alike for every kind of model before anything is loaded."""

import torch

from langbridge.errors import LangBridgeError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def usable_device(name: str | None) -> torch.device:
    """The device of a name such as `cuda:1`; without a name a GPU where there is one, else the processor.

    Raises `LangBridgeError` for another word, and for a device that this machine does not have.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise LangBridgeError(f"device: got {name!r}, expected cpu, cuda or cuda:N (mps on a Mac)")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise LangBridgeError(f"device: got {name!r}, but there is no GPU that torch can use; give --device cpu")
        if device.index is not None and device.index >= count:
            raise LangBridgeError(f"device: got {name!r}, but the last GPU here is cuda:{count - 1}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise LangBridgeError(f"device: got {name!r}, but torch cannot use one here; give --device cpu")
    return torch.device("cpu") if device.type == "cpu" else device


def precision(name: str | torch.dtype, device: torch.device) -> str | torch.dtype:
    """The precision of a name; `auto` is as saved, but single on a processor, which has no fast half precision."""
    if name == "auto":
        return "auto" if device.type == "cuda" else torch.float32
    if isinstance(name, torch.dtype):
        return name
    if name not in PRECISIONS:
        raise LangBridgeError(f"dtype: got {name!r}, expected auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]
