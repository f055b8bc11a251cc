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
from langbridge.train.card import CURVES, draw_curves, model_card, short_name
from langbridge.train.objectives import objective_of
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
            card = model_card(prepared.recipe, trainer.parts, updates, history, run, _sources(prepared, run), curves)
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
    for role, base in _named_bases(recipe).items():
        if not is_hub_id(base):
            raise LangBridgeError(
                f"train.push_to_hub: {role}: {base!r} is only here, and the final folder does not hold it, so that "
                "nobody else could load the bridge. Set it to false, and upload the folder that `langbridge export` "
                "writes: hf upload OWNER/NAME FOLDER"
            )
    return name


def _named_bases(recipe: Recipe) -> dict[str, str]:
    """The bases that a final folder only names, by role: none of a language model alone; with adapters merged into its
    language model, that one is a bridge's own."""
    stages = recipe.stage_recipes
    if recipe.encoder is None or not objective_of(stages[0]).bridged:
        return {}
    own = any(stage.lora.r for stage in stages)
    return {"encoder": recipe.encoder, **({} if own else {"language_model": recipe.language_model})}


def upload(final: Path, name: str, private: bool | None) -> None:
    """Upload the final folder to the Hugging Face hub as `name`."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        created = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=created.repo_id, folder_path=str(final))
    except Exception as error:  # the training is done: whatever failed, it is told how to make up for it
        raise LangBridgeError(
            f"train.push_to_hub: the upload failed: {str(error).rstrip('.')}. The bridge is whole in {final}; to "
            f"upload it by hand: hf upload {name} {final}{' --private' if private else ''}"
        ) from error
