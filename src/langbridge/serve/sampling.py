"""Sampled answers that can be drawn again: a seed for every batch, of what is asked in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from langbridge.serve.engine import fingerprint

SEED = 42


@contextmanager
def seeded(batch: list[Any], seed: int = SEED) -> Iterator[None]:
    """Random numbers inside depend only on the seed and the batch, not on what was drawn before or is asked later;
    outside they go on as if nothing had been drawn.

    batch: what is asked, with the place of each among several samples of the same question, or they would be the same.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(int(fingerprint({"seed": seed, "batch": batch}), 16) % 2**63)
        yield
