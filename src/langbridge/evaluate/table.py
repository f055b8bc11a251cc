"""Scores by language as a table, a picture and a file."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langbridge.evaluate.report import bars, contents
from langbridge.evaluate.scores import Score
from langbridge.files import write_atomically
from langbridge.languages import group_of


@dataclass(frozen=True)
class Row:
    """The score of one model in one language."""

    model: str
    language: str
    score: Score

    @property
    def group(self) -> str:
        return group_of(self.language)

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "language": self.language,
            "group": self.group,
            "accuracy": self.score.mean,
            "stderr": self.score.stderr,
            "n": self.score.n,
        }


def as_json(rows: Iterable[Row]) -> str:
    return json.dumps([row.as_json() for row in rows], indent=1) + "\n"


def as_text(rows: Sequence[Row], differences: dict[str, Score], columns: dict[str, str]) -> str:
    """Languages grouped high and low, models as columns (key: heading), the difference last; per cent.

    `differences` holds for each language the paired difference of the last two columns' models.
    """
    by_cell = {(row.language, row.model): row.score for row in rows}
    headings = ["", *columns.values(), "difference"]
    lines = ["  ".join(f"{heading:>14}" for heading in headings)]
    for group in ("high", "low"):
        languages = [code for code in differences if group_of(code) == group]
        if not languages:
            continue
        lines.append(f"{group}-resource")
        cells = {code: [by_cell[code, model] for model in columns] + [differences[code]] for code in languages}
        for code in languages:
            lines.append(_line(code, [f"{100 * s.mean:.1f} ± {100 * s.stderr:.1f}" for s in cells[code]]))
        means = [sum(cells[code][i].mean for code in languages) / len(languages) for i in range(len(columns) + 1)]
        lines.append(_line("average", [f"{100 * mean:.1f}      " for mean in means]))
    return "\n".join(lines)


def _line(first: str, cells: Sequence[str]) -> str:
    return "  ".join(f"{cell:>14}" for cell in [first, *cells])


def draw_bars(rows: Sequence[Row], columns: dict[str, str], path: Path, title: str) -> None:
    """Accuracy by language with standard errors, high-resource languages first, one bar a model; a PNG."""
    codes = list(dict.fromkeys(row.language for row in rows))
    groups = {group: [code for code in codes if group_of(code) == group] for group in ("high", "low")}
    shown = [
        contents.Row(heading, {row.language: contents.Cell(row.score) for row in rows if row.model == model}, "ours")
        for model, heading in columns.items()
    ]
    write_atomically(path, bars.draw(contents.Table(title, "accuracy", groups, shown), title))
