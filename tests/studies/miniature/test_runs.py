"""Runs of a study: declared grids are recipes within their budgets, what is finished stays, killed ones go on."""

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from langbridge.errors import LangBridgeError
from langbridge.miniature import parents
from studies.miniature import lift, models, working
from studies.miniature.__main__ import PARTS, PREPARED, check_same, main
from studies.miniature.data import events_of, rows_of, tokens_of, write_problems, write_training
from studies.miniature.runs import Asked, Run, Study, carry_out, recipe_of
from studies.miniature.sizes import BATCH, FULL, QUICK, READING_ROWS, Sizes
from studies.miniature.working import carry_out_all, expected_seconds, outstanding

ASKED = (Asked(name="test", languages=("en",), limit=1),)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    for step in ("step-0001", "step-0002"):
        (tmp_path / "models" / "encoders" / step).mkdir(parents=True)
    (tmp_path / "models" / "study.json").write_text("{}")
    return Study(tmp_path / "study", tmp_path / "models", QUICK)


class AllDone(Study):
    """As if every run were finished, and every trial had solved all it was asked but the demo's own settings."""

    def has(self, runs: Any) -> bool:
        return True

    def answers(self, run: Run, asked: str = "test") -> dict[tuple[str, str], float]:
        return {(f"validation-{i}", "en"): float("cosine" not in run.name) for i in range(9)}


def every_run(study: Study, letters: str = "abcdef") -> list[Run]:
    planned = AllDone(study.out, study.models, study.sizes)
    return outstanding([run for letter in letters for run in PARTS[letter].runs(planned)], study)


@pytest.mark.parametrize("sizes", [FULL, QUICK], ids=["full", "quick"])
def test_every_declared_run_is_a_recipe(sizes: Sizes, study: Study) -> None:
    study = replace(study, sizes=replace(sizes, seeds=sizes.seeds[:1]))
    found = every_run(study)
    assert len({run.name for run in found}) == len(found)
    for run in found:
        if run.model == "language_model":
            continue
        recipe = recipe_of(run, study)
        assert recipe.seed == run.seed
        assert str(recipe.data.path).endswith(f"{run.data}.jsonl")
        kept = [asked.checkpoint for asked in run.asked if asked.checkpoint]
        assert all(step % recipe.train.save_steps == 0 and step * BATCH <= run.examples for step in kept)
        # What a run is said to cost is what its file holds.
        assert run.model == "started" or int(run.data.rpartition("-")[2]) == run.examples


def test_every_seed_and_rate_is_its_own_run(study: Study) -> None:
    """The same name for two settings is an error of the grid, found before anything is trained."""
    first = lift.base(QUICK, 3e-3, 1)
    with pytest.raises(AssertionError, match=r"two runs are called bridge-0.003-1"):
        outstanding([first, replace(first, examples=7)], study)


def test_the_sizes_fit_their_budgets(study: Study) -> None:
    """By the costs of `working.SECONDS`, on two cores: all parts in some four hours, quick in half an hour."""
    for step in range(3, 7):
        (study.models / "encoders" / f"step-{step:04d}").mkdir()
    for sizes, minutes in ((FULL, 250), (QUICK, 30)):
        sized = replace(study, sizes=sizes)
        seconds = sum(map(expected_seconds, every_run(sized))) + sum(part.unprepared(sized) for part in PREPARED)
        assert seconds / 2 <= 60 * minutes, f"{seconds / 120:.1f} minutes"


