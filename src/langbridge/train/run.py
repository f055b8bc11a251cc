"""A run: from a recipe to a folder with the bridge.

DIR/checkpoint-N   to go on from, see checkpointing.py
DIR/tensorboard    the log for TensorBoard
DIR/final          the bridge with its processor, the recipe, the log, a model card: what is uploaded
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import set_seed

from langbridge.data import write_atomically
from langbridge.data.cuts import told
from langbridge.data.examples import Skipped
from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel
from langbridge.model.bases import ENCODER, LANGUAGE_MODEL, check_same, fingerprint
from langbridge.model.language_marks import own_mark
from langbridge.revision import versions
from langbridge.train.adapters import add_adapters, merge_adapters, the_same_model
from langbridge.train.card import CURVES, draw_curves, model_card, short_name
from langbridge.train.checkpointing import CONFIG, RECIPE, RUN, STATE, STREAM, UNMERGED_CONFIG, last_checkpoint, step_of
from langbridge.train.console import ConsoleLog, say
from langbridge.train.parts import (
    Rows,
    build_model,
    collators,
    load_processor,
    open_rows,
    reading_batches,
    reads_new_rows,
    start_connector,
)
from langbridge.train.reading import ReadingMonitor, reading_score
from langbridge.train.recipe import Recipe
from langbridge.train.resuming import check_same_run, data_fingerprint
from langbridge.train.trainer import BridgeTrainer

LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "peft")
"""Those that a run's numbers depend on."""


def train(recipe: Recipe, out: str | Path | None = None, *, resume: bool = False, progress: bool = True) -> Path:
    """Train a bridge, or a plain language model, and write it to `out`/final, which is returned.

    out: by default `runs/` and the names of the models. resume: go on from the last checkpoint in `out`; where there is
    none, begin. Without it a folder that holds a run is an error. progress: print the start's fit, and one line a log
    step, to stderr.

    Under torchrun every process calls this alike. Raises `LangBridgeError` for what a user can mend: missing files, bad
    rows, bases of the wrong kind, a checkpoint of another run, a disk without room, a step that is not finite.
    """
    out = Path(out) if out is not None else Path("runs") / run_name(recipe)
    state = PartialState(cpu=recipe.train.use_cpu) if "RANK" in os.environ else PartialState()
    if recipe.train.fsdp and state.device.type == "cpu":
        raise LangBridgeError(
            "train.fsdp: needs GPUs, and here is none; on processors it would be plain data-parallel training. Set it"
            " to false"
        )
    progress = progress and state.is_main_process
    checkpoint = _checkpoint_to_go_on_from(out, resume)
    if resume and checkpoint is None and (out / "final").is_dir():
        if progress:
            say(f"{out / 'final'} is finished and holds no checkpoint: nothing to go on with")
        return out / "final"
    processor = load_processor(recipe)
    limit = getattr(processor, "encoder_length_limit", None)
    if progress and limit is not None and limit < recipe.max_encoder_length:
        say(f"max_encoder_length is {recipe.max_encoder_length}, but the encoder reads {limit} tokens at most")
    rows = open_rows(recipe, collators(recipe, processor))
    set_seed(recipe.seed)
    model, _ = build_model(recipe, processor)
    bridge = model if isinstance(model, LangBridgeModel) else None
    start_alone = recipe.train.max_steps == 0
    if bridge is not None and recipe.freeze_encoder and not start_alone and reads_new_rows(processor, rows.training):
        bridge.set_training_regime(freeze_encoder=True, train_new_rows=True)
        if progress:
            say("the prompts hold white space that the encoder's tokenizer would lose: training its new rows")
    if progress and bridge is not None and (mark := own_mark(processor.encoder_tokenizer)):
        say(f"the encoder's tokenizer marks the language of its input: {mark} on every row")
    run: dict[str, Any] = {
        **versions(LIBRARIES),
        "processes": state.num_processes,
        "data": data_fingerprint(rows.training),
        "start": None,
    }
    if bridge is None:  # a bridge has its bases' in its config
        run[LANGUAGE_MODEL] = fingerprint(model)
    if checkpoint is not None:
        before = json.loads((checkpoint / RUN).read_text(encoding="utf-8"))
        check_same_run(checkpoint, recipe, run, before)
        if bridge is not None:
            _check_bases(bridge, recipe, checkpoint)
        run["start"] = before["start"]
        if progress:
            say(f"going on from {checkpoint}")
    elif bridge is not None:
        start = start_connector(bridge, processor, rows.training, recipe)
        run["start"] = None if start is None else dataclasses.asdict(start)
        if progress:
            say(str(start) if start is not None else "random start")
        if start is None and start_alone:
            raise LangBridgeError(
                "train.max_steps: got 0, but the closed-form start that it keeps is not possible here"
            )
    if progress:
        _say_rows(rows, recipe)
    trainer = build_trainer(model, processor, rows, recipe, out, run=run, progress=progress)
    _train(trainer, checkpoint, start_alone)
    if progress and rows.lengths is None:  # a stream's bad rows are known only now
        _say_skipped("streamed to the end of the training", rows.training.skipped)
    run["cut"] = _cut(trainer)
    if progress and run["cut"]:
        say(run["cut"])
    final = write_final(trainer, recipe, rows, run, out)
    if recipe.train.push_to_hub and state.is_main_process:
        upload(final, recipe)
    return final


