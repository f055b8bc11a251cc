"""Devices and precisions by name."""

import pytest
import torch

from langbridge.errors import LangBridgeError
from langbridge.evaluate.devices import precision, usable_device


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


def test_precision_is_as_saved_only_on_a_gpu() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert (precision("auto", gpu), precision("auto", cpu)) == ("auto", torch.float32)
    assert precision("bfloat16", cpu) == precision(torch.bfloat16, cpu) == torch.bfloat16
    with pytest.raises(LangBridgeError, match="dtype: got 'foo', expected auto, float32, bfloat16, float16"):
        precision("foo", cpu)
