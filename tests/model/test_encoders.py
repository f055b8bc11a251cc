"""Encoders by every way in: out of a whole model in memory, out of a folder, out of a checkpoint; in the precision and
on the device that were asked for."""

import copy

import pytest
import torch
import transformers as hf
from tiny import encoder_config, make_bridge, make_language_model

from langbridge import LangBridgeModel
from langbridge.model.encoders import load_config, load_encoder, save_encoder, split_encoder

WHOLE = {
    "mt5": hf.MT5ForConditionalGeneration,
    "t5": hf.T5ForConditionalGeneration,
    "umt5": hf.UMT5ForConditionalGeneration,
    "m2m_100": hf.M2M100ForConditionalGeneration,
}


@pytest.fixture(params=WHOLE)
def whole(request):
    torch.manual_seed(0)
    return WHOLE[request.param](encoder_config(request.param)).eval()


def test_a_bridge_to_a_whole_model_in_memory_loads_with_its_folder(whole, tmp_path):
    whole.save_pretrained(tmp_path / "base")
    lm = make_language_model()
    bridge = LangBridgeModel.from_bases(whole, lm, soft_prompt_token_id=95, new_token_ids=[96, 97])
    assert not any(tensor.is_meta for tensor in (*bridge.parameters(), *bridge.buffers()))
    bridge.save_pretrained(tmp_path / "bridge")
    loaded = LangBridgeModel.from_pretrained(tmp_path / "bridge", encoder=tmp_path / "base", language_model=lm)
    ids = torch.tensor([[5, 96, 7, 97]])
    assert torch.equal(loaded.encode(ids), bridge.encode(ids))


@pytest.mark.parametrize("cut", [False, True])
def test_an_encoder_that_was_trained_in_memory_loads(whole, cut, tmp_path):
    lm = make_language_model()
    given = whole.get_encoder() if cut else whole
    bridge = LangBridgeModel.from_bases(given, lm, soft_prompt_token_id=95, freeze_encoder=False)
    bridge.save_pretrained(tmp_path)
    loaded = LangBridgeModel.from_pretrained(tmp_path, language_model=lm)
    ids = torch.tensor([[5, 7]])
    assert torch.equal(loaded.encode(ids), bridge.encode(ids))


def test_the_encoder_of_a_whole_model_is_saved_as_a_folder(whole, tmp_path):
    encoder, config = split_encoder(whole)
    save_encoder(encoder, copy.deepcopy(config), tmp_path)
    again = load_encoder(tmp_path, load_config(tmp_path, "encoder"))
    ids = torch.tensor([[5, 7]])
    assert torch.equal(again(ids).last_hidden_state, encoder(ids).last_hidden_state)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_a_cut_out_encoder_comes_in_the_precision_asked_for(dtype, tmp_path):
    encoder, config = split_encoder(hf.M2M100ForConditionalGeneration(encoder_config("m2m_100")))
    save_encoder(encoder, copy.deepcopy(config), tmp_path)
    assert load_encoder(tmp_path, load_config(tmp_path, "encoder"), dtype=dtype).dtype == torch.bfloat16
    assert load_encoder(tmp_path, load_config(tmp_path, "encoder"), dtype="auto").dtype == torch.float32


def test_a_cut_out_encoder_comes_where_it_is_asked_for(tmp_path):
    encoder, config = split_encoder(hf.M2M100ForConditionalGeneration(encoder_config("m2m_100")))
    save_encoder(encoder, copy.deepcopy(config), tmp_path)
    placed = load_encoder(tmp_path, load_config(tmp_path, "encoder"), device_map={"": "meta"})
    assert placed.device.type == "meta"


@pytest.mark.filterwarnings("ignore:.*meta parameter")  # which stands for a device that is not here
def test_a_trained_encoder_comes_where_it_is_asked_for(tmp_path):
    bridge = make_bridge(freeze_encoder=False)
    bridge.save_pretrained(tmp_path)
    places = {"encoder": "meta", "language_model": "cpu"}
    loaded = LangBridgeModel.from_pretrained(tmp_path, language_model=make_language_model(), device_map=places)
    assert loaded.encoder.device.type == "meta"
    assert loaded.connector.end.device.type == "cpu"
