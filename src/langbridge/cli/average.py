"""`langbridge average`: the mean of two bridges between the same models."""

from pathlib import Path
from typing import Annotated

import typer

from langbridge.cli.bridge import model_folder


def average(
    first: Annotated[Path, typer.Argument(help="A bridge's folder, such as the closed-form start's.")],
    second: Annotated[Path, typer.Argument(help="Another's, such as what was trained from it.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the new bridge is written.")],
    share: Annotated[float, typer.Option("--share", min=0, max=1, help="Of the second.")] = 0.5,
) -> None:
    """Average two bridges between the same models, weight by weight."""
    for folder in (first, second):
        model_folder(folder)
    from langbridge.model.averaging import average_checkpoints

    typer.echo(f"{average_checkpoints(first, second, out, share=share)}")
