"""The report says what the numbers say; numbers here are drawn, not measured."""

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from studies.miniature import ablation, baselines, encoders, examples, lift, runs
from studies.miniature.__main__ import PARTS
from studies.miniature.answers import Claim
from studies.miniature.page import Page
from studies.miniature.report import write_report
from studies.miniature.runs import Run, Study
from studies.miniature.sizes import ALL, Sizes
from studies.miniature.sooner import Sooner, examples_to

SIZES = Sizes(seeds=(1, 2, 3), problems=30, validation=20, examples=160, rates=(1e-3,), curve={
    "ridge": (320, 160), "random": (320, 160), "matched": (320, 160), "permuted": (320, 160)},
    curve_problems=20, curve_seeds=(1, 2, 3, 4, 5), curve_rates=(3e-4, 6e-4))  # fmt: skip
STEPS = ("step-0001", "step-0002", "step-0003", "step-0004", "step-0005")


@dataclass(frozen=True)
class Drawn(Study):
    """Runs as if finished, with answers drawn at the rates that `share` gives for (run, asked, language)."""

    share: Callable[[str, str, str], float]

    def has(self, runs: Sequence[Run]) -> bool:
        return True

    def core_seconds(self, run: Run) -> float:
        return 60.0

    def answers(self, run: Run, asked: str = "test") -> dict[tuple[str, str], float]:
        rng = random.Random(f"{run.name}/{asked}")
        return {
            (f"test-{i}", language): float(rng.random() < self.share(run.name, asked, language))
            for language in ALL
            for i in range(self.sizes.problems)
        }

    def reading(self, run: Run, asked: str) -> dict[str, tuple[float, float]]:
        later = 0.3 * (asked == "at-320")
        if "ridge" in run.name:
            return {"numbers": (0.4 + later, 0.01), "verbs": (0.5, 0.01)}
        return {"numbers": (later, 0.01), "verbs": (0.2, 0.15)}

    def encoder(self, run: Run) -> dict[str, Any]:
        step = next(i for i, step in enumerate(STEPS) if step in run.name)
        one = {"value": 0.2 * step, "stderr": 0.001}
        same = {"value": 1.0, "stderr": 0.0}
        both = {"to_pivot": one, "from_pivot": same}
        return {
            "retrieval": {"low": both}, "cosine": {"low": {"gap": one}},
            "cka": {"low": one}, "variance": {"sentence": one, "language": {"value": -0.2 * step, "stderr": 0.001}},
            "probe": {"accuracy": same},
        }  # fmt: skip


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures: the drawing, which takes seconds, is left to the slow test."""
    for part, name in (
        (lift, "draw_languages"),
        (lift, "draw_lengths"),
        (encoders, "draw_encoders"),
        (examples, "draw_examples"),
    ):
        monkeypatch.setattr(part, name, lambda *_: None)


@pytest.fixture
def report(tmp_path: Path) -> Any:
    """Writes the report of some parts: its text, and the verdicts by claim."""
    models = tmp_path / "models"
    for step in STEPS:
        (models / "encoders" / step).mkdir(parents=True)
    (models / "study.json").write_text("{}")

    def report(letters: str, share: Any, sizes: Sizes = SIZES) -> tuple[str, dict[str, str]]:
        study = Drawn(tmp_path / "out", models, sizes, share)
        claims = write_report(study, {letter: PARTS[letter] for letter in letters})
        return (study.out / "report.md").read_text(), {claim.text: claim.verdict for _, claim in claims}

    return report


def lifts(name: str, asked: str, language: str) -> float:
    known = language in ("en", "es", "fr", "de")
    if name == "lm-alone":
        return 0.98 if known else 0.02
    if "snapped" in asked:
        return 0.3
    return 0.3 if known else 0.6


def falls(name: str, asked: str, language: str) -> float:
    return 0.95 if name == "lm-alone" and language == "en" else 0.5 if name == "lm-alone" else 0.1


def test_the_verdicts_follow_the_numbers(report, blank) -> None:
    """The same text of claims, other numbers: what held does not hold, and the words change with it."""
    first_page, first = report("a", lifts)
    lifted, lowered, others = (
        next(text for text in first if text.startswith(s))
        for s in ("The bridge lifts", "The bridge lowers English", "The bridge lowers known besides")
    )
    assert first[lifted] == first[lowered] == first[others] == "holds"
    assert f"{lifted} (primary): **holds** in miniature." in first_page
    assert "known besides (es, fr, de)" in first_page
    second_page, second = report("a", falls)
    assert second[lifted] == "does not hold: the opposite does"
    assert f"{lifted} (primary): **does not hold" in second_page
    assert len([text for text in second if text.startswith("Guess 3")]) == 2


def test_a_search_that_finds_nothing_is_not_compared(report, blank) -> None:
    def share(name: str, asked: str, language: str) -> float:
        return 0.0 if name.startswith("try") else lifts(name, asked, language)

    page, verdicts = report("a", share)
    assert {verdict for text, verdict in verdicts.items() if text.startswith("Guess 3")} == {"not compared"}
    assert "all trials are at the floor" in page


def test_encoders_are_ranked_by_their_correlation(report, blank) -> None:
    def share(name: str, asked: str, language: str) -> float:
        return next(0.2 + 0.2 * i for i, step in enumerate(STEPS) if step in name)

    page, verdicts = report("c", share)
    assert set(verdicts.values()) == {"holds"}, "five encoders in order are a chance of two in 120"
    rows = [line for line in page.splitlines() if re.match(r"\| [\w ]+ \| [+-]\d\.\d\d \| ", line)]
    found = {row.split("|")[1].strip(): row.split("|")[2].strip() for row in rows}
    assert set(found) == set(encoders.PREDICTORS)
    assert found["retrieval to English"] == "+1.00"
    assert found["variance by language"] == "-1.00"
    assert found["language probe"] == "+0.00"
    assert "| cosine gap | +1.00 | .017 |" in page
    assert "| language probe | +0.00 | 1.000 |" in page


def test_encoders_that_fail_in_english_too_say_nothing_of_transfer(report, blank) -> None:
    page, verdicts = report("c", lambda name, asked, language: 0.9 * ("step-0001" not in name))
    assert set(verdicts.values()) == {"not compared"}
    assert "4 encoders whose bridge solves anything in English" in page


@pytest.mark.slow  # draws every figure of the study
def test_every_part_can_be_written(report, tmp_path: Path) -> None:
    page, _ = report("abcdef", lifts)
    for letter, part in PARTS.items():
        assert f"## {letter}. {part.TITLE}" in page
    assert page.count("(primary)") == 2 * 5, "one in each part but the last, in the table and in its part"
    assert (
        "matched: numbers are read in most seeds (a score of 0.05 and of twice its error) from 320 examples on." in page
    )
    assert "ridge: verbs are read in most seeds (a score of 0.05 and of twice its error) before the first step." in page
    assert (
        "random: verbs are read in most seeds (a score of 0.05 and of twice its error) not at the last checkpoint."
        in page
    )
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert len(pictures) == 5
    assert all((tmp_path / "out" / picture).is_file() for picture in pictures)


def test_the_effect_of_a_factor_is_over_pairs_that_differ_in_it_alone(report) -> None:
    """Careless English lifts by half, the lexical loss by a quarter where it is, noise does nothing."""

    def share(name: str, asked: str, language: str) -> float:
        return 0.25 * ("lexical" in name) + 0.5 * ("careless" in name)

    page, _ = report("f", share)
    effects = {row.split("|")[1].strip(): row.split("|")[3].strip() for row in page.splitlines() if "points" in row
               or re.match(r"\| (noise|careless|lexical)", row)}  # fmt: skip
    means = {factor: float(effects[factor].split(" ")[0]) for factor in ablation.FACTORS}
    assert means["careless English"] == pytest.approx(50, abs=6)
    assert means["lexical loss"] == pytest.approx(25, abs=6)
    assert abs(means["noise on embeddings"]) < 6


def test_a_page_is_markdown(tmp_path: Path) -> None:
    page = Page(tmp_path)
    page.heading("A & B", 1)
    page.say("Less `x < y` than **that**,", "or *this*.")
    page.table(["name", "says", "n"], [["a|b", "<i>", "1"]], texts=(1,))
    page.points([])
    page.write()
    assert (tmp_path / "report.md").read_text() == (
        "# A & B\n\nLess `x < y` than **that**, or *this*.\n\n| name | says | n |\n| --- | --- | ---: |\n"
        "| a\\|b | <i> | 1 |\n"
    )


def test_examples_to_a_goal_are_read_off_the_rising_curve() -> None:
    """Between two checkpoints on the logarithm; a first crossing that does not last is none; never is infinite."""
    assert examples_to(0.5, {0: 0.0, 160: 0.25, 640: 0.75}) == pytest.approx(320)
    assert examples_to(0.5, {0: 0.6, 160: 0.7}) == 0
    assert math.isinf(examples_to(0.5, {0: 0.0, 160: 0.4}))
    assert examples_to(0.5, {0: 0.0, 160: 0.9, 320: 0.0, 640: 0.0, 1280: 0.9}) > 640


def test_never_is_later_than_all_that_arrive() -> None:
    apart = Sooner([100, 110, 120, 130, 140], [900, 1000, math.inf, math.inf, math.inf])
    assert (apart.side, apart.p) == (1, pytest.approx(2 / 252))
    assert Claim("sooner", "", apart).verdict == "holds"
    assert Sooner(apart.second, apart.first).side == -1
    assert Sooner([math.inf] * 5, [math.inf] * 5).p == 1
    assert apart.points == "120 (100 to 140) against never (900 to never) examples, exact test of rank sums"


def test_a_run_that_ended_before_the_others_arrived_is_not_later_than_they(report, blank) -> None:
    def share(name: str, asked: str, language: str) -> float:
        return float("try" in name or (asked == "at-320" and "ridge" not in name))

    before = {**SIZES.curve, "ridge": (160, 160)}
    page, verdicts = report("b", share, replace(SIZES, curve=before))
    compared = {text: verdict for text, verdict in verdicts.items() if "From the ridge start" in text}
    assert set(compared.values()) == {"not compared"}
    assert "ridge: a run ended after 160 examples, before the goal and before the other's runs" in page
    assert "*Never*: not by the run's end, after 160 examples (ridge), 320 examples (random)" in page


def test_a_rate_is_the_first_at_the_goal_and_none_at_the_floor(tmp_path: Path) -> None:
    def study(share: Any) -> Drawn:
        return Drawn(tmp_path, tmp_path, SIZES, share)

    assert examples.rate_of(study(lambda name, asked, _: 0.0), "random") is None
    faster = study(lambda name, asked, _: float(asked != "at-0" and ("0.0006" in name or asked == "at-320")))
    assert examples.rate_of(faster, "random") == 6e-4
    both = study(lambda *_: 1.0)
    assert {run.seed for run in examples.runs(both)} == {*SIZES.curve_seeds, SIZES.trial_seed}
    none = study(lambda *_: 0.0)
    assert {run.seed for run in examples.runs(none)} == {SIZES.trial_seed}


def test_translations_get_their_spaces_back() -> None:
    assert baselines.spaced("Eva has28 hats and 5 more. Later6 are lost.") == (
        "Eva has 28 hats and 5 more. Later 6 are lost."
    )


def test_overrides_are_written_as_yaml_reads_them() -> None:
    said = {key: runs._as_said(value) for key, value in
            {"a": 2e-5, "b": None, "c": True, "d": "{prompt}\n", "e": 16}.items()}  # fmt: skip
    assert said == {"a": "2.000000e-05", "b": "null", "c": "true", "d": "{prompt}\n", "e": "16"}
