"""The study's figures, as PNG and SVG: Okabe and Ito's colours, and never colour alone.

Bars and points have one standard error on either side.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from langbridge.analyze.figures import COLOURS, figure
from langbridge.cli.studies.answers import Answers, Estimate, mean_of
from langbridge.languages import group_of

if TYPE_CHECKING:
    from langbridge.cli.studies.encoders import Quality
    from langbridge.cli.studies.examples import Curve

_FILLS = (("#999999", ""), ("#0072B2", ""), ("#E69F00", "///"), ("#009E73", "..."))
_LINES: tuple[dict[str, Any], ...] = (
    {"color": "#555555", "linestyle": (0, (3, 2)), "marker": "s", "markerfacecolor": "white"},
    {"color": "#0072B2", "linestyle": "-", "marker": "o"},
    {"color": "#E69F00", "linestyle": (0, (5, 1)), "marker": "^"},
    {"color": "#009E73", "linestyle": (0, (1, 1)), "marker": "D"},
)
_START: dict[str, dict[str, Any]] = {
    "ridge": {"linestyle": "-", "marker": "o"},
    "random": {"linestyle": (0, (3, 2)), "marker": "s", "markerfacecolor": "white"},
}


def draw_languages(path: Path, codes: Sequence[str], systems: Mapping[str, Sequence[Answers]]) -> None:
    """Accuracy by language, one bar a system."""
    high = sum(group_of(code) == "high" for code in codes)
    places = [i + (0.6 if i >= high else 0.0) for i in range(len(codes))]
    width = 0.84 / len(systems)
    with figure(path, figsize=(7.1, 2.7), layout="constrained") as (drawn, ax):
        for index, ((name, seeds), (colour, hatch)) in enumerate(zip(systems.items(), _FILLS, strict=False)):
            scores = [mean_of(seeds, [code]) for code in codes]
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
        ax.set_xticks(places, codes)
        ax.set_ylim(0, 105)
        ax.set_ylabel("accuracy, per cent")
        for text, group in (("high-resource", places[:high]), ("low-resource", places[high:])):
            if group:
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
        _from_zero(ax)
        drawn.legend(loc="outside upper center", ncols=2, frameon=False)


def draw_examples(path: Path, curves: Mapping[str, "Curve"]) -> None:
    """Accuracy (English and low-resource) and reading score against the examples seen."""
    from langbridge.cli.studies.lift import LOW

    panels = (("English", ("en",), COLOURS["high"]), ("low-resource languages", LOW, COLOURS["low"]))
    with figure(path, ncols=3, figsize=(7.1, 2.5), layout="constrained") as (drawn, axes):
        for ax, (title, languages, colour) in zip(axes, panels, strict=False):
            for init, one in curves.items():
                scores = one.accuracy(languages)
                ax.errorbar(
                    list(scores), [100 * score.value for score in scores.values()],
                    [100 * score.stderr for score in scores.values()],
                    color=colour, markersize=3.5, elinewidth=0.7, **_START.get(init, {}),
                )  # fmt: skip
            ax.set_title(title)
            ax.set_ylabel("accuracy, per cent")
            _from_zero(ax)
        for init, one in curves.items():
            style = _START.get(init, {})
            axes[2].plot(list(one.reading), [fmean(found) for found in one.reading.values()],
                         color="black", markersize=3.5, label=f"{init} start", **style)  # fmt: skip
            for seen, found in one.reading.items():
                axes[2].plot([seen] * len(found), found, linestyle="none", marker=".", markersize=2.5, color="#777777")
        axes[2].set_title("reading score")
        axes[2].set_ylabel("nats a target token")
        for ax in axes:
            ax.set_xlabel("English examples")
            ax.locator_params(axis="x", nbins=4)
        drawn.legend(*axes[2].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)


def draw_encoders(path: Path, qualities: Sequence["Quality"]) -> None:
    """Low-resource accuracy against every number, a panel each; an encoder is a point, its place in training beside."""
    names = list(qualities[0].numbers)
    with figure(path, nrows=2, ncols=4, figsize=(7.1, 3.9), layout="constrained", sharey=True) as (_, grid):
        for ax, name in zip(grid.flat, names, strict=False):
            ax.errorbar(
                [one.numbers[name][0] for one in qualities],
                [100 * one.low.value for one in qualities],
                yerr=[100 * one.low.stderr for one in qualities],
                xerr=[one.numbers[name][1] for one in qualities],
                linestyle=":", linewidth=0.6, marker="o", markersize=3.5, color=COLOURS["low"], elinewidth=0.7,
            )  # fmt: skip
            for index, one in enumerate(qualities):
                ax.annotate(str(index + 1), (one.numbers[name][0], 100 * one.low.value), xytext=(3, 3),
                            textcoords="offset points", fontsize=6.5)  # fmt: skip
            ax.set_title(name)
            _from_zero(ax)
        for ax in grid[:, 0]:
            ax.set_ylabel("low-resource accuracy")
        for ax in list(grid.flat)[len(names) :]:
            ax.axis("off")
            listed = "\n".join(f"{index + 1}  {one.encoder}" for index, one in enumerate(qualities))
            ax.text(0.05, 0.95, listed, transform=ax.transAxes, va="top", fontsize=7.5)


def _from_zero(ax: Any) -> None:
    """From a little below zero, so that a marker there is whole, to all of it where it comes near."""
    top = ax.get_ylim()[1]
    ax.set_ylim(-0.03 * max(top, 10), 105 if top > 60 else max(top, 10))
