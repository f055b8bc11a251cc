"""Two processes on the CPU, started by torchrun: the run of one."""

import json
import os
import subprocess
import sys

import pytest

from langbridge.files import write_jsonl
from langbridge.train import train


@pytest.mark.slow  # three starts of Python with torch
@pytest.mark.parametrize(("updates", "more"), [(8, ()), (6, ("train.positions_per_pass=60",))])
def test_two_processes_have_the_loss_curve_of_one(load, tmp_path, updates, more):
    """Also where long batches take several passes, of which the two may need different numbers; fewer updates there,
    because every pass adds up in another order, and Adam makes much of small differences."""
    changes = ("train.reading_score_steps=2", "train.eval_strategy=epoch", f"train.max_steps={updates}",
               f"data.validation_path={tmp_path / 'held_out.jsonl'}", "train.save_strategy=steps", "train.save_steps=5",
               "train.per_device_train_batch_size=5")  # fmt: skip
    alone = train(load(*changes, "train.gradient_accumulation_steps=2"), tmp_path / "alone", progress=False)
    load(*changes, *more).save(tmp_path / "r.yaml")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "29631",
        "-m",
        "langbridge.cli",
        "train",
    ]
    done = subprocess.run(
        [*command, tmp_path / "r.yaml", "--out", tmp_path / "two"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    histories = [
        json.loads((folder / "training_log.json").read_text())["history"]
        for folder in (alone, tmp_path / "two" / "final")
    ]
    for name in ("loss", "eval_loss", "reading_score"):
        one, two = ([entry[name] for entry in history if name in entry] for history in histories)
        assert len(one) > 2 or name == "eval_loss"
        # The same rows in every update; sums over them in single precision, in another order, through 14 updates.
        assert two == pytest.approx(one, rel=1e-3, abs=1e-3), name
    assert done.stdout.count("final") == 1, "each process spoke"
    checkpoint = tmp_path / "two" / "checkpoint-5"
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in checkpoint.iterdir()}
    assert json.loads((checkpoint / "run.json").read_text())["processes"] == 2


@pytest.mark.slow  # two starts of Python with torch
def test_two_processes_of_a_stream_train_the_same_weights(load, tmp_path):
    """One row of white space, which one of the two meets."""
    rows = [{"query": "say\nb" if n == 5 else "say a", "response": "a"} for n in range(16)]
    write_jsonl(tmp_path / "white.jsonl", rows)
    load(f"data.path={tmp_path / 'white.jsonl'}", "data.streaming=true", "train.max_steps=3").save(tmp_path / "r.yaml")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29632"]
    done = subprocess.run(
        [*launch, "-m", "langbridge.cli", "train", tmp_path / "r.yaml", "--out", tmp_path / "two"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "two" / "final" / "config.json").read_text())["train_new_rows"]
