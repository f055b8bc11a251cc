"""A checkpoint of the hub is fetched whole; a language model is recognised in whatever way it is quantised."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from tiny import make_encoder, make_language_model
from torch import nn

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.errors import LangBridgeError
from langbridge.model import build_bridge, export_merged
from langbridge.model.averaging import average_checkpoints
from langbridge.model.bases import base_fingerprint, check_fingerprint
from langbridge.serve.load import load_bridge


@pytest.fixture
def published(bases: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A bridge as the hub has it under `me/bridge`; what is told is how it was asked for."""
    model, processor = build_bridge(*bases)
    model.generation_config.eos_token_id = [2, 77]
    for part in (model, processor):
        part.save_pretrained(tmp_path / "bridge")
    asked: dict[str, Any] = {"folder": tmp_path / "bridge"}

    def fetch(name: str, **options: Any) -> str:
        if name != "me/bridge":
            raise LocalEntryNotFoundError("no such snapshot")
        asked.update(options)
        return str(asked["folder"])

    monkeypatch.setattr("langbridge.model.bases.snapshot_download", fetch)
    return asked


def test_a_bridge_of_the_hub_ends_where_it_was_saved_to_end(published):
    model = LangBridgeModel.from_pretrained(
        "me/bridge", revision="v1", local_files_only=True, token="t", cache_dir="c", trust_remote_code=True
    )
    assert model.generation_config.eos_token_id == [2, 77]
    del published["folder"]
    assert published == {"revision": "v1", "local_files_only": True, "token": "t", "cache_dir": "c"}


def test_a_merged_bridge_of_the_hub_has_its_models_with_it(published, tmp_path):
    published["folder"] = export_merged("me/bridge", tmp_path / "merged")
    assert (tmp_path / "merged" / "encoder_tokenizer").is_dir()
    loaded = LangBridgeModel.from_pretrained("me/bridge")
    assert Path(loaded.config.encoder_base["id"]).is_dir()


def test_an_average_of_bridges_of_the_hub_has_its_processor(published, tmp_path):
    out = average_checkpoints("me/bridge", "me/bridge", tmp_path / "mean")
    assert LangBridgeProcessor.from_pretrained(out)("Tom")["input_ids"].shape[0] == 1


def test_what_the_hub_does_not_have_is_named(published, tmp_path, monkeypatch):
    with pytest.raises(LangBridgeError, match=r"'me/other' is neither a folder nor a bridge .* no such snapshot"):
        LangBridgeModel.from_pretrained("me/other")
    (published["folder"] / "config.json").unlink()
    with pytest.raises(LangBridgeError, match=r"has no config\.json"):
        LangBridgeModel.from_pretrained("me/bridge")

    def refuse(name: str, **_: Any) -> str:
        raise HFValidationError(f"bad name {name}")

    monkeypatch.setattr("langbridge.model.bases.snapshot_download", refuse)
    with pytest.raises(LangBridgeError, match=r"can be fetched: bad name me/--"):
        LangBridgeModel.from_pretrained("me/--")


def test_a_bridge_is_read_offline_out_of_the_cache(published, monkeypatch, tmp_path):
    """As the hub's own library lays it out, with nothing mocked."""
    monkeypatch.undo()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    home = tmp_path / "hub" / "models--me--bridge"
    shutil.copytree(published["folder"], home / "snapshots" / "0123")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0123")
    model = LangBridgeModel.from_pretrained("me/bridge", cache_dir=tmp_path / "hub", local_files_only=True)
    assert model.generation_config.eos_token_id == [2, 77]


def test_model_and_processor_are_of_one_revision(published, monkeypatch):
    asked = {}

    def loaded(name: str, **options: Any) -> str:
        asked.update(options)
        return "processor"

    monkeypatch.setattr(LangBridgeProcessor, "from_pretrained", loaded)
    assert load_bridge("me/bridge", device="cpu", revision="v2")[1] == "processor"
    assert (asked, published["revision"]) == ({"revision": "v2"}, "v2")
    load_bridge("me/bridge", device="cpu")
    assert asked == {"revision": "main"}


def check(now: Any, recorded: dict[str, Any] | None = None) -> None:
    check_fingerprint("language_model", recorded or base_fingerprint(make_language_model()), now, "this", "that")


def quantised(model: Any, method: str) -> Any:
    model.hf_quantizer = SimpleNamespace(quantization_config=SimpleNamespace(quant_method=method))
    return model


def test_weights_of_a_byte_are_not_compared():
    """FP8: values without the scale that stands beside them."""
    recorded = base_fingerprint(make_language_model())
    model = quantised(make_language_model(), "fp8")
    for module in list(model.modules()):
        if isinstance(module, nn.Linear) and module is not model.lm_head:
            scaled = (module.weight.detach() * 100).to(torch.float8_e4m3fn)
            module.weight = nn.Parameter(scaled, requires_grad=False)
            module.register_parameter("weight_scale_inv", nn.Parameter(torch.tensor([0.01])))
    check(model, recorded)
    assert not any(name.endswith("_proj.weight") for name in base_fingerprint(model)["samples"])
    with torch.no_grad():
        model.model.norm.weight.add_(1)
    with pytest.raises(LangBridgeError, match=r"weights differ.*norm"):
        check(model, recorded)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_packed_weights_have_names_of_their_own(method):
    def packed(model: Any) -> Any:
        for module in list(model.modules()):
            if isinstance(module, nn.Linear) and module is not model.lm_head:
                module.qweight = nn.Parameter(module.weight.detach().to(torch.int32), requires_grad=False)
                del module.weight
        return model

    check(quantised(packed(make_language_model()), method))
    with pytest.raises(LangBridgeError, match="which has no weight"):
        check(packed(make_language_model()))
    other = make_language_model()
    with torch.no_grad():
        other.get_input_embeddings().weight.add_(1)
        other.lm_head.weight.add_(1)
    with pytest.raises(LangBridgeError, match="weights differ"):
        check(quantised(packed(other), method))


@pytest.mark.parametrize(("method", "same"), [("awq", True), ("gptq", False)])
def test_awq_moves_scales_into_norms(method, same):
    model = quantised(make_language_model(), method)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.input_layernorm.weight.mul_(2)
            layer.post_attention_layernorm.weight.mul_(2)
    if same:
        check(model)
    else:
        with pytest.raises(LangBridgeError, match="layernorm"):
            check(model)


def test_an_encoder_given_in_memory_was_recorded_by_other_names(tmp_path):
    """As checkpoints had it: names of T5's stack alone."""
    encoder = make_encoder("mt5")
    recorded = {**base_fingerprint(encoder.encoder), "model_type": "mt5"}
    assert any(name.startswith("block.") for name in recorded["samples"])
    check_fingerprint("encoder", recorded, encoder, "this", "that")
    with torch.no_grad():
        encoder.encoder.final_layer_norm.weight.add_(1)
    with pytest.raises(LangBridgeError, match="weights differ"):
        check_fingerprint("encoder", recorded, encoder, "this", "that")
