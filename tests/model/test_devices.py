"""Devices and precisions by name."""

import pytest
import torch
from transformers import AutoModelForCausalLM, MT5EncoderModel

from langbridge.errors import LangBridgeError
from langbridge.model import devices
from langbridge.model.devices import precision, usable_device


def test_devices_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_device(None) == usable_device("cpu") == torch.device("cpu")
    with pytest.raises(LangBridgeError, match="device: got 'cuda', but there is no GPU that torch can use"):
        usable_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (usable_device(None), usable_device("cuda:1")) == (torch.device("cuda"), torch.device("cuda:1"))
    with pytest.raises(LangBridgeError, match=r"device: got 'cuda:2', but the last GPU here is cuda:1"):
        usable_device("cuda:2")
    for name in ("foo", "meta", ""):
        with pytest.raises(LangBridgeError, match=f"device: got '{name}', expected cpu, cuda or cuda:N"):
            usable_device(name)


def test_precision_by_name() -> None:
    assert precision("auto") == "auto"
    assert precision("bfloat16") == precision(torch.bfloat16) == torch.bfloat16
    with pytest.raises(LangBridgeError, match="dtype: got 'foo', expected auto, float32, bfloat16, float16"):
        precision("foo")


@pytest.mark.parametrize(
    ("saved", "device", "fast", "kind", "computed"),
    [
        ("float32", "cpu", True, "llama", "float32"),  # never less precise than it was saved
        ("bfloat16", "cpu", True, "llama", "bfloat16"),
        ("bfloat16", "cpu", False, "llama", "float32"),
        ("float16", "cpu", True, "llama", "float32"),
        ("bfloat16", "cuda", True, "mt5", "bfloat16"),
        ("bfloat16", "cuda", False, "llama", "float32"),
        ("float16", "cuda", True, "llama", "float16"),
        ("float16", "cuda", True, "mt5", "float32"),
    ],
)
def test_auto_is_as_saved_where_the_device_is_fast_in_it(
    saved: str, device: str, fast: bool, kind: str, computed: str, base_folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "fast_in_bfloat16", lambda _: fast)
    make = {"llama": AutoModelForCausalLM, "mt5": MT5EncoderModel}[kind]
    model = make.from_pretrained(base_folders[kind == "llama"], dtype=getattr(torch, saved))
    assert devices.in_fitting_precision(model, torch.device(device)).dtype == getattr(torch, computed)
    model = make.from_pretrained(base_folders[kind == "llama"], dtype=getattr(torch, saved))
    writing = devices.in_fitting_precision(model, torch.device(device), rows=1).dtype
    assert writing == (torch.float32 if device == "cpu" else getattr(torch, computed))


def test_what_a_processor_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, fast in (({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False), ({}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has)
        assert devices.fast_in_bfloat16(torch.device("cpu")) == fast
