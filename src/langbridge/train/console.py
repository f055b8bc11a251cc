"""What a run says of itself while it goes on: one line a log step on stderr, and the figures behind it."""

import resource
import sys
import time
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from langbridge.train.reading import ReadingMonitor

GIB = 1024**3


def say(line: str) -> None:
    """Print a line to stderr."""
    print(line, file=sys.stderr, flush=True)


def peak_memory() -> float:
    """GiB that this process has held at most: of the GPU where there is one, else of the machine."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / GIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / GIB if sys.platform == "darwin" else peak * 1024 / GIB  # bytes there, KiB elsewhere


def duration(seconds: float) -> str:
    """Seconds as a person says them: 48 s, 12 min, 3 h 05 min, 2 d 04 h."""
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes:.0f} min"
    if hours < 48:
        return f"{int(hours)} h {int(minutes) % 60:02d} min"
    return f"{int(days)} d {int(hours) % 24:02d} h"


class ConsoleLog(TrainerCallback):
    """One line a log step: step, loss, reading score, learning rate, tokens a second, time left, peak memory.

    step 120/1562  loss 0.6521  reading 0.014  lr 6.0e-04  5120 tokens/s  2 h 05 min left  38.2 GiB
    """

    def __init__(self, monitor: ReadingMonitor | None = None) -> None:
        self.started, self.first_step = 0.0, 0
        self.monitor = monitor
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
        validation = {name: value for name, value in logs.items() if name.startswith("eval_") and name.endswith("loss")}
        figures = [f"step {state.global_step}/{state.max_steps}"]
        if "loss" in logs:
            figures += self._training(logs, state)
        elif validation:
            figures += [f"{name.removeprefix('eval_').replace('_', ' ')} {v:.4f}" for name, v in validation.items()]
            figures[1] = f"validation {figures[1]}"
        elif "reading_score" in logs and state.global_step == 0:
            figures += [f"reading {logs['reading_score']:.3f} ± {logs['reading_score_error']:.3f} before training"]
            figures = figures if state.max_steps else [figures[1].replace("before", "without")]
        else:
            return
        say("  ".join(figures))

    def _training(self, logs: dict[str, float], state: TrainerState) -> list[str]:
        # Steps of this process alone: a run that goes on has made the others earlier.
        made = max(state.global_step - self.first_step, 1)
        scores = (self.monitor.seconds, self.monitor.seconds_to_come(state)) if self.monitor else (0.0, 0.0)
        elapsed = time.monotonic() - self.started - scores[0]
        left = elapsed / made * (state.max_steps - state.global_step) + scores[1]
        figures = [f"loss {logs['loss']:.4f}"]
        if self.reading is not None:
            figures.append(f"reading {self.reading:.3f}")
        figures.append(f"lr {logs['learning_rate']:.1e}")
        if "tokens_per_second" in logs:
            figures.append(f"{logs['tokens_per_second']:.0f} tokens/s")
        figures.append(f"{duration(left)} left")
        if "peak_memory_gib" in logs:
            figures.append(f"{logs['peak_memory_gib']:.1f} GiB")
        return figures
