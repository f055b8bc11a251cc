"""The learning rate of a run: the recipe's, or one that fits what it begins with."""

import json
import shutil

import pytest
from safetensors.torch import load_file

from langbridge.files import write_atomically
from langbridge.train import train
from langbridge.train.rates import SHARE


def rate_of(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))["learning_rate"]


def scale_of(folder):
    weight = load_file(folder / "model.safetensors")["connector.linear.weight"].double()
    return float(weight.square().mean().sqrt())


@pytest.fixture
def unsaid(load):
    """The recipe with no rate of its own."""
    return lambda *changes: load("train.learning_rate=null", "train.max_steps=2", *changes)


def test_a_random_start_has_the_papers_rate(unsaid, tmp_path):
    assert rate_of(train(unsaid("init=random"), tmp_path / "run", progress=False)) == 6e-4


def test_a_start_that_reads_has_a_rate_that_fits_its_weights(unsaid, load, tmp_path, capsys):
    start = train(load("train.learning_rate=null", "train.max_steps=0"), tmp_path / "start", progress=False)
    fitting = pytest.approx(SHARE * scale_of(start))
    final = train(unsaid(), tmp_path / "run")
    assert rate_of(final) == fitting
    told = capsys.readouterr().err
    assert f"learning rate {SHARE * scale_of(start):.1e}, 1% of the connector's weights" in told
    first = json.loads((final / "training_log.json").read_text())["history"][0]
    assert first["learning_rate"] == fitting, "the optimiser has it"
    assert f"learning rate {rate_of(final):.2g} " in (final / "README.md").read_text(encoding="utf-8")
    on = train(unsaid(f"init={start}"), tmp_path / "on", progress=False)
    assert rate_of(on) == fitting, "a bridge to go on from reads as well"


def test_a_run_that_goes_on_keeps_its_rate(unsaid, tmp_path):
    run = tmp_path / "run"
    final = train(unsaid("train.save_strategy=steps", "train.save_steps=1"), run, progress=False)
    for folder in (final, run / "checkpoint-2"):
        shutil.rmtree(folder)
    record = run / "checkpoint-1" / "run.json"
    write_atomically(record, json.dumps({**json.loads(record.read_text()), "learning_rate": 1.25e-3}))
    assert rate_of(train(unsaid("train.save_strategy=steps", "train.save_steps=1"), run, resume=True)) == 1.25e-3


def test_a_rate_that_may_undo_the_start_is_doubted(load, tmp_path, capsys):
    train(load("train.max_steps=1", "train.learning_rate=1.0"), tmp_path / "large")
    told = capsys.readouterr().err
    assert "train.learning_rate is 1, " in told
    assert "what the start reads may be lost" in told
    train(load("train.max_steps=1", "train.learning_rate=1e-6"), tmp_path / "small")
    assert "may be lost" not in capsys.readouterr().err
