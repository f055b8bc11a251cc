"""A report as one HTML page: tables, pictures and statements in a single file that loads nothing."""

import base64
from html import escape

from langbridge.evaluate.report.contents import Cell, Report, Row, Table
from langbridge.evaluate.report.wording import counts, figures, heading, label, legend, spans, title

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { padding: .3rem .55rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 11rem; }
thead tr:last-child th { border-bottom: 1px solid #222; }
thead tr:first-child th { text-align: center; font-weight: normal; color: #666; }
td.average, th.average { font-weight: 600; }
tr.published td { color: #666; font-style: italic; }
tr.difference td { border-top: 1px solid #bbb; }
small { color: #666; font-weight: normal; }
small.interval { display: block; }
img { max-width: 100%; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem 1.2rem; overflow-wrap: anywhere; }
"""


def as_html(report: Report, pictures: dict[str, bytes]) -> str:
    """pictures: by task, PNG."""
    parts = [f"<p>{escape(line)}</p>" for line in legend(report)]
    for table in report.tables:
        parts.append(f"<h2>{escape(title(table))}</h2>")
        if table.measure == "accuracy" and table.task in pictures:
            data = base64.b64encode(pictures[table.task]).decode()
            parts.append(f'<img alt="Accuracy by language, {escape(table.task)}" src="data:image/png;base64,{data}">')
        parts.append(f'<div class="wide">{_table(table)}</div>')
        notes = [escape(note) for note in table.notes]
        notes += [f"{escape(row.name)} (published): {escape(row.source)}." for row in table.rows if row.source]
        if notes:
            parts.append("<ul>" + "".join(f"<li>{note}</li>" for note in notes) + "</ul>")
    parts.append("<h2>How these numbers were made</h2>")
    for name, lines in report.statements:
        pairs = "".join(f"<dt>{escape(what)}</dt><dd>{escape(value)}</dd>" for what, value in lines)
        parts.append(f"<details open><summary>{escape(name)}</summary><dl>{pairs}</dl></details>")
    head = f'<meta charset="utf-8"><title>Evaluation</title><style>{_STYLE}</style>'
    body = "\n".join(["<h1>Evaluation</h1>", *parts])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _table(table: Table) -> str:
    columns = table.columns
    groups = "".join(f'<th colspan="{width}">{escape(text)}</th>' for text, width in spans(table))
    names = "".join(f"<th{_class(table, column)}>{escape(heading(column))}</th>" for column in columns)
    rows = []
    for row in table.rows:
        cells = "".join(f"<td{_class(table, column)}>{_cell(row, row.cells.get(column))}</td>" for column in columns)
        rows.append(f'<tr class="{row.kind}"><td>{escape(label(row))}</td>{cells}<td>{counts(row)}</td></tr>')
    return (
        f"<table><thead><tr><th></th>{groups}<th></th></tr><tr><th></th>{names}<th>questions</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _class(table: Table, column: str) -> str:
    return "" if any(column in codes for codes in table.languages.values()) else ' class="average"'


def _cell(row: Row, cell: Cell | None) -> str:
    return figures(row, cell, " <small>± {}</small>", '<small class="interval">{}</small>')
