"""Pictures, each as PNG and SVG: legible in print, in grey, and to colour-blind readers.

High- and low-resource languages differ in colour (two of Okabe and Ito's that also differ in grey) and in shape, the
two models in dash and marker.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from langbridge.analyze.projection import Projection
from langbridge.languages import group_of

COLOURS = {"high": "#0072B2", "low": "#D55E00", "all": "#000000"}
_POINTS: dict[str, dict[str, Any]] = {
    "high": {"marker": "o", "s": 6, "facecolor": COLOURS["high"], "edgecolor": "none", "alpha": 0.35},
    "low": {"marker": "^", "s": 8, "facecolor": "none", "edgecolor": COLOURS["low"], "linewidth": 0.5, "alpha": 0.45},
}
TITLES = {"bridge": "bridge", "lm": "language model alone"}
_MODEL_LINES: dict[str, dict[str, Any]] = {
    "bridge": {"linestyle": "-", "marker": "o", "markersize": 3.2},
    "lm": {"linestyle": (0, (3, 2)), "marker": "s", "markersize": 3.2, "markerfacecolor": "white"},
}
_STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "svg.hashsalt": "langbridge",  # the same picture is the same file
}
_WIDTH = 7.1
"""Inches: the text width of a two-column page."""


@contextmanager
def figure(path: Path, **subplots: Any) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes, written to `path`.png and `path`.svg at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context(_STYLE):
        drawn, axes = plt.subplots(**subplots)
        try:
            yield drawn, axes
            for kind in ("png", "svg"):
                part = path.with_name(f".{path.name}.{kind}.part")
                metadata = {"Date": None} if kind == "svg" else None
                drawn.savefig(part, format=kind, dpi=300, bbox_inches="tight", metadata=metadata)
                os.replace(part, path.with_name(f"{path.name}.{kind}"))
        finally:
            plt.close(drawn)


def draw_projections(
    panels: Sequence[tuple[str, Projection]], languages: Sequence[str], path: Path, *, shared: bool
) -> None:
    """Titled projections side by side, every sentence a point, every language's code at its mean.

    shared: whether the panels have the same axes, and so must have the same limits.
    """
    with figure(
        path,
        ncols=len(panels),
        figsize=(_WIDTH, 3.7),
        sharex=shared,
        sharey=shared,
        squeeze=False,
        layout="constrained",
    ) as (drawn, axes):
        for (title, projection), ax in zip(panels, axes[0], strict=True):
            _scatter(ax, projection.points, languages)
            ax.set_title(title)
            first, second = projection.explained
            ax.set_xlabel(f"first component ({100 * first:.0f} % of the variance here)")
            ax.set_ylabel(f"second component ({100 * second:.0f} %)")
            ax.tick_params(labelleft=True, labelbottom=True)
        handles = [
            axes[0][0].scatter([], [], **{**_POINTS[group], "s": 20, "alpha": 1.0}, label=f"{group}-resource")
            for group in _POINTS
            if group in map(group_of, languages)
        ]
        drawn.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, handletextpad=0.2)
        drawn.canvas.draw()  # settles the layout, which the places of the labels depend on
        for (_, projection), ax in zip(panels, axes[0], strict=True):
            _label(ax, projection.points.mean(0), languages)


def _scatter(ax: Any, points: np.ndarray, languages: Sequence[str]) -> None:
    """Every sentence in every language, the groups a few sentences at a time: neither covers the other."""
    for some in np.array_split(points, min(20, len(points))):
        for group, style in _POINTS.items():
            chosen = [i for i, code in enumerate(languages) if group_of(code) == group]
            # Thousands of points as shapes would make the SVG unwieldy.
            ax.scatter(*some[:, chosen].reshape(-1, 2).T, **style, rasterized=True)


def _label(ax: Any, centres: np.ndarray, languages: Sequence[str]) -> None:
    """Each language's code beside its mean, moved away where another label already stands, with a line back."""
    from matplotlib import patheffects

    scale = ax.figure.dpi / 72
    pixels = ax.transData.transform(centres)
    frame = ax.get_window_extent()
    middle = pixels.mean(0)
    placed: list[np.ndarray] = []
    # From the outside in, so that labels move away from the crowd and not into it.
    for i in np.argsort(-np.linalg.norm(pixels - middle, axis=1)):
        half = np.array([2.6 * max(2, len(languages[i])) + 1.5, 4.8]) * scale
        outward = np.arctan2(*(pixels[i] - middle)[::-1])
        best, least = pixels[i], np.inf
        for radius in np.arange(8, 150, 5) * scale:
            for turn in np.linspace(-np.pi, np.pi, 24, endpoint=False):
                place = pixels[i] + radius * np.array([np.cos(outward + turn), np.sin(outward + turn)])
                inside = (place - half >= frame.min).all() and (place + half <= frame.max).all()
                free = all((np.abs(place - other[:2]) > half + other[2:]).any() for other in placed)
                cost = radius + 3 * scale * abs(turn)
                if inside and free and cost < least:
                    best, least = place, cost
            if least < radius:
                break
        placed.append(np.array([*best, *half]))
        colour = COLOURS[group_of(languages[i])]
        ax.annotate(
            languages[i],
            centres[i],
            ax.transData.inverted().transform(best),
            ha="center",
            va="center",
            color=colour,
            fontsize=7.5,
            fontweight="bold",
            path_effects=[patheffects.withStroke(linewidth=2.2, foreground="white")],
            arrowprops={
                "arrowstyle": "-", "color": "black", "linewidth": 0.5, "shrinkA": 2, "shrinkB": 0, "alpha": 0.8,
            },
            zorder=5,
        )  # fmt: skip
        ax.plot(*centres[i], marker="o", markersize=2.6, color=colour, markeredgecolor="white", markeredgewidth=0.5)


