"""Part d. Frozen and trained encoder, with labelled pairs and with unlabelled text.

(Other connectors than the linear one start at random and need some 25,000 examples a run before there is anything to
compare: they are not in this study.)
"""

from typing import Any

from studies.miniature.answers import Claim, Found, NotCompared, by_group, gain
from studies.miniature.lift import base
from studies.miniature.page import Page
from studies.miniature.runs import Asked, Run, Study, tested, training, validated
from studies.miniature.sizes import LOW, Sizes

TITLE = "Frozen and trained encoder"
UNLABELLED = {"objective": "unlabelled", "min_encoder_length": 8, "max_encoder_length": 72}
"""Problem and solution as plain text, cut at a drawn place."""
OBJECTIVES: dict[str, tuple[str, dict[str, Any]]] = {"labelled": ("en", {}), "unlabelled": ("text", UNLABELLED)}


def frozen(sizes: Sizes, objective: str, seed: int) -> Run:
    if objective == "labelled":
        return base(sizes, sizes.penalties[0], seed)
    kind, settings = OBJECTIVES[objective]
    return training(f"{objective}-frozen", seed, kind, sizes.examples, tested(sizes), **settings)


def moving(sizes: Sizes, objective: str, rate: float, seed: int, asked: Asked | None = None) -> Run:
    """The encoder trained as well, at this rate."""
    kind, settings = OBJECTIVES[objective]
    name = f"{objective}-encoder-{rate:g}" if asked is None else f"try-{objective}-encoder-{rate:g}"
    settings = {**settings, "freeze_encoder": False, "train.encoder_learning_rate": rate}
    return training(name, seed, kind, sizes.examples, asked or tested(sizes), **settings)


def trials(sizes: Sizes, objective: str) -> dict[float, Run]:
    return {rate: moving(sizes, objective, rate, sizes.seeds[0], validated(sizes)) for rate in sizes.encoder_rates}


def runs(study: Study) -> list[Run]:
    sizes = study.sizes
    named: list[Run] = []
    for objective in OBJECTIVES:
        grid = trials(sizes, objective)
        named += [*grid.values(), *(frozen(sizes, objective, seed) for seed in sizes.seeds)]
        if study.has(list(grid.values())) and (rate := study.best(grid)) is not None:
            named += [moving(sizes, objective, rate, seed) for seed in sizes.seeds]
    return named


def write(study: Study, page: Page) -> list[Claim]:
    sizes = study.sizes
    rows, found = {}, dict[str, Found]()
    for objective in OBJECTIVES:
        still, rate = study.by_seed(frozen, objective), study.best(trials(sizes, objective))
        rows[f"{objective}, frozen"] = still
        if rate is None:
            found[objective] = NotCompared("the trained encoder is at the floor at every rate")
            continue
        rows[f"{objective}, encoder at {rate:g}"] = moved = study.by_seed(moving, objective, rate)
        found[objective] = gain(moved, still, LOW)
    page.say(
        f"All with {sizes.examples} English examples and the ridge start. The encoder's rate is chosen among "
        f"{', '.join(f'{rate:g}' for rate in sizes.encoder_rates)} by English validation problems, for each objective."
    )
    page.table(*by_group(rows))
    return [
        Claim(f"With {what} a trained encoder is better than a frozen one", "Low-resource average, trained over frozen",
              found[objective], primary=objective == "unlabelled")
        for objective, what in (("labelled", "labelled pairs"), ("unlabelled", "unlabelled text"))
    ]  # fmt: skip
