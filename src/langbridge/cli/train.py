"""`langbridge train`: a recipe in, a bridge's folder out."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from langbridge.errors import LangBridgeError

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change settings, as in train.max_steps=20 seed=1. Repeatable."),
]
"""The `--set` option, shared by every command that reads a recipe."""

MoreOverrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="More settings to change, after --set.")
]
"""Arguments after the recipe: one `--set` can be followed by several settings."""


def overrides_of(set_by_option: list[str] | None, more: list[str] | None) -> list[str]:
    """All settings that a command line changes. Raises `LangBridgeError` for what is none."""
    for word in more or ():
        if "=" not in word:
            raise LangBridgeError(f"got {word!r} behind the recipe, expected KEY=VALUE, as in train.max_steps=20")
    return [*(set_by_option or ()), *(more or ())]


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML file of the run.")],
    more: MoreOverrides = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the whole recipe and the run's plan, and stop.")
    ] = False,
    gpus: Annotated[int | None, typer.Option("--gpus", min=1, metavar="N", help="GPUs to plan for; default 1.")] = None,
    sharding: Annotated[
        Literal["none", "zero2", "zero3", "fsdp"] | None,
        typer.Option("--sharding", help="How weights and states are cut up, to plan for; default: the recipe's."),
    ] = None,
    gpu_memory: Annotated[
        float | None, typer.Option("--gpu-memory", metavar="GIB", help="One GPU's memory, to plan for.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the run; default: runs/ and the recipe's name."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in DIR; begin where there is none.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No lines of progress.")] = False,
) -> None:
    """Train a bridge from a recipe. The bridge is written to DIR/final, checkpoints to DIR/checkpoint-N.

    On several GPUs: torchrun --nproc-per-node N -m langbridge.cli train RECIPE --out DIR
    """
    from langbridge.train.recipe import Recipe

    loaded = Recipe.load(recipe, overrides_of(overrides, more))
    if dry_run:
        typer.echo(loaded.to_yaml(), nl=False)
        from langbridge.train.plan import plan

        for number, stage in enumerate(loaded.stage_recipes, start=1):
            planned = plan(stage, gpus=gpus or 1, sharding=sharding, gpu_memory=gpu_memory).as_text()
            if loaded.stages:
                planned = f"stage {number} of {len(loaded.stages)}, objective {stage.objective}\n\n{planned}"
            # As comments, so that the whole output is a recipe still.
            typer.echo("\n" + "\n".join(f"# {line}".rstrip() for line in planned.splitlines()))
        return
    for option, value in (("--gpus", gpus), ("--sharding", sharding), ("--gpu-memory", gpu_memory)):
        if value is not None:
            raise LangBridgeError(f"{option}: only plans a run; give it together with --dry-run")
    loaded.check_files()
    from langbridge.train.run import train as run_training

    final = run_training(loaded, out or Path("runs") / recipe.stem, resume=resume, progress=not quiet)
    if os.environ.get("RANK", "0") == "0":
        typer.echo(f"{final}")
