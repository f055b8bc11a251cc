"""Adapters on the language model: the final folder is the model that was trained."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.errors import LangBridgeError
from langbridge.model import export_merged
from langbridge.train import train
from langbridge.train.parts.adapters import the_same_model

pytest.importorskip("peft", reason="PEFT is not installed (the extra lora)")


def test_adapters_are_merged_into_a_bridge_that_loads_alone(load, base_folders, tmp_path):
    recipe = load("lora.r=2", "lora.target_modules=q_proj, v_proj", "lora.learning_rate=1e-2", "train.max_steps=6")
    final = train(recipe, tmp_path / "run", progress=False)
    model, processor = LangBridgeModel.from_pretrained(final), LangBridgeProcessor.from_pretrained(final)
    before = AutoModelForCausalLM.from_pretrained(base_folders[1]).state_dict()
    after = model.language_model.state_dict()
    assert after.keys() == before.keys(), "an adapter was left in it"
    moved = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"q_proj", "v_proj"}
    inputs = processor(["say aaa"], targets=["aaa"], return_tensors="pt")
    history = json.loads((final / "training_log.json").read_text())["history"]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    with torch.no_grad():  # it is the model that was trained, and not the base with a connector that fits another
        assert float(model(**inputs).loss) < losses[0]


def test_every_name_must_be_a_layer(load, tmp_path):
    with pytest.raises(LangBridgeError, match=r"lora\.target_modules: .* no layer 'v_porj'; it has .*v_proj.*lm_head"):
        train(load("lora.r=2", "lora.target_modules=q_proj,v_porj"), tmp_path / "run", progress=False)


@pytest.fixture
def tied_folder(base_folders, tmp_path):
    """The tiny language model with one tensor for input embeddings and output head."""
    model = AutoModelForCausalLM.from_pretrained(base_folders[1])
    model.config.tie_word_embeddings = True
    model.tie_weights()
    shutil.copytree(base_folders[1], tmp_path / "tied")
    model.save_pretrained(tmp_path / "tied")
    return tmp_path / "tied"


@pytest.fixture
def load_tied(load, tied_folder):
    """A recipe whose adapters move the model far."""
    strong = ("lora.r=2", "lora.alpha=64", "lora.learning_rate=2e-2", "train.max_steps=6")
    return lambda names: load(*strong, f"lora.target_modules={names}", f"language_model={tied_folder}")


@pytest.mark.parametrize("names", ["q_proj,lm_head", "embed_tokens", "model.embed_tokens,lm_head", "all-linear"])
def test_the_final_folder_of_a_tied_model_is_what_was_trained(load_tied, tmp_path, monkeypatch, names):
    seen = {}

    def spied(model, batch):
        with torch.no_grad():
            seen.update(batch=batch, loss=float(model(**batch).loss))
        return the_same_model(model, batch)

    monkeypatch.setattr("langbridge.train.run.the_same_model", spied)
    model = LangBridgeModel.from_pretrained(train(load_tied(names), tmp_path / "run", progress=False))
    with torch.no_grad():  # a product of float32 matrices is added in another order
        assert float(model(**seen["batch"]).loss) == pytest.approx(seen["loss"], abs=1e-4)
    stays_tied = names == "all-linear"  # which leaves out the head
    lm = model.language_model
    assert lm.config.tie_word_embeddings is stays_tied
    assert (lm.lm_head.weight is lm.model.embed_tokens.weight) is stays_tied


@pytest.mark.filterwarnings("ignore:Model with `tie:UserWarning", "ignore:Model has `tie:UserWarning")
def test_merging_that_changes_the_model_is_an_error(load_tied, tmp_path, monkeypatch):
    monkeypatch.setattr("langbridge.train.parts.adapters.untie_adapted", lambda *_: None)
    with pytest.raises(LangBridgeError, match=r"lora: .*loss [\d.]+ instead of [\d.]+"):
        train(load_tied("lm_head"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "final").exists()


STAGES = """
stages:
- train: {max_steps: 2}
- freeze_connector: true
  lora: {r: 2, dora: true, learning_rate: 1e-2}
  train: {max_steps: 4, save_strategy: steps, save_steps: 2}
"""


def test_dora_as_a_second_stage_is_resumed_merged_and_exported(
    load, recipe_file, tmp_path, monkeypatch, killed_in_second_stage
):
    """The connector first, then the language model's adapters on the frozen connector; one that reaches into the
    layers, and so through the adapters."""
    recipe_file.write_text(recipe_file.read_text() + STAGES)
    recipe, seen = load("connector=layerwise"), {}

    def spied(model, batch):
        with torch.no_grad():
            seen.update(batch=batch, logits=model(**batch).logits)
        return the_same_model(model, batch)

    stages = killed_in_second_stage(recipe, tmp_path / "run")
    (adapters,) = (part for part in stages[1].parts if part.group == "adapters")
    trained = {name for name, one in stages[1].model.named_parameters() if one.requires_grad}
    assert any("lora_magnitude_vector" in name for name in trained)
    assert len(adapters.trained) == len(trained), "nothing but the adapters"
    monkeypatch.setattr("langbridge.train.run.the_same_model", spied)
    final = train(recipe, tmp_path / "run", resume=True, progress=False)
    whole = LangBridgeModel.from_pretrained(train(recipe, tmp_path / "whole", progress=False))
    model, first = (LangBridgeModel.from_pretrained(one) for one in (final, tmp_path / "run" / "stage-1" / "final"))
    moved, resumed = model.state_dict(), whole.state_dict()
    assert all(torch.equal(one, resumed[name]) for name, one in moved.items()), "a killed run ends as a whole one"
    changed = {name.split(".")[0] for name, one in first.state_dict().items() if not torch.equal(one, moved[name])}
    assert changed == {"language_model"}
    with torch.no_grad():  # a product of float32 matrices is added in another order
        torch.testing.assert_close(model(**seen["batch"]).logits, seen["logits"], rtol=1e-4, atol=1e-4)
        exported = LangBridgeModel.from_pretrained(export_merged(final, tmp_path / "exported"))
        assert torch.equal(exported(**seen["batch"]).logits, model(**seen["batch"]).logits)
    assert "frozen, with DoRA of rank 2 merged in" in (final / "README.md").read_text()
