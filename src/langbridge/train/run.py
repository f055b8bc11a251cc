"""A run: from a recipe to a folder with the bridge.

DIR/checkpoint-N   to go on from, see checkpointing.py
DIR/tensorboard    the log for TensorBoard
DIR/final          the bridge with its processor, the recipe, the log, a model card: what is uploaded
"""

import dataclasses
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers.trainer_utils import set_seed

from langbridge.data.examples import Skipped
from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel
from langbridge.model.bases import ENCODER, LANGUAGE_MODEL, base_fingerprint, check_same
from langbridge.model.language_marks import own_mark
from langbridge.revision import versions
from langbridge.train.checkpointing import RUN, last_checkpoint
from langbridge.train.console import say
from langbridge.train.final import upload, write_final
from langbridge.train.loop import build_trainer, cut, run_loop
from langbridge.train.parts.adapters import CONFIG, UNMERGED_CONFIG, merge_adapters, the_same_model
from langbridge.train.parts.connector import start_connector
from langbridge.train.parts.new_rows import reads_new_rows
from langbridge.train.prepare import Prepared, build_model, prepare
from langbridge.train.recipe import Recipe
from langbridge.train.resuming import check_same_run, data_fingerprint
from langbridge.train.rows import some_examples
from langbridge.train.stages import after, check_finished, check_new, folder_of_records, lay_records, stage_folder
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
    run = partial(_run, resume=resume, progress=progress, processes=state.num_processes)
    final = _run_stages(recipe, out, run, resume, progress) if recipe.stages else run(recipe, out, out / "final")
    if recipe.train.push_to_hub and state.is_main_process:
        upload(final, recipe.train.hub_model_id or run_name(recipe), recipe.train.hub_private_repo)
    return final


def run_name(recipe: Recipe) -> str:
    """A folder's name for a run: those of its models."""
    names = [recipe.language_model] if recipe.encoder is None else [recipe.language_model, recipe.encoder]
    return "+".join(Path(name).name for name in names)


def _run(
    recipe: Recipe,
    out: Path,
    final: Path,
    *,
    resume: bool,
    progress: bool,
    processes: int,
    lay: Callable[[Path], None] | None = None,
) -> Path:
    """One run with its checkpoints in `out`. `lay` adds to the final folder before it appears."""
    checkpoint = _checkpoint_to_go_on_from(out, final, resume)
    if resume and checkpoint is None and final.is_dir():
        if progress:
            say(f"{final} is finished and holds no checkpoint: nothing to go on with")
        return final
    prepared = prepare(recipe)
    set_seed(recipe.seed)
    model = build_model(recipe, prepared.processor)
    freeze(model, prepared)
    if progress:
        _say_bridge(model, prepared)
    run: dict[str, Any] = {
        **versions(LIBRARIES),
        "processes": processes,
        "data": data_fingerprint(prepared.rows.training),
    }
    if not isinstance(model, LangBridgeModel):  # a bridge has its bases' in its config
        run[LANGUAGE_MODEL] = base_fingerprint(model)
    run["start"] = _start(model, prepared, run, checkpoint, progress)
    if progress:
        _say_rows(prepared)
    trainer = build_trainer(model, prepared, out, run=run, progress=progress)
    run_loop(trainer, checkpoint, start_alone=recipe.train.max_steps == 0)
    if progress and prepared.rows.lengths is None:  # a stream's bad rows are known only now
        _say_skipped("streamed to the end of the training", prepared.rows.training.skipped)
    run["cut"] = cut(trainer)
    if progress and run["cut"]:
        say(run["cut"])
    model.eval()
    _merge(trainer, prepared)
    write_final(trainer, recipe, prepared.rows, run, final, lay)
    return final


def _run_stages(recipe: Recipe, out: Path, run: Callable[..., Path], resume: bool, progress: bool) -> Path:
    """Every stage in its folder, of which those that are finished stay; the last one's final folder is the run's."""
    if not resume:
        check_new(out)
    stages, final = recipe.stage_recipes, None
    for number, named in enumerate(stages, start=1):
        stage, last = after(named, final), number == len(stages)
        folder = stage_folder(out, number)
        final = (out if last else folder) / "final"
        if progress:
            finished = ", finished" if final.is_dir() else ""
            say(f"stage {number} of {len(stages)}: {stage.objective}{finished}")
        if final.is_dir():
            check_finished(folder_of_records(final, number), stage, number)
        else:
            run(stage, folder, final, lay=partial(lay_records, recipe, out) if last else None)
    assert final is not None, "there are stages"
    return final


