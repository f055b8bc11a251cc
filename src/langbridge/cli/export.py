"""`langbridge export`: a bridge and its bases, merged into one folder."""

from pathlib import Path
from typing import Annotated

import typer

from langbridge.cli.bridge import Folder, model_folder


def export(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the full model is written.")],
) -> None:
    """Write a bridge and its bases as one full model that needs nothing else."""
    model_folder(folder)
    from langbridge.model import export_merged

    export_merged(folder, out)
    typer.echo(f"{out}")
