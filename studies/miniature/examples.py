"""Part b. How much English is enough, and from which start? Runs at constant rates, read off their checkpoints.

ridge     the closed form                      matched   random, soft prompts as long as the embeddings
random    as torch draws it, the paper's       permuted  the closed form in a code that is not the language model's
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from langbridge.analyze.figures import COLOURS, figure
from studies.miniature.answers import Claim, Found, NotCompared, mean_of
from studies.miniature.drawing import from_zero
from studies.miniature.page import Page
from studies.miniature.reading import KINDS
from studies.miniature.runs import Asked, Run, Study
from studies.miniature.sizes import BATCH, LOW, Sizes
from studies.miniature.sooner import Sooner, examples_to, said

TITLE = "How much English is enough"
LANGUAGES = ("en", *LOW)
STARTS: dict[str, tuple[str, Literal["recipe", "random", "permuted"]]] = {
    "ridge": ("ridge", "recipe"),
    "random": ("random", "recipe"),
    "matched": ("random", "random"),
    "permuted": ("ridge", "permuted"),
}
"""By name, the recipe's `init` and what is written of it (`studies/real/starts.py`)."""
READS = 0.05
"""Nats a token: a reading score below it, or below twice its error, counts as not reading, as in training."""
GOALS = (0.5, 0.8, 0.95)
GOAL = 0.8


