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

REQUESTS = [Request(f"question {place}") for place in range(12)]
ANSWERS = [f"question {place}, answered" for place in range(12)]


@pytest.fixture(scope="module")
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
        cores = ray.get_runtime_context().get_assigned_resources()["CPU"]
        (notes / f"cores-{os.getpid()}").write_text(f"{cores:g}")
        if request.prompt == wrong:
            raise LangBridgeError("prompt 1: it is too long")
        if request.prompt == deadly and not (notes / "dead").exists():
            (notes / "dead").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return f"{request.prompt}, answered"

    return ReplayEngine(answer)


def asked(notes: Path) -> list[str]:
    return sorted(line for file in notes.glob("asked-*") for line in file.read_text().splitlines())


def cores(notes: Path) -> set[str]:
    """Of each worker."""
    return {file.read_text() for file in notes.glob("cores-*")}


def answered(blocks: Blocks, notes: Path, workers: int | None = 2, **options: Any) -> Iterator[int]:
    from langbridge.serve.ray import answer_with_ray

    return answer_with_ray(blocks, partial(opened, notes, **options), Decoding(4), workers=workers)


def fresh(folder: Path) -> Blocks:
    return Blocks(folder / "blocks", REQUESTS, Decoding(4), 2, "m")


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
def test_two_workers_answer_all_and_one_that_is_killed_is_started_anew(tmp_path: Path) -> None:
    blocks = fresh(tmp_path)
    counts = list(answered(blocks, tmp_path, deadly="question 5"))
    assert (tmp_path / "dead").exists(), "a worker was killed in the middle of a block"
    assert counts == [2] * 6
    assert blocks.answers() == ANSWERS
    assert len(list((tmp_path / "blocks").iterdir())) == 6, "each block once"
    assert len(list(tmp_path.glob("asked-*"))) >= 3, "two workers, and the one that came for the killed one"
    assert cores(tmp_path) == {"1"}


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
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


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
def test_one_worker_has_the_machine_and_more_than_fit_are_refused(tmp_path: Path) -> None:
    list(answered(fresh(tmp_path), tmp_path, workers=None))
    assert len(list(tmp_path.glob("asked-*"))) == 1
    assert cores(tmp_path) == {"2"}
    with pytest.raises(LangBridgeError, match=r"--workers: got 3, expected at most 2: so many CPUs"):
        list(answered(fresh(tmp_path / "more"), tmp_path, workers=3))


def node(alive: bool = True, **has: float) -> dict[str, Any]:
    """A machine, with what Ray's list says of it."""
    return {"NodeID": "n", "Alive": alive, "Resources": {"memory": 8e9, **has}}


DEAD, HEAD = node(False, CPU=64, GPU=8), node()
"""A machine that has left, and one that takes no workers."""


@pytest.mark.parametrize(
    ("nodes", "workers", "blocks", "found"),
    [
        ([node(CPU=4)], None, 9, (1, {"num_cpus": 4})),
        ([node(CPU=4)], 4, 9, (4, {"num_cpus": 1})),
        ([node(CPU=4)], 3, 9, (3, {"num_cpus": 1})),
        ([node(CPU=4)], 4, 2, (2, {"num_cpus": 2})),
        ([HEAD, DEAD, node(CPU=4), node(CPU=6.5)], None, 9, (2, {"num_cpus": 4})),
        ([HEAD, DEAD, node(CPU=4), node(CPU=6.5)], 4, 9, (4, {"num_cpus": 2})),
        ([node(CPU=1), node(CPU=8)], 9, 9, (9, {"num_cpus": 1})),
        ([HEAD, DEAD, node(CPU=9, GPU=1), node(CPU=9, GPU=4), node(CPU=9)], None, 9, (5, {"num_gpus": 1})),
        ([node(CPU=9, GPU=4)], 2, 9, (2, {"num_gpus": 1})),
    ],
)
def test_workers_are_as_many_as_there_is_room_for(
    nodes: list[dict[str, Any]], workers: int | None, blocks: int, found: tuple[int, dict[str, int]]
) -> None:
    from langbridge.serve.ray import places

    assert places(nodes, workers, blocks) == found


@pytest.mark.parametrize(
    ("nodes", "workers", "said"),
    [
        ([node(CPU=4)], 8, "got 8, expected at most 4: so many CPUs Ray has now, on 1 machine, and"),
        ([HEAD, DEAD, node(CPU=4, GPU=2), node(GPU=1)], 4, "at most 3: so many GPUs Ray has now, on 2 machines"),
        ([HEAD, DEAD], None, "got 1, expected at most 0: so many CPUs Ray has now, on 0 machines"),
    ],
)
def test_workers_that_could_never_be_placed_are_refused(
    nodes: list[dict[str, Any]], workers: int | None, said: str
) -> None:
    from langbridge.serve.ray import places

    with pytest.raises(LangBridgeError, match=said):
        places(nodes, workers, 9)


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
def test_what_is_wrong_with_a_row_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(LangBridgeError, match=r"prompt 1: it is too long \(counted among rows \d+, \d+\)"):
        list(answered(fresh(tmp_path), tmp_path, wrong="question 7"))


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
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
