"""Part c. Encoder quality against transfer: which number on an encoder's representations foretells what a bridge on it
does for low-resource languages?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from langbridge.analyze.figures import COLOURS, figure
from studies.miniature.answers import Claim, Estimate, gain, mean_of
from studies.miniature.drawing import from_zero
from studies.miniature.models import encoder_folders
from studies.miniature.page import Page
from studies.miniature.runs import Run, Study, tested, training
from studies.miniature.sizes import LOW, Sizes

TITLE = "Encoder quality and transfer"

PREDICTORS: dict[str, Callable[[dict[str, Any]], dict[str, float]]] = {
    "retrieval to English": lambda stage: stage["retrieval"]["low"]["to_pivot"],
    "retrieval from English": lambda stage: stage["retrieval"]["low"]["from_pivot"],
    "cosine gap": lambda stage: stage["cosine"]["low"]["gap"],
    "CKA": lambda stage: stage["cka"]["low"],
    "variance by sentence": lambda stage: stage["variance"]["sentence"],
    "variance by language": lambda stage: stage["variance"]["language"],
    "language probe": lambda stage: stage["probe"]["accuracy"],
}
"""Of the encoder's mean-pooled states: low-resource languages against English, or all languages together."""

RESAMPLES = 2000


def bridge(sizes: Sizes, encoder: str, seed: int) -> Run:
    return replace(
        training(f"encoder-{encoder}", seed, "en", sizes.encoder_examples, tested(sizes)),
        encoder=f"encoders/{encoder}",
        # An encoder's states are the same under every connector.
        represented=sizes.sentences if seed == sizes.seeds[0] else 0,
    )


def encoders(study: Study) -> list[str]:
    return [folder.name for folder in encoder_folders(study.models)]


def runs(study: Study) -> list[Run]:
    return [bridge(study.sizes, encoder, seed) for encoder in encoders(study) for seed in study.sizes.seeds]


@dataclass(frozen=True)
class Quality:
    """An encoder's numbers as (value, standard error), and what its bridge reached."""

    encoder: str
    numbers: dict[str, tuple[float, float]]
    english: Estimate
    low: Estimate


def write(study: Study, page: Page) -> list[Claim]:
    sizes = study.sizes
    answers = {encoder: study.by_seed(bridge, encoder) for encoder in encoders(study)}
    qualities = []
    for encoder, seeds in answers.items():
        stage = study.encoder(bridge(sizes, encoder, sizes.seeds[0]))
        found = {name: number(stage) for name, number in PREDICTORS.items()}
        numbers = {name: (one["value"], one["stderr"]) for name, one in found.items()}
        qualities.append(Quality(encoder, numbers, mean_of(seeds, ["en"]), mean_of(seeds, LOW)))
    page.say(
        f"A bridge ({sizes.encoder_examples} English examples) on each of {len(qualities)} encoders, kept on the way "
        f"of one training. The numbers are of the encoder's states alone, on {sizes.sentences} parallel validation "
        "problems, and so are known before any bridge is trained."
    )
    page.table(
        ["encoder", "English", "low-resource", *PREDICTORS],
        [
            [one.encoder, str(one.english), str(one.low),
             *(f"{value:.3f} ± {error:.3f}" for value, error in one.numbers.values())]
            for one in qualities
        ],
    )  # fmt: skip
    draw_encoders(page.picture("encoders", "Low-resource accuracy against each number, an encoder a point"), qualities)
    ranked = {name: rank_correlation(qualities, name) for name in PREDICTORS}
    ranked = dict(sorted(ranked.items(), key=lambda one: -abs(one[1][0])))
    page.table(
        ["number", "rank correlation with low-resource accuracy", "95% interval"],
        [[name, f"{value:+.2f}", f"{low:+.2f} to {high:+.2f}"] for name, (value, low, high) in ranked.items()],
    )
    page.say(
        f"Spearman's, over {len(qualities)} encoders. The interval draws encoders with replacement and each number and "
        f"accuracy within its standard error, {RESAMPLES:,} times. The encoders are stations of one training, where "
        "nearly everything grows together: a correlation here foretells, and does not explain."
    )
    page.points(_said(ranked))
    early, *_, full = answers
    return [
        Claim("A fully trained encoder transfers better than an early one",
              f"Low-resource average, {full} over {early}", gain(answers[full], answers[early], LOW)),
    ]  # fmt: skip


def rank_correlation(qualities: Sequence[Quality], name: str) -> tuple[float, float, float]:
    """Spearman's correlation of a number with low-resource accuracy, and its interval; 0 where one of them is the same
    for all encoders."""
    number, number_error = np.array([one.numbers[name] for one in qualities]).T
    low = np.array([one.low.value for one in qualities])
    low_error = np.array([one.low.stderr for one in qualities])
    generator = np.random.default_rng(1)
    n = len(qualities)
    places = generator.integers(n, size=(RESAMPLES, n))
    # Of two encoders every correlation is perfect: such draws say nothing.
    places = places[[len(set(row)) >= min(3, n) for row in places]]
    noise = generator.normal(size=(2, len(places), n))
    drawn = [
        np.take_along_axis(values + by * errors, places, axis=1)
        for values, errors, by in ((number, number_error, noise[0]), (low, low_error, noise[1]))
    ]
    lower, upper = np.quantile(_spearman(*drawn), [0.025, 0.975])
    return float(_spearman(number, low)), float(lower), float(upper)


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of the last axis; 0 where one side is constant, for which scipy's has no number."""
    ranks = [rankdata(values, axis=-1) for values in (first, second)]
    ranks = [values - values.mean(-1, keepdims=True) for values in ranks]
    norm = np.sqrt((ranks[0] ** 2).sum(-1) * (ranks[1] ** 2).sum(-1))
    return np.divide((ranks[0] * ranks[1]).sum(-1), norm, out=np.zeros_like(norm), where=norm > 0)


def _said(ranked: Mapping[str, tuple[float, float, float]]) -> list[str]:
    """What the correlations, the closest first, and their intervals say."""
    (closest, (value, *interval)), *others = ranked.items()
    least = min(map(abs, interval))
    rivals = [name for name, (_, low, high) in others if max(abs(low), abs(high)) >= least]
    sure = [name for name, (_, low, high) in ranked.items() if low > 0 or high < 0]
    unsure = [name for name in ranked if name not in sure]
    lines = [f"Ranked closest with low-resource accuracy: {closest} ({value:+.2f})."]
    if rivals:
        lines.append(f"Not told apart from it by their intervals: {', '.join(rivals)}.")
    if sure:
        lines.append(f"The interval leaves out zero for {', '.join(sure)}.")
    if unsure:
        lines.append(f"The interval holds zero for {', '.join(unsure)}: not shown to foretell anything here.")
    return lines


def draw_encoders(path: Path, qualities: Sequence[Quality]) -> None:
    """Low-resource accuracy against every number, a panel each; an encoder is a point, its place in training beside."""
    with figure(path, nrows=2, ncols=4, figsize=(7.1, 3.9), layout="constrained", sharey=True) as (_, grid):
        for ax, name in zip(grid.flat, PREDICTORS, strict=False):
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
            from_zero(ax)
        for ax in grid[:, 0]:
            ax.set_ylabel("low-resource accuracy")
        last = grid.flat[-1]
        last.axis("off")
        listed = "\n".join(f"{index + 1}  {one.encoder}" for index, one in enumerate(qualities))
        last.text(0.05, 0.95, listed, transform=last.transAxes, va="top", fontsize=7.5)
