"""Requests answered by workers on many machines, through Ray: it places workers, hands them blocks, and starts again
those that die. What is kept, and in which order it is put together, is ours (`blocks.py`)."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.serve.blocks import Block, Blocks
from langbridge.serve.engine import Decoding, Engine, Request

try:
    import ray
    from ray.util import ActorPool
except ImportError:
    raise LangBridgeError("--engine ray: Ray is not installed; pip install 'langbridge[ray]'") from None

_LIVES = 3
"""How often a worker is started again, and a block tried again, before the run gives up."""


def answer_with_ray(
    blocks: Blocks, open_engine: Callable[[], Engine], decoding: Decoding, *, workers: int | None = None
) -> Iterator[int]:
    """Answer the blocks that are missing, and keep each as it comes; yields their numbers of rows.

    open_engine: called once by each worker. workers: one a GPU by default, or one a machine where there are none. Ray
    is asked at `RAY_ADDRESS`, or started on this machine. Raises `LangBridgeError`.
    """
    missing = [block for block in blocks.blocks if not block.done]
    if not missing:
        return
    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    team: list[Any] = []
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        needs = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        worker: Any = ray.remote(_Worker)
        worker = worker.options(max_restarts=_LIVES, max_task_retries=_LIVES, **needs)
        size = min(workers or gpus or len(ray.nodes()), len(missing))
        team += [worker.remote(open_engine, decoding) for _ in range(size)]
        numbered = list(enumerate(missing))
        for number, found in ActorPool(team).map_unordered(_give, numbered):
            block = missing[number]
            if isinstance(found, str):
                raise LangBridgeError(f"{found} (counted among {_rows(block)})")
            block.keep(found)
            yield len(block.places)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise LangBridgeError(
            f"--engine ray: a worker failed {_LIVES + 1} times, or could not start ({reason}); what was answered is "
            f"kept in {blocks.folder}, and the same command goes on with it"
        ) from error
    finally:
        for one in team:
            ray.kill(one)
        if started:
            ray.shutdown()


class _Worker:
    """One engine, and the blocks that it is given."""

    def __init__(self, open_engine: Callable[[], Engine], decoding: Decoding):
        self._open, self._decoding = open_engine, decoding
        self._engine: Engine | None = None

    def answer(self, number: int, requests: Sequence[Request]) -> tuple[int, list[str] | str]:
        """The block's number with its answers, or with what is wrong with it."""
        try:
            self._engine = self._engine or self._open()
            return number, [answer.text for answer in self._engine.answers(requests, self._decoding)]
        except LangBridgeError as error:
            return number, str(error)


def _give(worker: Any, numbered: tuple[int, Block]) -> Any:
    number, block = numbered
    return worker.answer.remote(number, block.requests)


def _rows(block: Block) -> str:
    return "rows " + ", ".join(str(place + 1) for place in block.places)
