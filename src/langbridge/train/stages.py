"""A run of several stages, each an ordinary run that begins with what the one before left.

DIR/stage-1   the run of the first stage, with checkpoints, log and final folder like any; stage-2 and so on like it
DIR/final     what the last stage left, with the whole recipe, and in stages/ what each stage wrote of itself
"""

import shutil
from pathlib import Path

from langbridge.data import write_atomically
from langbridge.errors import LangBridgeError
from langbridge.train.recipe import Recipe
from langbridge.train.resuming import changed

RECORDS = ("recipe.yaml", "run.json", "training_log.json")


def stage_folder(out: Path, number: int) -> Path:
    """The folder of a stage's run; stages are counted from 1."""
    return out / f"stage-{number}"


def check_new(out: Path) -> None:
    """Raise `LangBridgeError` where a folder holds stages of a run already."""
    if stage_folder(out, 1).exists() or (out / "final").exists():
        raise LangBridgeError(f"{out}: holds a run already; go on with it by --resume, or give another with --out")


def folder_of_records(final: Path, number: int) -> Path:
    """Where a finished stage's own recipe is."""
    kept = final / "stages" / str(number)
    return kept if kept.is_dir() else final


def check_finished(folder: Path, stage: Recipe, number: int) -> None:
    """Raise `LangBridgeError` unless a stage that is finished, with its records in `folder`, was of this recipe."""
    wrong = list(changed(Recipe.load(folder / "recipe.yaml"), stage))
    if wrong:
        raise LangBridgeError(
            f"{folder}: stage {number} is finished, and was another: {'; '.join(wrong)}. Take the change back, or "
            "begin a new run in another folder with --out"
        )


def after(stage: Recipe, final: Path | None) -> Recipe:
    """A stage that begins with the final folder of the one before."""
    if final is None:
        return stage
    return stage.model_copy(update={"language_model" if stage.encoder is None else "init": str(final)})


def lay_records(recipe: Recipe, out: Path, folder: Path) -> None:
    """Make the last stage's final folder that of the whole run, before it appears: `recipe` is the whole one."""
    last = len(recipe.stages)
    lines = ["", "## Stages", "", "Trained in stages, of which the last is above; `stages/` has the log of each:", ""]
    for number, stage in enumerate(recipe.stage_recipes, start=1):
        source = folder if number == last else stage_folder(out, number) / "final"
        target = folder / "stages" / str(number)
        target.mkdir(parents=True)
        for name in RECORDS:
            shutil.copy2(source / name, target / name)
        lines.append(f"{number}. objective `{stage.objective}`, learning rate {stage.train.learning_rate:g}")
    write_atomically(folder / "recipe.yaml", recipe.to_yaml())
    card = folder / "README.md"
    write_atomically(card, card.read_text(encoding="utf-8") + "\n".join([*lines, ""]))
