"""`langbridge report`: tables and pictures of evaluations, and their answers to read."""

from pathlib import Path
from typing import Annotated

import typer

from langbridge.cli.names import names_in
from langbridge.errors import LangBridgeError


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of evaluations, or NAME=FOLDER.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for all formats; default: Markdown, printed.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option("--compare", metavar="A B", help="Two runs whose difference, A minus B, is wanted."),
    ] = None,
    published: Annotated[bool, typer.Option("--published", help="With rows of the literature, and sources.")] = False,
    languages: Annotated[
        str | None, typer.Option("--languages", metavar="CODE,...", help="Only these, averages included.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option("--groups", metavar="FILE", help="YAML: high: [en, ...], low: [sw, ...].")
    ] = None,
    samples: Annotated[
        str | None, typer.Option("--samples", metavar="LANGUAGE", help="Show right and wrong answers instead.")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="With --samples: only this task.")] = None,
    number: Annotated[int, typer.Option("--number", min=1, help="With --samples: answers of each kind.")] = 3,
) -> None:
    """Make tables and pictures of evaluations."""
    chosen = None if languages is None else names_in(languages, "--languages")
    from langbridge.evaluate.report import Groups, as_markdown, make_report, name_runs, write_report

    named = name_runs(runs)
    if samples is not None:
        from langbridge.evaluate.report.examples import show_samples

        for one in named:
            if len(named) > 1:
                typer.echo(f"== {one.name}\n")
            typer.echo(show_samples(one, samples, task=task, number=number))
        return
    if task is not None:
        raise LangBridgeError("--task goes with --samples; a report shows every task of its runs")
    made = make_report(
        named,
        compare=compare,
        published=published,
        groups=None if groups is None else Groups.read(groups),
        languages=chosen,
    )
    if out is None:
        typer.echo(as_markdown(made), nl=False)
        return
    written = write_report(made, out)
    typer.echo(f"{out}: {', '.join(path.name for path in written)}")