def run_name(recipe: Recipe) -> str:
    """A folder's name for a run: those of its models."""
    names = [recipe.language_model] if recipe.encoder is None else [recipe.language_model, recipe.encoder]
    return "+".join(Path(name).name for name in names)


def _checkpoint_to_go_on_from(out: Path, resume: bool) -> Path | None:
    if out.exists() and not out.is_dir():
        raise LangBridgeError(f"{out}: is a file, expected a folder for the run")
    last = last_checkpoint(out)
    if resume:
        return last
    if last is not None:
        raise LangBridgeError(
            f"{out}: holds a run already, up to {last.name}; go on with it by --resume, or give another with --out"
        )
    if (out / "final").exists():
        raise LangBridgeError(f"{out}: holds a finished run already; give another folder with --out, or move it away")
    return None


def _say_rows(rows: Rows, recipe: Recipe) -> None:
    if rows.lengths is not None:
        kept = f"{len(rows.training)} rows to train on"
        if rows.reading is not None and not rows.validation:
            kept += f", {len(rows.reading)} more kept apart for the reading score"
        _say_skipped(kept, rows.training.skipped)
    for kind, table in rows.validation.items():
        _say_skipped(f"{len(table)} {kind} rows to validate on", table.skipped)
    if rows.reading is None and recipe.regime != "lm_only" and recipe.train.reading_score_steps:
        say(
            "no reading score: the rows are too few, or streamed, to keep some apart; "
            "data.validation_path gives it held-out ones"
        )


def _say_skipped(kept: str, skipped: Skipped) -> None:
    for line in skipped.first:
        say(f"left out: {line}")
    say(f"{kept}; {skipped}" if skipped else kept)


def _check_bases(model: LangBridgeModel, recipe: Recipe, checkpoint: Path) -> None:
    """The bases must be those that the checkpoint was trained on, wherever they are now."""
    file = next(checkpoint / name for name in (CONFIG, UNMERGED_CONFIG) if (checkpoint / name).is_file())
    config = json.loads(file.read_text(encoding="utf-8"))
    for role in (ENCODER, LANGUAGE_MODEL):
        # As they were loaded: by now the encoder's table may have grown by its new rows.
        now = getattr(model.config, f"{role}_base")["fingerprint"]
        check_same(role, config[f"{role}_base"]["fingerprint"], now, getattr(recipe, role), "the checkpoint's")


