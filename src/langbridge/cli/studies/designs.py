"""Part d. Connectors, frozen and trained encoders in both regimes, fixed and drawn encoder lengths."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from langbridge.cli.studies.answers import Answers, Claim, gain, mean_of, only
from langbridge.cli.studies.drawing import draw_lengths
from langbridge.cli.studies.lift import ALL, LOW, base
from langbridge.cli.studies.page import Page
from langbridge.cli.studies.runs import Asked, Found, Run
from langbridge.cli.studies.sizes import Sizes
from langbridge.cli.studies.written import problem_of
from langbridge.languages import LANGUAGE_GROUPS

LETTER, TITLE = "d", "Connectors, frozen encoders, lengths"
HIGH = LANGUAGE_GROUPS["high"]
CONNECTORS = ("linear", "mlp", "resampler")
ENCODER_RATES = (2e-5, 2e-4)
"""Learning rates of a trained encoder: the paper's, and ten times that, for a training that is much shorter."""

STEP = 8
"""Encoder tokens between the sets of problems by length."""
SHARE = 0.1
"""A language is in such a set if at least this share of its problems is."""


def _run(sizes: Sizes, name: str, seed: int, examples: int, data: str, asked: Asked, **settings: Any) -> Run:
    return Run(name=f"{name}-{seed}", model="trained", seed=seed, data=f"{data}-{examples}", examples=examples,
               settings=settings, asked=(asked,))  # fmt: skip


def _test(sizes: Sizes) -> Asked:
    return Asked(name="test", languages=ALL, limit=sizes.problems)


def tried(sizes: Sizes, connector: str, rate: float) -> Run:
    """A connector from a random start, at one learning rate, on English validation problems."""
    asked = Asked(name="validation", problems="validation", languages=("en",), limit=sizes.validation)
    settings = {"connector": connector, "init": "random", "train.learning_rate": rate}
    return _run(sizes, f"try-{connector}-{rate:g}", sizes.seeds[0], sizes.random_examples, "en", asked, **settings)


def rate_of(sizes: Sizes, connector: str, found: Found) -> float:
    """The learning rate with the most English validation problems solved."""
    return max(
        sizes.random_rates,
        key=lambda rate: sum(found.answers(tried(sizes, connector, rate).name, "validation").values()),
    )


def connector(sizes: Sizes, name: str, rate: float, seed: int) -> Run:
    settings = {"connector": name, "init": "random", "train.learning_rate": rate}
    return _run(sizes, f"connector-{name}", seed, sizes.random_examples, "en", _test(sizes), **settings)


def trained_encoder(sizes: Sizes, rate: float, seed: int) -> Run:
    settings = {"freeze_encoder": False, "train.encoder_learning_rate": rate}
    return _run(sizes, f"labelled-encoder-{rate:g}", seed, sizes.examples, "en", _test(sizes), **settings)


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
    return _run(sizes, name, seed, sizes.examples, "text", _test(sizes), **settings)


def runs(sizes: Sizes, found: Found) -> list[Run]:
    named: list[Run] = []
    for kind in CONNECTORS:
        trials = [tried(sizes, kind, rate) for rate in sizes.random_rates]
        named += trials
        if found.has(trials):
            named += [connector(sizes, kind, rate_of(sizes, kind, found), seed) for seed in sizes.seeds]
    for seed in sizes.seeds:
        named += [base(sizes, seed), *(trained_encoder(sizes, rate, seed) for rate in ENCODER_RATES)]
        named += [unlabelled(sizes, rate, False, seed) for rate in (None, *ENCODER_RATES)]
        named.append(unlabelled(sizes, ENCODER_RATES[0], True, seed))
    return named