def draw_curves(numbers: Mapping[str, Any], path: Path) -> None:
    """Every number over the stages, with bands of two standard errors."""
    pivot, stages = numbers["pivot"], numbers["stages"]
    groups = [group for group in ("high", "low") if group in stages[0]["cka"]]
    panels: list[tuple[str, list[tuple[str, tuple[str, ...]]]]] = [
        ("variance by language", [("all", ("variance", "language"))]),
        ("variance by sentence", [("all", ("variance", "sentence"))]),
        ("language probe", [("all", ("probe", "accuracy"))]),
        (f"retrieval to {pivot}", [(group, ("retrieval", group, "to_pivot")) for group in groups]),
        (f"retrieval from {pivot}", [(group, ("retrieval", group, "from_pivot")) for group in groups]),
        (f"cosine with {pivot}", [(group, ("cosine", group, "parallel")) for group in groups]),
        (f"CKA with {pivot}", [(group, ("cka", group)) for group in groups]),
    ]
    with figure(path, nrows=2, ncols=4, figsize=(_WIDTH, 3.9), layout="constrained") as (drawn, grid):
        places = [*grid[0, :3], *grid[1]]
        for ax, (title, lines) in zip(places, panels, strict=True):
            for group, keys in lines:
                _lines(ax, stages, keys, group)
                if keys[0] == "cosine":
                    _lines(ax, stages, (*keys[:-1], "random"), group, faint=True)
            ax.set_title(title)
            _stage_axis(ax, stages)
            low, high = ax.get_ylim()
            ax.set_ylim(min(-0.04, low), max(1.04, high))
        chance = stages[0]["probe"]["chance"]
        grid[0, 2].axhline(chance, color="#777777", linewidth=0.8, linestyle=":")
        for ax in grid[1, :2]:
            ax.axhline(1 / numbers["sentences"], color="#777777", linewidth=0.8, linestyle=":")
        _legend(grid[0, 3], groups)
        drawn.supxlabel("layer of the language model (0: its input; E: the encoder)", fontsize=8)


