"""How large a study is: everything that is counted, in one place."""

from dataclasses import dataclass

from langbridge.languages import LANGUAGE_GROUPS

HIGH, LOW = LANGUAGE_GROUPS["high"], LANGUAGE_GROUPS["low"]
ALL = (*HIGH, *LOW)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The defaults are the full study's."""

    seeds: tuple[int, ...] = (42, 43, 44)
    """Of the connector: its initial weights, the texts of the ridge regression, the order of the examples. The parents
    and the training examples are the same."""

    penalties: tuple[float, ...] = (3e-3, 1e-4)
    """Of the ridge start, in parts a, c and e: the one that English alone chooses (`benchmarks/regularisation.py
    --choose`), with which everything else is done, and a weaker one."""

    problems: int = 200
    """Held-out problems in each language."""

    validation: int = 200
    """Validation problems in each language; settings are chosen by the English ones."""

    examples: int = 6400
    """English training problems of an ordinary run."""

    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    """Learning rates that are tried in part a; 3e-4 is the demo's."""

    schedules: tuple[str, ...] = ("cosine", "constant")
    """Schedules that are tried in part a; cosine is the demo's."""

    curve: dict[str, tuple[int, int]]
    """Of part b, by start: how many examples a run sees, and after how many each checkpoint is written."""

    curve_seeds: tuple[int, ...] = (42, 43, 44, 45, 46)
    """Seeds of part b."""

    curve_rates: tuple[float, ...] = (3e-4, 6e-4, 1.2e-3)
    """Learning rates that each start of part b is tried with, by a seed of its own; 6e-4 is the paper's."""

    trial_seed: int = 41
    """The seed of the trials of part b."""

    curve_problems: int = 100
    """Problems in each language at each checkpoint."""

    encoder_examples: int = 3200
    """English training problems for each encoder of part c."""

    sentences: int = 100
    """Parallel problems for the numbers on representations in part c."""

    encoder_rates: tuple[float, ...] = (2e-5, 2e-4)
    """Learning rates that are tried for a trained encoder in part d: the paper's, and ten times that, for a training
    that is much shorter."""

    parent_seeds: tuple[int, ...] = (0, 1)
    """Of part f: seeds of the parents' training."""

    encoder_steps: int = 900
    language_model_steps: int = 900
    """Updates of part f's parents; the shipped ones had 2,200 and 3,000."""

    parent_examples: int = 3200
    """English training problems of each bridge of part f."""


SLOW = (25600, 2560)
FULL = Sizes(curve={"ridge": (6400, 640), "random": SLOW, "matched": SLOW, "permuted": SLOW})

QUICK = Sizes(
    problems=30,
    validation=40,
    examples=960,
    rates=(3e-4, 1e-3),
    schedules=("cosine",),
    curve={"ridge": (1200, 400), "random": (2400, 1200), "matched": (2400, 1200), "permuted": (2400, 1200)},
    curve_seeds=(42, 43, 44),
    curve_rates=(6e-4,),
    curve_problems=20,
    encoder_examples=480,
    sentences=40,
    encoder_rates=(2e-4,),
    parent_seeds=(0,),
    parent_examples=160,
    encoder_steps=60,
    language_model_steps=60,
)
"""To see that all of it runs: fewer examples and problems, so that most errors are several points and most starts of
part b stay on the plateau. Part f's parents learn nothing."""

BATCH = 16
"""Examples of an update, the demo's."""

READING_ROWS = 64
"""Held-out English problems that reading scores are taken on, all of them."""
