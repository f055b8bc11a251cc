"""Several stages as one run: each begins with what the one before left, and a killed one goes on."""

import gc
import json
import weakref

import pytest
import torch
from safetensors.torch import load_file

from langbridge import LangBridgeModel
from langbridge.errors import LangBridgeError
from langbridge.files import write_jsonl
from langbridge.train import Recipe, train
from langbridge.train.loop import run_loop
from langbridge.train.plan import plan

STAGES = """
stages:
- objective: unlabelled
  data: {{path: {text}}}
  freeze_encoder: true
  train: {{max_steps: 3}}
- objective: labelled
  train: {{max_steps: 4, save_strategy: steps, save_steps: 2}}
- freeze_connector: true
  lora: {{r: 2, learning_rate: 1e-2}}
  train: {{max_steps: 2}}
"""
SHORT = ("min_encoder_length=4", "max_encoder_length=16", "min_lm_length=8", "max_length=64")


@pytest.fixture
def staged(recipe_file, tmp_path):
    rows = [{"text": f"{'ab' * (n % 7 + 6)} number {n} has {n * 7 % 10} of them"} for n in range(24)]
    write_jsonl(tmp_path / "text.jsonl", rows)
    recipe_file.write_text(recipe_file.read_text() + STAGES.format(text="text.jsonl"))
    return lambda *changes: Recipe.load(recipe_file, (*SHORT, *changes))


def test_an_override_reaches_into_a_stage(staged):
    first, second, _ = staged("stages.1.train.max_steps=5", "stages.1.freeze_encoder=true").stage_recipes
    assert (first.train.max_steps, second.train.max_steps, second.train.save_steps) == (3, 5, 2)
    with pytest.raises(LangBridgeError, match=r"override stages\.3: expected a place in the list, 0 to 2"):
        staged("stages.3.seed=1")
    with pytest.raises(LangBridgeError, match=r"override stages\[1\]\.train\.steps: unknown key"):
        staged("stages.1.train.steps=5")


def test_an_encoder_that_was_trained_keeps_its_precision(load, recipe_file, tmp_path):
    recipe_file.write_text(recipe_file.read_text() + "\nstages: [{freeze_encoder: false}, {freeze_encoder: true}]\n")
    changes = ("dtype=bfloat16", "train.encoder_learning_rate=1e-3", "train.max_steps=2")
    final = train(load(*SHORT, *changes), tmp_path / "run", progress=False)
    before = load_file(tmp_path / "run" / "stage-1" / "final" / "model.safetensors")
    after = load_file(final / "model.safetensors")
    encoder = [name for name in before if name.startswith("encoder.")]
    assert encoder
    assert all(torch.equal(before[name], after[name]) for name in encoder)
    assert {after[name].dtype for name in encoder} == {torch.float32}


def test_the_bridge_of_the_stage_before_is_gone(staged, tmp_path, monkeypatch):
    bridges = []

    def watched(trainer, *args, **kwargs):
        assert all(bridge() is None for bridge in bridges)
        bridges.append(weakref.ref(trainer.model))
        return run_loop(trainer, *args, **kwargs)

    monkeypatch.setattr("langbridge.train.run.run_loop", watched)
    gc.disable()  # or it might come by chance
    try:
        train(staged("stages.1.train.max_steps=1"), tmp_path / "run", progress=False)
    finally:
        gc.enable()
    assert len(bridges) == 3


def connector(folder):
    return {k: v for k, v in load_file(folder / "model.safetensors").items() if k.startswith("connector.")}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_stages_run_in_order_each_from_what_the_one_before_left(staged, tmp_path):
    pytest.importorskip("peft", reason="PEFT is not installed (the extra lora)")
    recipe, run = staged(), tmp_path / "run"
    first, second, third = recipe.stage_recipes
    assert (first.objective, second.objective, third.objective) == ("unlabelled", "labelled", "labelled")
    assert first.data.path == str(tmp_path / "text.jsonl"), "found beside the recipe, like the others"
    assert (first.train.learning_rate, second.train.learning_rate) == (1e-2, 1e-2)
    final = train(recipe, run, progress=False)
    one, two = connector(run / "stage-1" / "final"), connector(run / "stage-2" / "final")
    assert not same(one, two)
    assert same(two, connector(final)), "the connector is frozen in the last"
    assert not (run / "stage-3" / "final").exists()
    base = LangBridgeModel.from_pretrained(run / "stage-2" / "final").language_model.state_dict()
    bridge = LangBridgeModel.from_pretrained(final)
    assert not same(base, bridge.language_model.state_dict()), "adapters were trained, and merged"
    assert Recipe.load(final / "recipe.yaml") == recipe
    logs = [json.loads((final / "stages" / str(n) / "training_log.json").read_text())["history"] for n in (1, 2, 3)]
    assert [max(entry["step"] for entry in log) for log in logs] == [3, 4, 2]
    assert "## Stages" in (final / "README.md").read_text()
    assert "frozen, with LoRA of rank 2 merged in" in (final / "README.md").read_text()
    with pytest.raises(LangBridgeError, match="holds a run already"):
        train(recipe, run, progress=False)
    assert train(recipe, run, resume=True, progress=False) == final


