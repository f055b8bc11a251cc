"""`langbridge analyze`: why a bridge works, or does not."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from langbridge.cli.bridge import Folder, SourceLanguage, model_folder
from langbridge.cli.names import names_in
from langbridge.cli.progress import progress_bar
from langbridge.errors import LangBridgeError
from langbridge.files import text_field

app = typer.Typer(
    help="Look at representations, answers, soft prompts and what is read of them.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def representations(
    folder: Folder,
    corpus: Annotated[
        Path, typer.Option("--corpus", metavar="PATH", help="Parallel text: JSONL with id, lang, text, or FLORES.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for report, numbers and pictures.")],
    languages: Annotated[
        str | None, typer.Option("--languages", metavar="A,B,...", help="Which, and in which order; default: all.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=10, help="Sentences in each language, at most.")] = 200,
    pivot: Annotated[
        str | None, typer.Option("--pivot", metavar="LANG", help="What the others are compared with; default: English.")
    ] = None,
    field: Annotated[str, typer.Option("--field", metavar="NAME", help="JSONL rows' field with the text.")] = "text",
    pca_fit: Annotated[
        str, typer.Option("--pca-fit", metavar="each|lm|bridge|all", help="What the picture's axes are fitted on.")
    ] = "each",
    layer: Annotated[
        int | None, typer.Option("--layer", min=1, help="The language model's layer in the picture; default: the last.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Texts read at once.")] = 8,
    keep_states: Annotated[
        bool, typer.Option("--keep-states", help="Leave every sentence's mean states in DIR/states.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """How language-agnostic a bridge's states are, beside those of its language model alone."""
    from langbridge.analyze.corpus import read_corpus

    folder = model_folder(folder)
    chosen = None if languages is None else names_in(languages, "--languages")
    text = read_corpus(corpus, chosen, field=field, limit=limit)
    from langbridge.analyze.representations import analyze_representations
    from langbridge.serve.load import load_bridge

    model, processor = load_bridge(folder)

    with progress_bar(2 * len(text) * len(text.languages), "read", quiet=quiet) as bar:
        numbers = analyze_representations(
            model,
            processor,
            text,
            out,
            pivot=pivot,
            pca_fit=pca_fit,
            layer=layer,
            batch_size=batch_size,
            keep_states=keep_states,
            source={"bridge": str(folder), "corpus": str(corpus)},
            progress=bar.update,
        )
    for stage in numbers["stages"]:
        if stage["layer"] in (-1, 0, numbers["pca"]["layer"]):
            shares, found = stage["variance"], stage["retrieval"]["all"]
            typer.echo(
                f"{stage['model']:6}  {stage['stage']:12}  variance: language {shares['language']['value']:.2f}, "
                f"sentence {shares['sentence']['value']:.2f}   probe {stage['probe']['accuracy']['value']:.2f}   "
                f"retrieval to {numbers['pivot']} {found['to_pivot']['value']:.2f}"
            )
    typer.echo(f"{out}: report.md, numbers.json, curves, pca, pca_input (.png, .svg)")


@app.command()
def outputs(
    run: Annotated[Path, typer.Argument(help="An evaluation's folder, or a JSONL file with language and output.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for report, numbers and pictures.")],
    expected: Annotated[
        str, typer.Option("--expected", metavar="LANG", help="Language to answer in; same: that of the question.")
    ] = "en",
    field: Annotated[str, typer.Option("--field", metavar="NAME", help="Rows' field with the answer.")] = "output",
) -> None:
    """In which language the model answered, and how often in another one than expected (accidental translation)."""
    from langbridge.analyze.outputs import analyze_outputs, mean_of, notes, of_all, percent, unclear

    numbers = analyze_outputs(run, out, expected=expected, field=field)
    for note in notes(numbers):
        typer.echo(note)
    for task, found in numbers["tasks"].items():
        typer.echo(f"{task}: accidental translation, per cent of the clear answers, and its bounds of all answers")
        for code, row in found["languages"].items():
            typer.echo(
                f"  {code:8} {percent(row['accidental']):>12}   of all {of_all(row):>14}   unclear {unclear(row)}"
            )
        for group, row in found["groups"].items():
            shown = f"of all {of_all(row):>14}   unclear {unclear(row)}, {mean_of(row)}"
            typer.echo(f"  {group:8} {percent(row['accidental']):>12}   {shown}")
    typer.echo(f"{out}: report.md, numbers.json, answers.jsonl, answers_TASK (.png, .svg)")


@app.command()
def reading(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Bridges: start, checkpoints, means.")],
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="Rows that no training saw, in any format.")],
    input_field: Annotated[str, typer.Option("--input", metavar="NAME", help="Their field with the prompt.")] = "input",
    output_field: Annotated[
        str, typer.Option("--output", metavar="NAME", help="Their field with the answer.")
    ] = "output",
    limit: Annotated[int, typer.Option("--limit", min=2, help="The first rows only.")] = 64,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Rows read at once.")] = 8,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """How much the language model reads of bridges' soft prompts: which of a training's bridges to keep."""
    folders = list(dict.fromkeys(map(model_folder, folders)))
    from itertools import islice

    from langbridge.model.loading import read_config

    for folder in folders:
        read_config(folder)  # what is no bridge is an error now, and not after the others were read
    from langbridge.data import Example
    from langbridge.data.readers import good_rows

    examples = []
    for number, row in islice(good_rows(data), limit):
        where = f"{data}, row {number}"
        examples.append(Example(text_field(row, input_field, where), text_field(row, output_field, where), where))
    if len(examples) < 2:
        raise LangBridgeError(f"{data}: got {len(examples)} rows, expected at least 2: each is held against another")
    from langbridge.analyze.reading import score_bridge, side_by_side
    from langbridge.serve.load import load_bridge

    scores = {}
    with progress_bar(len(folders) * len(examples), "read", quiet=quiet) as bar:
        for folder in folders:
            # Not by name: of two bridges that are larger than memory together, the first has to go.
            scores[str(folder)] = score_bridge(
                *load_bridge(folder), examples, batch_size=batch_size, progress=bar.update
            )
    typer.echo(f"{len(examples)} rows of {data}, nats a token of the answers\n\n{side_by_side(scores)}")


@app.command("soft-prompts")
def soft_prompts(
    folder: Folder,
    prompt: Annotated[str, typer.Argument(help="What to look at; the bridge's template is put around it.")],
    top: Annotated[int, typer.Option("--top", min=1, help="Nearest tokens of each soft prompt.")] = 5,
    source_language: SourceLanguage = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of lines.")] = False,
) -> None:
    """The language model's tokens nearest to each soft prompt, with their scripts."""
    folder = model_folder(folder)
    from langbridge.analyze.soft_prompts import as_text, nearest_tokens
    from langbridge.serve.load import load_bridge

    model, processor = load_bridge(folder)
    found = nearest_tokens(model, processor, prompt, top=top, source_language=source_language)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "scripts": found.scripts()}, ensure_ascii=False, indent=1))
    else:
        typer.echo(as_text(found))
