"""Where a model runs and in what precision: one rule for training, evaluation and the command line."""

import torch
from transformers import PreTrainedModel

from langbridge.errors import LangBridgeError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MANY = 8
"""Rows from which on a step of writing is about as fast in bfloat16 as in float32, or faster, on a CPU that has it."""
OVERFLOW_IN_FLOAT16 = frozenset({"t5", "mt5", "umt5"})


def usable_device(name: str | None) -> torch.device:
    """The device of a name such as `cuda:1`; without a name a GPU where there is one, else the CPU.

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


def precision(name: str | torch.dtype) -> str | torch.dtype:
    """The precision of a name, as `from_pretrained` takes it; `auto` stays `auto`, see `in_fitting_precision`."""
    if isinstance(name, torch.dtype) or name == "auto":
        return name
    if name not in PRECISIONS:
        raise LangBridgeError(f"dtype: got {name!r}, expected auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for matrix products in bfloat16; without them it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return True
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def in_fitting_precision(model: PreTrainedModel, device: torch.device, *, rows: int = MANY) -> PreTrainedModel:
    """What `auto` means: a model that was loaded as it was saved stays so, unless `device` is slow in that precision or
    the model overflows in it. Then it is cast to float32, in place.

    float16 is for GPUs, and never for T5 and its kin. rows: how many are written at a time, token by token. A CPU's
    instructions for bfloat16 pay where a product has many rows; for one it is slower than float32 (figures in
    `benchmarks/README.md`), so with fewer than `MANY` the model is cast there.
    """
    fits = {
        torch.bfloat16: fast_in_bfloat16(device) and (rows >= MANY or device.type != "cpu"),
        torch.float16: device.type == "cuda" and model.config.model_type not in OVERFLOW_IN_FLOAT16,
    }
    quantised = getattr(model, "hf_quantizer", None) is not None
    return model if quantised or fits.get(model.dtype, True) else model.float()
