"""A report's files: Markdown, an HTML page that loads nothing, LaTeX and CSV. The first three are `templates/`."""

import base64
import csv
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from langbridge.evaluate.report import wording
from langbridge.evaluate.report.bars import draw
from langbridge.evaluate.report.contents import GROUPS, Report
from langbridge.files import write_atomically
from langbridge.markdown import escaped

_FIELDS = (
    "task", "measure", "row", "kind", "column", "group", "mean", "stderr", "low_95", "high_95", "questions", "source",
)  # fmt: skip
_IN_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$",
}  # fmt: skip

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=lambda name: name == "report.html.jinja",
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.globals |= vars(wording)
_TEMPLATES.filters |= {
    "md": escaped,
    "tex": lambda text: "".join(_IN_LATEX.get(character, character) for character in text),
    "label": lambda text: re.sub(r"[\W_]", "-", text),
    "base64": lambda content: base64.b64encode(content).decode(),
}
# LaTeX is full of braces and per cent signs.
_LATEX_TEMPLATES = _TEMPLATES.overlay("<%", "%>", "<<", ">>", "<#", "#>")


def as_markdown(report: Report, pictures: Mapping[str, str] | None = None) -> str:
    """In GitHub's flavour. pictures: by task the file name of its bars, beside the text."""
    return _TEMPLATES.get_template("report.md.jinja").render(report=report, pictures=pictures or {})


def as_html(report: Report, pictures: Mapping[str, bytes]) -> str:
    """One page that loads nothing. pictures: by task, PNG."""
    return _TEMPLATES.get_template("report.html.jinja").render(report=report, pictures=pictures)


def as_latex(report: Report) -> str:
    """For papers: `booktabs`, `graphicx` and, for scripts of the world, XeLaTeX or LuaLaTeX."""
    return _LATEX_TEMPLATES.get_template("report.tex.jinja").render(report=report)


def as_csv(report: Report) -> str:
    """One line a cell, in fractions and not per cent; empty where there is no value."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _FIELDS, lineterminator="\n")
    writer.writeheader()
    for table in report.tables:
        groups = {code: group for group, codes in table.languages.items() for code in codes}
        groups |= {name: name for name in (*GROUPS, "all")}
        for row in table.rows:
            for column in table.columns:
                if (cell := row.cells.get(column)) is None:
                    continue
                line: dict[str, Any] = {
                    "task": table.task, "measure": table.measure, "row": row.name, "kind": row.kind,
                    "column": column, "group": groups[column], "source": row.source,
                }  # fmt: skip
                if cell.score is None:
                    line["mean"] = round((cell.published or 0.0) / 100, 6)
                    line["source"] = f"{row.source}{'; average over its own languages' * cell.own_languages}"
                else:
                    stderr = None if math.isnan(cell.score.stderr) else cell.score.stderr
                    line |= {"mean": cell.score.mean, "stderr": stderr, "questions": cell.score.n}
                if cell.interval is not None:
                    line |= {"low_95": cell.interval.low, "high_95": cell.interval.high}
                writer.writerow(line)
    return buffer.getvalue()


def write_report(report: Report, out: Path) -> list[Path]:
    """Write `report.md`, `report.tex`, `report.csv`, `report.html` and `bars_TASK.png` into `out`; their paths."""
    pictures = {table.task: draw(table) for table in report.tables if table.measure == "accuracy"}
    names = {task: f"bars_{task}.png" for task in pictures}
    contents: dict[str, str | bytes] = {
        "report.md": as_markdown(report, names),
        "report.tex": as_latex(report),
        "report.csv": as_csv(report),
        "report.html": as_html(report, pictures),
        **{names[task]: picture for task, picture in pictures.items()},
    }
    paths = [out.expanduser() / name for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_atomically(path, content)
    return paths