def test_a_stage_is_the_run_that_begins_with_the_bridge_before(staged, load, tmp_path):
    run = tmp_path / "run"
    train(staged(), run, progress=False)
    alone = load(*SHORT, f"init={run / 'stage-1' / 'final'}", "train.max_steps=4", "stages=[]")
    assert same(connector(train(alone, tmp_path / "alone", progress=False)), connector(run / "stage-2" / "final"))
    card = (tmp_path / "alone" / "final" / "README.md").read_text()
    assert "linear, begun as `stage-1/final` | trained" in card


def test_a_killed_stage_goes_on_from_its_checkpoint(staged, tmp_path, killed_in_second_stage):
    recipe = staged()
    killed_in_second_stage(recipe, tmp_path / "run")
    assert (tmp_path / "run" / "stage-2" / "checkpoint-2").is_dir()
    final = train(recipe, tmp_path / "run", resume=True, progress=False)
    assert same(connector(final), connector(train(recipe, tmp_path / "whole", progress=False)))
    with pytest.raises(LangBridgeError, match=r"stage 1 is finished, and was another: seed: 42 in the"):
        train(staged("seed=1"), tmp_path / "run", resume=True, progress=False)
    for number in (0, 2):  # nothing is trained of them any more, so more steps would be passed over
        with pytest.raises(
            LangBridgeError, match=rf"stage {number + 1} is finished, .*: train\.max_steps: \d in the .*, 9 "
        ):
            train(staged(f"stages.{number}.train.max_steps=9"), tmp_path / "run", resume=True, progress=False)


def test_plain_stages_begin_with_the_language_model_before(load, recipe_file, tmp_path):
    recipe_file.write_text(recipe_file.read_text().replace("encoder: ", "# "))
    recipe = load("objective=plain", "train.max_steps=2")
    twice = recipe.model_copy(update={"stages": ({}, {"train": {"learning_rate": 1e-3}})})
    final = train(Recipe.read(twice.to_dict()), tmp_path / "run", progress=False)
    first = load_file(tmp_path / "run" / "stage-1" / "final" / "model.safetensors")
    assert not same(first, load_file(final / "model.safetensors"))


MISTAKES = {
    "stages: [{connector: mlp}]": r"stages\[0\]\.connector: is the whole run's",
    "stages: [{}, {init: random}]": r"stages\[1\]\.init: is the whole run's",
    "stages: [{}, {train: {max_steps: 0}}]": r"stages\[1\]\.train\.max_steps: got 0",
    "stages: [{objective: unlabeled}]": r"objective: expected one of labelled, .*, distil, got 'unlabeled'",
    "stages: [{train: {lr: 1}}]": r"stages\[0\]\.train\.lr: unknown key",
    "freeze_connector: true": "freeze_connector: leaves nothing to train",
    "init: nowhere/else/at/all": r"init: expected auto, ridge, random, or the folder of a bridge, got 'nowhere",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_named(recipe_file, line):
    recipe_file.write_text(f"{recipe_file.read_text()}\n{line}\n")
    with pytest.raises(LangBridgeError, match=MISTAKES[line]):
        Recipe.load(recipe_file).check_files()


def test_a_bridge_of_another_connector_is_no_start(load, tmp_path):
    other = train(load("connector=mlp", "train.max_steps=1"), tmp_path / "mlp", progress=False)
    with pytest.raises(LangBridgeError, match=r"connector: got linear, but .*mlp.* has mlp"):
        train(load(f"init={other}"), tmp_path / "run", progress=False)


@pytest.mark.parametrize("key", ["drop_bare_tokens", "split_digits"])
def test_a_bridge_that_reads_in_other_tokens_is_no_start(load, tmp_path, key):
    other = train(load(f"{key}=true", "train.max_steps=1"), tmp_path / "other", progress=False)
    with pytest.raises(LangBridgeError, match=rf"{key}: got false, but .*other.* was trained with true"):
        train(load(f"init={other}"), tmp_path / "run", progress=False)
    train(load(f"init={other}", f"{key}=true", "train.max_steps=1"), tmp_path / "same", progress=False)


def test_each_stage_has_its_plan(staged):
    frozen = plan(staged().stage_recipes[2])
    trained = {part.name: part.trained for part in frozen.parts}
    assert trained["connector"] == 0
    assert trained["adapters"] > 0


def test_the_command_line_shows_every_stage(staged, recipe_file, capsys):
    from langbridge.cli.main import run

    staged()
    for command in (["train", str(recipe_file), "--dry-run"], ["show", str(recipe_file), "--rows", "1"]):
        with pytest.raises(SystemExit):
            run([*command, "--set", *SHORT])
        said = capsys.readouterr().out
        assert "stage 1 of 3, objective unlabelled" in said
        assert "stage 3 of 3, objective labelled" in said
