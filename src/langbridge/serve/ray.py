"""Requests answered by workers on many machines, through Ray: it places workers, hands them blocks, and starts again
those that die. What is kept, and in which order it is put together, is ours (`blocks.py`)."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
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

    open_engine: called once by each worker. workers: one a GPU by default, or one a machine where there are none; more
    than there is room for are an error. Ray is asked at `RAY_ADDRESS`, or started on this machine. Raises
    `LangBridgeError`.
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
        size, needs = places(ray.nodes(), workers, len(missing))
        worker: Any = ray.remote(_Worker)
        # Spread, since on one machine they would share its memory and its cores.
        lives = {"max_restarts": _LIVES, "max_task_retries": _LIVES}
        worker = worker.options(scheduling_strategy="SPREAD", **lives, **needs)
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


def places(nodes: Sequence[Mapping[str, Any]], workers: int | None, blocks: int) -> tuple[int, dict[str, int]]:
    """How many workers there are to be, and what each asks of its machine: a GPU, or, where there are none, as many of
    its cores as leave room for the others. nodes: as Ray lists them, dead ones among them. workers: as in
    `answer_with_ray`. Raises `LangBridgeError` where so many could never be placed."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    kind = "GPU" if any(one.get("GPU", 0) >= 1 for one in alive) else "CPU"
    room = [int(one[kind]) for one in alive if one.get(kind, 0) >= 1]
    if (workers or 1) > sum(room):
        raise LangBridgeError(
            f"--workers: got {workers or 1}, expected at most {sum(room)}: so many {kind}s Ray has now, on {len(room)} "
            f"{'machine' if len(room) == 1 else 'machines'}, and a worker takes one at least; give fewer, or let more "
            "machines join first"
        )
    if kind == "GPU":
        return min(workers or sum(room), blocks), {"num_gpus": 1}
    size = min(workers or len(room), blocks)
    # By them Ray sets OMP_NUM_THREADS.
    return size, {"num_cpus": max(1, min(room) // ceil(size / len(room)))}


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
