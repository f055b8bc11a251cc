"""Every option of loading is heard, or refused."""

import pytest
import torch
import transformers as hf
from tiny import PLACEHOLDER, make_bridge, make_encoder, make_language_model

from langbridge import LangBridgeModel
from langbridge.errors import LangBridgeError
from langbridge.model import build_bridge


@pytest.fixture
def saved(bases, tmp_path):
    build_bridge(*bases)[0].save_pretrained(tmp_path / "bridge")
    return tmp_path / "bridge"


@pytest.mark.parametrize(
    "option",
    [
        {"dtype": torch.bfloat16},
        {"attn_implementation": "eager"},
        {"attn_implementation": {"text_config": "eager"}},
        {"device_map": "auto"},
        {"device_map": {"language_model": "meta"}},
        {"quantization_config": hf.QuantoConfig(weights="int8")},
        {"max_memory": {"cpu": "1GB"}},
    ],
    ids=str,
)
def test_a_model_that_is_loaded_already_is_not_loaded_otherwise(saved, bases, option):
    name = next(iter(option))
    with pytest.raises(
        LangBridgeError, match=rf"language model: got {name}=.* beside a LlamaForCausalLM that is loaded"
    ):
        LangBridgeModel.from_pretrained(saved, language_model=make_language_model(), **option)
    with pytest.raises(
        LangBridgeError, match=rf"language model: got {name}=.* beside a LlamaForCausalLM that is loaded"
    ):
        LangBridgeModel.from_bases(bases[0], make_language_model(), **option)


def test_a_model_that_is_loaded_so_already_is_taken():
    LangBridgeModel.from_bases(
        make_encoder(),
        make_language_model(),
        soft_prompt_token_id=PLACEHOLDER,
        dtype="float32",
        attn_implementation="sdpa",
        device_map={"": "cpu"},
        quantization_config=None,
    )


def test_a_language_model_that_does_not_fit_is_put_elsewhere(saved, tmp_path):
    model = LangBridgeModel.from_pretrained(
        saved, device_map="auto", max_memory={"cpu": 60_000}, offload_folder=tmp_path / "rest", offload_state_dict=True
    )
    assert "disk" in model.language_model.hf_device_map.values()
    assert model.encoder.device.type == "cpu"
    model.save_pretrained(tmp_path / "again")
    LangBridgeModel.from_pretrained(tmp_path / "again")


def test_a_keyword_that_asks_for_nothing_is_none(saved):
    LangBridgeModel.from_pretrained(
        saved, variant=None, subfolder="", output_loading_info=False, max_memory=None, device_map=None, state_dict=None
    )
    for keyword in ({"variant": "fp16"}, {"subfolder": "a"}, {"output_loading_info": True}, {"trainable": False}):
        with pytest.raises(LangBridgeError, match=f"unknown keyword {next(iter(keyword))}"):
            LangBridgeModel.from_pretrained(saved, **keyword)


def test_a_trained_encoder_is_not_quantised(bases, tmp_path):
    build_bridge(*bases, freeze_encoder=False)[0].save_pretrained(tmp_path)
    with pytest.raises(LangBridgeError, match=r"quantization_config: .* encoder that was trained"):
        LangBridgeModel.from_pretrained(tmp_path, quantization_config={"encoder": hf.QuantoConfig(weights="int8")})


@pytest.mark.parametrize("encoder", ["mt5", "xlm-roberta"])
def test_each_model_has_its_own_attention(encoder):
    bridge = make_bridge(encoder)

    def now():
        parts = (bridge.encoder, bridge.language_model)
        return [{one.config._attn_implementation for one in part.modules() if hasattr(one, "config")} for part in parts]

    bridge.set_attn_implementation({"encoder_config": "eager", "text_config": "sdpa"})
    assert now() == [{"eager"}, {"sdpa"}]
    bridge.set_attn_implementation({"text_config": "eager"})
    bridge.set_attn_implementation({"encoder_config": "sdpa"})
    assert now() == [{"sdpa"}, {"eager"}]
    bridge.set_attn_implementation("eager")
    assert now() == [{"eager"}, {"eager"}]