def curve(sizes: Sizes, init: str, rate: float, seed: int, problems: str = "test") -> Run:
    """A run with what it solves at each checkpoint, the start among them: a trial on English `validation` problems."""
    examples, every = sizes.curve[init]
    recipe_init, start = STARTS[init]
    trial = problems == "validation"
    return Run(
        name=f"curve-{'try-' * trial}{init}-{rate:g}-{seed}",
        seed=seed,
        data=f"en-{examples}",
        examples=examples,
        settings={
            "init": recipe_init,
            "train.learning_rate": rate,
            "train.lr_scheduler_type": "constant",
            "train.save_strategy": "steps",
            "train.save_steps": every // BATCH,
            "train.save_total_limit": None,
        },
        start=start,
        reads=not trial,
        asked=tuple(
            Asked(name=f"at-{seen}", problems=problems, languages=("en",) if trial else LANGUAGES,
                  limit=sizes.curve_problems, checkpoint=seen // BATCH)
            for seen in places(sizes, init)
        ),
    )  # fmt: skip


def places(sizes: Sizes, init: str) -> list[int]:
    """After how many examples it is asked."""
    examples, every = sizes.curve[init]
    return list(range(0, examples + 1, every))


def trials(sizes: Sizes, init: str) -> dict[float, Run]:
    """A start by learning rate, the same for every start; of a seed that is not scored."""
    return {rate: curve(sizes, init, rate, sizes.trial_seed, "validation") for rate in sizes.curve_rates}


def solved(study: Study, run: Run, init: str, languages: Sequence[str] = ("en",)) -> dict[int, float]:
    """Accuracy by examples seen."""
    return {seen: mean_of([study.answers(run, f"at-{seen}")], languages).value for seen in places(study.sizes, init)}


def rate_of(study: Study, init: str) -> float | None:
    """The rate that is first at the goal on English validation problems, or gets nearest; None where all end at the
    floor."""
    grid = trials(study.sizes, init)
    ends = {rate: mean_of([study.answers(run, run.asked[-1].name)], ["en"]) for rate, run in grid.items()}
    if all(end.at_floor for end in ends.values()):
        return None
    return min(grid, key=lambda rate: (examples_to(GOAL, solved(study, grid[rate], init)), -ends[rate].value))


def runs(study: Study) -> list[Run]:
    sizes = study.sizes
    named: list[Run] = []
    for init in sizes.curve:
        grid = list(trials(sizes, init).values())
        named += grid
        if study.has(grid) and (rate := rate_of(study, init)) is not None:
            named += [curve(sizes, init, rate, seed) for seed in sizes.curve_seeds]
    return named


class Curve:
    """What one start gave at its rate: by examples seen, the accuracies and reading scores of each seed."""

    def __init__(self, study: Study, init: str, rate: float) -> None:
        sizes, self.init, self.rate = study.sizes, init, rate
        runs = [curve(sizes, init, rate, seed) for seed in sizes.curve_seeds]
        self.english = [solved(study, run, init) for run in runs]
        self.low = [solved(study, run, init, LOW) for run in runs]
        self.places = places(sizes, init)
        self.reading = {
            seen: [study.reading(run, f"at-{seen}") for run in runs] for seen in self.places
        }  # fmt: skip

    def mean_reading(self, kind: str) -> dict[int, float]:
        return {seen: fmean(one[kind][0] for one in found) for seen, found in self.reading.items()}

    def to(self, goal: float, low: bool = False) -> list[float]:
        return [examples_to(goal, scores) for scores in (self.low if low else self.english)]


def write(study: Study, page: Page) -> list[Claim]:
    sizes = study.sizes
    rates = {init: rate_of(study, init) for init in sizes.curve}
    curves = {init: Curve(study, init, rate) for init, rate in rates.items() if rate is not None}
    page.say(
        f"{len(sizes.curve_seeds)} seeds of each start, at a constant learning rate out of the same "
        f"{len(sizes.curve_rates)} for every start, by another seed's English validation problems: the first to "
        f"{GOAL:.0%}. Accuracy on {sizes.curve_problems} problems in each language; medians, and in brackets the least "
        "and the most of the seeds. Seeds fall into those that have begun to read and those that have not, so there "
        "are no standard errors here."
    )
    page.table(
        ["start", *(f"rate {rate:g}: examples to {GOAL:.0%}, last" for rate in sizes.curve_rates), "chosen"],
        [
            [init, *(f"{said([examples_to(GOAL, one)]).split(' ')[0]}, {100 * one[max(one)]:.0f}"
                     for run in trials(sizes, init).values() for one in [solved(study, run, init)]),
             "none: all at the floor" if rate is None else f"{rate:g}"]
            for init, rate in rates.items()
        ],
    )  # fmt: skip
    if curves:
        _curves(page, curves)
    pairs = [("ridge", "matched"), ("ridge", "permuted"), ("ridge", "random"), ("matched", "random")]
    return [
        Claim(f"From the {first} start fewer English examples are needed than from the {second} one",
              f"To {GOAL:.0%} of English problems, median and range of seeds", _sooner(curves, first, second),
              primary=number == 0)
        for number, (first, second) in enumerate(pairs)
    ]  # fmt: skip


def _curves(page: Page, curves: Mapping[str, Curve]) -> None:
    page.table(
        ["start", *(f"examples to {goal:.0%} of English" for goal in GOALS), f"to {GOAL:.0%}, low-resource",
         f"each seed to {GOAL:.0%} of English"],
        [
            [init, *(said(one.to(goal)) for goal in GOALS), said(one.to(GOAL, low=True)),
             ", ".join("never" if math.isinf(found) else f"{found:,.0f}" for found in sorted(one.to(GOAL)))]
            for init, one in curves.items()
        ],
    )  # fmt: skip
    ends = ", ".join(f"{one.places[-1]:,} examples ({init})" for init, one in curves.items())
    page.say(f"*Never*: not by the run's end, after {ends}.")
    draw_examples(page.picture("examples", "Accuracy and reading scores against English examples"), curves)
    page.say(
        "Reading scores are what another row's soft prompts cost, in nats a token: of the numbers that the problem "
        "names, and of the signs, which say what its verbs mean. Near 0 they are not read."
    )
    page.table(
        ["start", "examples", "English", "low-resource", *(f"{kind}, mean" for kind in KINDS)],
        [
            [init, str(seen), *(spread([scores[seen] for scores in both]) for both in (one.english, one.low)),
             *(f"{one.mean_reading(kind)[seen]:.3f}" for kind in KINDS)]
            for init, one in curves.items() for seen in one.places
        ],
    )  # fmt: skip
    page.points([_reads(one, kind) for one in curves.values() for kind in KINDS])


def _sooner(curves: Mapping[str, Curve], first: str, second: str) -> Found:
    if absent := [init for init in (first, second) if init not in curves]:
        return NotCompared(f"{' and '.join(absent)}: at the floor at every rate")
    found = [curves[init].to(GOAL) for init in (first, second)]
    for init, own, other in zip((first, second), found, reversed(found), strict=True):
        end = curves[init].places[-1]
        if math.inf in own and any(end < one < math.inf for one in other):
            return NotCompared(
                f"{init}: a run ended after {end:,} examples, before the goal and before the other's runs"
            )
    return Sooner(*found)


def spread(shares: Sequence[float]) -> str:
    low, middle, high = (100 * of(shares) for of in (min, median, max))
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"


def _reads(one: Curve, kind: str) -> str:
    def read(seen: int) -> bool:
        seeds = [score >= max(READS, 2 * error) for score, error in (each[kind] for each in one.reading[seen])]
        return 2 * sum(seeds) > len(seeds)

    seen = next((seen for place, seen in enumerate(one.places) if all(map(read, one.places[place:]))), None)
    begins = (
        "not at the last checkpoint"
        if seen is None
        else f"from {seen} examples on"
        if seen
        else "before the first step"
    )
    return f"{one.init}: {kind} are read in most seeds (a score of {READS} and of twice its error) {begins}."


_STYLE: dict[str, dict[str, Any]] = {
    "ridge": {"linestyle": "-", "marker": "o"},
    "random": {"linestyle": (0, (3, 2)), "marker": "s", "markerfacecolor": "white"},
    "matched": {"linestyle": (0, (1, 1)), "marker": "^"},
    "permuted": {"linestyle": (0, (5, 1, 1, 1)), "marker": "D", "markerfacecolor": "white"},
}


def draw_examples(path: Path, curves: Mapping[str, Curve]) -> None:
    """Accuracy (English and low-resource), medians of the seeds, and reading scores, their means, against the examples
    seen."""
    with figure(path, ncols=4, figsize=(7.1, 2.5), layout="constrained") as (drawn, axes):
        for init, one in curves.items():
            style = {"markersize": 3, "linewidth": 0.9, **_STYLE[init]}
            for ax, seeds, colour in ((axes[0], one.english, "high"), (axes[1], one.low, "low")):
                for scores in seeds:
                    ax.plot(one.places, [100 * scores[seen] for seen in one.places], linewidth=0.3, color="#999999")
                middle = [100 * median(scores[seen] for scores in seeds) for seen in one.places]
                ax.plot(one.places, middle, color=COLOURS[colour], **style)
            for ax, kind in zip(axes[2:], KINDS, strict=True):
                ax.plot(
                    one.places, list(one.mean_reading(kind).values()), color="black", label=f"{init} start", **style
                )
        for ax, title in zip(axes, ("English", "low-resource", *(f"{kind} read" for kind in KINDS)), strict=True):
            ax.set_title(title)
            ax.set_xlabel("English examples")
            ax.set_xscale("symlog", linthresh=200)
        for ax in axes[:2]:
            from_zero(ax)
        axes[0].set_ylabel("accuracy, per cent")
        axes[2].set_ylabel("nats a token")
        drawn.legend(*axes[2].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
