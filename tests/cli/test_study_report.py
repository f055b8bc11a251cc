"""The report says what the numbers say, as Markdown and as one file of HTML; numbers here are drawn, not measured."""

import base64
import json
import random
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from langbridge.cli.studies import baselines, designs, encoders, examples, lift, runs
from langbridge.cli.studies.page import Page
from langbridge.cli.studies.runs import Found, Place, Run
from langbridge.cli.studies.sizes import BATCH, Sizes
from langbridge.cli.study import write_report

SIZES = Sizes(seeds=(1, 2, 3), problems=30, validation=20, examples=160, rates=(1e-3,), curve={
    "ridge": (320, 160), "random": (320, 160)}, curve_problems=20)  # fmt: skip
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTh0WQAAAABJRU5ErkJggg==")
STEPS = ("step-0001", "step-0002", "step-0003", "step-0004")


class Drawn(Found):
    """Runs as if finished, with answers drawn at the rates that `share` gives for (run, language)."""

    def __init__(self, place: Place, share: Any) -> None:
        super().__init__(place)
        self.share = share

    def has(self, runs: list[Run]) -> bool:
        return True

    def core_seconds(self, run: Run) -> float:
        return 60.0

    def answers(self, name: str, asked: str = "test") -> dict[tuple[str, str], float]:
        rng = random.Random(f"{name}/{asked}")
        return {
            (f"test-{i}", language): float(rng.random() < self.share(name, asked, language))
            for language in lift.ALL
            for i in range(SIZES.problems)
        }

    def log(self, name: str) -> list[dict[str, Any]]:
        reads = [0.4, 0.5, 0.6] if "ridge" in name else [0.0, 0.01, 0.3]
        return [{"step": i * 160 // BATCH, "reading_score": score} for i, score in enumerate(reads)]

    def encoder(self, name: str) -> dict[str, Any]:
        step = next(i for i, step in enumerate(STEPS) if step in name)
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
    """Figures of one pixel: the drawing, which takes seconds, is left to the slow test."""

    def draw(path: Path, *_: Any) -> None:
        path.with_name(f"{path.name}.png").write_bytes(PIXEL)

    for part, names in ((lift, ("draw_languages", "draw_lengths")), (encoders, ("draw_encoders",))):
        for name in names:
            monkeypatch.setattr(part, name, draw)


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the report of some parts: its Markdown, its HTML, and the verdicts by claim."""
    models = tmp_path / "models"
    for step in STEPS:
        (models / "encoders" / step).mkdir(parents=True)
    (models / "study.json").write_text("{}")
    monkeypatch.setattr("langbridge.cli.studies.working.outstanding", lambda runs, place: [])

    def report(parts: dict[str, ModuleType], share: Any) -> tuple[str, str, dict[str, str]]:
        out = tmp_path / "out"
        claims = write_report(out, SIZES, parts, Drawn(Place(out, models), share))
        written = json.loads((out / "claims.json").read_text())
        assert [row["claim"] for row in written] == [claim.text for claim in claims]
        return (
            (out / "report.md").read_text(),
            (out / "report.html").read_text(),
            {row["claim"]: row["verdict"] for row in written},
        )

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
    first_page, html, first = report({"a": lift}, lifts)
    lifted, lowered = (
        next(text for text in first if text.startswith(s)) for s in ("The bridge lifts", "The bridge lo")
    )
    assert first[lifted] == first[lowered] == "holds"
    snap = next(text for text in first if text.startswith("Guess 1"))
    assert first[snap] == "does not hold: the opposite does"
    assert f"{lifted}: **holds** in miniature." in first_page
    assert "en, es, fr, de" in first_page
    second_page, _, second = report({"a": lift}, falls)
    assert second[lifted] == "does not hold: the opposite does"
    assert f"{lifted}: **does not hold" in second_page
    # One file, which loads nothing: every picture is in it.
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", first_page)
    assert len(pictures) == html.count("data:image/png;base64,") == 2


def test_encoders_are_ranked_by_their_correlation(report, blank) -> None:
    def share(name: str, asked: str, language: str) -> float:
        return next(0.1 + 0.25 * i for i, step in enumerate(STEPS) if step in name)

    page, _, verdicts = report({"c": encoders}, share)
    assert set(verdicts.values()) == {"holds"}
    rows = [line for line in page.splitlines() if re.match(r"\| [\w ]+ \| [+-]\d\.\d\d \| [+-]", line)]
    found = {row.split("|")[1].strip(): row.split("|")[2].strip() for row in rows}
    assert set(found) == set(encoders.PREDICTORS)
    assert found["retrieval to English"] == "+1.00"
    assert found["variance by language"] == "-1.00"
    assert found["language probe"] == "+0.00"
    assert "The interval holds zero for retrieval from English, language probe" in page


@pytest.mark.slow  # draws every figure of the study
def test_every_part_can_be_written(report) -> None:
    parts = {"a": lift, "b": examples, "c": encoders, "d": designs, "e": baselines}

    def share(name: str, asked: str, language: str) -> float:
        return 0.1 if "start" in name else 0.6

    page, html, verdicts = report(parts, share)
    for letter, part in parts.items():
        assert f"## {letter}. {part.TITLE}" in page
    assert "random: the prompt is read (reading score of at least 0.05) from the checkpoint at 320 examples" in page
    assert "ridge: the prompt is read (reading score of at least 0.05) before the first step." in page
    assert len(verdicts) == 6 + 3 + 1 + 6 + 3
    assert html.count("data:image/png;base64,") == 6


def test_a_page_escapes_and_marks_in_both_forms(tmp_path: Path) -> None:
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
    html = (tmp_path / "report.html").read_text()
    assert "<title>A &amp; B</title>" in html
    assert "Less <code>x &lt; y</code> than <b>that</b>, or <i>this</i>." in html
    assert '<td>a|b</td><td class="text">&lt;i&gt;</td><td>1</td>' in html


def test_curves_say_where_the_plateau_ends(tmp_path: Path) -> None:
    """Reading from the second checkpoint on; the last is surely better than the first and not than the second."""

    def share(name: str, asked: str, language: str) -> float:
        return {"test": 0.0, "at-160": 0.0}.get(asked, 0.9)

    found = Drawn(Place(tmp_path, tmp_path), share)
    said = examples.Curve(SIZES, "random", found).said()
    assert said[0].endswith("from the checkpoint at 320 examples on; before, plateau.")
    assert "reaches half of its last value" in said[1]
    assert said[1].endswith("by 320 examples; no earlier checkpoint is surely within 5 points of the last: no "
                            "saturation shown.")  # fmt: skip


def test_saturation_is_shown_and_not_what_is_left_of_doubt(tmp_path: Path) -> None:
    """One seed of three that is late makes all comparisons unsure: that is no saturation."""

    class Told(Drawn):
        def answers(self, name: str, asked: str = "test") -> dict[tuple[str, str], float]:
            right = self.share(name, asked, "")
            return {(f"test-{i}", code): float(i < 20 * right) for code in lift.ALL for i in range(20)}

    def curve(share: Any) -> examples.Curve:
        return examples.Curve(SIZES, "random", Told(Place(tmp_path, tmp_path), share))

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
