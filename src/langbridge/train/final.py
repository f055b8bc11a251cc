"""The final folder of a run, as it is uploaded: the bridge, its processor, the recipe, the log, a model card."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.files import write_atomically
from langbridge.model.bases import is_hub_id
from langbridge.model.configuration import LangBridgeConfig
from langbridge.model.loading import read_config
from langbridge.model.saving import for_everybody
from langbridge.train.card import CURVES, draw_curves, model_card, short_name
from langbridge.train.objectives import objective_of
from langbridge.train.parts.adapters import CONFIG
from langbridge.train.prepare import Prepared
from langbridge.train.recipe import Recipe
from langbridge.train.trainer import BridgeTrainer


def write_final(
    trainer: BridgeTrainer,
    prepared: Prepared,
    run: dict[str, Any],
    final: Path,
    lay: Callable[[Path], None] | None = None,
) -> None:
    """Write the folder whole or not at all; every process calls it, one writes. `lay` adds to it before it appears."""
    part, main = final.parent / f".{final.name}", trainer.args.should_save
    try:
        if main:
            shutil.rmtree(part, ignore_errors=True)
        trainer.accelerator.wait_for_everyone()
        trainer.save_model(str(part))
        if main:
            for own in trainer.parts:
                own.save_base(part)
            history, updates = trainer.state.log_history, trainer.state.global_step
            log = json.dumps({"start": run["start"], "history": history}, indent=1)
            write_atomically(part / "training_log.json", log)
            # A point is no curve.
            curves = updates > 0 and draw_curves(history, part / CURVES)
            told = history, run, _sources(prepared, run), curves
            card = model_card(prepared.recipe, trainer.parts, updates, trainer.kept_step, *told)
            write_atomically(part / "README.md", card)
            if lay is not None:
                lay(part)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(part, final)
    except OSError as error:
        raise LangBridgeError(f"{final}: cannot be written: {error}; make room and finish with --resume") from error
    finally:
        if main:
            shutil.rmtree(part, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()


def _sources(prepared: Prepared, run: dict[str, Any]) -> list[str]:
    """One line for each source of rows, and for what was left out of the training's."""
    recipe, table = prepared.recipe, prepared.table
    if table is None:
        lines = [f"`{short_name(source.path)}`, streamed" for source in recipe.data.training_sources]
    else:
        lines = [f"`{short_name(path)}`: {used} of {there} rows" for path, (used, there) in table.shares.items()]
        purpose = "choose prompts from" if recipe.train.max_steps == 0 else "train on"
        lines.append(f"{len(table)} rows to {purpose} in all")
    if run["cut"]:
        lines.append(run["cut"])
    if skipped := prepared.training.skipped:
        lines.append(str(skipped))
    for kind, held_out in prepared.validation.items():
        ((path, (used, _)),) = held_out.shares.items()
        left_out = f"; {held_out.skipped}" if held_out.skipped else ""
        lines.append(f"`{short_name(path)}`: {used} {kind} rows to validate on{left_out}")
    return lines


def repository(recipe: Recipe, out: Path) -> str:
    """Where on the Hugging Face hub a run in `out` is uploaded to. Raises `LangBridgeError` for a name that the hub
    does not take, and for a bridge that nobody else could load."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, and not in __all__

    # A run's own folder is named after both models, with a `+` that the hub does not take.
    name = recipe.train.hub_model_id or out.resolve().name.replace("+", "-")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise LangBridgeError(f"train.hub_model_id: the hub does not take {name!r}: {error}") from None
    _check_loadable(recipe)
    return name


def _check_loadable(recipe: Recipe) -> None:
    """Raise `LangBridgeError` where it is certain that the final folder will name a base that is only here. What a
    bridge that `init` names has in it is seen at the end."""
    stages = recipe.stage_recipes
    if recipe.begins_with is not None or not objective_of(stages[0]).bridged:
        return
    named = {
        "encoder": recipe.encoder if all(stage.freeze_encoder for stage in stages) else None,
        "language_model": None if any(stage.lora.r for stage in stages) else recipe.language_model,
    }
    for role, base in named.items():
        if base is not None and not is_hub_id(base):
            raise LangBridgeError(
                f"train.push_to_hub: {role}: {base!r} is only here, and the final folder does not hold it, so that "
                "nobody else could load the bridge. Set it to false, and upload the folder that `langbridge export` "
                "writes: hf upload OWNER/NAME FOLDER"
            )


def upload(final: Path, name: str, private: bool | None) -> None:
    """Upload the final folder to the Hugging Face hub as `name`, with a config that says nothing of this machine.
    Raises `LangBridgeError`, for a bridge that nobody else could load too."""
    from huggingface_hub import HfApi

    config = (final / CONFIG).read_text(encoding="utf-8")
    if json.loads(config)["model_type"] == LangBridgeConfig.model_type:
        bridge = read_config(final)
        with for_everybody(bridge, final):
            config = bridge.to_json_string()
    api = HfApi()
    try:
        repo = api.create_repo(name, private=private, exist_ok=True).repo_id
        api.upload_folder(repo_id=repo, folder_path=str(final), ignore_patterns=[CONFIG])
        # Last: without it a folder is no checkpoint.
        api.upload_file(repo_id=repo, path_or_fileobj=config.encode(), path_in_repo=CONFIG)
    except Exception as error:  # the training is done: whatever failed, it is told how to make up for it
        raise LangBridgeError(
            f"train.push_to_hub: the upload failed: {str(error).rstrip('.')}. The bridge is whole in {final}; to "
            f"upload it by hand: hf upload {name} {final}{' --private' if private else ''}"
        ) from error
