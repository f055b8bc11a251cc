"""Part c. Encoder quality against transfer: which number on an encoder's representations foretells what a bridge on it
does for low-resource languages?

An encoder whose bridge fails in English too says nothing of transfer: it is in the table and in no correlation.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import permutation_test

from langbridge.analyze.figures import COLOURS, figure
from studies.miniature.answers import Claim, Estimate, Found, NotCompared, mean_of, said_p
from studies.miniature.drawing import from_zero
from studies.miniature.models import encoder_folders
from studies.miniature.page import Page
from studies.miniature.runs import Run, Study, tested, training
from studies.miniature.sizes import LOW, Sizes
from studies.real.shares import rank_correlation

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
        # Of four encoders in order no exact p is below .08.
        decides: Found = NotCompared(f"{len(read)} encoders whose bridge solves anything in English, 5 at least wanted")
        if len(read) > 4:
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
    ranked = sorted((Ranked(read, name) for name in PREDICTORS), key=lambda one: -abs(one.value))
    page.table(
        [f"penalty {penalty:g}: number", "rank correlation with low-resource accuracy", "p, exact, not corrected"],
        [[one.name, f"{one.value:+.2f}", said_p(one.p)] for one in ranked],
    )
    without = f" Left out, their bridge at the floor in English too: {', '.join(left_out)}." if left_out else ""
    page.say(
        f"Spearman's, over {len(read)} encoders.{without} The encoders are stations of one training, where nearly "
        "everything grows together: a correlation here foretells, and does not explain."
    )


@dataclass(frozen=True)
class Ranked:
    """A rank correlation as what decides: the exact test, every order of the accuracies being as likely."""

    qualities: Sequence[Quality]
    name: str

    @property
    def value(self) -> float:
        return rank_correlation(*self._sides)

    @property
    def side(self) -> int:
        return int(np.sign(self.value))

    @property
    def p(self) -> float:
        numbers, low = self._sides
        return float(
            permutation_test((numbers,), lambda drawn: rank_correlation(drawn, low),
                             permutation_type="pairings", n_resamples=np.inf).pvalue
        )  # fmt: skip

    @property
    def points(self) -> str:
        return f"{self.value:+.2f} (exact test of {len(self.qualities)} encoders)"

    @property
    def _sides(self) -> tuple[list[float], list[float]]:
        """The number, and the low-resource accuracy, of each encoder."""
        return [one.numbers[self.name][0] for one in self.qualities], [one.low.value for one in self.qualities]


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
