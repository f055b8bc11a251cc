"""A bridge without a language model: what a server of prompt embeddings holds."""

import shutil

import pytest
import torch
import transformers as hf

from langbridge import LangBridgeModel
from langbridge.errors import LangBridgeError
from langbridge.model import Bridge, build_bridge

PROMPTS = ["Tom has\n3 apples", "Tom"]


@pytest.mark.parametrize("freeze_encoder", [True, False])
@pytest.mark.parametrize("connector", ["linear", {"kind": "resampler", "num_latents": 3, "encoder_layers": [0, 2]}])
def test_a_bridge_is_loaded_without_its_language_model(bases, tmp_path, connector, freeze_encoder) -> None:
    model, processor = build_bridge(*bases, connector=connector, freeze_encoder=freeze_encoder)
    with torch.no_grad():
        model.new_rows.add_(0.3)
        if not freeze_encoder:
            model.encoder.get_input_embeddings().weight.add_(0.1)
    model.save_pretrained(tmp_path / "bridge")
    bridge = Bridge.from_pretrained(tmp_path / "bridge", encoder=None if not freeze_encoder else bases[0])
    own = {name for name, _ in model.named_parameters() if not name.startswith("language_model.")}
    assert {name for name, _ in bridge.named_parameters()} == own
    assert bridge.trainable_parameter_names() == model.trainable_parameter_names()
    assert not bridge.training
    assert bridge.encoder_length_limit == model.encoder_length_limit
    batch = processor(PROMPTS)
    with torch.no_grad():
        found = bridge.read(batch["encoder_input_ids"], batch["encoder_attention_mask"])
        expected = model.read(batch["encoder_input_ids"], batch["encoder_attention_mask"])
    assert torch.equal(found.soft_prompts, expected.soft_prompts)
    assert torch.equal(found.mask, expected.mask)


def test_the_language_model_may_be_gone(bases, tmp_path) -> None:
    encoder, language_model = (shutil.copytree(base, tmp_path / base.name) for base in bases)
    model, _ = build_bridge(encoder, language_model)
    model.save_pretrained(tmp_path / "bridge")
    shutil.rmtree(language_model)
    bridge = Bridge.from_pretrained(tmp_path / "bridge", dtype=torch.bfloat16)
    assert bridge.encoder.dtype == torch.bfloat16
    assert bridge.connector.end.dtype == bridge.new_rows.dtype == torch.float32
    assert bridge.read(torch.tensor([[7, 8, 9]])).soft_prompts.isfinite().all()
    with pytest.raises(LangBridgeError, match="language model: the checkpoint"):
        LangBridgeModel.from_pretrained(tmp_path / "bridge")
    with pytest.raises(LangBridgeError, match="unknown keyword language_model"):
        Bridge.from_pretrained(tmp_path / "bridge", language_model=language_model)


def test_its_soft_prompts_are_embeddings_for_a_language_model_elsewhere(bases, tmp_path) -> None:
    """`embed` is what the language model reads: a causal model that knows nothing of bridges writes the same."""
    model, processor = build_bridge(*bases, template="Q: {prompt}\nA:", template_in="lm")
    batch = processor(PROMPTS)
    wanted = {"max_new_tokens": 5, "do_sample": False}
    answers = model.generate(**batch, **wanted)[:, -5:]
    memory = model.read(batch["encoder_input_ids"], batch["encoder_attention_mask"])
    embeds = model.embed(batch["input_ids"], memory, batch["attention_mask"])
    assert embeds.shape == (*batch["input_ids"].shape, model.get_input_embeddings().embedding_dim)
    alone = hf.AutoModelForCausalLM.from_pretrained(bases[1])
    alone.generation_config = model.generation_config
    written = alone.generate(inputs_embeds=embeds, attention_mask=batch["attention_mask"], **wanted)
    assert torch.equal(written, answers)
