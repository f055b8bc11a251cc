"""Small checkpoints, their bases, and everything that can be wrong with them."""

import copy
import json
import os
import shutil

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file
from tiny import make_bridge, make_encoder, make_language_model

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.errors import LangBridgeError
from langbridge.model import build_bridge, export_merged


@pytest.fixture(scope="module")
def built(bases):
    return build_bridge(*bases, template="Q: {prompt}\nA:")


@pytest.fixture
def saved(built, tmp_path):
    for part in built:
        part.save_pretrained(tmp_path / "bridge")
    return tmp_path / "bridge"


def logits(model, processor):
    batch = processor(["Tom has\n3 apples", "Tom"])
    with torch.no_grad():
        return model(**batch).logits[batch["attention_mask"].bool()]


def test_round_trip(built, saved):
    model, processor = built
    state = load_file(saved / "model.safetensors")
    assert set(state) == {"connector.end", "connector.linear.weight", "connector.linear.bias", "new_rows"}
    loaded, again = LangBridgeModel.from_pretrained(saved), LangBridgeProcessor.from_pretrained(saved)
    assert torch.equal(logits(model, processor), logits(loaded, again))
    assert loaded.trainable_parameter_names() == model.trainable_parameter_names()
    assert not loaded.training
    assert again.template == processor.template


def test_auto_classes(built, saved):
    assert isinstance(hf.AutoConfig.from_pretrained(saved), type(built[0].config))
    model = hf.AutoModelForCausalLM.from_pretrained(saved)
    processor = hf.AutoProcessor.from_pretrained(saved)
    assert isinstance(model, LangBridgeModel)
    assert isinstance(processor, LangBridgeProcessor)
    assert torch.equal(logits(*built), logits(model, processor))


def test_nothing_half_written_is_left(built, saved):
    built[0].save_pretrained(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["bridge"]


def test_others_may_read_it_where_they_may_read_any_new_file(built, tmp_path):
    before = os.umask(0o027)
    try:
        built[0].save_pretrained(tmp_path / "small")
        built[1].save_pretrained(tmp_path / "small")
        built[0].save_pretrained(tmp_path / "small")
        export_merged(tmp_path / "small", tmp_path / "whole")
    finally:
        os.umask(before)
    for folder in (tmp_path / "small", tmp_path / "whole"):
        for item in (folder, *folder.rglob("*")):
            assert oct(item.stat().st_mode & 0o777) == ("0o750" if item.is_dir() else "0o640"), item


def test_a_trained_encoder_is_in_the_checkpoint(bases, tmp_path):
    model, processor = build_bridge(*bases, freeze_encoder=False)
    with torch.no_grad():
        model.encoder.get_input_embeddings().weight.add_(0.1)
        model.new_rows.add_(0.3)
    model.save_pretrained(tmp_path / "bridge")
    assert any(name.startswith("encoder.") for name in load_file(tmp_path / "bridge" / "model.safetensors"))
    config = json.loads((tmp_path / "bridge" / "config.json").read_text())
    config["encoder_base"] = {"id": "/nowhere", "revision": None, "fingerprint": None}
    (tmp_path / "bridge" / "config.json").write_text(json.dumps(config))
    loaded = LangBridgeModel.from_pretrained(tmp_path / "bridge")
    assert torch.equal(logits(model, processor), logits(loaded, processor))
    assert loaded.trainable_parameter_names() == model.trainable_parameter_names()
    loaded.set_training_regime(freeze_encoder=True)  # freezing it later does not bring the base back
    loaded.save_pretrained(tmp_path / "again")
    again = LangBridgeModel.from_pretrained(tmp_path / "again")
    assert torch.equal(logits(model, processor), logits(again, processor))


def test_a_copy_is_a_model_of_its_own(built):
    twin = copy.deepcopy(built[0])
    with torch.no_grad():
        twin.new_rows.add_(1.0)
        twin.connector.end.add_(1.0)
    assert not torch.equal(logits(twin, built[1]), logits(*built))
    reference = logits(*built)
    with torch.no_grad():
        twin.new_rows.sub_(1.0)
        twin.connector.end.sub_(1.0)
    torch.testing.assert_close(logits(twin, built[1]), reference, rtol=1e-4, atol=1e-4)


def test_checkpoint_and_bases_move_together(bases, tmp_path):
    (tmp_path / "old").mkdir()
    encoder, lm = (shutil.copytree(base, tmp_path / "old" / base.name) for base in bases)
    model, processor = build_bridge(encoder, lm)
    model.save_pretrained(tmp_path / "old" / "bridge")
    (tmp_path / "old").rename(tmp_path / "new")
    moved = LangBridgeModel.from_pretrained(tmp_path / "new" / "bridge")
    assert torch.equal(logits(model, processor), logits(moved, processor))
    assert moved.config.encoder_base["id"] == str(tmp_path / "new" / encoder.name), "a place as a user writes it"
    (tmp_path / "new" / "encoder").rename(tmp_path / "elsewhere")
    with pytest.raises(LangBridgeError, match=r"Pass encoder="):
        LangBridgeModel.from_pretrained(tmp_path / "new" / "bridge")
    found = LangBridgeModel.from_pretrained(tmp_path / "new" / "bridge", encoder=tmp_path / "elsewhere")
    assert torch.equal(logits(model, processor), logits(found, processor))


def test_another_base_is_refused(saved, tmp_path):
    torch.manual_seed(9)
    hf.LlamaForCausalLM(hf.AutoConfig.from_pretrained(saved).text_config).save_pretrained(tmp_path / "other")
    with pytest.raises(LangBridgeError, match=r"other.*weights differ from those of.*lm"):
        LangBridgeModel.from_pretrained(saved, language_model=tmp_path / "other")
    with pytest.raises(LangBridgeError, match=r"'mistral'.*'llama'"):
        LangBridgeModel.from_pretrained(saved, language_model=make_language_model("mistral"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_fingerprint(built, saved, dtype):
    model = LangBridgeModel.from_pretrained(saved, dtype=dtype)
    assert model.language_model.dtype == dtype
    assert model.connector.end.dtype == torch.float32
    assert model.new_rows.dtype == torch.float32
    batch = built[1](["Tom has\n3 apples", "Tom"], targets=["a", "b"])
    loss = model.train()(**batch).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert model.connector.end.grad is not None
    if dtype == torch.bfloat16:
        model.eval().generate(**built[1](["Tom", "Tom has"]), max_new_tokens=3)


@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "cpu"}])
def test_device_map(built, saved, device_map):
    model = LangBridgeModel.from_pretrained(saved, device_map=device_map)
    torch.testing.assert_close(logits(model, built[1]), logits(*built))


