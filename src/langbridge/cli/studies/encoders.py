"""Part c. Encoder quality against transfer: which number on an encoder's representations foretells what a bridge on it
does for low-resource languages?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from langbridge.cli.studies.answers import Claim, Estimate, gain, mean_of
from langbridge.cli.studies.drawing import draw_encoders
from langbridge.cli.studies.lift import ALL, LOW
from langbridge.cli.studies.page import Page
from langbridge.cli.studies.runs import Asked, Found, Run
from langbridge.cli.studies.sizes import Sizes

LETTER, TITLE = "c", "Encoder quality and transfer"

Number = Callable[[dict[str, Any]], dict[str, float]]

PREDICTORS: dict[str, Number] = {
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
    return Run(
        name=f"encoder-{encoder}-{seed}",
        model="trained",
        seed=seed,
        data=f"en-{sizes.encoder_examples}",
        examples=sizes.encoder_examples,
        encoder=f"encoders/{encoder}",
        asked=(Asked(name="test", languages=ALL, limit=sizes.problems),),
        # An encoder's states are the same under every connector.
        represented=sizes.sentences if seed == sizes.seeds[0] else 0,
    )


def encoders(found: Found) -> list[str]:
    from langbridge.miniature.study import encoder_folders

    return [folder.name for folder in encoder_folders(found.place.models)]


def runs(sizes: Sizes, found: Found) -> list[Run]:
    return [bridge(sizes, encoder, seed) for encoder in encoders(found) for seed in sizes.seeds]


@dataclass(frozen=True)
class Quality:
    """An encoder's numbers as (value, standard error), and what its bridge reached."""

    encoder: str
    numbers: dict[str, tuple[float, float]]
    english: Estimate
    low: Estimate


def write(sizes: Sizes, found: Found, page: Page) -> list[Claim]:
    answers = {
        encoder: [found.answers(bridge(sizes, encoder, seed).name) for seed in sizes.seeds]
        for encoder in encoders(found)
    }
    qualities = [
        Quality(encoder, _numbers(found.encoder(bridge(sizes, encoder, sizes.seeds[0]).name)),
                mean_of(seeds, ["en"]), mean_of(seeds, LOW))
        for encoder, seeds in answers.items()
    ]  # fmt: skip
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
    claims = [
        Claim(LETTER, "A fully trained encoder transfers better than an early one",
              f"Low-resource average, {qualities[-1].encoder} over {qualities[0].encoder}",
              gain(answers[qualities[-1].encoder], answers[qualities[0].encoder], LOW)),
    ]  # fmt: skip
    ranked = {name: rank_correlation(qualities, name) for name in PREDICTORS}
    order = sorted(ranked, key=lambda name: -abs(ranked[name][0]))
    page.table(
        ["number", "rank correlation with low-resource accuracy", "95% interval"],
        [[name, f"{ranked[name][0]:+.2f}", f"{ranked[name][1]:+.2f} to {ranked[name][2]:+.2f}"] for name in order],
    )
    page.say(
        f"Spearman's, over {len(qualities)} encoders. The interval draws encoders with replacement and each number and "
        "accuracy within its standard error, 2,000 times. The encoders are stations of one training, where nearly "
        "everything grows together: a correlation here foretells, and does not explain."
    )
    page.points(_said(ranked, order))
    return claims


def _numbers(stage: dict[str, Any]) -> dict[str, tuple[float, float]]:
    numbers = {name: number(stage) for name, number in PREDICTORS.items()}
    return {name: (one["value"], one["stderr"]) for name, one in numbers.items()}


def rank_correlation(qualities: list[Quality], name: str) -> tuple[float, float, float]:
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
    """Of the last axis; 0 where one side is constant."""
    ranks = [_ranks(values) for values in (first, second)]
    ranks = [values - values.mean(-1, keepdims=True) for values in ranks]
    norm = np.sqrt((ranks[0] ** 2).sum(-1) * (ranks[1] ** 2).sum(-1))
    return np.divide((ranks[0] * ranks[1]).sum(-1), norm, out=np.zeros_like(norm), where=norm > 0)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, equal values sharing the mean of theirs."""
    mine, others = values[..., :, None], values[..., None, :]
    return (mine > others).sum(-1) + ((mine == others).sum(-1) + 1) / 2


def _said(ranked: dict[str, tuple[float, float, float]], order: list[str]) -> list[str]:
    sure = [name for name in order if ranked[name][1] > 0 or ranked[name][2] < 0]
    unsure = [name for name in order if name not in sure]
    first = ranked[order[0]]
    lines = [f"Ranked closest with low-resource accuracy: {order[0]} ({first[0]:+.2f})."]
    rivals = [n for n in order[1:] if max(abs(ranked[n][1]), abs(ranked[n][2])) >= min(abs(first[1]), abs(first[2]))]
    if rivals:
        lines.append(f"Not told apart from it by their intervals: {', '.join(rivals)}.")
    if sure:
        lines.append(f"The interval leaves out zero for {', '.join(sure)}.")
    if unsure:
        lines.append(f"The interval holds zero for {', '.join(unsure)}: not shown to foretell anything here.")
    return lines
