"""The comparison of the family, on the miniature: few examples, few questions."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from langbridge.files import read_jsonl, write_jsonl
from studies.family import data, pace
from studies.family.__main__ import main
from studies.family.arms import KNOWN, LOW, MINIATURE, PAIRS, SMOLLM2, design
from studies.family.data import write_data
from studies.family.pace import Pace
from studies.family.stopping import Checkpoint, chosen_by


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "TRAINING", 96)
    monkeypatch.setattr(data, "TESTS", 4)
    monkeypatch.setitem(KNOWN, MINIATURE, ("es",))
    monkeypatch.setitem(LOW, MINIATURE, ("sw",))


def run(out: Path, arms: str) -> None:
    main(["run", "--out", str(out), "--pair", MINIATURE, "--arms", arms, "--examples", "32", "--questions", "3",
          "--threads", "1"])  # fmt: skip


def files(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}


@pytest.mark.usefixtures("small")
def test_arms_are_compared_with_what_they_cost(tmp_path: Path) -> None:
    run(tmp_path, "bridge,text,route,beside,bitext_short,adapters")
    before = files(tmp_path)
    run(tmp_path, "bridge,text")
    assert files(tmp_path) == before, "nothing is done twice"
    main(["report", "--out", str(tmp_path)])
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in lines if line.startswith("| ")}
    assert [*rows] == ["arm", "---", "bridge", "text", "route", "beside", "adapters", "bitext_short"]
    costs = {arm: json.loads((tmp_path / MINIATURE / arm / "seed-0" / "costs.json").read_text()) for arm in [*rows][2:]}
    assert costs["text"]["parameters"] == 0
    assert costs["bitext_short"]["parameters"] == costs["bridge"]["parameters"] < costs["adapters"]["parameters"]
    found = [json.loads((tmp_path / MINIATURE / arm / "seed-0/measured/3" / place / "en.json").read_text())
             for arm, place in (("route", "32"), ("text", "0"))]  # fmt: skip
    assert found[0]["as_text"] == 3, "the language model knows English"
    assert found[0]["own"] == found[1]["own"]
    beside = tmp_path / MINIATURE / "beside" / "seed-0"
    assert not (beside / "training").exists(), "it is the bridge's own"
    assert costs["beside"]["parameters"] == costs["bridge"]["parameters"]
    told = json.loads((beside / "answers" / "results.json").read_text(encoding="utf-8"))
    assert "<soft>{prompt}</soft>{prompt}" in json.dumps(told["model"])
    assert any(line.startswith("- layerwise: not there") for line in lines)
    stages = tmp_path / MINIATURE / "bitext_short" / "seed-0" / "training"
    assert [path.name for path in sorted(stages.glob("stage-*"))] == ["stage-1", "stage-2", "stage-3"]
    starts = [json.loads((stages / name / "training_log.json").read_text())["start"]
              for name in ("final/stages/1", "final/stages/2")]  # fmt: skip
    closed = json.loads((tmp_path / MINIATURE / "bridge" / "seed-0" / "training/final/training_log.json").read_text())
    assert starts == [closed["start"], None], "the closed form is that of English, and is not made anew of the bitext"


@pytest.mark.usefixtures("small")
def test_trainings_are_timed_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "ROUNDS", 1)
    main(["pace", "--out", str(tmp_path), "--pair", MINIATURE, "--arms", "bridge,closed,mean,text,bitext_short",
          "--examples", "32", "--threads", "1"])  # fmt: skip
    taken = json.loads((tmp_path / MINIATURE / "pace.json").read_text(encoding="utf-8"))
    assert taken.keys() == {"closed", "bridge", "bitext_short"}, "the others train nothing of their own"
    assert capsys.readouterr().err.count(" ms an example\n") == len(taken)
    assert taken["closed"]["example"] == 0 < taken["bridge"]["example"]
    timed = Pace(tmp_path / MINIATURE, design(MINIATURE).arms)
    closed, bridge = timed.seconds("closed", 0), timed.seconds("bridge", 100)
    assert bridge == pytest.approx(taken["bridge"]["start"] + 100 * taken["bridge"]["example"])
    assert timed.seconds("mean", 100) == pytest.approx(closed + bridge), "of both that it is made of"
    assert timed.seconds("route", 100) == timed.seconds("beside", 100) == bridge
    assert timed.seconds("text", 0) is timed.seconds("layerwise", 100) is None


@pytest.mark.usefixtures("small")
def test_no_sentence_of_the_bitext_is_a_question_of_the_task(tmp_path: Path) -> None:
    folder = write_data(MINIATURE, None, tmp_path)
    task = {row["question"] for _, row in read_jsonl(folder / "gsm8k" / "train.jsonl")}
    pairs = [row for _, row in read_jsonl(folder / "bitext.jsonl")]
    assert len(pairs) == 96
    assert not task & {row["answer"] for row in pairs}
    assert not any(row["question"] == row["answer"] for row in pairs), "never English itself"


def test_the_bitext_of_a_real_pair_has_every_language_in_turn(tmp_path: Path) -> None:
    given = tmp_path / "given"
    for name in ("gsm8k", "mgsm"):
        (given / name).mkdir(parents=True)
    for code in ("en", *LOW[SMOLLM2]):
        write_jsonl(given / "ntrex" / f"ntrex_{code}.jsonl", [{"text": f"{code} {number}"} for number in range(5)])
    folder = write_data(SMOLLM2, given, tmp_path / "out")
    pairs = [(row["question"], row["answer"]) for _, row in read_jsonl(folder / "bitext.jsonl")]
    assert pairs == [(f"{code} {n}", f"en {n}") for n, code in enumerate([*LOW[SMOLLM2], LOW[SMOLLM2][0]])]


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, said in (
        (["run", "--out", str(tmp_path), "--pair", SMOLLM2], "--data: missing"),
        (["run", "--out", str(tmp_path), "--pair", MINIATURE, "--arms", "bridge,none"], "--arms: got none, expected"),
        (["report", "--out", str(tmp_path)], "holds no measurement"),
    ):
        with pytest.raises(SystemExit) as error:
            main(given)
        assert error.value.code == 2
        assert said in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_signs_of_english_choose_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = PAIRS[MINIATURE]
    monkeypatch.setitem(PAIRS, MINIATURE, replace(pair, settings={**pair.settings, "train.save_steps": "1"}))
    main(["stop", "--out", str(tmp_path), "--arms", "bridge", "--examples", "32", "--questions", "4",
          "--threads", "1"])  # fmt: skip
    lines = (tmp_path / "stopping.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert [row[0] for row in rows[2:5]] == ["0", "16", "32"], "the closed form, and every checkpoint"
    asked = tmp_path / MINIATURE / "bridge/seed-0/answers-after/16/samples_miniature.jsonl"
    assert {row["language"] for _, row in read_jsonl(asked)} == {"en", "sw"}


def test_the_best_checkpoint_is_that_of_the_best_sign_or_outcome() -> None:
    def at(sign: float, *right: float) -> Checkpoint:
        return Checkpoint({"sign": sign}, {(f"test-{n}", code): one for n, one in enumerate(right)
                                           for code in LOW[MINIATURE]})  # fmt: skip

    training = {0: at(0.1, 1, 0), 800: at(0.3, 1, 1), 1600: at(0.4, 1, 0), 2400: at(0.4, 0, 0)}
    assert chosen_by(training, "sign") == 1600, "the earliest of equal ones"
    assert chosen_by(training) == 800
