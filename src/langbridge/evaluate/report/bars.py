"""Accuracy by language as bars with standard errors, one colour a run."""

import io

from langbridge.evaluate.report.contents import GROUPS, Table
from langbridge.evaluate.report.wording import heading

# Okabe and Ito's palette: distinct for colour-blind readers.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")


def draw(table: Table, title: str | None = None) -> bytes:
    """A PNG: high-resource languages first, each group's average after its languages."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in table.rows if row.kind == "ours"]
    places: dict[str, float] = {}
    place, middles = 0.0, []
    for group in GROUPS:
        columns = [column for column in table.columns_of(group) if any(column in row.cells for row in rows)]
        if not columns:
            continue
        start = place
        for column in columns:
            places[column] = place
            place += 1.0
        middles.append((f"{group}-resource", (start + place - 1) / 2))
        place += 0.6
    width = 0.8 / len(rows)
    figure, axes = plt.subplots(figsize=(max(6.0, 0.75 * place + 1), 3.8), dpi=150)
    for index, row in enumerate(rows):
        shown = [column for column in places if column in row.cells]
        scores = [row.cells[column].score for column in shown]
        axes.bar(
            [places[column] + (index - (len(rows) - 1) / 2) * width for column in shown],
            [100 * score.mean for score in scores if score],
            width,
            yerr=[100 * score.stderr for score in scores if score],
            label=row.name,
            color=_COLOURS[index % len(_COLOURS)],
            # Hatched where the colours repeat.
            hatch="//" if index >= len(_COLOURS) else None,
            error_kw={"elinewidth": 0.9, "capsize": 2},
        )
    axes.set_xticks(list(places.values()), [heading(column).replace(" ", "\n") for column in places])
    axes.set_ylim(0, 105)
    axes.set_ylabel(f"{table.measure}, per cent")
    axes.set_title(title or f"{table.task}, ± one standard error")
    for text, middle in middles:
        axes.text(middle, -0.2, text, transform=axes.get_xaxis_transform(), ha="center", va="top")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=min(3, len(rows)), loc="upper center", bbox_to_anchor=(0.5, -0.27))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()
