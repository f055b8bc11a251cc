"""`langbridge miniature`: the miniature's models and data, as files."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Build the miniature's models and data.", rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def build(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the two models.")],
    shrunken: Annotated[
        bool, typer.Option("--shrunken", help="A pair that learns nothing, in a minute: to see that it runs.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="Saved state and logs; default: DIR.state.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads of each of the two trainings.")
    ] = None,
) -> None:
    """Train the multilingual encoder and the English-centric language model (over an hour on two cores)."""
    from langbridge.miniature.build import PASS, BuildRecipe, failing
    from langbridge.miniature.build import build as run_build
    from langbridge.miniature.build import shrunken as shrunken_recipe

    recipe = shrunken_recipe() if shrunken else BuildRecipe()
    report = run_build(out, recipe, state=state, threads=threads)
    figures = report["languages"]
    for language, row in figures.items():
        typer.echo(f"{language}  retrieval {row['retrieval']:.2f}  probe {row['probe']:.3f}")
    typer.echo(f"translation {report['translation_loss']:.3f} nats a token, floor {report['translation_floor']:.3f}")
    if below := failing(figures):
        typer.echo(f"the gate is not passed ({PASS:.0%} at both) in: {', '.join(below)}")


@app.command()
def data(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the JSONL files.")],
    train: Annotated[int, typer.Option("--train", min=1, help="English problems with solutions.")] = 6400,
    test: Annotated[int, typer.Option("--test", min=1, help="Held-out problems in each language.")] = 250,
) -> None:
    """Write DIR/train.jsonl (English) and DIR/test/LANGUAGE.jsonl (12 languages)."""
    from langbridge.miniature.dataset import write_tests, write_training

    write_training(out / "train.jsonl", train)
    write_tests(out / "test", test)
    typer.echo(f"{out}")
