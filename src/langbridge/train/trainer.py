"""Hugging Face's `Trainer` with what a bridge needs of its own: parameter groups and batches of like length."""

import random
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from langbridge.model import LangBridgeModel


class BridgeTrainer(Trainer):
    """`Trainer` for a bridge.

    `encoder_learning_rate` and `encoder_weight_decay` hold for the encoder's weights, `args.learning_rate` and
    `args.weight_decay` for the connector, its end vector and new embedding rows (LangBridge, appendix D).
    `lengths` are the training rows' lengths, for batches that pad little; without them the order is random.
    """

    def __init__(
        self,
        *args: Any,
        encoder_learning_rate: float = 2e-5,
        encoder_weight_decay: float = 0.1,
        lengths: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.encoder_settings = {"lr": encoder_learning_rate, "weight_decay": encoder_weight_decay}
        self.lengths = lengths
        super().__init__(*args, **kwargs)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:  # type: ignore[has-type]
            self.optimizer = self._build_optimizer()
        return self.optimizer

    def _build_optimizer(self) -> torch.optim.Optimizer:
        assert isinstance(self.model, LangBridgeModel)
        settings = {"lr": self.args.learning_rate, "weight_decay": self.args.weight_decay}
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        encoder = [p for name, p in trained if name.startswith("encoder.")]
        bridge = [p for name, p in trained if not name.startswith("encoder.")]
        groups: list[dict[str, Any]] = [{"params": bridge, **settings}]
        if encoder:
            groups.append({"params": encoder, **self.encoder_settings})
        optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        return optimizer_class(groups, **options)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.lengths is None:
            return super()._get_train_sampler(train_dataset)
        return LengthGrouped(self.lengths, self.args.train_batch_size, self.args.seed)


class LengthGrouped(Sampler[int]):
    """Every row once an epoch, in batches of like length, the batches in random order.

    Rows are shuffled, sorted by length within windows of 50 batches, and the batches shuffled again. The order is a
    function of (seed, epoch) alone, so that a run can be gone on with.
    """

    WINDOW = 50

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed}/{self.epoch}")
        order = list(range(len(self.lengths)))
        rng.shuffle(order)
        window = self.batch_size * self.WINDOW
        batches: list[list[int]] = []
        for first in range(0, len(order), window):
            rows = sorted(order[first : first + window], key=lambda row: self.lengths[row])
            batches += [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        # A short batch goes last: in the middle it would shift every later batch across two groups.
        short = [batch for batch in batches if len(batch) < self.batch_size]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rng.shuffle(full)
        for batch in full + short:
            yield from batch


class ConsoleLog(TrainerCallback):
    """One line on stderr a log step: step, loss, learning rate, rows a second, time left."""

    def __init__(self) -> None:
        self.started = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.started = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if logs is None or not state.is_world_process_zero or not {"loss", "eval_loss"} & set(logs):
            return
        seconds = time.monotonic() - self.started
        rows = state.global_step * args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        left = seconds / max(state.global_step, 1) * (state.max_steps - state.global_step)
        figures = "  ".join(
            f"{name} {logs[name]:.4g}" for name in ("loss", "eval_loss", "learning_rate") if name in logs
        )
        line = f"step {state.global_step}/{state.max_steps}  {figures}  {rows / seconds:.0f} rows/s  {left:.0f} s left"
        print(line, file=sys.stderr, flush=True)