def build_trainer(
    model: Any,
    processor: Any,
    rows: Rows,
    recipe: Recipe,
    out: Path,
    *,
    run: dict[str, Any] | None = None,
    progress: bool = False,
) -> BridgeTrainer:
    """The trainer of a recipe, ready to run. `run` is what is known of the run, for its checkpoints."""
    settings = recipe.train.arguments()
    if "activation_checkpointing" in settings and not hasattr(TrainingArguments, "activation_checkpointing"):
        settings["gradient_checkpointing"] = settings.pop("activation_checkpointing")
    if not torch.accelerator.is_available():  # or transformers would take mixed precision for a GPU's alone
        settings["use_cpu"] = True
    collate = collators(recipe, processor)
    kind = recipe.data.kind(recipe.regime)
    # The run's own kind first: it stands for all where the best checkpoint is chosen.
    validation = {name: rows.validation[name] for name in sorted(rows.validation, key=lambda name: name != kind)}
    several = len(validation) > 1
    adapter = add_adapters(model, recipe.lora) if recipe.lora.r else None
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
            train_dataset=rows.training,
            eval_dataset=validation if several else next(iter(validation.values()), None),
            processing_class=processor,
            data_collator=collate[kind],
            encoder_learning_rate=recipe.train.encoder_learning_rate,
            encoder_weight_decay=recipe.train.encoder_weight_decay,
            adapter_learning_rate=recipe.lora.learning_rate,
            positions_per_pass=recipe.train.positions_per_pass,
            lengths=rows.lengths,
            eval_lengths={name if several else "": table.lengths.tolist() for name, table in validation.items()},
            eval_collators={name if several else "": collate[name] for name in validation},
            records={RECIPE: recipe.to_yaml(), RUN: json.dumps(run, indent=1)},
            adapter=adapter,
        )
    except (ValueError, RuntimeError) as error:
        # Settings that this machine does not have (bf16, a tracker's package), in transformers' own words.
        raise LangBridgeError(f"train: {error}") from error
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(out / "tensorboard")
    if rows.reading is not None:
        batches = reading_batches(rows, collate[rows.reading_kind], recipe.train.per_device_eval_batch_size)
        trainer.monitor = ReadingMonitor(
            trainer.measuring(lambda: reading_score(model, batches)),
            trainer.log,
            steps=recipe.train.reading_score_steps,
            low=recipe.train.plateau_score,
            patience=recipe.train.plateau_patience,
            causes=likely_causes(recipe, len(rows.training) if rows.lengths is not None else None),
            stop=recipe.train.stop_on_plateau,
        )
    if progress:  # before the monitor, so that the first score is in its clock and is taken off again
        trainer.add_callback(ConsoleLog(trainer.monitor))
    if trainer.monitor is not None:
        trainer.add_callback(trainer.monitor)
    return trainer


def likely_causes(recipe: Recipe, rows: int | None) -> str:
    """Why a run may sit on the plateau, with this recipe's own numbers.

    After the one public log of an English-only bridge (MMerge, 2024): at a rate of 6e-4 reading came abruptly, after
    120,000 to 140,000 examples with mT5-XL and 170,000 to 190,000 with mT5-large; at 2e-4 not within 395,000.
    """
    rate = recipe.train.learning_rate
    causes = [
        f"too few examples so far (with mT5-XL and random start reading came after 120,000 or more; rows: {rows})"
    ]
    causes.append(f"a learning rate too small for the connector (train.learning_rate is {rate:g}; the paper's is 6e-4)")
    if recipe.connector.closed_form and recipe.init == "random":
        causes.append("a random start (init: ridge makes the prompt readable before the first step)")
    causes.append("an encoder too small, or one that does not know the prompts' language")
    causes.append("targets that can be written without the prompt, or prompts in another column than data.input")
    return "; ".join(causes)


def _train(trainer: BridgeTrainer, checkpoint: Path | None, start_alone: bool) -> None:
    if start_alone and checkpoint is None:
        if trainer.monitor is not None:
            trainer.monitor.take()
            trainer.monitor.on_train_end(trainer.args, trainer.state, trainer.control)
        return
    planned = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[-1]
    if checkpoint is not None and (start_alone or step_of(checkpoint) >= planned):
        # The run was stopped after its last step, or is to end where it stands: only the final folder is missing.
        trainer._load_from_checkpoint(str(checkpoint))
        trainer.state = TrainerState.load_from_json(str(checkpoint / STATE))
    else:
        position = checkpoint / STREAM if checkpoint is not None else None
        if position is not None and position.is_file():
            rows: Any = trainer.train_dataset
            rows.load_state_dict(json.loads(position.read_text(encoding="utf-8")))
            trainer.args.ignore_data_skip = True
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if trainer.monitor is not None and trainer.monitor.stopped:
        raise LangBridgeError(
            f"stopped at {trainer.monitor.stopped}. The state is kept: --resume with --set train.stop_on_plateau=false "
            "goes on with it"
        )


