"""The loop of a run: the trainer that a recipe asks for, and going on where a checkpoint stands."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import TrainerState

from langbridge.data.cuts import told
from langbridge.errors import LangBridgeError
from langbridge.model.reading import reading_score
from langbridge.train.checkpointing import RECIPE, RUN, STATE, STREAM, is_whole, load_checkpoint, step_of
from langbridge.train.console import ConsoleLog, Tell
from langbridge.train.parts import parts_of
from langbridge.train.prepare import Prepared
from langbridge.train.reading import ReadingMonitor, reading_batches
from langbridge.train.recipe import Recipe
from langbridge.train.state_noise import blur_states
from langbridge.train.trainer import BridgeTrainer


def build_trainer(model: Any, prepared: Prepared, out: Path, run: dict[str, Any], tell: Tell) -> BridgeTrainer:
    """The trainer of a recipe, ready to run. `run` is what is known of the run, for its checkpoints, its learning rate
    among it. Raises `LangBridgeError` for settings that this machine does not have."""
    recipe, learn, collate, rate = prepared.recipe, prepared.recipe.train, prepared.collate, run["learning_rate"]
    parts = parts_of(
        model, rate, learn.weight_decay, learn.encoder_learning_rate, learn.encoder_weight_decay, recipe.lora
    )
    if recipe.state_noise:
        blur_states(model.connector, recipe.state_noise)
    settings = learn.arguments() | {"learning_rate": rate}
    if "activation_checkpointing" in settings and not hasattr(TrainingArguments, "activation_checkpointing"):
        settings["gradient_checkpointing"] = settings.pop("activation_checkpointing")
    if not torch.accelerator.is_available():  # or transformers would take mixed precision for a GPU's alone
        settings["use_cpu"] = True
    several = len(prepared.validation) > 1  # a single set has no name
    validation = {kind if several else "": table for kind, table in prepared.validation.items()}
    try:
        arguments = TrainingArguments(
            output_dir=str(out),
            seed=recipe.seed,
            remove_unused_columns=False,
            label_names=["labels"],
            disable_tqdm=True,
            **settings,
        )
        trainer = BridgeTrainer(
            model=model,
            args=arguments,
            train_dataset=prepared.training,
            eval_dataset=validation or None,
            processing_class=prepared.processor,
            data_collator=prepared.objective.in_training(collate[prepared.objective.kind]),
            parts=parts,
            loss=prepared.objective.loss,
            positions_per_pass=learn.positions_per_pass,
            lengths=getattr(prepared.table, "lengths", None),
            eval_lengths={name: table.lengths.tolist() for name, table in validation.items()},
            eval_collators={kind if several else "": collate[kind] for kind in prepared.validation},
            records={RECIPE: recipe.to_yaml(), RUN: json.dumps(run, indent=1)},
        )
    except (ValueError, RuntimeError) as error:
        # Settings that this machine does not have (bf16, a tracker's package), in transformers' own words.
        raise LangBridgeError(f"train: {error}") from error
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(out / "tensorboard")
    if prepared.reading is not None:
        kind, rows = prepared.reading
        trainer.keeps_best = learn.reading_score_patience is not None
        batches = reading_batches(rows, collate[kind], learn.per_device_eval_batch_size)
        trainer.monitor = ReadingMonitor(
            trainer.off_the_clock()(lambda: reading_score(model, batches)),
            trainer.log,
            learn,
            _likely_causes(recipe, rate, None if prepared.table is None else len(prepared.table)),
            trainer.save_start,
        )
    # Before the monitor, so that the first score is in its clock and is taken off again.
    trainer.add_callback(ConsoleLog(trainer.monitor, tell))
    if trainer.monitor is not None:
        trainer.add_callback(trainer.monitor)
    return trainer


def _likely_causes(recipe: Recipe, rate: float, rows: int | None) -> str:
    """Why a run may sit on the plateau, with this recipe's own numbers.

    After the one public log of an English-only bridge (MMerge, 2024): at a rate of 6e-4 reading came abruptly, after
    120,000 to 140,000 examples with mT5-XL and 170,000 to 190,000 with mT5-large; at 2e-4 not within 395,000.
    """
    random = "a random start (init: ridge makes the prompt readable before the first step); "
    return (
        f"too few examples so far (with mT5-XL and random start reading came after 120,000 or more; rows: {rows}); "
        "a learning rate too small for the connector, or so large that it undid a start that reads "
        f"(train.learning_rate is {rate:g}; the paper's is 6e-4); "
        f"{random if recipe.connector.closed_form and recipe.init == 'random' else ''}"
        "an encoder too small, or one that does not know the prompts' language; "
        "targets that can be written without the prompt, or prompts in another column than data.input"
    )


def run_loop(trainer: BridgeTrainer, checkpoint: Path | None, *, start_alone: bool) -> None:
    """Train from `checkpoint` on, or from the start; `start_alone` makes no update."""
    if start_alone and checkpoint is None:
        if trainer.monitor is not None:
            trainer.monitor.take()
            trainer.monitor.on_train_end(trainer.args, trainer.state, trainer.control)
        return
    planned = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[-1]
    if checkpoint is not None and (start_alone or step_of(checkpoint) >= planned):
        # The run was stopped after its last step, or is to end where it stands: only the final folder is missing.
        trainer.state = TrainerState.load_from_json(str(checkpoint / STATE))
        best = checkpoint.with_name(f"checkpoint-{trainer.state.best_global_step}")
        if not is_whole(best):
            trainer.state.best_global_step = None
        load_checkpoint(trainer.model, trainer.parts, best if trainer.kept_step != step_of(checkpoint) else checkpoint)
    else:
        if checkpoint is not None and (checkpoint / STREAM).is_file():
            rows: Any = trainer.train_dataset
            rows.load_state_dict(json.loads((checkpoint / STREAM).read_text(encoding="utf-8")))
            trainer.args.ignore_data_skip = True
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if trainer.monitor is not None and trainer.monitor.stopped:
        raise LangBridgeError(
            f"stopped at {trainer.monitor.stopped}. The state is kept: --resume with --set train.stop_on_plateau=false "
            "goes on with it"
        )


def cut(trainer: BridgeTrainer) -> str:
    """What the collators of all processes have cut, in words; empty where nothing was."""
    cuts = getattr(trainer.data_collator, "cuts", None)
    if cuts is None:
        return ""
    counts = trainer.accelerator.reduce(torch.tensor(list(cuts.counts.values()), device=trainer.args.device), "sum")
    return told(dict(zip(cuts.counts, counts.tolist(), strict=True)))
