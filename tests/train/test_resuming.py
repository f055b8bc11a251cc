"""Going on with a run: what it is held to, beside the recipe's own settings."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from langbridge.errors import LangBridgeError
from langbridge.train import train
from langbridge.train.resuming import changed, check_same_run, named_files

SAVING = ("train.save_strategy=steps", "train.save_steps=5")


def test_other_rows_of_the_same_lengths_do_not_go_on(load, tmp_path):
    begun = tmp_path / "run"
    train(load(*SAVING, "train.max_steps=5"), begun, progress=False)
    text = (tmp_path / "train.jsonl").read_text()
    (tmp_path / "other.jsonl").write_text(text.replace("aaa", "bab", 1))
    recipe = load(*SAVING, "train.max_steps=6", f"data.path={tmp_path / 'other.jsonl'}")
    with pytest.raises(LangBridgeError, match="64 rows in the checkpoint, 64 rows with other texts now"):
        train(recipe, begun, resume=True, progress=False)
    # A checkpoint of before texts were recorded holds less to compare, and goes on.
    file = begun / "checkpoint-5" / "run.json"
    run = json.loads(file.read_text())
    del run["data"]["content"]
    file.write_text(json.dumps(run))
    train(recipe, begun, resume=True, progress=False)


def test_a_stream_of_other_files_does_not_go_on(load, tmp_path):
    streamed = (*SAVING, "data.streaming=true", "train.max_steps=6")
    train(load(*streamed, "train.max_steps=5"), tmp_path / "run", progress=False)
    (tmp_path / "train.jsonl").rename(tmp_path / "other.jsonl")
    other = load(*streamed, f"data.path={tmp_path / 'other.jsonl'}")
    with pytest.raises(LangBridgeError, match="a stream in the checkpoint, a stream of other files now"):
        train(other, tmp_path / "run", resume=True, progress=False)
    text = (tmp_path / "other.jsonl").read_text()
    (tmp_path / "train.jsonl").write_text(text.replace("aaa", "bab", 1))
    with pytest.raises(LangBridgeError, match="a stream in the checkpoint, a stream of other files now"):
        train(load(*streamed), tmp_path / "run", resume=True, progress=False)
    (tmp_path / "train.jsonl").unlink()
    (tmp_path / "moved").mkdir()
    (tmp_path / "other.jsonl").rename(tmp_path / "moved" / "train.jsonl")
    moved = load(*streamed, f"data.path={tmp_path / 'moved' / 'train.jsonl'}")
    final = train(moved, tmp_path / "run", resume=True, progress=False)
    assert (final / "model.safetensors").is_file()


def test_a_stream_that_stopped_at_a_bad_row_goes_on_without_it(load, tmp_path):
    rows = (tmp_path / "train.jsonl").read_text().splitlines()
    (tmp_path / "train.jsonl").write_text("\n".join([*rows[:40], "{", *rows[40:], ""]))
    # The search for white space, which a trained encoder does without, would meet the row before the first step.
    changes = ("train.save_strategy=steps", "train.save_steps=3", "train.max_steps=8", "freeze_encoder=false",
               "data.streaming=true", "data.shuffle_buffer=8")  # fmt: skip
    with pytest.raises(LangBridgeError, match=r"train\.jsonl, row 41: broken JSON"):
        train(load(*changes), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "checkpoint-6").exists()
    whole, went_on = (
        train(load(*changes, "data.on_bad_row=skip"), tmp_path / name, resume=True, progress=False)
        for name in ("whole", "run")
    )
    for file in ("training_log.json", "model.safetensors"):
        assert (whole / file).is_file()
    losses = [
        [entry["loss"] for entry in json.loads((final / "training_log.json").read_text())["history"] if "loss" in entry]
        for final in (whole, went_on)
    ]
    assert losses[0] == losses[1]


def test_the_size_of_a_validation_batch_may_change_where_it_changes_no_loss(load):
    def differs(*changes):
        return list(changed(load(*changes), load(*changes, "train.per_device_eval_batch_size=7")))

    text = ("objective=unlabelled", "min_encoder_length=4", "min_lm_length=8")
    assert differs() == []
    assert differs(*text) == ["train.per_device_eval_batch_size: 32 in the checkpoint, 7 now"]


def test_a_file_of_settings_may_move_and_not_change(load, tmp_path):
    """Such a run itself needs DeepSpeed, or GPUs."""
    for name, stage in (("a.json", 2), ("b.json", 2), ("c.json", 3)):
        (tmp_path / name).write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    first, moved, other = (load(f"train.deepspeed={tmp_path / name}") for name in ("a.json", "b.json", "c.json"))
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    first.save(checkpoint / "recipe.yaml")
    run = {"processes": 1, "data": {}, "files": named_files(first)}
    (checkpoint / "run.json").write_text(json.dumps(run))
    assert check_same_run(checkpoint, moved, run | {"files": named_files(moved)}, None) == run
    with pytest.raises(LangBridgeError, match=r"another run: train\.deepspeed: the file says something else now\."):
        check_same_run(checkpoint, other, run | {"files": named_files(other)}, None)
    with pytest.raises(LangBridgeError, match=r"train\.deepspeed: .*a\.json' in the checkpoint, None now"):
        check_same_run(checkpoint, load(), run | {"files": {}}, None)


def test_another_plain_language_model_does_not_go_on(load, recipe_file, base_folders, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base_folders[1])
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    shutil.copytree(base_folders[1], tmp_path / "other")
    model.save_pretrained(tmp_path / "other")
    recipe_file.write_text(recipe_file.read_text().replace("encoder: ", "# "))
    plain = (*SAVING, "regime=lm_only")
    train(load(*plain, "train.max_steps=5"), tmp_path / "run", progress=False)
    other = load(*plain, "train.max_steps=6", f"language_model={tmp_path / 'other'}")
    with pytest.raises(LangBridgeError, match=r"language model: got .*other.*weights differ"):
        train(other, tmp_path / "run", resume=True, progress=False)
    file = tmp_path / "run" / "checkpoint-5" / "run.json"
    run = json.loads(file.read_text())
    assert run.pop("language_model")["samples"]
    file.write_text(json.dumps(run))  # as it was written before the model was recorded
    train(load(*plain, "train.max_steps=6"), tmp_path / "run", resume=True, progress=False)
