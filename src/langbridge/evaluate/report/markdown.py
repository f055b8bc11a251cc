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
        sources = [f"- {_escaped(row.name)}: {_escaped(row.source)}" for row in table.rows if row.source]
        if sources:
            blocks += ["Sources of published rows:", "\n".join(sources)]
        if table.measure == "accuracy" and pictures and table.task in pictures:
            blocks.append(f"![Accuracy by language, {table.task}]({pictures[table.task]})")
    blocks.append("## How these numbers came about")
    for name, lines in report.statements:
        blocks.append(f"### {_escaped(name)}")
        blocks.append("\n".join(f"- {_escaped(what)}: {_literal(value)}" for what, value in lines))
    return "\n\n".join(blocks) + "\n"


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
    # Underscores within words are text already.
    for character in "\\|<*`[":
        text = text.replace(character, "\\" + character)
    return text


def _literal(text: str) -> str:
    return _escaped(text) if "`" in text else f"`{text}`"
