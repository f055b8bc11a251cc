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

    problems: int = 250
    """Held-out problems in each language."""

    validation: int = 200
    """English validation problems, by which settings are chosen."""

    examples: int = 6400
    """English training problems of an ordinary run."""

    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    """Learning rates that are tried; 3e-4 is the demo's."""

    longer: int = 2
    """How many times the ordinary examples the longer trainings see; with 1 there are none."""

    random_rate: float = 6e-4
    """Learning rate of the random start in part b: the paper's. One seed on this miniature began to read after 12,000
    examples at it, and not within 18,000 at 2e-3."""

    random_rates: tuple[float, ...] = (3e-4, 6e-4)
    """Learning rates that are tried for connectors that start at random."""

    random_examples: int = 25600
    """English training problems of a connector that starts at random."""

    curve: dict[str, tuple[int, int]]
    """Of part b, by start: how many examples a run sees, and after how many each checkpoint is written."""

    curve_problems: int = 100
    """Held-out problems in each language at each checkpoint."""

    encoder_examples: int = 6400
    """English training problems for each encoder of part c."""

    sentences: int = 100
    """Parallel problems for the numbers on representations in part c."""

    multilingual_examples: int = 12800
    """Problems in all languages together that the baseline `lm_only` is trained on."""

    fixed_length: int = 40
    """Encoder tokens of the unlabelled regime with a fixed length: two in five problems of four events have more, so
    that there are enough both longer and shorter than all that was trained on."""

    dynamic_lengths: tuple[int, int] = (8, 72)
    """Encoder tokens of the unlabelled regime with a drawn length, least and most."""


FULL = Sizes(curve={"ridge": (9600, 800), "random": (25600, 1600)})

QUICK = Sizes(
    problems=30,
    validation=40,
    examples=960,
    rates=(3e-4, 1e-3),
    longer=1,
    random_examples=2400,
    curve={"ridge": (1200, 400), "random": (2400, 1200)},
    curve_problems=20,
    encoder_examples=480,
    sentences=40,
    multilingual_examples=3600,
)
"""To see all of it in ten minutes: fewer examples and problems, so that most errors are several points."""

BATCH = 16
"""Examples of an update, the demo's."""

READING_ROWS = 64
"""Held-out English problems that reading scores are taken on, all of them."""
