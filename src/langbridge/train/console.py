"""What a run says of itself while it goes on: one line a log step on stderr, and the figures behind it."""

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from langbridge.data.examples import Skipped
from langbridge.model import LangBridgeModel
from langbridge.model.language_marks import own_mark
from langbridge.train.prepare import Prepared
from langbridge.train.reading import ReadingMonitor

Tell = Callable[[str], None]
"""What a line of progress is given to: `say`, or what passes it over."""


def say(line: str) -> None:
    """Print a line to stderr."""
    print(line, file=sys.stderr, flush=True)


def peak_memory() -> float:
    """GiB that this process has held at most: of the GPU where there is one, else of the machine."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes there, KiB elsewhere


def duration(seconds: float) -> str:
    """Seconds as a person says them: 48 s, 12 min, 3 h 05 min, 2 d 04 h."""
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{seconds / 60:.0f} min"
    return f"{hours} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24:02d} h"


def tell_of_bridge(model: LangBridgeModel, prepared: Prepared, tell: Tell) -> None:
    """What a user may not expect of the encoder."""
    limit, most = model.encoder_length_limit, prepared.recipe.max_encoder_length
    if limit is not None and limit < most:
        tell(f"max_encoder_length is {most}, but the encoder reads {limit} tokens at most")
    if model.config.freeze_encoder and model.config.train_new_rows:
        tell("the prompts hold white space that the encoder's tokenizer would lose: training its new rows")
    if mark := own_mark(prepared.processor.encoder_tokenizer):
        tell(f"the encoder's tokenizer marks the language of its input: {mark} on every row")


def tell_of_rows(prepared: Prepared, tell: Tell) -> None:
    """How many rows there are of each kind, and which were left out."""
    reading = prepared.reading
    if prepared.table is not None:
        kept = f"{len(prepared.table)} rows to train on"
        if reading is not None and not prepared.validation:
            kept += f", {len(reading[1])} more kept apart for the reading score"
        tell_skipped(kept, prepared.table.skipped, tell)
    for kind, table in prepared.validation.items():
        tell_skipped(f"{len(table)} {kind} rows to validate on", table.skipped, tell)
    if reading is None and prepared.objective.bridged and prepared.recipe.train.reading_score_steps:
        tell(
            "no reading score: the rows are too few, or streamed, to keep some apart; "
            "data.validation_path gives it held-out ones"
        )


def tell_skipped(kept: str, skipped: Skipped, tell: Tell) -> None:
    """`kept`, and which rows were left out."""
    for line in skipped.first:
        tell(f"left out: {line}")
    tell(f"{kept}; {skipped}" if skipped else kept)


class ConsoleLog(TrainerCallback):
    """One line a log step: step, loss, reading score, learning rate, tokens a second, time left, peak memory.

    step 120/1562  loss 0.6521  reading 0.014  lr 6.0e-04  5120 tokens/s  2 h 05 min left  38.2 GiB
    """

    def __init__(self, monitor: ReadingMonitor | None, tell: Tell) -> None:
        self.monitor, self.tell = monitor, tell
        self.started, self.first_step = 0.0, 0
        self.reading: float | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.started, self.first_step = time.monotonic(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if logs is None or not state.is_world_process_zero:
            return
        self.reading = logs.get("reading_score", self.reading)
        step = f"step {state.global_step}/{state.max_steps}"
        validation = [
            f"{name.removeprefix('eval_').replace('_', ' ')} {value:.4f}"
            for name, value in logs.items()
            if name.startswith("eval_") and name.endswith("loss")
        ]
        if "loss" in logs:
            self.tell("  ".join([step, *self._training(logs, state)]))
        elif validation:
            self.tell("  ".join([f"{step}  validation {validation[0]}", *validation[1:]]))
        elif "reading_score" in logs and state.global_step == 0:
            score = f"reading {logs['reading_score']:.3f} ± {logs['reading_score_error']:.3f}"
            self.tell(f"{step}  {score} before training" if state.max_steps else f"{score} without training")

    def _training(self, logs: dict[str, float], state: TrainerState) -> list[str]:
        # Steps of this process alone: a run that goes on has made the others earlier.
        made = max(state.global_step - self.first_step, 1)
        spent, to_come = (self.monitor.seconds, self.monitor.seconds_to_come(state)) if self.monitor else (0.0, 0.0)
        elapsed = time.monotonic() - self.started - spent
        left = elapsed / made * (state.max_steps - state.global_step) + to_come
        return [
            f"loss {logs['loss']:.4f}",
            *([] if self.reading is None else [f"reading {self.reading:.3f}"]),
            f"lr {logs['learning_rate']:.1e}",
            f"{logs['tokens_per_second']:.0f} tokens/s",
            f"{duration(left)} left",
            f"{logs['peak_memory_gib']:.1f} GiB",
        ]
