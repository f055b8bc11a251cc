"""Scores by language as a table, a picture and a file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from langbridge.evaluate.report import bars, contents
from langbridge.evaluate.scores import Score, stated_error
from langbridge.files import write_atomically
from langbridge.languages import group_of

Scores = Mapping[str, Mapping[str, Score]]
"""By language, then by model."""


def as_json(scores: Scores) -> str:
    """A list with an object for each score."""
    rows = [
        {"model": model, "language": code, "group": group_of(code),
         "accuracy": score.mean, "stderr": score.stderr, "n": score.n}
        for code, models in scores.items()
        for model, score in models.items()
    ]  # fmt: skip
    return json.dumps(rows, indent=1) + "\n"


def as_text(scores: Scores, differences: Mapping[str, Score], columns: Mapping[str, str]) -> str:
    """Languages grouped high and low, models as columns (key: heading), the difference last; per cent.

    `differences` holds for each language the paired difference of the last two columns' models.
    """
    lines = [_line("", [*columns.values(), "difference"])]
    for group in ("high", "low"):
        cells = {
            code: [*(scores[code][model] for model in columns), differences[code]]
            for code in differences
            if group_of(code) == group
        }
        if not cells:
            continue
        lines.append(f"{group}-resource")
        lines += [_line(code, [_cell(score.mean, score.stderr) for score in row]) for code, row in cells.items()]
        means = [sum(score.mean for score in column) / len(cells) for column in zip(*cells.values(), strict=True)]
        lines.append(_line("average", [_cell(mean) for mean in means]))
    return "\n".join(lines)


def _cell(mean: float, stderr: float | None = None) -> str:
    return f"{100 * mean:.1f}{stated_error(stderr):6}"


def _line(first: str, cells: Sequence[str]) -> str:
    return "  ".join(f"{cell:>14}" for cell in [first, *cells])


def draw_bars(scores: Scores, columns: Mapping[str, str], path: Path, title: str) -> None:
    """Accuracy by language with standard errors, high-resource languages first, one bar a model; a PNG."""
    groups = {group: [code for code in scores if group_of(code) == group] for group in ("high", "low")}
    shown = [
        contents.Row(heading, {code: contents.Cell(models[model]) for code, models in scores.items()}, "ours")
        for model, heading in columns.items()
    ]
    write_atomically(path, bars.draw(contents.Table(title, "accuracy", groups, shown), title))
