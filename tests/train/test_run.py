"""A run from the recipe to the folder, on a tiny bridge."""

import json
import random

import pytest
import torch

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.data import write_jsonl
from langbridge.errors import LangBridgeError
from langbridge.train import Recipe
from langbridge.train.run import build_trainer, read_data, train
from langbridge.train.trainer import LengthGrouped


@pytest.fixture
def recipe(base_folders, tmp_path):
    encoder, language_model = base_folders
    rng = random.Random(0)
    rows = [{"query": "say " + "ab"[n % 2] * rng.randint(1, 9), "response": "ab"[n % 2] * 3} for n in range(64)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"""
encoder: {encoder}
language_model: {language_model}
max_encoder_length: 32
max_length: 64
ridge: {{texts: 20}}
data: {{path: {tmp_path / "train.jsonl"}}}
train: {{learning_rate: 1e-2, per_device_train_batch_size: 8, gradient_accumulation_steps: 1, use_cpu: true,
         num_train_epochs: 3, logging_steps: 8, save_strategy: "no"}}
"""
    )
    return Recipe.load(path)


def test_a_run_learns_and_writes_a_bridge_that_loads(recipe, tmp_path):
    final = train(recipe, tmp_path / "run", progress=False)
    assert final == tmp_path / "run" / "final"
    log = json.loads((final / "training_log.json").read_text())
    losses = [entry["loss"] for entry in log["history"] if "loss" in entry]
    assert losses[-1] < 0.7 * losses[0]
    assert log["start"]["explained"] > 0
    assert Recipe.load(final / "recipe.yaml") == recipe
    model = LangBridgeModel.from_pretrained(final)
    processor = LangBridgeProcessor.from_pretrained(final)
    inputs = processor(["say aaa"], return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=2, do_sample=False).shape[0] == 1
    assert not list((tmp_path / "run").glob("*.part"))


def test_two_runs_are_the_same(recipe, tmp_path):
    first, second = (train(recipe, tmp_path / name, progress=False) for name in ("a", "b"))
    histories = [json.loads((folder / "training_log.json").read_text())["history"] for folder in (first, second)]
    assert [h.get("loss") for h in histories[0]] == [h.get("loss") for h in histories[1]]


def test_parameter_groups_of_the_paper(recipe, tmp_path, base_folders):
    from langbridge.model import build_bridge

    model, processor = build_bridge(*base_folders, freeze_encoder=False)
    trainer = build_trainer(model, processor, read_data(recipe)[0], None, recipe, tmp_path / "run", progress=False)
    bridge, encoder = trainer.create_optimizer().param_groups
    assert (bridge["lr"], bridge["weight_decay"]) == (1e-2, 0.0)
    assert (encoder["lr"], encoder["weight_decay"]) == (2e-5, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(names[id(p)].startswith("encoder.") for p in encoder["params"])
    assert {names[id(p)] for p in bridge["params"]} >= {"connector.end", "connector.linear.weight"}
    assert not any(names[id(p)].startswith("language_model") for p in bridge["params"])


def test_a_frozen_bridge_has_optimiser_state_for_the_connector_alone(recipe, tmp_path, base_folders):
    from langbridge.model import build_bridge

    model, processor = build_bridge(*base_folders)
    trainer = build_trainer(model, processor, read_data(recipe)[0], None, recipe, tmp_path / "run", progress=False)
    trained = sum(len(group["params"]) for group in trainer.create_optimizer().param_groups)
    assert trained == len(list(model.connector.parameters()))


def test_the_language_model_never_moves(recipe, tmp_path, base_folders):
    from transformers import AutoModelForCausalLM

    final = train(recipe, tmp_path / "run", progress=False)
    before = AutoModelForCausalLM.from_pretrained(base_folders[1]).state_dict()
    after = LangBridgeModel.from_pretrained(final).language_model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_bad_data_stops_before_any_model_is_loaded(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("langbridge.train.run.build_bridge", lambda *a, **k: pytest.fail("loaded"))
    (tmp_path / "train.jsonl").write_text('{"query": "x"}\n')
    with pytest.raises(LangBridgeError, match=r"train\.jsonl, row 1.*'response'"):
        train(recipe, tmp_path / "run", progress=False)


def test_length_grouped_batches():
    rng = random.Random(3)
    lengths = [rng.randint(1, 100) for _ in range(1003)]
    sampler = LengthGrouped(lengths, 8, seed=1)
    order = list(sampler)
    assert sorted(order) == list(range(1003))
    assert order == list(LengthGrouped(lengths, 8, seed=1))
    sampler.set_epoch(1)
    assert list(sampler) != order
    batches = [order[i : i + 8] for i in range(0, 1000, 8)]
    spread = sum(max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in batches) / len(batches)
    # Batches drawn without regard to length would spread over some 78 of the 100.
    assert spread < 15
