"""A report as Markdown, in GitHub's flavour."""

from langbridge.evaluate.report.contents import Cell, Report, Row, Table
from langbridge.evaluate.report.wording import counts, error, heading, interval, label, legend, mean, title


def as_markdown(report: Report, pictures: dict[str, str] | None = None) -> str:
    """pictures: by task the file name of its bars, beside the text."""
    blocks = ["# Evaluation", *legend(report)]
    for table in report.tables:
        blocks.append(f"## {title(table)}")
        blocks.append(_table(table))
        if table.notes:
            blocks.append("\n".join(f"- {_escaped(note)}" for note in table.notes))
        sources = {row.name: row.source for row in table.rows if row.source}
        if sources:
            blocks.append("Sources of published rows:")
            blocks.append("\n".join(f"- {_escaped(name)}: {_escaped(source)}" for name, source in _sources(table)))
        if table.measure == "accuracy" and pictures and table.task in pictures:
            blocks.append(f"![Accuracy by language, {table.task}]({pictures[table.task]})")
    blocks.append("## How these numbers came about")
    for name, lines in report.statements:
        blocks.append(f"### {_escaped(name)}")
        blocks.append("\n".join(f"- {_escaped(what)}: {_escaped(value)}" for what, value in lines))
    return "\n\n".join(blocks) + "\n"


def _sources(table: Table) -> list[tuple[str, str]]:
    return [(row.name, row.source) for row in table.rows if row.source]


def _table(table: Table) -> str:
    columns = table.columns
    lines = [
        "| | " + " | ".join(heading(column) for column in columns) + " | questions |",
        "|---|" + "---:|" * (len(columns) + 1),
    ]
    for row in table.rows:
        cells = [_cell(row, row.cells.get(column)) for column in columns]
        lines.append(f"| {_escaped(label(row))} | " + " | ".join(cells) + f" | {counts(row)} |")
    return "\n".join(lines)


def _cell(row: Row, cell: Cell | None) -> str:
    if cell is None:
        return ""
    text, stderr, bounds = mean(cell, signed=row.kind == "difference"), error(cell), interval(cell)
    if stderr is not None:
        text += f" ± {stderr}"
    return f"{text} {bounds}" if bounds else text


def _escaped(text: str) -> str:
    for character in "\\|<>*_`#[]":
        text = text.replace(character, "\\" + character)
    return text
