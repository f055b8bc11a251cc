"""A run from the recipe to the folder, on a tiny bridge."""

import json

import pytest
import torch

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.errors import LangBridgeError
from langbridge.train import Recipe, train


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


def test_the_language_model_never_moves(recipe, tmp_path, base_folders):
    from transformers import AutoModelForCausalLM

    final = train(recipe, tmp_path / "run", progress=False)
    before = AutoModelForCausalLM.from_pretrained(base_folders[1]).state_dict()
    after = LangBridgeModel.from_pretrained(final).language_model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_bad_data_stops_before_any_model_is_loaded(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("langbridge.train.parts.build_bridge", lambda *a, **k: pytest.fail("loaded"))
    (tmp_path / "train.jsonl").write_text('{"query": "x"}\n')
    with pytest.raises(LangBridgeError, match=r"train\.jsonl, row 1.*'response'"):
        train(recipe, tmp_path / "run", progress=False)
