"""`langbridge generate`: prompts in, answers out, from the command line or from a file of rows."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from langbridge.cli.bridge import (
    Folder,
    MaxNewTokens,
    RouteFile,
    SourceLanguage,
    model_folder,
    open_bridge,
    output_file,
)
from langbridge.cli.progress import progress_bar
from langbridge.errors import LangBridgeError
from langbridge.files import text_field, write_jsonl

if TYPE_CHECKING:
    from langbridge.serve.engine import Decoding, Request

OUTPUT, WAY = "output", "way"
"""The fields that every row gains; the second where prompts are routed."""


def generate(
    folder: Folder,
    prompts: Annotated[list[str] | None, typer.Argument(metavar="[PROMPT]...", help="What to answer.")] = None,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="Rows to answer: JSON, Parquet, CSV, TSV, or text by line."),
    ] = None,
    field: Annotated[str, typer.Option("--field", metavar="NAME", help="The rows' field with the prompt.")] = "prompt",
    source_language: SourceLanguage = None,
    language_field: Annotated[
        str | None,
        typer.Option("--language-field", metavar="NAME", help="The rows' field with their language, instead."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="F.jsonl", help="Where the rows go with their answers; default: stdout."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Prompts answered at once.")] = 16,
    max_new_tokens: MaxNewTokens = 256,
    route: RouteFile = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option("--engine", help="Where: in this process, or on the machines of a Ray cluster."),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="With --engine ray; default: one a GPU, or one a machine."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Answer prompts with a bridge, greedily. Rows of a file are kept and gain the field "output", and with --route
    "way": "text" or "bridge"."""
    folder = model_folder(folder)
    out = None if out is None else output_file(out)
    if engine == "ray" and (input_file is None or out is None):
        raise LangBridgeError("--engine ray: needs rows with --input, and --out, beside which it keeps what is done")
    if engine == "ray" and route is not None:
        raise LangBridgeError("--route: goes with answers in this process, not with --engine ray")
    if engine != "ray" and workers is not None:
        raise LangBridgeError("--workers: goes with --engine ray")
    rows = _rows(prompts or [], input_file, field, [OUTPUT] if route is None else [OUTPUT, WAY])
    languages = _languages(rows, input_file, source_language, language_field)
    from langbridge.serve.engine import Decoding, Request

    requests = [Request(row[field], language=one) for row, one in zip(rows, languages, strict=True)]
    batch_size, decoding = min(batch_size, len(rows)), Decoding(max_new_tokens)
    kept: Path | None = None
    with progress_bar(len(rows), "generate", quiet=quiet) as bar:
        if engine == "ray" and out is not None:
            kept = out.with_name(f"{out.name}.blocks")
            texts = _by_ray(folder, requests, decoding, batch_size, workers, kept, bar)
            gained: list[dict[str, str]] = [{OUTPUT: text.strip()} for text in texts]
        else:
            gained = [{} for _ in rows]
            for place, answer in open_bridge(folder, batch_size, route).generate(requests, decoding):
                gained[place] = {OUTPUT: answer.text.strip(), **({} if answer.way is None else {WAY: answer.way})}
                bar.update(1)
    answered = [{**row, **fields} for row, fields in zip(rows, gained, strict=True)]
    if out is not None:
        write_jsonl(out, answered)
        if kept is not None:
            shutil.rmtree(kept)
    elif input_file is not None:
        for row in answered:
            typer.echo(json.dumps(row, ensure_ascii=False))
    else:
        typer.echo("\n\n".join(row[OUTPUT] for row in answered))


def _by_ray(
    folder: Path,
    requests: "list[Request]",
    decoding: "Decoding",
    batch_size: int,
    workers: int | None,
    kept: Path,
    bar: Any,
) -> list[str]:
    """The answers of workers elsewhere; those that are there are in the folder `kept`, until the whole file is."""
    from langbridge.serve.blocks import Blocks, folder_digest
    from langbridge.serve.ray import answer_with_ray

    blocks = Blocks(kept, requests, decoding, batch_size, folder_digest(folder))
    bar.update(sum(len(block.places) for block in blocks.blocks if block.done))
    open_engine = partial(open_bridge, folder.resolve(), batch_size)
    for count in answer_with_ray(blocks, open_engine, decoding, workers=workers):
        bar.update(count)
    return blocks.answers()


def _rows(prompts: list[str], input_file: Path | None, field: str, gained: list[str]) -> list[dict[str, Any]]:
    """Every row to answer, checked before any model is loaded."""
    if input_file is None:
        if not prompts:
            raise LangBridgeError("nothing to answer: give a PROMPT, or a file with --input")
        asked = [{field: prompt} for prompt in prompts]
        for number, one in enumerate(asked, start=1):
            text_field(one, field, f"prompt {number}")
        return asked
    if prompts:
        raise LangBridgeError("both PROMPT and --input are given; one of them is enough")
    from langbridge.data.readers import good_rows

    rows: list[dict[str, Any]] = []
    for number, row in good_rows(input_file):
        where = f"{input_file}, row {number}"
        text_field(row, field, where)
        for name in gained:
            if name in row:
                raise LangBridgeError(f"{where}: has a field {name!r}, which the answer would overwrite")
        try:
            json.dumps(row)
        except TypeError as error:  # Parquet has times and pictures
            raise LangBridgeError(f"{where}: cannot be written as JSON beside its answer: {error}") from None
        rows.append(row)
    if not rows:
        raise LangBridgeError(f"{input_file}: there are no rows in it")
    return rows


def _languages(
    rows: list[dict[str, Any]], input_file: Path | None, language: str | None, field: str | None
) -> list[str | None]:
    if field is None:
        return [language] * len(rows)
    if input_file is None or language is not None:
        raise LangBridgeError("--language-field: names a field of --input's rows, and stands without --source-language")
    return [text_field(row, field, f"{input_file}, row {number}") for number, row in enumerate(rows, start=1)]
