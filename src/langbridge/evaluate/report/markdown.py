"""A report as Markdown, in GitHub's flavour."""

from langbridge import markdown
from langbridge.evaluate.report.contents import Report, Table
from langbridge.evaluate.report.wording import counts, figures, heading, label, legend, title
from langbridge.markdown import escaped


def as_markdown(report: Report, pictures: dict[str, str] | None = None) -> str:
    """pictures: by task the file name of its bars, beside the text."""
    blocks = ["# Evaluation", *legend(report)]
    for table in report.tables:
        blocks.append(f"## {title(table)}")
        blocks.append(_table(table))
        if table.notes:
            blocks.append("\n".join(f"- {escaped(note)}" for note in table.notes))
        sources = [f"- {escaped(row.name)}: {escaped(row.source)}" for row in table.rows if row.source]
        if sources:
            blocks += ["Sources of published rows:", "\n".join(sources)]
        if table.measure == "accuracy" and pictures and table.task in pictures:
            blocks.append(f"![Accuracy by language, {table.task}]({pictures[table.task]})")
    blocks.append("## How these numbers were made")
    for name, lines in report.statements:
        blocks.append(f"### {escaped(name)}")
        blocks.append("\n".join(f"- {escaped(what)}: {_literal(value)}" for what, value in lines))
    return "\n\n".join(blocks) + "\n"


def _table(table: Table) -> str:
    headings = ["", *map(heading, table.columns), "questions"]
    return markdown.table(
        headings,
        (
            [escaped(label(row)), *(figures(row, row.cells.get(column)) for column in table.columns), counts(row)]
            for row in table.rows
        ),
    )


def _literal(text: str) -> str:
    return escaped(text) if "`" in text else f"`{text}`"
