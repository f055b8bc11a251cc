"""`langbridge route`: which prompts of a bridge its language model is to read as its own text."""

from pathlib import Path
from typing import Annotated

import typer

from langbridge.cli.bridge import Folder, model_folder, output_file
from langbridge.files import text_field


def route(
    folder: Folder,
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="English prompts, in rows as `generate` reads.")],
    out: Annotated[Path, typer.Option("--out", metavar="F.json", help="Where the route goes.")],
    field: Annotated[str, typer.Option("--field", metavar="NAME", help="The rows' field with the prompt.")] = "prompt",
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            help="Of prompts as text: a name, chat, 'chat: TURN', or a text with {prompt}; default: the bridge's own.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The first rows only.")] = 200,
) -> None:
    """Find by English prompts alone which prompts the language model reads best as its own text."""
    folder, out = model_folder(folder), output_file(out)
    from itertools import islice

    from langbridge.data.readers import good_rows

    prompts = []
    for number, row in islice(good_rows(data), limit):
        prompts.append(text_field(row, field, f"{data}, row {number}"))
    from langbridge.serve.load import load_bridge
    from langbridge.serve.routing import fit_route

    found = fit_route(*load_bridge(folder), prompts, template=template)
    found.save(out)
    gloss = "" if found.gloss is None else f", or tell it at least {found.gloss:.2f} nats a token of their gloss,"
    typer.echo(
        f"{out}: prompts that cost the language model at most {found.loss:.2f} nats a token{gloss} go to it as text: "
        f"of {found.prompts} English ones {found.prompts - found.english_by_bridge}, with mistyped letters "
        f"{found.mistyped_by_text}"
    )