def write(sizes: Sizes, found: Found, page: Page) -> list[Claim]:
    def seeds(make: Any, *arguments: Any) -> list[Answers]:
        return [found.answers(make(sizes, *arguments, seed).name) for seed in sizes.seeds]

    page.heading("Connectors", 3)
    rates = {kind: rate_of(sizes, kind, found) for kind in CONNECTORS}
    by_connector = {kind: seeds(connector, kind, rates[kind]) for kind in CONNECTORS}
    bridge = seeds(base)
    rows = {
        f"{kind}, random start, {sizes.random_examples} examples, rate {rates[kind]:g}": one
        for kind, one in by_connector.items()
    }
    rows[f"linear, ridge start, {sizes.examples} examples"] = bridge
    page.table(*_table(rows))
    page.heading("Frozen and trained encoder", 3)
    labelled = {rate: seeds(trained_encoder, rate) for rate in ENCODER_RATES}
    text = {rate: seeds(unlabelled, rate, False) for rate in (None, *ENCODER_RATES)}
    rows = {"labelled, frozen": bridge}
    rows |= {f"labelled, encoder at {rate:g}": one for rate, one in labelled.items()}
    rows |= {f"unlabelled, {'frozen' if rate is None else f'encoder at {rate:g}'}": one for rate, one in text.items()}
    page.table(*_table(rows))
    page.heading("Fixed and drawn encoder length", 3)
    drawn, fixed = text[ENCODER_RATES[0]], seeds(unlabelled, ENCODER_RATES[0], True)
    cut = sizes.fixed_length
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
    rate = ENCODER_RATES[0]
    return [
        Claim(LETTER, "The linear connector is ahead of the MLP (in the paper, on XCOPA: 76.6 against 72.7)",
              "Low-resource average, linear over MLP", gain(by_connector["linear"], by_connector["mlp"], LOW)),
        Claim(LETTER, "The linear connector is ahead of the resampler", "Low-resource average, linear over resampler",
              gain(by_connector["linear"], by_connector["resampler"], LOW)),
        Claim(LETTER, "With labelled pairs a frozen encoder is better than a trained one",
              f"Low-resource average, frozen over trained at {rate:g}", gain(bridge, labelled[rate], LOW)),
        Claim(LETTER, "With unlabelled text a trained encoder is better than a frozen one",
              f"Low-resource average, trained at {rate:g} over frozen", gain(text[rate], text[None], LOW)),
        Claim(LETTER, "A drawn encoder length is better on prompts longer than the fixed one",
              f"Problems of more than {cut} encoder tokens, drawn over fixed",
              gain(*_common(sizes, drawn, fixed, cut + 1, math.inf))),
        Claim(LETTER, "A drawn encoder length is better on prompts shorter than the fixed one too",
              f"Problems of fewer than {cut} encoder tokens, drawn over fixed",
              gain(*_common(sizes, drawn, fixed, 0, cut - 1))),
    ]  # fmt: skip


@cache
def tokens_of(problem: str, language: str) -> int:
    """What the encoder reads of a problem, such as test-17, in tokens, the closing one included."""
    from langbridge.miniature import world

    return len(_tokenizer()(world.render(problem_of(problem), language))["input_ids"])


@cache
def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    from langbridge.miniature import parents

    return AutoTokenizer.from_pretrained(parents.ENCODER)


def _common(
    sizes: Sizes, first: Sequence[Answers], second: Sequence[Answers], least: float, most: float
) -> tuple[list[Answers], list[Answers], list[str]]:
    """Both sides' answers to problems of `least` to `most` encoder tokens, and the languages that have enough of them:
    every language weighs the same, and one with a handful would bring noise."""
    sides = [only(one, lambda *key: least <= tokens_of(*key) <= most) for one in (first, second)]
    count = Counter(language for _, language in sides[0][0])
    return sides[0], sides[1], [code for code in ALL if count[code] >= SHARE * sizes.problems]


def _table(rows: dict[str, list[Answers]]) -> tuple[list[str], list[list[str]]]:
    headings = ["accuracy, per cent", "English", "high-resource", "low-resource"]
    return headings, [[name, *(str(mean_of(one, codes)) for codes in (["en"], HIGH, LOW))]
                      for name, one in rows.items()]  # fmt: skip
