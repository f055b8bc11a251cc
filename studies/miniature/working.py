"""Many runs at once, each in a process of its own with one thread: models this small gain little from a second one.

Runs depend on each other only through the planner, which is asked again when all that it named are finished. A study
that was killed goes on, because finished runs say so on disk.
"""

import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed

import torch

from langbridge.errors import LangBridgeError
from studies.miniature.data import write_training
from studies.miniature.runs import Run, Study, carry_out

SECONDS = {"run": 8.0, "question": 0.018, "sentence": 0.15}
EXAMPLE = 0.0145
"""What a run and an example of its training cost on one core of a busy machine, about: to foretell how long a study
takes, and to start the longest first."""


def expected_seconds(run: Run) -> float:
    """Of one core."""
    return (
        SECONDS["run"]
        + EXAMPLE * (run.examples if run.model == "trained" else 0)
        + SECONDS["question"] * run.questions
        + SECONDS["sentence"] * run.represented
    )


def outstanding(runs: Iterable[Run], study: Study) -> list[Run]:
    """The runs that are not finished, each once, the longest first. Equal names must be equal runs."""
    named: dict[str, Run] = {}
    for run in runs:
        assert named.setdefault(run.name, run) == run, f"two runs are called {run.name}"
    return sorted((run for run in named.values() if study.done(run) is None), key=expected_seconds, reverse=True)


def carry_out_all(
    plan: Callable[[], list[Run]], study: Study, pool: Executor, note: Callable[[str], None] = lambda _: None
) -> int:
    """Make every run that `plan` names, and what it names once those are finished; how many were made.

    Raises the first error of a run; the caller shuts the pool down.
    """
    made = 0
    while left := outstanding(plan(), study):
        for run in left:
            write_training(study.out, run)
        running = {pool.submit(carry_out, run, study): run.name for run in left}
        for waiting, future in zip(reversed(range(len(running))), as_completed(running), strict=True):
            try:
                seconds = future.result()["seconds"]
            except LangBridgeError as error:
                raise LangBridgeError(f"run {running[future]}: {error}") from error
            note(f"{running[future]}  {seconds:.0f} s  ({waiting} known to be left)")
            made += 1
    return made


def workers(count: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker)


def _begin_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # The notes of transformers and the harness are about parts of their own; a run's figures are in its folder.
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)


def _end_with_parent() -> None:
    """A study that was killed leaves no worker behind, which would write into runs that another one goes on with."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a worker"
    parent.join()
    os._exit(1)
