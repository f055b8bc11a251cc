"""`train.max_steps: 0`: the closed-form start is the bridge."""

import json

import pytest
import torch

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.errors import LangBridgeError
from langbridge.model import build_bridge
from langbridge.train import train
from langbridge.train.plan import plan
from langbridge.train.prepare import prepare
from langbridge.train.ridge import start_connector
from langbridge.train.trainer import BridgeTrainer

NO_STEP = "train.max_steps=0"


@pytest.fixture(autouse=True)
def _no_update(monkeypatch):
    monkeypatch.setattr(BridgeTrainer, "training_step", lambda *_, **__: pytest.fail("an update was made"))


@pytest.mark.parametrize(
    "changes",
    [(), ("data.streaming=true",), ("regime=unlabelled", "data.text=query", "min_encoder_length=2", "min_lm_length=2")],
    ids=str,
)
def test_the_bridge_is_its_start_and_says_so(load, tmp_path, changes):
    recipe = load(NO_STEP, *changes)
    final = train(recipe, tmp_path / "run", progress=False)
    model, processor = LangBridgeModel.from_pretrained(final), LangBridgeProcessor.from_pretrained(final)
    assert not model.config.encoder_trained
    card, log = (final / "README.md").read_text(), json.loads((final / "training_log.json").read_text())
    assert "No update was made: the connector is the closed-form start alone" in card
    assert "closed-form (ridge) start | not trained" in card
    assert "updates of" not in card
    assert "trained on" not in card
    assert "Not in this folder: the encoder `encoder` and the language model `language_model`." in card
    assert f"{log['start']['explained_held_out']:.3f} for types of token" in card
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["final"]
    fresh, _ = build_bridge(**recipe.to_bridge_arguments())
    if not changes:  # a table's texts can be chosen again
        start_connector(fresh, processor, prepare(recipe).training, recipe)
        for name, parameter in fresh.connector.named_parameters():
            torch.testing.assert_close(model.connector.get_parameter(name), parameter)
    # Finished: asked again to go on, there is nothing to do.
    assert train(recipe, tmp_path / "run", resume=True, progress=False) == final


@pytest.mark.filterwarnings("ignore::langbridge.train.reading.PlateauWarning")  # random models
def test_what_the_start_is_worth_is_measured_once(load, tmp_path, capsys):
    final = train(load(NO_STEP, "train.reading_score_steps=50"), tmp_path / "run")
    (entry,) = json.loads((final / "training_log.json").read_text())["history"]
    assert entry["step"] == 0
    assert f"reading {entry['reading_score']:.3f} ± {entry['reading_score_error']:.3f} without training" in (
        capsys.readouterr().err
    )
    assert not (final / "curves.png").exists(), "a picture of one point"
    assert f"{entry['reading_score']:.4f}" in (final / "README.md").read_text()


def test_a_run_that_was_interrupted_can_be_ended_where_it_stands(load, tmp_path, monkeypatch):
    monkeypatch.undo()  # two updates, and then none
    train(
        load("train.max_steps=2", "train.save_strategy=steps", "train.save_steps=2"), tmp_path / "run", progress=False
    )
    (tmp_path / "run" / "final").rename(tmp_path / "two")
    final = train(load(NO_STEP, "train.save_strategy=steps"), tmp_path / "run", resume=True, progress=False)
    saved = [(folder / "model.safetensors").read_bytes() for folder in (final, tmp_path / "two")]
    assert saved[0] == saved[1]
    assert "2 updates of 8 rows" in (final / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("init=random",), r"train\.max_steps: got 0.* init random"),
        (("connector=mlp",), r"train\.max_steps: got 0.*connector mlp"),
        (("lora.r=2",), r"lora\.r: asks for training"),
        (("freeze_encoder=false",), "freeze_encoder: asks for training"),
    ],
)
def test_what_only_training_could_give_is_refused(load, changes, message):
    with pytest.raises(LangBridgeError, match=message):
        load(NO_STEP, *changes)


def test_without_offsets_there_is_nothing_to_write(load, tmp_path, monkeypatch):
    monkeypatch.setattr("langbridge.train.run.start_connector", lambda *_: None)
    with pytest.raises(LangBridgeError, match="closed-form start that it keeps is not possible"):
        train(load(NO_STEP), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "final").exists()


def test_the_plan_has_the_weights_alone(load):
    planned = plan(load(NO_STEP, "train.reading_score_steps=50"))
    assert planned.steps == 0
    assert planned.reading == (1, 20)
    assert planned.memory == sum(part.weights for part in planned.parts) > 0
    assert planned.checkpoint > 0
