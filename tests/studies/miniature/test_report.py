"""The report says what the numbers say; numbers here are drawn, not measured."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from studies.miniature import baselines, encoders, examples, lift, runs
from studies.miniature.__main__ import PARTS
from studies.miniature.page import Page
from studies.miniature.report import write_report
from studies.miniature.runs import Run, Study
from studies.miniature.sizes import ALL, BATCH, Sizes

SIZES = Sizes(seeds=(1, 2, 3), problems=30, validation=20, examples=160, rates=(1e-3,), curve={
    "ridge": (320, 160), "random": (320, 160)}, curve_problems=20)  # fmt: skip
STEPS = ("step-0001", "step-0002", "step-0003", "step-0004")


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

    def log(self, run: Run) -> list[dict[str, Any]]:
        reads = [0.4, 0.5, 0.6] if "ridge" in run.name else [0.0, 0.01, 0.3]
        return [{"step": i * 160 // BATCH, "reading_score": score} for i, score in enumerate(reads)]

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
    for part, name in ((lift, "draw_languages"), (lift, "draw_lengths"), (encoders, "draw_encoders")):
        monkeypatch.setattr(part, name, lambda *_: None)


@pytest.fixture
def report(tmp_path: Path) -> Any:
    """Writes the report of some parts: its text, and the verdicts by claim."""
    models = tmp_path / "models"
    for step in STEPS:
        (models / "encoders" / step).mkdir(parents=True)
    (models / "study.json").write_text("{}")

    def report(letters: str, share: Any) -> tuple[str, dict[str, str]]:
        study = Drawn(tmp_path / "out", models, SIZES, share)
        claims = write_report(study, {letter: PARTS[letter] for letter in letters})
        return (study.out / "report.md").read_text(), {claim.text: claim.verdict for _, claim in claims}

    return report


def lifts(name: str, asked: str, language: str) -> float:
    known = language in ("en", "es", "fr", "de")
    if name == "lm-alone":
        return 0.98 if known else 0.02
    if "snapped" in asked:
        return 0.3
    return 0.7 if known else 0.6


def falls(name: str, asked: str, language: str) -> float:
    return 0.5 if name == "lm-alone" else 0.1


def test_the_verdicts_follow_the_numbers(report, blank) -> None:
    """The same text of claims, other numbers: what held does not hold, and the words change with it."""
    first_page, first = report("a", lifts)
    lifted, lowered = (
        next(text for text in first if text.startswith(s)) for s in ("The bridge lifts", "The bridge lo")
    )
    assert first[lifted] == first[lowered] == "holds"
    snap = next(text for text in first if text.startswith("Guess 1"))
    assert first[snap] == "does not hold: the opposite does"
    assert f"{lifted}: **holds** in miniature." in first_page
    assert "en, es, fr, de" in first_page
    second_page, second = report("a", falls)
    assert second[lifted] == "does not hold: the opposite does"
    assert f"{lifted}: **does not hold" in second_page


def test_encoders_are_ranked_by_their_correlation(report, blank) -> None:
    def share(name: str, asked: str, language: str) -> float:
        return next(0.1 + 0.25 * i for i, step in enumerate(STEPS) if step in name)

    page, verdicts = report("c", share)
    assert set(verdicts.values()) == {"holds"}
    rows = [line for line in page.splitlines() if re.match(r"\| [\w ]+ \| [+-]\d\.\d\d \| [+-]", line)]
    found = {row.split("|")[1].strip(): row.split("|")[2].strip() for row in rows}
    assert set(found) == set(encoders.PREDICTORS)
    assert found["retrieval to English"] == "+1.00"
    assert found["variance by language"] == "-1.00"
    assert found["language probe"] == "+0.00"
    assert "The interval holds zero for retrieval from English, language probe" in page


@pytest.mark.slow  # draws every figure of the study
def test_every_part_can_be_written(report, tmp_path: Path) -> None:
    def share(name: str, asked: str, language: str) -> float:
        return 0.1 if "start" in name else 0.6

    page, verdicts = report("abcde", share)
    for letter, part in PARTS.items():
        assert f"## {letter}. {part.TITLE}" in page
    assert "random: the prompt is read (reading score of at least 0.05) from the checkpoint at 320 examples" in page
    assert "ridge: the prompt is read (reading score of at least 0.05) before the first step." in page
    assert len(verdicts) == 6 + 3 + 1 + 6 + 3
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert len(pictures) == 6
    assert all((tmp_path / "out" / picture).is_file() for picture in pictures)


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


def test_curves_say_where_the_plateau_ends(tmp_path: Path) -> None:
    """Reading from the second checkpoint on; the last is surely better than the first and not than the second."""

    def share(name: str, asked: str, language: str) -> float:
        return {"test": 0.0, "at-160": 0.0}.get(asked, 0.9)

    said = examples.Curve(Drawn(tmp_path, tmp_path, SIZES, share), "random").said()
    assert said[0].endswith("from the checkpoint at 320 examples on; before, plateau.")
    assert "reaches half of its last value" in said[1]
    assert said[1].endswith("by 320 examples; no earlier checkpoint is surely within 5 points of the last: no "
                            "saturation shown.")  # fmt: skip


def test_saturation_is_shown_and_not_what_is_left_of_doubt(tmp_path: Path) -> None:
    """One seed of three that is late makes all comparisons unsure: that is no saturation."""

    class Told(Drawn):
        def answers(self, run: Run, asked: str = "test") -> dict[tuple[str, str], float]:
            right = self.share(run.name, asked, "")
            return {(f"test-{i}", code): float(i < 20 * right) for code in ALL for i in range(20)}

    def curve(share: Any) -> examples.Curve:
        return examples.Curve(Told(tmp_path, tmp_path, SIZES, share), "random")

    late = curve(lambda name, asked, _: 0.9 if asked == "at-320" or name.endswith("1") else 0.0)
    assert late.saturated(("en",)) is None
    early = curve(lambda name, asked, _: 0.0 if asked == "test" else 0.9)
    assert early.saturated(("en",)) == 160
    assert "from 160 on the last checkpoint is surely less than 5 points ahead: saturation." in early.said()[1]
    falls = curve(lambda name, asked, _: 0.0 if asked == "at-160" else 0.9)
    assert falls.saturated(("en",)) is None, "as good at the start, and not in between"


def test_translations_get_their_spaces_back() -> None:
    assert baselines.spaced("Eva has28 hats and 5 more. Later6 are lost.") == (
        "Eva has 28 hats and 5 more. Later 6 are lost."
    )


def test_overrides_are_written_as_yaml_reads_them() -> None:
    said = {key: runs._as_said(value) for key, value in
            {"a": 2e-5, "b": None, "c": True, "d": "{prompt}\n", "e": 16}.items()}  # fmt: skip
    assert said == {"a": "2.000000e-05", "b": "null", "c": "true", "d": "{prompt}\n", "e": "16"}
