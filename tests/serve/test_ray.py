"""Answers of workers that Ray places: with one killed, and a run that is cut off, each row once and in order."""

import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from langbridge.errors import LangBridgeError
from langbridge.serve.blocks import Blocks
from langbridge.serve.engine import Decoding, Engine, Request
from langbridge.serve.replay import ReplayEngine

ray = pytest.importorskip("ray", reason="Ray is an extra")
pytestmark = pytest.mark.slow

REQUESTS = [Request(f"question {place}") for place in range(12)]
ANSWERS = [f"question {place}, answered" for place in range(12)]


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    """Of this machine, small, for the whole file: it takes seconds to start."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - its name; or a busy machine starves the workers
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    # What stands in a test's file is no module to a worker.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.shutdown()


def opened(notes: Path, deadly: str = "", wrong: str = "") -> Engine:
    """An engine that notes what it was asked, dies of one prompt the first time, and takes another for a mistake."""

    def answer(request: Request) -> str:
        with (notes / f"asked-{os.getpid()}").open("a") as file:
            file.write(f"{request.prompt}\n")
        if request.prompt == wrong:
            raise LangBridgeError("prompt 1: it is too long")
        if request.prompt == deadly and not (notes / "dead").exists():
            (notes / "dead").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return f"{request.prompt}, answered"

    return ReplayEngine(answer)


def asked(notes: Path) -> list[str]:
    return sorted(line for file in notes.glob("asked-*") for line in file.read_text().splitlines())


def answered(blocks: Blocks, notes: Path, **options: Any) -> Iterator[int]:
    from langbridge.serve.ray import answer_with_ray

    return answer_with_ray(blocks, partial(opened, notes, **options), Decoding(4), workers=2)


def fresh(folder: Path) -> Blocks:
    return Blocks(folder / "blocks", REQUESTS, Decoding(4), 2, "m")


def test_two_workers_answer_all_and_one_that_is_killed_is_started_anew(tmp_path: Path) -> None:
    blocks = fresh(tmp_path)
    counts = list(answered(blocks, tmp_path, deadly="question 5"))
    assert (tmp_path / "dead").exists(), "a worker was killed in the middle of a block"
    assert counts == [2] * 6
    assert blocks.answers() == ANSWERS
    assert len(list((tmp_path / "blocks").iterdir())) == 6, "each block once"
    assert len(list(tmp_path.glob("asked-*"))) >= 3, "two workers, and the one that came for the killed one"


def test_a_run_that_is_cut_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = answered(fresh(tmp_path), tmp_path)
    for _ in range(3):
        next(first)
    first.close()
    blocks = fresh(tmp_path)
    done = [one.prompt for block in blocks.blocks if block.done for one in block.requests]
    assert len(done) == 6
    (tmp_path / "second").mkdir()
    list(answered(blocks, tmp_path / "second"))
    assert blocks.answers() == ANSWERS
    assert asked(tmp_path / "second") == sorted({one.prompt for one in REQUESTS} - set(done))
    list(answered(blocks, tmp_path / "third"))  # nothing is left to do, and no worker is started


def test_what_is_wrong_with_a_row_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(LangBridgeError, match=r"prompt 1: it is too long \(counted among rows \d+, \d+\)"):
        list(answered(fresh(tmp_path), tmp_path, wrong="question 7"))


def test_the_command_writes_the_same_file_as_without_ray(
    bridge_folder: Path, tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    rows = tmp_path / "rows.txt"
    rows.write_text("".join(f"What is {number} + {number * number}?\n" for number in range(9)))
    line = ("generate", bridge_folder, "--input", rows, "--field", "text", "--max-new-tokens", 8, "--batch-size", 2)
    assert command(*line, "--out", tmp_path / "local.jsonl")[0] == 0
    # As a shell leaves `--out=~/ray.jsonl`.
    code, _, error = command(*line, "--out", "~/ray.jsonl", "--engine", "ray", "--workers", 2)
    assert code == 0, error
    assert (tmp_path / "ray.jsonl").read_text() == (tmp_path / "local.jsonl").read_text()
    assert {one.name for one in tmp_path.iterdir()} == {"rows.txt", "local.jsonl", "ray.jsonl"}, "nothing is left over"
