"""The reading score: how much a language model reads of what the bridge tells it.

Early in training, and for good with too little data or too small a learning rate, a bridge sits on a plateau: the
language model writes fluent answers without reading the prompt, and the loss alone does not show it. So the loss on
held-out rows is taken twice, with each row's own soft prompts and with another row's. What the swap costs is the score,
in nats a target token: about 0 where the prompt is not read.
"""

import itertools
import math
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from langbridge.data import BatchRow, RowTable
from langbridge.model import LangBridgeModel
from langbridge.model.configuration import IGNORE
from langbridge.train.hyperparameters import Train

Batch = Mapping[str, Tensor]

_READ = ("encoder_input_ids", "encoder_attention_mask", "input_ids", "attention_mask", "labels")
"""What the score takes of an objective's batch."""


class PlateauWarning(UserWarning):
    """The language model does not read the prompt."""


@dataclass(frozen=True, kw_only=True)
class ReadingScore:
    """`score` is `other` - `own`, in nats a target token, with its standard error over rows."""

    score: float
    error: float
    own: float
    other: float
    rows: int

    def logs(self) -> dict[str, float]:
        """The figures under the names that the log has them by."""
        return {
            "reading_score": self.score,
            "reading_score_error": self.error,
            "reading_own_loss": self.own,
            "reading_other_loss": self.other,
        }


def with_other_prompts(batch: Batch, bare: Collection[int] = ()) -> Batch:
    """The same sequences and targets behind another row's prompt; no row keeps its own. bare: the encoder's tokens that
    get no soft prompt.

        prompts of   0   1   2          0  1  2    rows of the batch, by length
        targets of   0   1   2    ->    1  2  0    whose prompt each gets

    Each row gets the next longer prompt, cut to the length of its own; the longest row gets the shortest, repeated.
    So every row has as many soft prompts as before, and what the swap costs is not a matter of their number. The last
    token, in most encoders an end mark, stays last.
    """
    mask = batch["encoder_attention_mask"].bool()
    sources = [ids[real].tolist() for ids, real in zip(batch["encoder_input_ids"], mask, strict=True)]
    spoken = [sum(token not in bare for token in ids) for ids in sources]
    assert len(sources) > 1, "one row alone has no other's prompt"
    by_length = sorted(range(len(sources)), key=lambda row: (spoken[row], len(sources[row]), row))
    swapped = []
    for row, own in enumerate(sources):
        place = by_length.index(row) + 1
        others = [other for other in [*by_length[place:], *by_length] if spoken[other]]
        theirs = sources[others[0]] if spoken[row] else own
        body, last = theirs[:-1], theirs[-1:]
        if all(token in bare for token in body):
            body, last = theirs, []
        wanted = spoken[row] - sum(token not in bare for token in last)
        kept: list[int] = []
        for token in itertools.cycle(body):
            if wanted <= 0:
                break
            kept.append(token)
            wanted -= token not in bare
        swapped.append(torch.tensor([*kept, *last]))
    pad = {"encoder_input_ids": swapped, "encoder_attention_mask": [torch.ones_like(ids) for ids in swapped]}
    return {**batch, **{name: nn.utils.rnn.pad_sequence(rows, batch_first=True) for name, rows in pad.items()}}


@torch.no_grad()
def reading_score(model: LangBridgeModel, batches: Sequence[Batch]) -> ReadingScore:
    """Take the score on batches of at least two rows each, with labels. The model's mode is left as it was.

    The standard error is that of a ratio of sums over rows (differences by target tokens).
    """
    was_training = model.training
    model.eval()
    own: list[float] = []
    other: list[float] = []
    tokens: list[int] = []
    for batch in batches:
        own += _row_losses(model, batch)
        other += _row_losses(model, with_other_prompts(batch, frozenset(model.config.bare_token_ids or [])))
        tokens += (batch["labels"][:, 1:] != IGNORE).sum(1).tolist()
    model.train(was_training)
    total, rows = sum(tokens), len(tokens)
    score = (sum(other) - sum(own)) / total
    residues = [(b - a - score * n) ** 2 for a, b, n in zip(own, other, tokens, strict=True)]
    error = math.sqrt(sum(residues) * rows / (rows - 1)) / total
    return ReadingScore(score=score, error=error, own=sum(own) / total, other=sum(other) / total, rows=rows)


def reading_batches(table: RowTable, collate: Callable[..., dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """The score's rows as batches of like length and about `size` rows, none of a single row.

    Four batches where the rows suffice: unlabelled rows draw one length of their prefix a batch.
    """
    order = sorted(range(len(table)), key=lambda row: table.lengths[row])
    parts = max(1, len(order) // max(size, 2), min(4, len(order) // 4))
    batches = []
    for part in range(parts):
        chosen = order[len(order) * part // parts : len(order) * (part + 1) // parts]
        batch = collate(table.__getitems__([BatchRow(row, part) for row in chosen]))
        batches.append({name: batch[name] for name in _READ})
    return batches


def _row_losses(model: LangBridgeModel, batch: Batch) -> list[float]:
    """The sum of the target tokens' losses of every row."""
    moved = {name: tensor.to(model.device) for name, tensor in batch.items()}
    losses = model(**moved, return_logits=False).token_losses
    assert losses is not None
    labels = batch["labels"][:, 1:] != IGNORE
    return [float(part.sum()) for part in losses.double().split(labels.sum(1).tolist())]


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
            if self._is_best(args, state):
                self.save()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.steps:
            return
        due = control.should_log
        self.take()
        control.should_log = due  # logging the score would cancel the line of the loss
        # Out of the log, which checkpoints hold, and not counted here: so a run that goes on counts on.
        patience = self.settings.plateau_patience
        if self._is_best(args, state):
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

    def _is_best(self, args: TrainingArguments, state: TrainerState) -> bool:
        """With `reading_score_patience`: whether the last score is the best so far, the start's among them, which is
        then noted."""
        last = _scores(state)[-1]["reading_score"]
        if self.settings.reading_score_patience is None or (
            state.best_metric is not None and last <= state.best_metric
        ):
            return False
        state.best_metric, state.best_global_step = last, state.global_step
        state.best_model_checkpoint = f"{args.output_dir}/checkpoint-{state.global_step}"
        return True

    def _out_of_patience(self, state: TrainerState) -> bool:
        patience, best = self.settings.reading_score_patience, state.best_global_step
        return patience is not None and best is not None and state.global_step >= best + patience * self.steps

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