def _lines(ax: Any, stages: Sequence[Mapping[str, Any]], keys: Sequence[str], group: str, faint: bool = False) -> None:
    colour = COLOURS[group]
    for model, line in _MODEL_LINES.items():
        chosen = [stage for stage in stages if stage["model"] == model]
        x = np.array([stage["layer"] for stage in chosen], dtype=float)
        # The encoder is drawn apart, its groups side by side.
        x[x < 0] = _aside(stages) * {"high": 1.18, "low": 0.82}.get(group, 1.0)
        found = []
        for stage in chosen:
            at: Any = stage
            for key in keys:
                at = at[key]
            found.append((at["value"], at["stderr"]))
        y, error = np.array(found).T
        # The encoder and the language model are different networks: no line leads from one to the other.
        own = x >= 0
        style = {**line, "marker": None, "linewidth": 0.7} if faint else line
        ax.plot(x[own], y[own], color=colour, **style)
        ax.fill_between(x[own], (y - 2 * error)[own], (y + 2 * error)[own], color=colour, alpha=0.15, linewidth=0)
        if (~own).any():
            dot = {**style, "linestyle": "none", "marker": "_" if faint else "D"}
            ax.errorbar(x[~own], y[~own], 2 * error[~own], color=colour, elinewidth=0.8, **dot)


def _aside(stages: Sequence[Mapping[str, Any]]) -> float:
    """The encoder's position: far enough from layer 0 that their labels stay apart, for any number of layers."""
    return -max(1.4, 0.1 * max(stage["layer"] for stage in stages))


def _stage_axis(ax: Any, stages: Sequence[Mapping[str, Any]]) -> None:
    layers = sorted({stage["layer"] for stage in stages if stage["layer"] >= 0})
    step = max(1, -(-len(layers) // 6))
    ax.set_xticks([_aside(stages), *layers[::step]], ["E", *map(str, layers[::step])])


def _legend(ax: Any, groups: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    ax.axis("off")
    grey = "#444444"
    handles = [Line2D([], [], color=grey, label=TITLES[model], **line) for model, line in _MODEL_LINES.items()]
    handles += [Line2D([], [], color=grey, linestyle="none", marker="D", markersize=3.2, label="encoder")]
    handles += [Line2D([], [], color=COLOURS["all"], linewidth=3, label="all languages")]
    handles += [Line2D([], [], color=COLOURS[group], linewidth=3, label=f"{group}-resource") for group in groups]
    handles += [Line2D([], [], color=grey, linewidth=0.7, label="random pairs (cosine)")]
    handles += [Line2D([], [], color="#777777", linewidth=0.8, linestyle=":", label="chance")]
    ax.legend(handles=handles, loc="center left", frameon=False, borderaxespad=0)


def draw_answers(
    shares: np.ndarray, rows: Sequence[str], columns: Sequence[str], expected: Mapping[str, str], title: str, path: Path
) -> None:
    """A table in shades: for each language of the questions (rows) the per cent of answers in each language (columns);
    the expected language is framed."""
    from matplotlib.patches import Rectangle

    height, width = 1.0 + 0.24 * len(rows), min(_WIDTH, 1.9 + 0.46 * len(columns))
    with figure(path, figsize=(width, height), layout="constrained") as (_, ax):
        # Up to a middle grey, on which black figures and the frame stay legible.
        ax.pcolormesh(shares, cmap="Greys", vmin=0, vmax=2.2, edgecolors="white", linewidth=1.5)
        ax.invert_yaxis()
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                if shares[i, j] > 0:
                    text = f"{100 * shares[i, j]:.0f}" if shares[i, j] >= 0.01 else "<1"
                    ax.text(j + 0.5, i + 0.53, text, ha="center", va="center", fontsize=7)
                if column == expected[row]:
                    ax.add_patch(
                        Rectangle((j + 0.04, i + 0.06), 0.92, 0.88, fill=False, edgecolor="black", linewidth=0.8)
                    )
        for group in ("high", "low"):
            if chosen := [i for i, code in enumerate(rows) if group_of(code) == group]:
                middle = (chosen[0] + chosen[-1] + 1) / 2
                text = f"{group}-\nresource" if len(chosen) < 4 else f"{group}-resource"
                style = {"rotation": -90, "ha": "left", "va": "center", "color": COLOURS[group], "fontsize": 7.5}
                ax.text(len(columns) + 0.08, middle, text, **style)
        ax.set_xticks([j + 0.5 for j in range(len(columns))], columns)
        ax.set_yticks([i + 0.5 for i in range(len(rows))], rows)
        for label, code in zip(ax.get_yticklabels(), rows, strict=True):
            label.set_color(COLOURS[group_of(code)])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_xlabel("language of the answer, per cent (framed: expected)")
        ax.set_ylabel("language of the question")
        ax.set_title(title, loc="left")