@pytest.mark.parametrize("attention", ["eager", "sdpa", {"text_config": "eager", "encoder_config": "sdpa"}])
def test_attention(built, saved, attention):
    model = LangBridgeModel.from_pretrained(saved, attn_implementation=attention)
    wanted = attention if isinstance(attention, str) else attention["text_config"]
    assert model.language_model.config._attn_implementation == wanted
    torch.testing.assert_close(logits(model, built[1]), logits(*built), rtol=1e-4, atol=1e-4)


def test_quantised_language_model(built, saved):
    pytest.importorskip("bitsandbytes")
    config = hf.BitsAndBytesConfig(load_in_8bit=True)
    model = LangBridgeModel.from_pretrained(saved, quantization_config=config)
    assert model.language_model.is_quantized
    assert model.trainable_parameter_names() == built[0].trainable_parameter_names()
    batch = built[1](["Tom has", "Tom"], targets=["a", "b"])
    model.train()(**batch).loss.backward()
    assert model.connector.end.grad is not None
    assert model.eval().generate(**built[1](["Tom has", "Tom"]), max_new_tokens=2).shape[0] == 2


def test_export(built, saved, tmp_path):
    export_merged(saved, tmp_path / "merged")
    alone = tmp_path / "moved"
    (tmp_path / "merged").rename(alone)
    shutil.rmtree(saved)
    assert torch.equal(
        logits(*built),
        logits(LangBridgeModel.from_pretrained(alone), LangBridgeProcessor.from_pretrained(alone)),
    )


@pytest.mark.parametrize("encoder", ["xlm-roberta", "m2m_100", "t5gemma"])
def test_grown_tables_round_trip(encoder, tmp_path):
    bridge = make_bridge(encoder, new_token_ids=[96, 97, 98])
    with torch.no_grad():
        bridge.new_rows.normal_()
    bridge.save_pretrained(tmp_path / "small")
    loaded = LangBridgeModel.from_pretrained(
        tmp_path / "small", encoder=make_same(encoder), language_model=make_language_model()
    )
    ids = torch.tensor([[7, 97, 8]])
    with torch.no_grad():
        torch.testing.assert_close(bridge.encode(ids), loaded.encode(ids), rtol=0, atol=0)


def make_same(encoder):
    torch.manual_seed(0)
    return make_encoder(encoder)


def test_a_checkpoint_without_its_new_rows_is_another_bridge(built, saved):
    model, _ = built
    state = {name: value for name, value in model.state_dict().items() if name != "new_rows"}
    model.save_pretrained(saved, state_dict=state)
    with pytest.raises(LangBridgeError, match=r"bridge: the weights do not fit the config: missing \['new_rows'\]"):
        LangBridgeModel.from_pretrained(saved)


def test_what_a_user_gets_wrong(bases, tmp_path):
    encoder, lm = bases
    with pytest.raises(LangBridgeError, match="no folder"):
        LangBridgeModel.from_bases(tmp_path / "absent", lm)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LangBridgeError, match="neither a model folder"):
        LangBridgeModel.from_bases(encoder, tmp_path / "empty")
    with pytest.raises(LangBridgeError, match=r"not a text encoder.*exchanged"):
        LangBridgeModel.from_bases(lm, encoder)
    with pytest.raises(LangBridgeError, match=r"not decoder-only.*exchanged"):
        LangBridgeModel.from_bases(encoder, encoder)
    with pytest.raises(
        LangBridgeError, match="connector: expected one of linear, layerwise, mlp, resampler, got 'cubic'"
    ):
        LangBridgeModel.from_bases(encoder, lm, connector="cubic")
    with pytest.raises(LangBridgeError, match="unknown setting learning_rate"):
        LangBridgeModel.from_bases(encoder, lm, learning_rate=1.0)
    with pytest.raises(LangBridgeError, match="no folder"):
        LangBridgeModel.from_pretrained(tmp_path / "absent")
    with pytest.raises(LangBridgeError, match=r"no config\.json"):
        LangBridgeModel.from_pretrained(tmp_path / "empty")
    with pytest.raises(LangBridgeError, match="not a bridge"):
        LangBridgeModel.from_pretrained(lm)
