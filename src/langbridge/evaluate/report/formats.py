"""A report's files, each written atomically."""

import csv
import io
import math
from pathlib import Path

from langbridge.evaluate.report.bars import draw_all
from langbridge.evaluate.report.contents import GROUPS, Report
from langbridge.evaluate.report.latex import as_latex
from langbridge.evaluate.report.markdown import as_markdown
from langbridge.evaluate.report.page import as_html
from langbridge.files import write_atomically

_FIELDS = (
    "task", "measure", "row", "kind", "column", "group", "mean", "stderr", "low_95", "high_95", "questions", "source",
)  # fmt: skip


def write_report(report: Report, out: Path) -> list[Path]:
    """Write `report.md`, `report.tex`, `report.csv`, `report.html` and `bars_TASK.png` into `out`; their paths."""
    out = out.expanduser()
    pictures = draw_all(report)
    names = {task: f"bars_{task}.png" for task in pictures}
    texts = {
        "report.md": as_markdown(report, names),
        "report.tex": as_latex(report),
        "report.csv": as_csv(report),
        "report.html": as_html(report, pictures),
    }
    for name, text in texts.items():
        write_atomically(out / name, text)
    for task, picture in pictures.items():
        write_atomically(out / names[task], picture)
    return [out / name for name in [*texts, *names.values()]]


def as_csv(report: Report) -> str:
    """One line a cell, in fractions and not per cent; empty where there is no value."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_FIELDS)
    for table in report.tables:
        groups = {code: group for group, codes in table.languages.items() for code in codes}
        groups |= {name: name for name in (*GROUPS, "all")}
        for row in table.rows:
            for column in table.columns:
                cell = row.cells.get(column)
                if cell is None:
                    continue
                if cell.score is None:
                    assert cell.published is not None
                    numbers = [round(cell.published / 100, 6), "", "", "", ""]
                else:
                    bounds = [cell.interval.low, cell.interval.high] if cell.interval else ["", ""]
                    stderr = "" if math.isnan(cell.score.stderr) else cell.score.stderr
                    numbers = [cell.score.mean, stderr, *bounds, cell.score.n]
                place = [table.task, table.measure, row.name, row.kind, column, groups[column]]
                writer.writerow([*place, *numbers, row.source or ""])
    return buffer.getvalue()
