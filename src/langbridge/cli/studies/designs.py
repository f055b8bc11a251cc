"""Part d. Connectors, frozen and trained encoders in both regimes, fixed and drawn encoder lengths."""

from typing import Any

from langbridge.cli.studies.answers import Answers, Claim, gain, mean_of
from langbridge.cli.studies.drawing import draw_lengths
from langbridge.cli.studies.lift import ALL, LONG, LOW, SHORT, base, of_events
from langbridge.cli.studies.page import Page
from langbridge.cli.studies.runs import Asked, Found, Run
from langbridge.cli.studies.sizes import Sizes
from langbridge.languages import LANGUAGE_GROUPS

LETTER, TITLE = "d", "Connectors, frozen encoders, lengths"
HIGH = LANGUAGE_GROUPS["high"]
CONNECTORS = ("linear", "mlp", "resampler")
ENCODER_RATES = (2e-5, 2e-4)
"""Learning rates of a trained encoder: the paper's, and ten times that, for a training that is much shorter."""


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
    page.say(
        f"Unlabelled text, cut after {sizes.fixed_length} encoder tokens or at a length drawn from "
        f"{sizes.dynamic_lengths[0]} to {sizes.dynamic_lengths[1]}. English problems of {SHORT} events have about 42 "
        f"tokens, of {LONG} about 58."
    )
    draw_lengths(
        page.picture("drawn_lengths", "Accuracy in all languages by the number of events in a problem"),
        list(range(SHORT, LONG + 1)),
        {
            "drawn length": [mean_of(of_events(drawn, n), ALL) for n in range(SHORT, LONG + 1)],
            "fixed length": [mean_of(of_events(fixed, n), ALL) for n in range(SHORT, LONG + 1)],
        },
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
              f"All languages, problems of {LONG} events, drawn over fixed",
              gain(of_events(drawn, LONG), of_events(fixed, LONG), ALL)),
        Claim(LETTER, "A drawn encoder length is better on short prompts too",
              f"All languages, problems of {SHORT} events, drawn over fixed",
              gain(of_events(drawn, SHORT), of_events(fixed, SHORT), ALL)),
    ]  # fmt: skip


def _table(rows: dict[str, list[Answers]]) -> tuple[list[str], list[list[str]]]:
    headings = ["accuracy, per cent", "English", "high-resource", "low-resource"]
    return headings, [[name, *(str(mean_of(one, codes)) for codes in (["en"], HIGH, LOW))]
                      for name, one in rows.items()]  # fmt: skip
