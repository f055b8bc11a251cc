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
    number: Annotated[
        int | None, typer.Option("--number", min=1, help="With --samples: answers of each kind; default: 3.")
    ] = None,
) -> None:
    """Make tables and pictures of evaluations."""
    chosen = None if languages is None else names_in(languages, "--languages")
    from langbridge.evaluate.report import Groups, as_markdown, make_report, name_runs, write_report

    of_reports = {
        "--out": out, "--compare": compare, "--published": published or None, "--languages": chosen, "--groups": groups,
    }  # fmt: skip
    of_samples = {"--task": task, "--number": number}
    others = of_samples if samples is None else of_reports
    if unheard := [name for name, value in others.items() if value is not None]:
        what = "goes with --samples" if samples is None else "goes with a report, and --samples prints answers"
        raise LangBridgeError(f"{', '.join(unheard)}: {what}; leave it out")
    named = name_runs(runs)
    if samples is not None:
        from langbridge.evaluate.report.examples import show_samples

        for one in named:
            if len(named) > 1:
                typer.echo(f"== {one.name}\n")
            typer.echo(show_samples(one, samples, task=task, number=number or 3))
        return
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
