"""A step that is not finite ends the run before the optimiser sees it, and says which rows it was made of.

An update by a loss or a gradient that is infinite or not a number destroys the weights, and a run that skips such steps
in silence hides what is wrong with its data.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from langbridge.errors import LangBridgeError

SHOWN = 16
"""Rows that a message names."""


def check_loss(loss: torch.Tensor, step: int, rows: Sequence[str] | None) -> None:
    """Raise `LangBridgeError` for a loss that is not finite. `step` is the update under way, counted from 1."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise _stopped(step, f"the loss is {value}", rows)


class GradientGuard(TrainerCallback):
    """Raises `LangBridgeError` before an update whose gradient is not finite.

    `rows` is filled by the trainer with the origins of the step's rows, and emptied here.
    """

    def __init__(self) -> None:
        self.rows: list[str] = []

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        rows, self.rows = self.rows, []
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        # Of a gradient in pieces this process's own; one process that stops stops them all.
        gradients = [grad.to_local() if isinstance(grad, DTensor) else grad for grad in gradients]
        if not gradients:
            return  # an engine that keeps them to itself (DeepSpeed); the loss is checked all the same
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if not math.isfinite(norm):
            raise _stopped(state.global_step + 1, f"the gradient's norm is {norm}", rows)


def _stopped(step: int, what: str, rows: Sequence[str] | None) -> LangBridgeError:
    named = ", ".join((rows or [])[:SHOWN]) or "unknown, because the data does not say where they are from"
    if rows and len(rows) > SHOWN:
        named += f" and {len(rows) - SHOWN} more"
    return LangBridgeError(
        f"step {step}: {what}, so the update was not made. Rows: {named}. Look at these rows first; a smaller "
        "train.learning_rate or train.max_grad_norm, and dtype: float32, are the other usual cures. The last "
        "checkpoint is untouched"
    )
