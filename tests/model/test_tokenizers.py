"""The placeholder: an id that no text, no beginning and no end of a text has."""

import pytest
import transformers as hf
from tiny import make_encoder, make_language_model

from langbridge.model import LangBridgeModel
from langbridge.model.encoders import is_language_model
from langbridge.model.tokenizers import choose_placeholder


@pytest.mark.parametrize("kind", ["codegen", "gemma3", "gemma3n", "gemma4", "llama", "llama4", "mllama", "qwen3_5"])
def test_every_config_of_a_language_model_has_a_placeholder(kind):
    config = hf.AutoConfig.for_model(kind)
    assert is_language_model(config)
    text = config.get_text_config()
    last = choose_placeholder(config, text.vocab_size, None)
    ends = [getattr(text, name, None) for name in ("bos_token_id", "eos_token_id", "pad_token_id")]
    assert last not in ends


def test_ids_in_the_text_config_are_not_taken():
    config = hf.AutoConfig.for_model("gemma3")
    config.text_config.update({"bos_token_id": 9, "eos_token_id": [8, 7], "pad_token_id": 5})
    assert choose_placeholder(config, 10, None) == 6


def test_a_language_model_of_text_and_images_is_bridged():
    bridge = LangBridgeModel.from_bases(make_encoder(), make_language_model("gemma3"))
    assert bridge.config.soft_prompt_token_id == 95