def fake(made: list[str], fails: set[str]) -> Any:
    """In the stead of training: writes what says that a run is finished, unless it is in `fails`."""

    def carry_out(run: Run, study: Study) -> dict[str, Any]:
        if run.name in fails:
            fails.remove(run.name)
            raise KeyboardInterrupt
        made.append(run.name)
        record = {"run": run.as_json(), "seconds": 1.0, "core_seconds": 1.0}
        folder = study.folder(run.name)
        folder.mkdir(parents=True)
        (folder / "done.json").write_text(json.dumps(record))
        return record

    return carry_out


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_a_killed_study_goes_on_and_makes_nothing_twice(study: Study, pool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(working, "carry_out", fake(made, {"second"}))
    trials = [Run(name=name, model="language_model", asked=ASKED) for name in ("first", "second")]
    chosen = Run(name="chosen", model="language_model", asked=ASKED)

    def plan() -> list[Run]:
        return [*trials, chosen] if study.has(trials) else trials

    with pytest.raises(KeyboardInterrupt):
        carry_out_all(plan, study, pool)
    assert made == ["first"]
    told: list[str] = []
    assert carry_out_all(plan, study, pool, told.append) == 2
    assert made == ["first", "second", "chosen"]
    assert "0 known to be left" in told[-1]
    assert carry_out_all(plan, study, pool) == 0


def test_what_is_wrong_with_a_run_is_told_with_its_name(study: Study, pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def carry_out(run: Run, study: Study) -> dict[str, Any]:
        raise LangBridgeError("the disk is full")

    monkeypatch.setattr(working, "carry_out", carry_out)
    with pytest.raises(LangBridgeError, match=r"^run one: the disk is full$"):
        carry_out_all(lambda: [Run(name="one", model="language_model", asked=ASKED)], study, pool)


def test_a_finished_run_with_other_settings_is_refused(study: Study, pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "carry_out", fake([], set()))
    run = Run(name="one", model="language_model", asked=ASKED)
    carry_out_all(lambda: [run], study, pool)
    other = replace(run, asked=(Asked(name="test", languages=("sw",), limit=1),))
    with pytest.raises(LangBridgeError, match="holds a run with other settings"):
        carry_out_all(lambda: [other], study, pool)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--parts", "a,g"], "--parts: got 'a,g', expected letters of a to f"),
        (["--parts", "c", "--models", "nowhere"], "nowhere: holds no encoders of several qualities; `python -m stu"),
        (["--out", "."], "is not empty and holds no study"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["--parts", "a", "--out", "out", *arguments])
    assert left.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_the_commands_of_the_page_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "study.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python -m (studies\.\S+) ([^#\n]*)", page, re.MULTILINE)
    made: list[Any] = []
    monkeypatch.setattr("studies.miniature.__main__.run_study", lambda study, chosen, **_: made.append(chosen))
    monkeypatch.setattr("studies.miniature.models.build_models", lambda *_, **__: [])
    for module, words in commands:
        {"studies.miniature": main, "studies.miniature.models": models.main}[module](words.split())
    assert made == [[*"abcdef"], [*"abcdef"], ["a", "b"]]


def test_a_study_of_other_sizes_or_models_is_refused(tmp_path: Path) -> None:
    study = Study(tmp_path / "study", tmp_path / "models", Sizes(problems=2, validation=2, sentences=2, curve={}))
    check_same(study)
    # Models may come later, but no others after them.
    study.models.mkdir()
    (study.models / "study.json").write_text('{"steps": [1]}')
    check_same(study)
    check_same(study)
    with pytest.raises(LangBridgeError, match="a study with other sizes;"):
        check_same(replace(study, sizes=QUICK))
    (study.models / "study.json").write_text('{"steps": [2]}')
    with pytest.raises(LangBridgeError, match="a study with other models;"):
        check_same(study)


def test_training_files_hold_what_their_names_say() -> None:
    assert len(rows_of("en-20")) == 20
    timed, plain = rows_of("events3-timed-20"), rows_of("events3-plain-20")
    assert {events_of(row["id"]) for row in timed} == {3}
    assert [row["response"] for row in timed] == [row["response"] for row in plain]
    assert all(len(one["query"]) > len(other["query"]) for one, other in zip(timed, plain, strict=True))
    tokens = {kind: tokens_of(kind) for kind in lift.KINDS}
    (short, same), (long, again) = (tokens[kind] for kind in lift.SOURCES.values())
    assert (long > 1.1 * short, same == again) == (True, True), "sources differ, targets do not"
    (one, little), (other, much) = (tokens[kind] for kind in lift.TARGETS.values())
    assert (abs(one - other) < 1, much > 1.1 * little) == (True, True), "targets differ, sources do not"
    assert rows_of("text-1")[0]["text"].endswith(rows_of("en-1")[0]["response"])
    every = rows_of("all-24")
    assert [row["response"] for row in every] == [row["response"] for row in rows_of("en-24")]
    assert sum(row["query"].isascii() for row in every) <= 10  # English, and sentences of others without accents
    held_out = {row["query"] for row in rows_of("held-out")}
    assert len(held_out) == READING_ROWS
    assert not held_out & {row["query"] for row in rows_of("en-2000")}


@pytest.mark.skipif(not parents.FOLDER.is_dir(), reason="the miniature's models are not built here")
def test_a_run_is_made_by_the_ordinary_training_and_evaluation(tmp_path: Path) -> None:
    """Two updates, questions at a checkpoint and at the end; a second call finds everything done."""
    study = Study(tmp_path / "study", tmp_path / "models", Sizes(problems=2, validation=2, sentences=10, curve={}))
    write_problems(study.out, study.sizes)
    run = Run(
        name="one", model="trained", seed=7, data="en-32", examples=32,
        start="permuted", start_data="en-16", reads=True,
        settings={"train.save_strategy": "steps", "train.save_steps": 1, "train.save_total_limit": None},
        asked=(
            Asked(name="test", languages=("en", "sw"), limit=1),
            Asked(name="at-0", languages=("en",), limit=1, checkpoint=0),
            Asked(name="at-16", languages=("en",), limit=2, checkpoint=1),
        ),
    )  # fmt: skip
    write_training(study.out, run)
    record = carry_out(run, study)
    assert study.has([run])
    assert {language for _, language in study.answers(run)} == {"en", "sw"}
    assert {problem for problem, _ in study.answers(run, "at-16")} == {"test-0", "test-1"}
    assert (study.folder("one") / "training" / "checkpoint-1").is_dir()
    assert set(study.reading(run, "at-0")) == {"numbers", "verbs"}
    assert study.reading(run, "at-0") != study.reading(run, "test")
    assert carry_out(run, study) == record


KILLED = """
import os, time
from studies.miniature.working import workers
if __name__ == "__main__":
    with workers(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


@pytest.mark.slow  # starts two processes that import torch
def test_a_killed_study_leaves_no_worker_behind(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    study = subprocess.Popen(
        [sys.executable, tmp_path / "killed.py"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert study.stdout is not None
    worker = int(study.stdout.readline())
    assert lives(worker)
    study.kill()
    study.wait()
    study.stdout.close()
    deadline = time.monotonic() + 30
    while lives(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not lives(worker)


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
