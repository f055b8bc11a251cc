"""Part d. Connectors, frozen and trained encoders in both regimes, fixed and drawn encoder lengths."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from transformers import AutoTokenizer

from langbridge.miniature import parents, world
from studies.miniature.answers import Answers, Claim, by_group, gain, mean_of, only
from studies.miniature.data import problem_of
from studies.miniature.drawing import draw_lengths
from studies.miniature.lift import base
from studies.miniature.page import Page
from studies.miniature.runs import Run, Study, tested, training, validated
from studies.miniature.sizes import ALL, LOW, Sizes

TITLE = "Connectors, frozen encoders, lengths"
CONNECTORS = ("linear", "mlp", "resampler")
ENCODER_RATES = (2e-5, 2e-4)
"""Learning rates of a trained encoder: the paper's, and ten times that, for a training that is much shorter."""

STEP = 8
"""Encoder tokens between the sets of problems by length."""
SHARE = 0.1
"""A language is in such a set if at least this share of its problems is."""


def trials(sizes: Sizes, connector: str) -> dict[float, Run]:
    """A connector from a random start, by learning rate, on English validation problems."""
    return {
        rate: training(f"try-{connector}-{rate:g}", sizes.seeds[0], "en", sizes.random_examples, validated(sizes),
                       **_random(connector, rate))
        for rate in sizes.random_rates
    }  # fmt: skip


def rate_of(study: Study, connector: str) -> float:
    """The learning rate with the most English validation problems solved."""
    grid = trials(study.sizes, connector)
    return list(grid)[study.most_solved(list(grid.values()))]


def connector(sizes: Sizes, name: str, rate: float, seed: int) -> Run:
    return training(f"connector-{name}", seed, "en", sizes.random_examples, tested(sizes), **_random(name, rate))


def _random(connector: str, rate: float) -> dict[str, Any]:
    return {"connector": connector, "init": "random", "train.learning_rate": rate}


def trained_encoder(sizes: Sizes, rate: float, seed: int) -> Run:
    settings = {"freeze_encoder": False, "train.encoder_learning_rate": rate}
    return training(f"labelled-encoder-{rate:g}", seed, "en", sizes.examples, tested(sizes), **settings)


def unlabelled(sizes: Sizes, rate: float | None, fixed: bool, seed: int) -> Run:
    """Problem and solution as plain text, cut at a drawn or fixed place; `rate` None freezes the encoder."""
    least, most = (sizes.fixed_length, sizes.fixed_length) if fixed else sizes.dynamic_lengths
    settings: dict[str, Any] = {
        "regime": "unlabelled",
        "freeze_encoder": rate is None,
        "min_encoder_length": least,
        "max_encoder_length": most,
    }
    if rate is not None:
        settings["train.encoder_learning_rate"] = rate
    name = f"unlabelled-{'frozen' if rate is None else f'encoder-{rate:g}'}-{'fixed' if fixed else 'drawn'}"
    return training(name, seed, "text", sizes.examples, tested(sizes), **settings)


def runs(study: Study) -> list[Run]:
    sizes = study.sizes
    named: list[Run] = []
    for kind in CONNECTORS:
        grid = list(trials(sizes, kind).values())
        named += grid
        if study.has(grid):
            named += [connector(sizes, kind, rate_of(study, kind), seed) for seed in sizes.seeds]
    for seed in sizes.seeds:
        named += [base(sizes, seed), *(trained_encoder(sizes, rate, seed) for rate in ENCODER_RATES)]
        named += [unlabelled(sizes, rate, False, seed) for rate in (None, *ENCODER_RATES)]
        named.append(unlabelled(sizes, ENCODER_RATES[0], True, seed))
    return named


