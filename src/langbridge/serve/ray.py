"""Requests answered by workers on many machines, through Ray Data: it places workers, hands them blocks, and starts
again those that die. What is kept, and in which order it is put together, is ours (`blocks.py`)."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.serve.blocks import Blocks
from langbridge.serve.engine import Decoding, Engine, Request

try:
    import ray
    import ray.data
except ImportError:
    raise LangBridgeError("--engine ray: Ray is not installed; pip install 'langbridge[ray]'") from None

_LIVES = 3
"""How often a worker is started anew, and a block tried again, before the run gives up."""


def answer_with_ray(
    blocks: Blocks, open_engine: Callable[[], Engine], decoding: Decoding, *, workers: int | None = None
) -> Iterator[int]:
    """Answer the blocks that are missing, and keep each as it comes; yields their numbers of rows.

    open_engine: called once by each worker. workers: one a GPU by default, or one a machine where there are none. Ray
    is asked at `RAY_ADDRESS`, or started on this machine. Raises `LangBridgeError`.
    """
    missing = {number: block for number, block in enumerate(blocks.blocks) if not block.done}
    if not missing:
        return
    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what a user can do something about comes as errors
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        size = min(workers or gpus or len(ray.nodes()), len(missing))
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = [
            {"block": number, "requests": json.dumps([asdict(one) for one in block.requests])}
            for number, block in missing.items()
        ]
        answered = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Worker,
            fn_constructor_args=(open_engine, decoding),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=size),
            num_gpus=1 if gpus else None,
            ray_remote_args_fn=_lives,
        )
        for row in answered.iter_rows():
            block = missing[row["block"]]
            if row["error"]:
                raise LangBridgeError(f"{row['error']} (counted among rows {_listed(block.places)})")
            block.keep(json.loads(row["answers"]))
            yield len(block.places)
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise LangBridgeError(
            f"--engine ray: a worker failed {_LIVES + 1} times, or could not start ({reason}); what was answered is "
            f"kept in {blocks.folder}, and the same command goes on with it"
        ) from error
    finally:
        if started:
            ray.shutdown()


class _Worker:
    """One engine, and the blocks that it is given."""

    def __init__(self, open_engine: Callable[[], Engine], decoding: Decoding):
        self.engine, self.decoding = open_engine(), decoding

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {"block": list(batch["block"]), "answers": [], "error": []}
        for text in batch["requests"]:
            try:
                answers = self.engine.answers([Request(**fields) for fields in json.loads(text)], self.decoding)
                texts, error = [answer.text for answer in answers], ""
            except LangBridgeError as wrong:
                texts, error = [], str(wrong)
            found["answers"].append(json.dumps(texts))
            found["error"].append(error)
        return found


def _lives() -> dict[str, int]:
    return {"max_restarts": _LIVES, "max_task_retries": _LIVES}


def _listed(places: Any) -> str:
    return ", ".join(str(place + 1) for place in places)