def _cut(trainer: BridgeTrainer) -> str:
    """What the collators of all processes have cut, in words; empty where nothing was."""
    cuts = getattr(trainer.data_collator, "cuts", None)
    if cuts is None:
        return ""
    counts = trainer.accelerator.reduce(torch.tensor(list(cuts.counts.values()), device=trainer.args.device), "sum")
    return told(dict(zip(cuts.counts, counts.tolist(), strict=True)))


def write_final(trainer: BridgeTrainer, recipe: Recipe, rows: Rows, run: dict[str, Any], out: Path) -> Path:
    """Write `out`/final whole or not at all; every process calls it, one writes."""
    final, part, model = out / "final", out / ".final", trainer.model
    assert model is not None
    model.eval()
    if trainer.adapter is not None:
        # Merged, because adapters beside a bridge are nothing that `from_pretrained` or a server would load.
        sample = next(iter(trainer.get_train_dataloader()))
        two_rows = {key: value[:2].to(model.device) for key, value in sample.items() if key != "rows"}
        with the_same_model(model, two_rows):
            merge_adapters(model, trainer.adapter)
        trainer.adapter = None
        model.config.language_model_base = {
            "id": None, "revision": None, "fingerprint": fingerprint(model.language_model)
        }  # fmt: skip
    main = trainer.args.should_save
    try:
        if main:
            shutil.rmtree(part, ignore_errors=True)
        trainer.accelerator.wait_for_everyone()
        trainer.save_model(str(part))
        if main:
            if recipe.lora.r:
                model.language_model.save_pretrained(part / LANGUAGE_MODEL)
            history = trainer.state.log_history
            write_atomically(
                part / "training_log.json", json.dumps({"start": run["start"], "history": history}, indent=1)
            )
            # A point is no curve.
            curves = trainer.state.global_step > 0 and draw_curves(history, part / CURVES)
            write_atomically(part / "README.md", model_card(recipe, history, run, _sources(rows, recipe, run), curves))
            shutil.rmtree(final, ignore_errors=True)
            os.replace(part, final)
    except OSError as error:
        raise LangBridgeError(f"{final}: cannot be written: {error}; make room and finish with --resume") from error
    finally:
        if main:
            shutil.rmtree(part, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return final


def _sources(rows: Rows, recipe: Recipe, run: dict[str, Any]) -> list[str]:
    """One line for each source of rows, and for what was left out of the training's."""
    shares = getattr(rows.training, "shares", {})
    lines = [f"`{short_name(path)}`: {used} of {there} rows" for path, (used, there) in shares.items()]
    if not lines:
        lines = [f"`{short_name(source.path)}`, streamed" for source in recipe.data.training_sources]
    if rows.lengths is not None:
        start_alone = recipe.train.max_steps == 0
        lines.append(f"{len(rows.training)} rows to {'choose prompts from' if start_alone else 'train on'} in all")
    if run["cut"]:
        lines.append(run["cut"])
    if skipped := getattr(rows.training, "skipped", None):
        lines.append(str(skipped))
    for kind, table in rows.validation.items():
        ((path, (used, _)),) = table.shares.items()
        left_out = f"; {table.skipped}" if table.skipped else ""
        lines.append(f"`{short_name(path)}`: {used} {kind} rows to validate on{left_out}")
    return lines


def upload(final: Path, recipe: Recipe) -> str:
    """Upload the final folder to the Hugging Face hub; the repository's id is returned."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        repository = api.create_repo(
            recipe.train.hub_model_id or run_name(recipe), private=recipe.train.hub_private_repo, exist_ok=True
        ).repo_id
        api.upload_folder(repo_id=repository, folder_path=str(final))
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError, ValueError) as error:
        raise LangBridgeError(
            f"train.push_to_hub: the upload failed: {error}. The bridge is whole in {final}"
        ) from error
    return repository
