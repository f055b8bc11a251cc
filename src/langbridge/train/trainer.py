"""Hugging Face's `Trainer` with what a bridge needs of its own.

Parameter groups, batches of like length, small checkpoints, a validation loss by tokens, no step that is not finite. It
trains a plain language model as well, for the baselines.
"""

import contextlib
import copy
import inspect
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from langbridge.data import Example, LabelledCollator
from langbridge.data.examples import Extractor
from langbridge.data.settings import Source
from langbridge.data.stream import RowStream
from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel
from langbridge.model.encoders import encoder_depth
from langbridge.train.checkpointing import CheckpointKeeper, Checkpoints
from langbridge.train.console import peak_memory
from langbridge.train.finite import GradientGuard, check_loss
from langbridge.train.microbatches import in_passes, passes_needed
from langbridge.train.objectives import Loss, target_loss
from langbridge.train.parts import Part, parts_of
from langbridge.train.reading import ReadingMonitor
from langbridge.train.sampler import LengthGrouped
from langbridge.train.sharding import check_whole_in_layers
from langbridge.train.streaming import StreamLoader
from langbridge.train.validation import validation_loss


class BridgeTrainer(Checkpoints):
    """`Trainer` for a bridge, or for a plain language model.

    `encoder_learning_rate` and `encoder_weight_decay` hold for the encoder's weights, `args.learning_rate` and
    `args.weight_decay` for the connector, its end vector and new embedding rows (LangBridge, appendix D), or for the
    plain language model. `parts` with rates of their own may be given in their stead.

    train_dataset, eval_dataset: `Example`s with their collator as `data_collator`; or, without one, a
        `datasets.Dataset` with text columns, `input` and `output`, cut to `max_encoder_length` and `max_length`.
        `eval_dataset` may be several by name, `eval_collators` then names those that have a collator of their own.
    lengths, eval_lengths: the rows' lengths in any unit, for batches that pad little; without them the order is random.
    positions_per_pass: most positions, padding included, in one forward and backward pass; a batch of longer rows takes
        several. None for one pass a batch.
    loss: the sum of the losses of a batch, and of how many target tokens; an objective's, by default the bridge's own.
    records: texts by file name, laid beside every checkpoint.

    Raises `LangBridgeError` for what `Trainer` has and this one has not: label smoothing, metrics, dropped batches,
    iterable datasets.
    """

    def __init__(
        self,
        *args: Any,
        encoder_learning_rate: float = 2e-5,
        encoder_weight_decay: float = 0.1,
        parts: Sequence[Part] | None = None,
        loss: Loss = target_loss,
        positions_per_pass: int | None = None,
        lengths: Sequence[int] | None = None,
        eval_lengths: Mapping[str, Sequence[int]] | None = None,
        eval_collators: Mapping[str, Any] | None = None,
        records: Mapping[str, str] | None = None,
        input: str = "query",
        output: str = "response",
        max_encoder_length: int = 1024,
        max_length: int = 1152,
        **kwargs: Any,
    ) -> None:
        given = inspect.signature(super().__init__).bind(*args, **kwargs).arguments
        _refuse_what_is_not_done(given)
        self.positions_per_pass = positions_per_pass
        self.eval_lengths = dict(eval_lengths or {})
        self.eval_collators = dict(eval_collators or {})
        self.records = dict(records or {})
        self.objective_loss = loss
        arguments = given.get("args")
        if arguments is not None:
            # The caller's stay the caller's. One process drives one GPU: left to itself, `Trainer` would cut each batch
            # over all that it sees, and it has no other switch for that. It would also delete earlier checkpoints
            # before the next one is complete; `CheckpointKeeper` does so afterwards.
            given["args"] = arguments = copy.copy(arguments)
            self.kept, arguments.save_total_limit = arguments.save_total_limit, None
            if arguments.n_gpu > 1:
                arguments._n_gpu = 1
            model = given.get("model")
            if arguments.ddp_find_unused_parameters is None and isinstance(model, LangBridgeModel):
                arguments.ddp_find_unused_parameters = _trains_unread_layers(model)
        super().__init__(**given)
        if self.is_fsdp_enabled or is_deepspeed_zero3_enabled():
            check_whole_in_layers(self.model)
        if self.is_fsdp_enabled and self.accelerator.state.fsdp_plugin.fsdp_version != 2:
            raise LangBridgeError("train.fsdp_config: got version 1; expected 2, whose pieces a checkpoint is made of")
        if parts is None:
            parts = parts_of(
                self.model, self.args.learning_rate, self.args.weight_decay,
                encoder_learning_rate, encoder_weight_decay,
            )  # fmt: skip
        self.parts = list(parts)
        if given.get("data_collator") is None:
            self.data_collator = ColumnCollator(
                input, output, LabelledCollator(self.processing_class, max_encoder_length=max_encoder_length,
                                                max_length=max_length),
            )  # fmt: skip
            if lengths is None and self.train_dataset is not None:
                lengths = self.data_collator.lengths(self.train_dataset)
        self.lengths = lengths
        self.guard = GradientGuard()
        self.sampler: LengthGrouped | None = None
        self.monitor: ReadingMonitor | None = None
        self._tokens, self._since = 0, time.monotonic()
        # Ours stops at what is not finite; Hugging Face's would hide it in the log.
        self.args.logging_nan_inf_filter = False
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        self.add_callback(self.guard)
        self.add_callback(CheckpointKeeper(self))
        self.add_callback(_Upkeep(self))

    # What is trained, and how

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:  # type: ignore[has-type]
            groups: dict[str, dict[str, Any]] = {}
            for part in self.parts:
                own = {"params": [], "lr": part.learning_rate, "weight_decay": part.weight_decay}
                groups.setdefault(part.group, own)["params"] += part.trained
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = optimizer_class([group for group in groups.values() if group["params"]], **options)
        return self.optimizer

    # Data

    def get_train_dataloader(self) -> Any:
        """Batches of like length out of a map-style dataset; a stream brings its own order and its own shards."""
        if self.train_dataset is None:
            raise LangBridgeError("train_dataset: got none, expected the rows to train on")
        options: dict[str, Any] = {
            "collate_fn": self.data_collator,
            "num_workers": self.args.dataloader_num_workers,
            "pin_memory": self.args.dataloader_pin_memory and torch.cuda.is_available(),
            # Its own, or the loader would draw from the run's random numbers.
            "generator": torch.Generator().manual_seed(self.args.seed),
        }
        if isinstance(self.train_dataset, RowStream):
            self.stream = StreamLoader(self.train_dataset, self._train_batch_size, **options)
            return self.stream
        rows = len(self.train_dataset)
        self.sampler = LengthGrouped(
            self.lengths if self.lengths is not None else [0] * rows,
            self._train_batch_size,
            self.args.seed,
            rank=self.args.process_index,
            ranks=self.args.world_size,
            accumulated=self.args.gradient_accumulation_steps,
        )
        return DataLoader(self.train_dataset, batch_sampler=self.sampler, **options)

    # A step

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        self._tokens += int(inputs["attention_mask"].sum())
        self.guard.rows += inputs.get("rows", [])
        if self.positions_per_pass is None or num_items_in_batch is None:
            return super().training_step(model, inputs, num_items_in_batch)
        # Every process takes as many as the one that needs most, since models cut up among them run in step.
        needed = torch.tensor(passes_needed(inputs, self.positions_per_pass), device=self.args.device)
        passes = in_passes(inputs, int(self.accelerator.gather(needed).max()))
        losses = []
        for place, part in enumerate(passes, start=1):
            # Gradients are shared among the processes once, after the last.
            shared = contextlib.nullcontext() if place == len(passes) else self.accelerator.no_sync(model)
            with shared:
                losses.append(super().training_step(model, part, num_items_in_batch))
        return torch.stack(losses).sum()

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        rows = inputs.pop("rows", None)
        if return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        total, count = self.objective_loss(model, inputs)
        if num_items_in_batch is None:
            loss = total / count
        else:  # of all passes and processes, whose gradients are averaged
            shared = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            loss = total / num_items_in_batch * shared
        check_loss(loss, self.state.global_step + 1, rows)
        return loss

    # What is measured

    @contextlib.contextmanager
    def off_the_clock(self) -> Iterator[None]:
        """Leave what is done inside out of the tokens a second."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._since += time.monotonic() - started

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The validation loss of every validation set: `eval_loss`, or `eval_NAME_loss` where they have names."""
        datasets = self.eval_dataset if eval_dataset is None else eval_dataset
        if not isinstance(datasets, Mapping):
            datasets = {"": datasets}
        metrics: dict[str, float] = {}
        for name, dataset in datasets.items():
            collate = self.eval_collators.get(name, self.data_collator)
            lengths = self.eval_lengths.get(name)
            with self.off_the_clock():
                loss, tokens = validation_loss(self, dataset, collate, lengths, self.objective_loss)
            prefix = f"{metric_key_prefix}_{name}" if name else metric_key_prefix
            metrics |= {f"{prefix}_loss": loss, f"{prefix}_tokens": tokens}
        self.log(metrics)
        # Of several sets the first stands for all where the best checkpoint is chosen.
        metrics.setdefault(f"{metric_key_prefix}_loss", next(iter(metrics.values())))
        control: Any = self.control  # type: ignore[has-type]
        self.control = self.callback_handler.on_evaluate(self.args, self.state, control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            # Positions that the language model read, soft prompts included and padding not.
            tokens = self.accelerator.reduce(torch.tensor(float(self._tokens), device=self.args.device), "sum")
            now = time.monotonic()
            logs["tokens_per_second"] = float(tokens) / max(now - self._since, 1e-9)
            logs["peak_memory_gib"] = peak_memory()
            self._tokens, self._since = 0, now
        super().log(logs, start_time)


def _trains_unread_layers(model: LangBridgeModel) -> bool:
    """Whether a trained encoder has layers above all that the connector reads, to which no gradient runs."""
    layers = model.config.connector.encoder_layers
    depth = encoder_depth(model.config.encoder_config)
    return not model.config.freeze_encoder and layers is not None and max(layers) < depth


def _refuse_what_is_not_done(given: Mapping[str, Any]) -> None:
    """Of `Trainer`'s arguments those that would be passed over in silence, or make a wrong loss."""
    arguments, rows = given.get("args"), given.get("train_dataset")
    if arguments is not None and arguments.label_smoothing_factor > 0:
        # Hugging Face smooths the labels as they stand, not moved on by one as a causal language model reads them.
        raise LangBridgeError(f"label_smoothing_factor: got {arguments.label_smoothing_factor:g}, expected 0")
    if arguments is not None and arguments.dataloader_drop_last:
        raise LangBridgeError("dataloader_drop_last: got True, expected False: every row is trained on in every epoch")
    for name in ("compute_metrics", "preprocess_logits_for_metrics"):
        if given.get(name) is not None:
            raise LangBridgeError(f"{name}: expected none: evaluate() measures the loss alone; score the saved bridge")
    iterable = isinstance(rows, IterableDataset) or not hasattr(rows, "__len__")
    if rows is not None and iterable and not isinstance(rows, RowStream):
        raise LangBridgeError(
            f"train_dataset: got {type(rows).__name__}, expected rows with a length and a place each, "
            "or a RowStream (open_data with streaming: true)"
        )


class ColumnCollator:
    """Rows of a `datasets.Dataset` to a batch through `collate`: `input` and `output` are columns, or templates over
    several, as in a recipe."""

    def __init__(self, input: str, output: str, collate: LabelledCollator) -> None:
        self.read = Extractor(Source(path="train_dataset", input=input, output=output), "labelled")
        self.collate = collate

    def __call__(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        pairs = (self.read(row, "train_dataset") for row in rows)
        return self.collate([Example(pair["prompt"], pair["target"]) for pair in pairs])

    def lengths(self, dataset: Any) -> list[int]:
        """The rows' lengths in characters."""
        rows = enumerate(dataset, start=1)
        return [sum(map(len, self.read(row, f"train_dataset, row {number}").values())) for number, row in rows]


class _Upkeep(TrainerCallback):
    """What has to be told at the beginning of a run and of an epoch."""

    def __init__(self, trainer: BridgeTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trainer._since = time.monotonic()

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # Not by the loader, which has the sampler wrapped where a run goes on in the middle of an epoch.
        if self.trainer.sampler is not None:
            self.trainer.sampler.set_epoch(int(state.epoch or 0))
