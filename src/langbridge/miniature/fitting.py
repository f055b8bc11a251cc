"""The build's training loop: AdamW, warm-up and cosine, saved state, a log line now and then.

Batches are functions of the step, so a build that was stopped continues exactly.
"""

import math
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from torch import Tensor, nn

SAVE_EVERY = 300.0
"""Seconds between two saved states."""


def fit(
    model: nn.Module,
    loss_of: Callable[[int], dict[str, Tensor]],
    *,
    steps: int,
    learning_rate: float,
    warmup: int,
    state: Path,
    log: Callable[[str], None],
    every: int = 100,
    check: Callable[[int], str] | None = None,
    check_every: int = 500,
    keep: Callable[[int], object] | None = None,
    keep_at: Collection[int] = (),
) -> None:
    """Train `model` in place; `loss_of(step)` gives named losses of which "loss" is minimised.

    `state` is written every `SAVE_EVERY` seconds and read if it is there. `check` adds a line to the log. `keep(step)`
    is called after each of the steps `keep_at`, with the model in eval mode.
    """
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01),
    )
    first, spent = 0, 0.0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        first, spent = saved["step"], saved["seconds"]
        log(f"going on from step {first}")

    def save(step: int) -> None:
        state.parent.mkdir(parents=True, exist_ok=True)
        temporary = state.with_suffix(".tmp")
        torch.save(
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "step": step,
                "seconds": spent + time.monotonic() - started,
            },
            temporary,
        )
        os.replace(temporary, state)

    started = saved_at = time.monotonic()
    sums: dict[str, tuple[float, int]] = {}
    model.train()
    for step in range(first, steps):
        losses = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        for name, value in losses.items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = (total + value.item(), count + 1)
        if (step + 1) % every == 0:
            means = "  ".join(f"{name} {total / count:.4f}" for name, (total, count) in sums.items())
            log(f"step {step + 1}/{steps}  {means}  {spent + time.monotonic() - started:.0f} s")
            sums = {}
        if keep is not None and step + 1 in keep_at:
            model.eval()
            keep(step + 1)
            model.train()
        if time.monotonic() - saved_at > SAVE_EVERY:
            save(step + 1)
            saved_at = time.monotonic()
        if check is not None and (step + 1) % check_every == 0:
            model.eval()
            log(f"step {step + 1}: {check(step + 1)}")
            model.train()
    save(steps)
    model.eval()
