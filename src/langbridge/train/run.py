"""A run: from a recipe to a folder with the bridge.

DIR/checkpoint-N   to go on from, see checkpointing.py
DIR/tensorboard    the log for TensorBoard
DIR/final          the bridge with its processor, the recipe, the log, a model card: what is uploaded
"""

import dataclasses
import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers.trainer_utils import set_seed

from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel
from langbridge.model.bases import LANGUAGE_MODEL, base_fingerprint
from langbridge.revision import versions
from langbridge.train.checkpointing import last_checkpoint
from langbridge.train.console import Tell, say, tell_of_bridge, tell_of_rows, tell_skipped
from langbridge.train.final import repository, upload, write_final
from langbridge.train.loop import build_trainer, cut, run_loop
from langbridge.train.parts.adapters import merge_adapters, the_same_model
from langbridge.train.prepare import Prepared, build_model, device_of, prepare, reads_new_rows, some_examples
from langbridge.train.rates import learning_rate
from langbridge.train.recipe import Recipe
from langbridge.train.resuming import check_finished, check_same_run, data_fingerprint, named_files
from langbridge.train.ridge import start_connector
from langbridge.train.stages import run_stages
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
    if out is None:
        bases = (recipe.language_model, recipe.encoder)
        out = Path("runs") / "+".join(Path(base).name for base in bases if base is not None)
    out = Path(out)
    recipe.check_files()
    hub_name = repository(recipe, out) if recipe.train.push_to_hub else None
    options: Any = {}
    if "RANK" in os.environ:  # the group of processes is made here, before `Trainer` would give it its own settings
        options = {"cpu": recipe.train.use_cpu, "timeout": timedelta(seconds=recipe.train.ddp_timeout)}
    state = PartialState(**options)
    if recipe.train.fsdp and state.device.type == "cpu":
        raise LangBridgeError(
            "train.fsdp: needs GPUs, and here is none; on CPUs it would be plain data-parallel training. Set it"
            " to false"
        )
    tell: Tell = say if progress and state.is_main_process else lambda _: None
    run = partial(_run, resume=resume, tell=tell, processes=state.num_processes)
    if recipe.stages:
        final = run_stages(recipe, out, run, resume=resume, tell=tell)
    else:
        final = run(recipe, out, out / "final")
    if hub_name is not None and state.is_main_process:
        upload(final, hub_name, recipe.train.hub_private_repo)
    return final


def _run(
    recipe: Recipe,
    out: Path,
    final: Path,
    *,
    resume: bool,
    tell: Tell,
    processes: int,
    lay: Callable[[Path], None] | None = None,
) -> Path:
    """One run with its checkpoints in `out`. `lay` adds to the final folder before it appears."""
    checkpoint = _checkpoint_to_go_on_from(out, final, resume)
    if resume and checkpoint is None and final.is_dir():
        check_finished(final, recipe, "the run")
        tell(f"{final} is finished and holds no checkpoint: nothing to go on with")
        return final
    prepared = prepare(recipe)
    set_seed(recipe.seed)
    model = build_model(recipe, prepared.processor)
    run: dict[str, Any] = {**versions(LIBRARIES), "processes": processes, "files": named_files(recipe)}
    run["data"] = data_fingerprint(prepared.training)
    if isinstance(model, LangBridgeModel):
        _freeze(model, prepared)
        tell_of_bridge(model, prepared, tell)
    else:  # a bridge has its bases' in its config
        run[LANGUAGE_MODEL] = base_fingerprint(model)
    if not (recipe.train.fsdp or recipe.train.deepspeed):  # which lay the weights where they belong
        model.to(device_of(recipe))
    if checkpoint is not None:
        before = check_same_run(checkpoint, recipe, run, model)
        given = recipe.train.learning_rate
        run |= {"start": before["start"], "learning_rate": before["learning_rate"] if given is None else given}
        tell(f"going on from {checkpoint}")
    else:
        run["start"] = _start(model, prepared, tell) if isinstance(model, LangBridgeModel) else None
        run["learning_rate"] = learning_rate(model, recipe, run["start"], tell)
    tell_of_rows(prepared, tell)
    prepared.objective.begin(model, prepared, out, tell)
    trainer = build_trainer(model, prepared, out, run, tell)
    run_loop(trainer, checkpoint, start_alone=recipe.train.max_steps == 0)
    if trainer.keeps_best and trainer.state.best_global_step is not None:
        kept = f"step {trainer.kept_step}" if trainer.kept_step else "the start: training has cost reading"
        tell(f"the best reading score, {trainer.state.best_metric:.3f}, and so the final bridge, is that of {kept}")
    if prepared.table is None:  # a stream's bad rows are known only now
        tell_skipped("streamed to the end of the training", prepared.training.skipped, tell)
    run["cut"] = cut(trainer)
    if run["cut"]:
        tell(run["cut"])
    model.eval()
    _merge(trainer, prepared)
    write_final(trainer, prepared, run, final, lay)
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


def _freeze(model: LangBridgeModel, prepared: Prepared) -> None:
    """Leave trainable what the recipe and its rows ask for."""
    recipe = prepared.recipe
    only_new_rows = (
        bool(recipe.freeze_encoder and not recipe.freeze_connector and recipe.train.max_steps)
        and reads_new_rows(prepared.processor, prepared.training)
    )  # fmt: skip
    model.set_training_regime(freeze_encoder=bool(recipe.freeze_encoder), train_new_rows=only_new_rows)
    model.connector.requires_grad_(not recipe.freeze_connector)


def _start(model: LangBridgeModel, prepared: Prepared, tell: Tell) -> dict[str, Any] | None:
    """Give the connector its start; what is known of it, for the log, or None at random."""
    recipe = prepared.recipe
    start = start_connector(model, prepared.processor, prepared.training, recipe)
    begun = f"beginning with {recipe.init}" if recipe.begins_with is not None else "random start"
    tell(begun if start is None else str(start))
    if start is None and recipe.train.max_steps == 0:
        raise LangBridgeError("train.max_steps: got 0, but the closed-form start that it keeps is not possible here")
    return None if start is None else dataclasses.asdict(start)


def _merge(trainer: BridgeTrainer, prepared: Prepared) -> None:
    """Merge what was laid around the language model: beside a bridge it is nothing that `from_pretrained` or a server
    would load."""
    model: Any = trainer.model
    for part in trainer.parts:
        if part.adapter is None:
            continue
        batch = trainer.data_collator(some_examples(prepared.training))
        batch.pop("rows", None)
        with the_same_model(model, {name: tensor.to(model.device) for name, tensor in batch.items()}):
            merge_adapters(model, part.adapter)
        part.adapter = None
        fingerprint = base_fingerprint(model.language_model)
        model.config.language_model_base = {"id": None, "revision": None, "fingerprint": fingerprint}
