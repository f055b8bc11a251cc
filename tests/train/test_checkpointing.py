"""Interrupted runs: what is written, what is refused, and that going on is going on."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from langbridge.data import Data
from langbridge.errors import LangBridgeError
from langbridge.files import write_jsonl
from langbridge.model.reading import ReadingScore
from langbridge.train import Recipe, train
from langbridge.train.blocks import Ridge
from langbridge.train.checkpointing import COMPLETE, last_checkpoint
from langbridge.train.hyperparameters import Train
from langbridge.train.trainer import BridgeTrainer

SAVING = ("train.save_strategy=steps", "train.save_steps=5", "train.learning_rate=1e-3")


def losses(folder):
    """Losses by step: of a finished run out of its log, of an interrupted one out of its last checkpoint."""
    file = folder / "training_log.json"
    log = json.loads(file.read_text())["history"] if file.exists() else None
    if log is None:
        log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return {entry["step"]: entry["loss"] for entry in log if "loss" in entry}


def weights(folder):
    found = {}
    for file in sorted(folder.rglob("*.safetensors")):
        found |= {f"{file.relative_to(folder)}/{name}": tensor for name, tensor in load_file(file).items()}
    return found


def assert_same(one, other):
    """The same losses and weights, but for rounding.

    In processes of the same kind they are equal to the last bit; where threads or memory lie differently, a kernel may
    round a sum differently. A wrong order of the rows, or a lost state of the optimiser or of the random numbers, moves
    losses by per cents and every weight by some 1e-3, the learning rate.
    """
    first, second = losses(one), losses(other)
    assert first.keys() == second.keys()
    assert list(first.values()) == pytest.approx(list(second.values()), rel=1e-3)
    assert_same_weights(one, other)


def assert_same_weights(one, other):
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        # A mean, because a gradient of about 0 may change its sign by rounding, which moves a weight by the whole rate.
        assert float((tensor - second[name]).abs().mean()) < 2e-5, name


UNLABELLED = (
    "regime=unlabelled",
    "min_encoder_length=4",
    "max_encoder_length=16",
    "min_lm_length=8",
    "max_length=40",
    "train.encoder_learning_rate=1e-3",
)
KINDS = {
    "the encoder is trained, with dropout, on text": UNLABELLED,
    "pairs, on a cosine": ("train.lr_scheduler_type=cosine",),
    "streamed text": (*UNLABELLED, "data.streaming=true", "train.max_steps=12", "data.shuffle_buffer=16"),
    "adapters": ("lora.r=2", "lora.dropout=0.2"),
}


@pytest.fixture
def load_kind(load, recipe_file):
    def load_kind(kind, *changes):
        if "text" in kind:
            rows = [{"text": f"{'ab' * (n % 7 + 6)} number {n} has {n * 7 % 10} of them, {'ba' * (n % 5 + 4)}"}
                    for n in range(40)]  # fmt: skip
            path = recipe_file.parent / "text.jsonl"
            if not path.exists():
                write_jsonl(path, rows)
            changes = (f"data.path={path}", *changes)
        return load(*SAVING, "train.num_train_epochs=1.5", *KINDS[kind], *changes)

    return load_kind


@pytest.fixture
def interrupt(monkeypatch, stop_at):
    def interrupt(step, recipe, out, **options):
        init = BridgeTrainer.__init__

        def patched(self, *args, **kwargs):
            init(self, *args, **kwargs)
            self.add_callback(stop_at(step))

        with monkeypatch.context() as patch:
            patch.setattr(BridgeTrainer, "__init__", patched)
            with pytest.raises(KeyboardInterrupt):
                train(recipe, out, progress=False, **options)

    return interrupt


FIRST, *OTHERS = KINDS


@pytest.mark.parametrize("kind", [FIRST, *(pytest.param(kind, marks=pytest.mark.slow) for kind in OTHERS)])
def test_a_run_that_goes_on_is_the_run_that_was_not_interrupted(load_kind, interrupt, tmp_path, kind):
    recipe = load_kind(kind)
    whole = train(recipe, tmp_path / "whole", progress=False)
    interrupt(7, recipe, tmp_path / "run")
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-5"
    if kind != FIRST:  # once more, after the end of an epoch
        interrupt(11, recipe, tmp_path / "run", resume=True)
        assert last_checkpoint(tmp_path / "run").name == "checkpoint-10"
    assert_same(train(recipe, tmp_path / "run", resume=True, progress=False), whole)


def test_a_checkpoint_is_small_and_holds_what_was_trained(load, tmp_path):
    train(load(*SAVING, "train.max_steps=5"), tmp_path, progress=False)
    folder = tmp_path / "checkpoint-5"
    names = set(load_file(folder / "model.safetensors"))
    assert {name for name in names if not name.startswith("connector.")} <= {"new_rows"}
    optimizer = torch.load(folder / "optimizer.pt", weights_only=True)
    assert len(optimizer["state"]) == len([name for name in names if name.startswith("connector.")])
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 200_000, "the language model's weights have 250,000"
    assert not (folder / "training_args.bin").exists(), "a pickle that nobody should have to trust"
    assert Recipe.load(folder / "recipe.yaml") == load(*SAVING, "train.max_steps=5")
    run = json.loads((folder / "run.json").read_text())
    assert {"langbridge", "revision", "torch", "transformers", "processes", "data", "start"} <= set(run)


WORKER = """
import sys
from pathlib import Path
from langbridge.train import Recipe, train
train(Recipe.load(sys.argv[1]), sys.argv[2], resume=True, progress=False)
"""


def start_worker(folder):
    """A process that goes on with `folder`/r.yaml in `folder`/run."""
    threads = str(torch.get_num_threads())  # with another number sums are rounded differently
    ours = {"OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    with (folder / "worker.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, folder / "r.yaml", folder / "run"], env={**os.environ, **ours}, stderr=log
        )


def kill_after(process, out, step, delay=0.0):
    """SIGKILL once a checkpoint at or after `step` is there; False where the process had ended by then."""
    while process.poll() is None:
        last = last_checkpoint(Path(out))
        if last is not None and int(last.name.split("-")[1]) >= step:
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.1)
    return False


def test_a_killed_process_loses_nothing_that_was_written(load, tmp_path):
    """One SIGKILL, wherever it falls; the process goes on in this one."""
    recipe = load("train.save_strategy=steps", "train.save_steps=2", "train.num_train_epochs=4",
                  "train.learning_rate=1e-3")  # fmt: skip
    recipe.save(tmp_path / "r.yaml")
    process = start_worker(tmp_path)
    assert kill_after(process, tmp_path / "run", 2), (tmp_path / "worker.log").read_text()
    assert not (tmp_path / "run" / "final").exists(), "it was killed too late to prove anything"
    resumed = train(recipe, tmp_path / "run", resume=True, progress=False)
    assert_same(resumed, train(recipe, tmp_path / "whole", progress=False))


@pytest.mark.slow
def test_a_process_killed_again_and_again_comes_to_the_same_end(load, tmp_path):
    """Kills at random moments, in the middle of steps and of saves."""
    import random

    recipe = load("train.save_strategy=steps", "train.save_steps=2", "train.num_train_epochs=4",
                  "train.learning_rate=1e-3")  # fmt: skip
    recipe.save(tmp_path / "r.yaml")
    rng, kills = random.Random(0), 0
    for step in (2, 8, 14, 20, 26):
        process = start_worker(tmp_path)
        kills += kill_after(process, tmp_path / "run", step, delay=rng.random() * 0.3)
    assert kills >= 3
    resumed = train(recipe, tmp_path / "run", resume=True, progress=False)
    assert_same(resumed, train(recipe, tmp_path / "whole", progress=False))


class FullDisk(TrainerCallback):
    """From a step on, the system lets this process write files of at most `size` bytes."""

    def __init__(self, step, size):
        self.step, self.size = step, size

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, hard))


@pytest.mark.parametrize("size", [pytest.param(500, marks=pytest.mark.slow), 9_000], ids=["no weights", "no state"])
def test_a_full_disk_loses_no_earlier_checkpoint(load, tmp_path, monkeypatch, size):
    recipe = load(*SAVING)
    init = BridgeTrainer.__init__

    def patched(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.add_callback(FullDisk(10, size))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        patch.setattr(BridgeTrainer, "__init__", patched)
        try:
            with pytest.raises(LangBridgeError, match=r"step 10: the checkpoint could not be written.*checkpoint-5 is"):
                train(recipe, tmp_path / "run", progress=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in sorted((tmp_path / "run").iterdir())] == ["checkpoint-5"]
    assert_same(
        train(recipe, tmp_path / "run", resume=True, progress=False), train(recipe, tmp_path / "whole", progress=False)
    )


def test_a_folder_that_cannot_be_written_is_one_error(load, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint-5").write_text("in the way")  # a read-only folder would not stop a superuser
    with pytest.raises(LangBridgeError, match=r"step 5: the checkpoint could not be written.*No earlier checkpoint"):
        train(load(*SAVING), tmp_path / "run", progress=False)
    (tmp_path / "file").touch()
    with pytest.raises(LangBridgeError, match="is a file, expected a folder"):
        train(load(), tmp_path / "file", progress=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="a superuser may write into read-only folders")
def test_a_read_only_folder_keeps_its_checkpoints(load, tmp_path):
    train(load(*SAVING, "train.max_steps=5"), tmp_path / "run", progress=False)
    (tmp_path / "run").chmod(0o555)
    try:
        with pytest.raises(LangBridgeError, match="checkpoint-5 is whole"):
            train(load(*SAVING, "train.max_steps=10"), tmp_path / "run", resume=True, progress=False)
    finally:
        (tmp_path / "run").chmod(0o755)
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-5"


def test_what_is_not_whole_is_not_gone_on_from_and_replaces_nothing(load, tmp_path):
    """A run that is killed while it writes a checkpoint leaves a part of one, of a later step than the newest."""
    recipe, run = load(*SAVING, "train.save_total_limit=1", "train.max_steps=5"), tmp_path / "run"
    train(recipe, run, progress=False)
    part = run / "checkpoint-15"
    shutil.copytree(run / "checkpoint-5", part)
    (part / COMPLETE).unlink()
    (part / "trainer_state.json").write_text('{"global_step": 1')
    assert last_checkpoint(run).name == "checkpoint-5"
    longer = load(*SAVING, "train.save_total_limit=1", "train.max_steps=10")
    train(longer, run, resume=True, progress=False)
    assert [path.name for path in run.glob("checkpoint-*")] == ["checkpoint-10"]
    assert_same(run / "final", train(longer, tmp_path / "whole", progress=False))


def test_a_checkpoint_of_before_there_was_a_marker_is_judged_by_what_is_in_it(load, tmp_path):
    train(load(*SAVING, "train.max_steps=5"), tmp_path, progress=False)
    old = tmp_path / "checkpoint-5"
    (old / COMPLETE).unlink()
    assert last_checkpoint(tmp_path) == old
    for file in ("rng_state.pth", "trainer_state.json"):
        (old / file).rename(tmp_path / file)
        assert last_checkpoint(tmp_path) is None, file
        (tmp_path / file).rename(old / file)
    whole = (old / "model.safetensors").read_bytes()
    (old / "model.safetensors").write_bytes(whole[:-9])
    assert last_checkpoint(tmp_path) is None
    (old / "model.safetensors").write_bytes(whole)
    train(load(*SAVING, "train.max_steps=6"), tmp_path, resume=True, progress=False)


def test_the_best_checkpoint_of_adapters_is_what_is_merged(load, tmp_path):
    pytest.importorskip("peft", reason="PEFT is not installed (the extra lora)")
    recipe = load(
        "train.save_strategy=steps", "train.save_steps=2", "train.eval_strategy=steps", "train.eval_steps=2",
        f"data.validation_path={tmp_path / 'held_out.jsonl'}", "train.max_steps=6", "train.load_best_model_at_end=true",
        "train.greater_is_better=true", "lora.r=2", "lora.learning_rate=1e-2",
    )  # fmt: skip
    final = train(recipe, tmp_path / "run", progress=False)
    state = json.loads((tmp_path / "run" / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["best_global_step"] < 6
    same = load(f"train.max_steps={state['best_global_step']}", "lora.r=2", "lora.learning_rate=1e-2")
    assert_same_weights(final, train(same, tmp_path / "same", progress=False))


def test_the_best_checkpoint_is_what_is_left_at_the_end(load, tmp_path):
    held_out = tmp_path / "held_out.jsonl"
    recipe = load(
        "train.save_strategy=steps",
        "train.save_steps=4",
        "train.eval_strategy=steps",
        "train.eval_steps=4",
        f"data.validation_path={held_out}",
        "train.max_steps=12",
        "train.save_total_limit=1",
        "train.load_best_model_at_end=true",
        "train.greater_is_better=true",  # so that the best is the first and not, by chance, the last
    )
    final = train(recipe, tmp_path / "run", progress=False)
    state = json.loads((tmp_path / "run" / "checkpoint-4" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / "run" / "checkpoint-4")
    best = load_file(tmp_path / "run" / "checkpoint-4" / "model.safetensors")
    assert all(torch.equal(tensor, best[name]) for name, tensor in load_file(final / "model.safetensors").items())
    assert last_checkpoint(tmp_path / "run").name in ("checkpoint-4", "checkpoint-12")


@pytest.mark.parametrize("by", ["loss", "reading"])
@pytest.mark.filterwarnings("ignore::langbridge.train.reading.PlateauWarning")
def test_a_run_killed_while_it_writes_its_end_leaves_what_it_would_have(load, tmp_path, monkeypatch, by):
    changes = ["train.max_steps=6", "train.save_strategy=steps", "train.save_steps=2", "train.logging_steps=50",
               f"data.validation_path={tmp_path / 'held_out.jsonl'}"]  # fmt: skip
    if by == "loss":
        changes += ["train.eval_strategy=steps", "train.eval_steps=2", "train.load_best_model_at_end=true",
                    "train.greater_is_better=true"]  # fmt: skip
    else:
        changes += ["train.reading_score_steps=2", "train.reading_score_patience=9"]
        worse = iter(ReadingScore(score=score, error=0.01, own=1.0, other=1.0, rows=8) for score in (0, 3, 2, 1))
        monkeypatch.setattr("langbridge.train.loop.reading_score", lambda *_: next(worse))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("langbridge.train.run.write_final", killed)
        with pytest.raises(KeyboardInterrupt):
            train(load(*changes), tmp_path / "run", progress=False)
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-6"
    final = train(load(*changes), tmp_path / "run", resume=True, progress=False)
    best = load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")
    assert all(torch.equal(tensor, best[name]) for name, tensor in load_file(final / "model.safetensors").items())
    card = (final / "README.md").read_text()
    assert "6 updates of 8 rows" in card
    assert "What is kept is the bridge after 2 of them, the best." in card


@pytest.fixture
def begun(load, tmp_path):
    train(load(*SAVING, "train.max_steps=5"), tmp_path / "run", progress=False)
    return tmp_path / "run"


def test_a_folder_with_a_run_is_not_written_over(load, begun):
    with pytest.raises(LangBridgeError, match=r"holds a run already, up to checkpoint-5.*--resume"):
        train(load(), begun, progress=False)
    shutil.rmtree(begun / "checkpoint-5")
    with pytest.raises(LangBridgeError, match="holds a finished run already"):
        train(load(), begun, progress=False)


def test_going_on_with_a_finished_run_changes_nothing(load, begun):
    before = weights(begun / "final")
    assert train(load(*SAVING, "train.max_steps=5"), begun, resume=True, progress=False) == begun / "final"
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(begun / "final").items())
    assert len(losses(begun / "final")) == 5
    shutil.rmtree(begun / "checkpoint-5")
    assert train(load(*SAVING, "train.max_steps=5"), begun, resume=True, progress=False) == begun / "final"
    with pytest.raises(LangBridgeError, match=r"the run is finished, and was another: train\.max_steps: 5 in the"):
        train(load(*SAVING, "train.max_steps=9"), begun, resume=True, progress=False)


def test_another_recipe_does_not_go_on(load, begun, tmp_path, base_folders):
    with pytest.raises(LangBridgeError, match=r"train\.learning_rate: 0\.001 in the checkpoint, 0\.02 now\. .*--out"):
        train(load(*SAVING, "train.learning_rate=2e-2"), begun, resume=True, progress=False)
    # With a constant rate more steps are harmless, with this schedule they would be another curve.
    longer = load(*SAVING, "train.max_steps=9", "train.lr_scheduler_type=linear")
    with pytest.raises(LangBridgeError, match=r"train\.max_steps: 5 in the checkpoint, 9 now"):
        train(longer, begun, resume=True, progress=False)
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    write_jsonl(tmp_path / "other.jsonl", rows[:-3])
    with pytest.raises(LangBridgeError, match="the training rows: 64 rows in the checkpoint, 61 rows"):
        train(load(*SAVING, f"data.path={tmp_path / 'other.jsonl'}"), begun, resume=True, progress=False)


def test_another_language_model_does_not_go_on(load, begun, tmp_path, base_folders):
    from transformers import AutoModelForCausalLM

    shutil.copytree(base_folders[1], tmp_path / "other")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "other")
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    model.save_pretrained(tmp_path / "other")
    recipe = load(*SAVING, "train.max_steps=9", f"language_model={tmp_path / 'other'}")
    with pytest.raises(LangBridgeError, match=r"language model: got .*other.*weights differ"):
        train(recipe, begun, resume=True, progress=False)


def test_what_is_harmless_may_change(load, begun, tmp_path):
    """More steps, other logging, and the same rows in another place."""
    shutil.copy(tmp_path / "train.jsonl", tmp_path / "moved.jsonl")
    changes = ("train.max_steps=7", "train.logging_steps=2", f"data.path={tmp_path / 'moved.jsonl'}")
    final = train(load(*SAVING, *changes), begun, resume=True, progress=False)
    assert set(losses(final)) == {1, 2, 3, 4, 5, 6, 7}


def test_another_number_of_processes_does_not_go_on(load, begun):
    file = begun / "checkpoint-5" / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "processes": 2}))
    with pytest.raises(LangBridgeError, match="processes: 2 in the checkpoint, 1 now"):
        train(load(*SAVING, "train.max_steps=9"), begun, resume=True, progress=False)


def test_an_encoder_whose_table_grew_goes_on(tmp_path):
    """The white space tokens take new rows in a table that has no room for them, as the miniature's has not."""
    from langbridge.miniature import parents
    from langbridge.miniature.dataset import training_rows

    write_jsonl(tmp_path / "pairs.jsonl", training_rows(24))
    recipe = Recipe(
        encoder=str(parents.ENCODER),
        language_model=str(parents.LANGUAGE_MODEL),
        data=Data(path=str(tmp_path / "pairs.jsonl")),
        ridge=Ridge(texts=10),
        train=Train(
            per_device_train_batch_size=4, gradient_accumulation_steps=1, max_steps=1, save_strategy="steps",
            save_steps=1, report_to="none", reading_score_steps=0, use_cpu=True,
        ),
    )  # fmt: skip
    train(recipe, tmp_path / "run", progress=False)
    longer = recipe.model_copy(update={"train": recipe.train.model_copy(update={"max_steps": 2})})
    train(longer, tmp_path / "run", resume=True, progress=False)
    assert last_checkpoint(tmp_path / "run").name == "checkpoint-2"