def _checkpoint_to_go_on_from(out: Path, final: Path, resume: bool) -> Path | None:
    if out.exists() and not out.is_dir():
        raise LangBridgeError(f"{out}: is a file, expected a folder for the run")
    last = last_checkpoint(out)
    if resume:
        return last
    if last is not None:
        raise LangBridgeError(
            f"{out}: holds a run already, up to {last.name}; go on with it by --resume, or give another with --out"
        )
    if final.exists():
        raise LangBridgeError(f"{out}: holds a finished run already; give another folder with --out, or move it away")
    return None


def freeze(model: Any, prepared: Prepared) -> None:
    """Leave trainable what the recipe and its rows ask for; a plain language model is trained whole."""
    recipe = prepared.recipe
    if isinstance(model, LangBridgeModel):
        only_new_rows = bool(recipe.freeze_encoder and not recipe.freeze_connector and recipe.train.max_steps)
        only_new_rows = only_new_rows and reads_new_rows(prepared.processor, prepared.rows.training)
        model.set_training_regime(freeze_encoder=bool(recipe.freeze_encoder), train_new_rows=only_new_rows)
        model.connector.requires_grad_(not recipe.freeze_connector)


def _start(model: Any, prepared: Prepared, run: dict[str, Any], checkpoint: Path | None, progress: bool) -> Any:
    """Where the connector starts, for the log: as the checkpoint's did, which is held to be of this run, or fitted now;
    None at random."""
    recipe, start = prepared.recipe, None
    if checkpoint is not None:
        before = json.loads((checkpoint / RUN).read_text(encoding="utf-8"))
        check_same_run(checkpoint, recipe, run, before)
        if isinstance(model, LangBridgeModel):
            _check_bases(model, recipe, checkpoint)
        if progress:
            say(f"going on from {checkpoint}")
        return before["start"]
    if isinstance(model, LangBridgeModel):
        start = start_connector(model, prepared.processor, prepared.rows.training, recipe)
        if progress:
            begun = f"beginning with {recipe.init}" if recipe.begins_with is not None else "random start"
            say(str(start) if start is not None else begun)
        if start is None and recipe.train.max_steps == 0:
            raise LangBridgeError(
                "train.max_steps: got 0, but the closed-form start that it keeps is not possible here"
            )
    return None if start is None else dataclasses.asdict(start)


def _say_bridge(model: Any, prepared: Prepared) -> None:
    if not isinstance(model, LangBridgeModel):
        return
    limit, most = model.encoder_length_limit, prepared.recipe.max_encoder_length
    if limit is not None and limit < most:
        say(f"max_encoder_length is {most}, but the encoder reads {limit} tokens at most")
    if model.config.freeze_encoder and model.config.train_new_rows:
        say("the prompts hold white space that the encoder's tokenizer would lose: training its new rows")
    if mark := own_mark(prepared.processor.encoder_tokenizer):
        say(f"the encoder's tokenizer marks the language of its input: {mark} on every row")


def _say_rows(prepared: Prepared) -> None:
    rows = prepared.rows
    if rows.lengths is not None:
        kept = f"{len(rows.training)} rows to train on"
        if rows.reading is not None and not rows.validation:
            kept += f", {len(rows.reading)} more kept apart for the reading score"
        _say_skipped(kept, rows.training.skipped)
    for kind, table in rows.validation.items():
        _say_skipped(f"{len(table)} {kind} rows to validate on", table.skipped)
    if rows.reading is None and prepared.objective.bridged and prepared.recipe.train.reading_score_steps:
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


def _merge(trainer: BridgeTrainer, prepared: Prepared) -> None:
    """Merge what was laid around the language model: beside a bridge it is nothing that `from_pretrained` or a server
    would load."""
    model: Any = trainer.model
    for part in trainer.parts:
        if part.adapter is None:
            continue
        batch = trainer.data_collator(some_examples(prepared.rows.training))
        batch.pop("rows", None)
        with the_same_model(model, {name: tensor.to(model.device) for name, tensor in batch.items()}):
            merge_adapters(model, part.adapter)
        part.adapter = None
        model.config.language_model_base = {
            "id": None, "revision": None, "fingerprint": base_fingerprint(model.language_model)
        }  # fmt: skip
