"""Part c. Encoder quality against transfer: which number on an encoder's representations foretells what a bridge on it
does for low-resource languages?

An encoder whose bridge fails in English too says nothing of transfer: it is in the table and in no correlation.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import permutation_test, rankdata

from langbridge.analyze.figures import COLOURS, figure
from studies.miniature.answers import Claim, Estimate, Found, NotCompared, mean_of
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

RETRIEVAL = "retrieval to English"
RESAMPLES = 2000


def bridge(sizes: Sizes, encoder: str, penalty: float, seed: int) -> Run:
    asked = replace(tested(sizes), languages=("en", *LOW))
    settings = {"ridge.penalty": penalty}
    return replace(
        training(f"encoder-{encoder}-{penalty:g}", seed, "en", sizes.encoder_examples, asked, **settings),
        encoder=f"encoders/{encoder}",
        # An encoder's states are the same under every connector.
        represented=sizes.sentences if (penalty, seed) == (sizes.penalties[0], sizes.seeds[0]) else 0,
    )


def encoders(study: Study) -> list[str]:
    return [folder.name for folder in encoder_folders(study.models)]


def runs(study: Study) -> list[Run]:
    sizes = study.sizes
    grid = itertools.product(encoders(study), sizes.penalties, sizes.seeds)
    return [bridge(sizes, encoder, penalty, seed) for encoder, penalty, seed in grid]


@dataclass(frozen=True)
class Quality:
    """An encoder's numbers as (value, standard error), and what its bridge reached."""

    encoder: str
    numbers: dict[str, tuple[float, float]]
    english: Estimate
    low: Estimate


def write(study: Study, page: Page) -> list[Claim]:
    sizes = study.sizes
    page.say(
        f"A bridge ({sizes.encoder_examples} English examples) on each of {len(encoders(study))} encoders, kept on the "
        f"way of one training. The numbers are of the encoder's states alone, on {sizes.sentences} parallel validation "
        "problems, and so are known before any bridge is trained."
    )
    found = {penalty: qualities_of(study, penalty) for penalty in sizes.penalties}
    first, *others = found.values()
    page.table(
        ["encoder", *(f"{what}, penalty {one:g}" for one in found for what in ("English", "low-resource")),
         *PREDICTORS],
        [
            [one.encoder, *(str(share) for each in same for share in (each.english, each.low)),
             *(f"{value:.3f} ± {error:.3f}" for value, error in one.numbers.values())]
            for one, *rest in zip(first, *others, strict=True) for same in [(one, *rest)]
        ],
    )  # fmt: skip
    draw_encoders(page.picture("encoders", "Low-resource accuracy against each number, an encoder a point"), first)
    claims = []
    for penalty, qualities in found.items():
        read = [one for one in qualities if not one.english.at_floor]
        claim = f"Encoders that retrieve English better transfer better (penalty {penalty:g})"
        decides: Found = NotCompared(f"{len(read)} encoders whose bridge solves anything in English, 4 at least wanted")
        if len(read) > 3:
            _correlations(page, penalty, read, [one.encoder for one in qualities if one not in read])
            decides = Ranked(read, RETRIEVAL)
        claims.append(Claim(claim, f"Rank correlation of {RETRIEVAL} with low-resource accuracy", decides,
                            primary=penalty == sizes.penalties[0]))  # fmt: skip
    return claims


def qualities_of(study: Study, penalty: float) -> list[Quality]:
    sizes, found = study.sizes, []
    for encoder in encoders(study):
        stage = study.encoder(bridge(sizes, encoder, sizes.penalties[0], sizes.seeds[0]))
        numbers = {name: number(stage) for name, number in PREDICTORS.items()}
        seeds = study.by_seed(bridge, encoder, penalty)
        found.append(
            Quality(encoder, {name: (one["value"], one["stderr"]) for name, one in numbers.items()},
                    mean_of(seeds, ["en"]), mean_of(seeds, LOW))
        )  # fmt: skip
    return found


def _correlations(page: Page, penalty: float, read: Sequence[Quality], left_out: Sequence[str]) -> None:
    ranked = {name: rank_correlation(read, name) for name in PREDICTORS}
    ranked = dict(sorted(ranked.items(), key=lambda one: -abs(one[1][0])))
    page.table(
        [f"penalty {penalty:g}: number", "rank correlation with low-resource accuracy", "95% interval"],
        [[name, f"{value:+.2f}", f"{low:+.2f} to {high:+.2f}"] for name, (value, low, high) in ranked.items()],
    )
    without = f" Left out, their bridge at the floor in English too: {', '.join(left_out)}." if left_out else ""
    page.say(
        f"Spearman's, over {len(read)} encoders.{without} The interval draws encoders with replacement and each number "
        f"and accuracy within its standard error, {RESAMPLES:,} times. The encoders are stations of one training, "
        "where nearly everything grows together: a correlation here foretells, and does not explain."
    )
    page.points(_said(ranked))


@dataclass(frozen=True)
class Ranked:
    """A rank correlation as what decides: the exact test, every order of the accuracies being as likely."""

    qualities: Sequence[Quality]
    name: str

    @property
    def side(self) -> int:
        return int(np.sign(rank_correlation(self.qualities, self.name)[0]))

    @property
    def p(self) -> float:
        numbers = [one.numbers[self.name][0] for one in self.qualities]
        low = np.array([one.low.value for one in self.qualities])
        return float(
            permutation_test((numbers,), lambda drawn: float(_spearman(np.array(drawn), low)),
                             permutation_type="pairings", n_resamples=np.inf).pvalue
        )  # fmt: skip

    @property
    def points(self) -> str:
        value, low, high = rank_correlation(self.qualities, self.name)
        return f"{value:+.2f} (95% interval {low:+.2f} to {high:+.2f}; exact test of {len(self.qualities)} encoders)"


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
