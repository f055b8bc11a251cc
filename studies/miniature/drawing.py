"""The study's figures, as PNG and SVG: Okabe and Ito's colours, and never colour alone.

Bars and points have one standard error on either side. What only one part draws stands with it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from langbridge.analyze.figures import figure
from studies.miniature.answers import Answers, Estimate, mean_of
from studies.miniature.sizes import ALL, HIGH

_FILLS = (("#999999", ""), ("#0072B2", ""), ("#E69F00", "///"), ("#009E73", "..."))
_LINES: tuple[dict[str, Any], ...] = (
    {"color": "#555555", "linestyle": (0, (3, 2)), "marker": "s", "markerfacecolor": "white"},
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#E69F00", "linestyle": (0, (5, 1)), "marker": "^"},
    {"color": "#009E73", "linestyle": (0, (1, 1)), "marker": "D"},
)


def draw_languages(path: Path, systems: Mapping[str, Sequence[Answers]]) -> None:
    """Accuracy by language, one bar a system."""
    high = len(HIGH)
    places = [i + (0.6 if i >= high else 0.0) for i in range(len(ALL))]
    width = 0.84 / len(systems)
    with figure(path, figsize=(7.1, 2.7), layout="constrained") as (drawn, ax):
        for index, ((name, seeds), (colour, hatch)) in enumerate(zip(systems.items(), _FILLS, strict=False)):
            scores = [mean_of(seeds, [code]) for code in ALL]
            ax.bar(
                [place + (index - (len(systems) - 1) / 2) * width for place in places],
                [100 * score.value for score in scores],
                width,
                yerr=[100 * score.stderr for score in scores],
                label=name,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.3,
                error_kw={"elinewidth": 0.7},
            )
        ax.set_xticks(places, ALL)
        ax.set_ylim(0, 105)
        ax.set_ylabel("accuracy, per cent")
        for text, group in (("high-resource", places[:high]), ("low-resource", places[high:])):
            middle = sum(group) / len(group)
            ax.text(middle, -0.2, text, transform=ax.get_xaxis_transform(), ha="center", fontsize=7.5)
        drawn.legend(loc="outside upper center", ncols=len(systems), frameon=False)


def draw_lengths(path: Path, ticks: Sequence[str], lines: Mapping[str, Sequence[Estimate]], label: str) -> None:
    """Accuracy by the length of a problem, a line each; `label` says what the ticks are."""
    places = range(len(ticks))
    with figure(path, figsize=(3.6, 2.6), layout="constrained") as (drawn, ax):
        for shift, ((name, scores), style) in enumerate(zip(lines.items(), _LINES, strict=False)):
            ax.errorbar(
                [place + 0.04 * (shift - (len(lines) - 1) / 2) for place in places],
                [100 * score.value for score in scores],
                [100 * score.stderr for score in scores],
                label=name, markersize=4, elinewidth=0.7, **style,
            )  # fmt: skip
        ax.set_xticks(list(places), ticks)
        ax.set_xlabel(label)
        ax.set_ylabel("accuracy, per cent")
        from_zero(ax)
        drawn.legend(loc="outside upper center", ncols=2, frameon=False)


def from_zero(ax: Any) -> None:
    """From a little below zero, so that a marker there is whole, to all of it where it comes near."""
    top = ax.get_ylim()[1]
    ax.set_ylim(-0.03 * max(top, 10), 105 if top > 60 else max(top, 10))
