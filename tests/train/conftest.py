"""A recipe for a run on the tiny bases that takes a second."""

import random

import pytest
from transformers import TrainerCallback

from langbridge.files import write_jsonl
from langbridge.train import Recipe, train
from langbridge.train.loop import run_loop


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Prepared rows go to a folder of the tests."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


class StopAt(TrainerCallback):
    """Ends a run after a step without anything that an end does, as a kill would."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def stop_at():
    """A callback that kills a run: `stop_at(step)`."""
    return StopAt


@pytest.fixture
def killed_in_second_stage(monkeypatch):
    """Train stages into a folder until the second is killed after 3 updates: `killed_in_second_stage(recipe, out)`. The
    stages' trainers."""

    def run(recipe, out):
        trainers = []

        def killed(trainer, *args, **kwargs):
            trainers.append(trainer)
            if len(trainers) == 2:
                trainer.add_callback(StopAt(3))
            return run_loop(trainer, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr("langbridge.train.run.run_loop", killed)
            with pytest.raises(KeyboardInterrupt):
                train(recipe, out, progress=False)
        return trainers

    return run


@pytest.fixture
def recipe_file(base_folders, tmp_path):
    """64 pairs whose answers depend on the prompt, and a recipe that trains on them: 8 updates an epoch."""
    encoder, language_model = base_folders
    rng = random.Random(0)
    rows = [{"query": "say " + "ab"[n % 2] * rng.randint(1, 9), "response": "ab"[n % 2] * 3} for n in range(64)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    write_jsonl(tmp_path / "held_out.jsonl", rows[:12])
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
         num_train_epochs: 3, logging_steps: 1, save_strategy: "no", report_to: none, reading_score_steps: 0}}
"""
    )
    return path


@pytest.fixture
def load(recipe_file):
    """The recipe with changes, as `load("train.max_steps=3")`."""
    return lambda *changes: Recipe.load(recipe_file, changes)


@pytest.fixture
def recipe(load):
    return load()
