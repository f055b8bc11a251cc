"""A bridge's folder, for every command that uses one: its options, and how it is opened."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langbridge.errors import LangBridgeError

if TYPE_CHECKING:
    from langbridge.serve.engine import Engine

Folder = Annotated[Path, typer.Argument(help="The bridge's folder.")]
SourceLanguage = Annotated[
    str | None,
    typer.Option("--source-language", metavar="CODE", help="The prompts' language, for encoders that mark it."),
]
RouteFile = Annotated[
    Path | None,
    typer.Option(
        "--route",
        metavar="FILE",
        help="Prompts that the language model reads well itself, by this file of `langbridge route`, go to it as text.",
    ),
]
MaxNewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")]


def model_folder(folder: Path) -> Path:
    """`folder`, or an error that says why it is no model's. Cheap, so it comes before torch is loaded."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise LangBridgeError(f"{folder}: {'is a file, expected a folder' if folder.exists() else 'no such folder'}")
    if not (folder / "config.json").is_file():
        raise LangBridgeError(f"{folder}: no config.json in it, so it is not a model's folder")
    return folder


def output_file(out: Path) -> Path:
    """The file that `--out` names, or an error where a folder is there."""
    out = out.expanduser()
    if out.is_dir():
        raise LangBridgeError(f"--out: {out} is a folder, expected a file's name")
    return out


def open_bridge(folder: Path, batch_size: int, route: Path | None = None) -> "Engine":
    """A bridge to ask. What is wrong with a prompt, its length or its language, is an error."""
    folder = model_folder(folder)
    from langbridge.serve.load import bridge_engine, load_bridge

    return bridge_engine(*load_bridge(folder, rows=batch_size), batch_size, route=route, strict=True)
