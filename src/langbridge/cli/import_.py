"""`langbridge import`: a checkpoint in the published LangBridge format becomes one of ours."""

from pathlib import Path
from typing import Annotated

import typer

from langbridge.cli.bridge import model_folder


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the published checkpoint.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the bridge is written.")],
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", metavar="FOLDER", help="The encoder's folder, instead of the recorded id."),
    ] = None,
    language_model: Annotated[
        str | None, typer.Option("--language-model", metavar="FOLDER", help="The language model's folder, likewise.")
    ] = None,
) -> None:
    """Read a checkpoint in the published format and write it as a bridge's folder."""
    model_folder(checkpoint)
    from langbridge.model import import_official

    # The report tells a person what was missing; the folder on stdout is for a script.
    report = import_official(checkpoint, encoder=encoder, language_model=language_model, out=out)
    typer.echo(str(report), err=True)
    typer.echo(f"{report.out}")
