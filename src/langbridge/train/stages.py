"""A run of several stages, each an ordinary run that begins with what the one before left.

DIR/stage-1   the run of the first stage, with checkpoints, log and final folder like any; stage-2 and so on like it
DIR/final     what the last stage left, with the whole recipe, and in stages/ what each stage wrote of itself
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from accelerate.utils.memory import clear_device_cache

from langbridge.errors import LangBridgeError
from langbridge.files import write_atomically
from langbridge.train.console import Tell
from langbridge.train.recipe import Recipe
from langbridge.train.resuming import check_finished

RECORDS = ("recipe.yaml", "run.json", "training_log.json")


def run_stages(recipe: Recipe, out: Path, run: Callable[..., Path], *, resume: bool, tell: Tell) -> Path:
    """Every stage in its folder, of which those that are finished stay; the last one's final folder is the run's.

    run: trains a recipe, with a folder for its checkpoints and its final folder.
    """
    if not resume and ((out / "stage-1").exists() or (out / "final").exists()):
        raise LangBridgeError(f"{out}: holds a run already; go on with it by --resume, or give another with --out")
    stages, final = recipe.stage_recipes, out / "final"
    for number, stage in enumerate(stages, start=1):
        if number > 1:
            stage = stage.model_copy(update={"language_model" if stage.encoder is None else "init": str(final)})
        last, folder = number == len(stages), out / f"stage-{number}"
        final = (out if last else folder) / "final"
        tell(f"stage {number} of {len(stages)}: {stage.objective}{', finished' if final.is_dir() else ''}")
        if final.is_dir():
            check_finished(final / "stages" / str(number) if last else final, stage, f"stage {number}")
        else:
            # A trainer is part of cycles, so that the bridge of the stage before stays until they are collected.
            clear_device_cache(garbage_collection=True)
            run(stage, folder, final, lay=partial(_lay_records, recipe, out) if last else None)
    return final


def _lay_records(recipe: Recipe, out: Path, folder: Path) -> None:
    """Make the last stage's final folder that of the whole run, before it appears: `recipe` is the whole one."""
    last = len(recipe.stages)
    lines = ["", "## Stages", "", "Trained in stages, of which the last is above; `stages/` has the log of each:", ""]
    for number, stage in enumerate(recipe.stage_recipes, start=1):
        source = folder if number == last else out / f"stage-{number}" / "final"
        target = folder / "stages" / str(number)
        target.mkdir(parents=True)
        for name in RECORDS:
            shutil.copy2(source / name, target / name)
        rate = json.loads((target / "run.json").read_text(encoding="utf-8"))["learning_rate"]
        lines.append(f"{number}. objective `{stage.objective}`, learning rate {rate:.2g}")
    recipe.save(folder / "recipe.yaml")
    card = folder / "README.md"
    write_atomically(card, card.read_text(encoding="utf-8") + "\n".join([*lines, ""]))
