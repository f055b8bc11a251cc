"""The reading score (`model/reading.py`) in a training: on which rows it is taken, and what follows from it."""

import math
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from langbridge.data import BatchRow, RowTable
from langbridge.model.reading import ReadingScore, of_like_length
from langbridge.train.hyperparameters import Train

_READ = ("encoder_input_ids", "encoder_attention_mask", "input_ids", "attention_mask", "labels")
"""What the score takes of an objective's batch."""


class PlateauWarning(UserWarning):
    """The language model does not read the prompt."""


def reading_batches(table: RowTable, collate: Callable[..., dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """The score's rows as batches of like length and about `size` rows, none of a single row.

    Four batches where the rows suffice: unlabelled rows draw one length of their prefix a batch.
    """
    parts = max(1, len(table) // max(size, 2), min(4, len(table) // 4))
    batches = []
    for part, chosen in enumerate(of_like_length(list(table.lengths), parts)):
        batch = collate(table.__getitems__([BatchRow(row, part) for row in chosen]))
        batches.append({name: batch[name] for name in _READ})
    return batches


class ReadingMonitor(TrainerCallback):
    """Takes the score at an interval, logs it, and warns (or stops the run) where the prompt is not read.

    measure: takes the score. log: the trainer's. settings: when, and which scores are low. causes: what to say of them.
    save: writes a checkpoint where no step has been made. `stopped` holds the message of a run that was stopped.
    """

    def __init__(
        self,
        measure: Callable[[], ReadingScore],
        log: Callable[[dict[str, float]], None],
        settings: Train,
        causes: str,
        save: Callable[[], None],
    ) -> None:
        self.measure, self.log, self.settings, self.causes, self.save = measure, log, settings, causes, save
        self.steps = settings.reading_score_steps
        self.warned = False
        self.stopped: str | None = None
        self.seconds = self.last_seconds = 0.0
        """That this process spent on scores, and on the last of them."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not _scores(state):  # what the start is worth; a run that goes on has it in its log
            self.take()
            if not state.global_step and self._note_best(args, state):
                self.save()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.steps:
            return
        due = control.should_log
        self.take()
        control.should_log = due  # logging the score would cancel the line of the loss
        patience = self.settings.plateau_patience
        if self._note_best(args, state):
            control.should_save = True
        elif self._out_of_patience(state):
            control.should_training_stop = True
        recent = _scores(state)[1:][-patience:]
        if len(recent) == patience and all(map(self._is_low, recent)):
            if not self.warned:
                message = self._warn(state)
                if self.settings.stop_on_plateau:
                    self.stopped = message
                    control.should_training_stop = control.should_save = True
        elif recent and not self._is_low(recent[-1]):
            self.warned = False

    def _note_best(self, args: TrainingArguments, state: TrainerState) -> bool:
        """With `reading_score_patience`: whether the last score is the best so far, the start's among them, which is
        then noted."""
        *before, last = (entry["reading_score"] for entry in _scores(state))
        if self.settings.reading_score_patience is None or not last > max(before, default=-math.inf):
            return False
        state.best_metric, state.best_global_step = last, state.global_step
        state.best_model_checkpoint = f"{args.output_dir}/checkpoint-{state.global_step}"
        return True

    def _out_of_patience(self, state: TrainerState) -> bool:
        """By the log, which checkpoints hold: so a run that goes on counts on."""
        patience, scores = self.settings.reading_score_patience, [one["reading_score"] for one in _scores(state)]
        return patience is not None and len(scores) - 1 - scores.index(max(scores)) >= patience

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        found = _scores(state)
        if found and self._is_low(found[-1]) and not self.warned:
            self._warn(state)

    def take(self) -> None:
        """Take the score now, and log it."""
        started = time.monotonic()
        score = self.measure()
        self.last_seconds = time.monotonic() - started
        self.seconds += self.last_seconds
        self.log(score.logs())

    def seconds_to_come(self, state: TrainerState) -> float:
        """What the scores up to the run's end will take, at the last one's pace."""
        return (state.max_steps // self.steps - state.global_step // self.steps) * self.last_seconds

    def _is_low(self, entry: Mapping[str, float]) -> bool:
        # The rows are the same every time, so a chance that favours them would do so at every score.
        return entry["reading_score"] < max(self.settings.plateau_score, 2 * entry["reading_score_error"])

    def _warn(self, state: TrainerState) -> str:
        self.warned, last = True, _scores(state)[-1]
        message = (
            f"step {state.global_step}: the language model does not read the prompt: reading score "
            f"{last['reading_score']:.3f} ± {last['reading_score_error']:.3f} nats a target token, expected at least "
            f"{self.settings.plateau_score:g} and two errors. Likely causes: {self.causes}"
        )
        if state.is_world_process_zero:
            warnings.warn(message, PlateauWarning, stacklevel=2)
        return message


def _scores(state: TrainerState) -> list[dict[str, float]]:
    """The entries of a run's log with a reading score, from the start's on."""
    return [entry for entry in state.log_history if "reading_score" in entry]
