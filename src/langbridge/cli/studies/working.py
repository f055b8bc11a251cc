"""Many runs at once, each in a process of its own with one thread: models this small gain little from a second one.

Runs depend on each other only through the planner, which is asked again after every run: what it can name by then is
made. A study that was killed goes on, because finished runs say so on disk.
"""

import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from langbridge.cli.studies.runs import Place, Run, carry_out
from langbridge.cli.studies.written import write_training
from langbridge.errors import LangBridgeError

SECONDS = {"run": 8.0, "question": 0.018, "sentence": 0.15}
EXAMPLE = {"lm_only": 0.105, "resampler": 0.0235, "other": 0.0145}
"""What a run and, by its regime or connector, an example of its training cost on one core of a busy machine, about: to
foretell how long a study takes, and to begin with the dearest."""


def expected_seconds(run: Run) -> float:
    """Of one core."""
    # The language model spells unknown scripts byte by byte, so its own training on them has long rows.
    kinds = (run.settings.get("regime"), run.settings.get("connector"), "other")
    example = next(EXAMPLE[kind] for kind in kinds if kind in EXAMPLE)
    return (
        SECONDS["run"]
        + example * (run.examples if run.model == "trained" else 0)
        + SECONDS["question"] * run.questions
        + SECONDS["sentence"] * run.represented
    )


def outstanding(runs: Iterable[Run], place: Place) -> list[Run]:
    """The runs that are not finished, each once, the dearest first. Equal names must be equal runs."""
    named: dict[str, Run] = {}
    for run in runs:
        assert named.setdefault(run.name, run) == run, f"two runs are called {run.name}"
    return sorted((run for run in named.values() if place.done(run) is None), key=expected_seconds, reverse=True)


@dataclass(frozen=True)
class Made:
    """What carrying out cost: the time on the clock, and how many runs were made."""

    seconds: float
    runs: int


def carry_out_all(
    plan: Callable[[], list[Run]], place: Place, *, workers: int, note: Callable[[str], None] | None = None
) -> Made:
    """Make every run that `plan` names, now or once others are finished. `workers` 0: in this process.

    Raises the first `LangBridgeError` of a run, after the runs beside it have ended.
    """
    started, made = time.monotonic(), 0

    def tell(record: dict[str, Any]) -> None:
        if note is not None:
            left = len(outstanding(plan(), place))
            note(f"{record['run']['name']}  {record['seconds']:.0f} s  ({left} known to be left)")

    if workers == 0:
        while left := outstanding(plan(), place):
            write_training(place.out, left[0])
            tell(carry_out(left[0], place))
            made += 1
        return Made(time.monotonic() - started, made)
    if not outstanding(plan(), place):
        return Made(0.0, 0)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
    try:
        running: dict[Future[dict[str, Any]], str] = {}
        while True:
            for run in outstanding(plan(), place):
                if len(running) < workers and run.name not in running.values():
                    write_training(place.out, run)
                    running[pool.submit(carry_out, run, place)] = run.name
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                try:
                    tell(future.result())
                except LangBridgeError as error:
                    raise LangBridgeError(f"run {name}: {error}") from error
                made += 1
    finally:
        pool.shutdown(cancel_futures=True)
    return Made(time.monotonic() - started, made)


def _begin_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # The notes of transformers and the harness are about parts of their own; a run's figures are in its folder.
    warnings.simplefilter("ignore")
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    torch.set_num_threads(1)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)


def _end_with_parent() -> None:
    """A study that was killed leaves no worker behind, which would write into runs that another one goes on with."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a worker"
    parent.join()
    os._exit(1)
