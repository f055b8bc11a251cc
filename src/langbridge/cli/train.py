"""`langbridge train`: a recipe in, a bridge's folder out."""

from pathlib import Path
from typing import Annotated

import typer

from langbridge.train.recipe import Recipe

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, as in train.max_steps=20. Repeatable."),
]
"""The `--set` option, shared by every command that reads a recipe."""


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML file of the run.")],
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the whole recipe and stop.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the run; default: runs/ and the recipe's name."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train a bridge from a recipe. The bridge is written to DIR/final."""
    loaded = Recipe.load(recipe, overrides or ())
    if dry_run:
        typer.echo(loaded.to_yaml(), nl=False)
        return
    loaded.check_files()
    from langbridge.train.run import train as run_training

    final = run_training(loaded, out or Path("runs") / recipe.stem, progress=not quiet)
    typer.echo(f"{final}")