def write(study: Study, page: Page) -> list[Claim]:
    sizes = study.sizes
    bridge = study.by_seed(base)
    rates = {kind: rate_of(study, kind) for kind in CONNECTORS}
    linear, mlp, resampler = (study.by_seed(connector, kind, rate) for kind, rate in rates.items())
    labelled = {rate: study.by_seed(trained_encoder, rate) for rate in ENCODER_RATES}
    text = {rate: study.by_seed(unlabelled, rate, False) for rate in (None, *ENCODER_RATES)}
    rate, cut = ENCODER_RATES[0], sizes.fixed_length
    drawn, fixed = text[rate], study.by_seed(unlabelled, rate, True)

    page.heading("Connectors", 3)
    rows = {
        f"{kind}, random start, {sizes.random_examples} examples, rate {rates[kind]:g}": one
        for kind, one in zip(CONNECTORS, (linear, mlp, resampler), strict=True)
    }
    page.table(*by_group({**rows, f"linear, ridge start, {sizes.examples} examples": bridge}))
    page.heading("Frozen and trained encoder", 3)
    rows = {"labelled, frozen": bridge}
    rows |= {f"labelled, encoder at {rate:g}": one for rate, one in labelled.items()}
    rows |= {f"unlabelled, {'frozen' if rate is None else f'encoder at {rate:g}'}": one for rate, one in text.items()}
    page.table(*by_group(rows))
    page.heading("Fixed and drawn encoder length", 3)
    ranges = {
        f"≤ {cut - STEP}": (0, cut - STEP),
        f"≤ {cut}": (cut - STEP + 1, cut),
        f"≤ {cut + STEP}": (cut + 1, cut + STEP),
        f"> {cut + STEP}": (cut + STEP + 1, math.inf),
    }
    sets = {tick: _common(sizes, drawn, fixed, *bounds) for tick, bounds in ranges.items()}
    counts = [f"{tick}: {len(codes)} languages" for tick, (_, _, codes) in sets.items()]
    page.say(
        f"Unlabelled text, cut after {cut} encoder tokens or at a length drawn from {sizes.dynamic_lengths[0]} to "
        f"{sizes.dynamic_lengths[1]}. A problem is as long as its text in its language, in encoder tokens. Sets differ "
        f"in their languages too: one is left out of a set that less than {SHARE:.0%} of its problems fall into "
        f"({'; '.join(counts)})."
    )
    there = {tick: found for tick, found in sets.items() if found[2]}
    draw_lengths(
        page.picture("drawn_lengths", "Accuracy by the length of a problem in encoder tokens"),
        list(there),
        {
            "drawn length": [mean_of(first, codes) for first, _, codes in there.values()],
            "fixed length": [mean_of(second, codes) for _, second, codes in there.values()],
        },
        "encoder tokens of the problem",
    )
    return [
        Claim("The linear connector is ahead of the MLP (the paper on XCOPA, as LayAlign quotes it: 76.6 against 72.7)",
              "Low-resource average, linear over MLP", gain(linear, mlp, LOW)),
        Claim("The linear connector is ahead of the resampler", "Low-resource average, linear over resampler",
              gain(linear, resampler, LOW)),
        Claim("With labelled pairs a frozen encoder is better than a trained one",
              f"Low-resource average, frozen over trained at {rate:g}", gain(bridge, labelled[rate], LOW)),
        Claim("With unlabelled text a trained encoder is better than a frozen one",
              f"Low-resource average, trained at {rate:g} over frozen", gain(text[rate], text[None], LOW)),
        Claim("A drawn encoder length is better on prompts longer than the fixed one",
              f"Problems of more than {cut} encoder tokens, drawn over fixed",
              gain(*_common(sizes, drawn, fixed, cut + 1, math.inf))),
        Claim("A drawn encoder length is better on prompts shorter than the fixed one too",
              f"Problems of fewer than {cut} encoder tokens, drawn over fixed",
              gain(*_common(sizes, drawn, fixed, 0, cut - 1))),
    ]  # fmt: skip


@cache
def tokens_of(problem: str, language: str) -> int:
    """What the encoder reads of a problem, such as test-17, in tokens, the closing one included."""
    return len(_tokenizer()(world.render(problem_of(problem), language))["input_ids"])


@cache
def _tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(parents.ENCODER)


def _common(
    sizes: Sizes, first: Sequence[Answers], second: Sequence[Answers], least: float, most: float
) -> tuple[list[Answers], list[Answers], list[str]]:
    """Both sides' answers to problems of `least` to `most` encoder tokens, and the languages that have enough of them:
    every language weighs the same, and one with a handful would bring noise."""
    sides = [only(one, lambda *key: least <= tokens_of(*key) <= most) for one in (first, second)]
    count = Counter(language for _, language in sides[0][0])
    return sides[0], sides[1], [code for code in ALL if count[code] >= SHARE * sizes.problems]
