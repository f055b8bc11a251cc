"""Runs of a study: declared grids are recipes within their budgets, what is finished stays, killed ones go on."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from langbridge.cli.main import run as command
from langbridge.cli.studies import baselines, designs, encoders, examples, lift, runs, working
from langbridge.cli.studies.runs import Asked, Found, Place, Run, carry_out, snapped
from langbridge.cli.studies.sizes import BATCH, FULL, QUICK, Sizes
from langbridge.cli.studies.working import carry_out_all, expected_seconds, outstanding
from langbridge.errors import LangBridgeError
from langbridge.miniature import parents

PARTS = (lift, examples, encoders, designs, baselines)
ASKED = (Asked(name="test", languages=("en",), limit=1),)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for step in ("step-0001", "step-0002"):
        (tmp_path / "models" / "encoders" / step).mkdir(parents=True)
    (tmp_path / "models" / "study.json").write_text("{}")
    return Place(tmp_path / "study", tmp_path / "models")


class AllDone(Found):
    """As if every run were finished, and every trial had solved the same."""

    def has(self, runs: list[Run]) -> bool:
        return True

    def answers(self, name: str, asked: str = "test") -> dict[tuple[str, str], float]:
        return {("validation-0", "en"): 1.0}


def every_run(sizes: Sizes, place: Place, parts: Any = PARTS) -> list[Run]:
    return outstanding([run for part in parts for run in part.runs(sizes, AllDone(place))], place)


@pytest.mark.parametrize("sizes", [FULL, QUICK], ids=["full", "quick"])
def test_every_declared_run_is_a_recipe(sizes: Sizes, place: Place) -> None:
    found = every_run(replace(sizes, seeds=sizes.seeds[:1]), place)
    assert len({run.name for run in found}) == len(found)
    for run in found:
        if run.model == "language_model":
            continue
        recipe = runs._recipe(run, place)
        assert recipe.seed == run.seed
        assert str(recipe.data.path).endswith(f"{run.data}.jsonl")
        assert run.held_out == (recipe.data.validation_path is not None)
        kept = [asked.checkpoint for asked in run.asked if asked.checkpoint is not None]
        assert all(step % recipe.train.save_steps == 0 and step * BATCH <= run.examples for step in kept)
        # What a run is said to cost is what its file holds.
        assert run.model == "started" or int(run.data.rpartition("-")[2]) == run.examples


def test_every_seed_and_rate_is_its_own_run(place: Place) -> None:
    """The same name for two settings is an error of the grid, found before anything is trained."""
    first = lift.base(QUICK, 1)
    with pytest.raises(AssertionError, match="two runs are called bridge-1"):
        outstanding([first, Run(**{**vars(first), "examples": 7})], place)


def test_the_sizes_fit_their_budgets(place: Place) -> None:
    """By the costs of `working.SECONDS`, on two cores: `a` to `c` in 90 minutes, quick in ten."""
    for sizes, minutes, steps in ((FULL, 90, 6), (QUICK, 10, 6)):
        for step in range(3, steps + 1):
            (place.models / "encoders" / f"step-{step:04d}").mkdir(exist_ok=True)
        seconds = sum(map(expected_seconds, every_run(sizes, place, (lift, examples, encoders))))
        assert seconds / 2 <= 60 * minutes, f"{seconds / 120:.1f} minutes"


def fake(made: list[str], place: Place, fails: set[str]) -> Any:
    """In the stead of training: writes what says that a run is finished, unless it is in `fails`."""

    def carry_out(run: Run, _: Place) -> dict[str, Any]:
        if run.name in fails:
            fails.remove(run.name)
            raise KeyboardInterrupt
        made.append(run.name)
        record = {"run": run.as_json(), "seconds": 1.0, "core_seconds": 1.0}
        folder = place.folder(run.name)
        folder.mkdir(parents=True)
        (folder / "done.json").write_text(json.dumps(record))
        return record

    return carry_out


def test_a_killed_study_goes_on_and_makes_nothing_twice(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(working, "carry_out", fake(made, place, {"second"}))
    trials = [Run(name=name, model="language_model", asked=ASKED) for name in ("first", "second")]
    chosen = Run(name="chosen", model="language_model", asked=ASKED)

    def plan() -> list[Run]:
        return [*trials, chosen] if Found(place).has(trials) else trials

    with pytest.raises(KeyboardInterrupt):
        carry_out_all(plan, place, workers=0)
    assert "chosen" not in made
    told: list[str] = []
    assert carry_out_all(plan, place, workers=0, note=told.append).runs + len(made[:1]) == 3
    assert sorted(made) == ["chosen", "first", "second"]
    assert made[-1] == "chosen"
    assert "0 known to be left" in told[-1]
    assert carry_out_all(plan, place, workers=0).runs == 0


def test_a_finished_run_with_other_settings_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "carry_out", fake([], place, set()))
    run = Run(name="one", model="language_model", asked=ASKED)
    carry_out_all(lambda: [run], place, workers=0)
    other = Run(name="one", model="language_model", asked=(Asked(name="test", languages=("sw",), limit=1),))
    with pytest.raises(LangBridgeError, match="holds a run with other settings"):
        carry_out_all(lambda: [other], place, workers=0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--parts", "a,f"], "--parts: got 'a,f', expected letters of a to e"),
        (["--parts", "c", "--models", "nowhere"], "nowhere: holds no encoders of several qualities; `langbridge mini"),
        (["--out", "."], "is not empty and holds no study"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        command(["study", "--parts", "a", "--out", "out", *arguments])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("langbridge: ")
    assert said in error
    assert error.count("\n") == 1


def test_a_study_of_other_sizes_is_refused(tmp_path: Path) -> None:
    from langbridge.cli.study import _same_study

    place = Place(tmp_path / "study", tmp_path / "models")
    small = Sizes(problems=2, validation=2, sentences=2, curve={})
    _same_study(place, small, dry_run=False)
    _same_study(place, small, dry_run=False)
    with pytest.raises(LangBridgeError, match="a study with other sizes"):
        _same_study(place, QUICK, dry_run=False)


def test_training_files_hold_what_their_names_say(tmp_path: Path) -> None:
    from langbridge.cli.studies.written import _rows, events_of

    assert len(_rows("en-20")) == 20
    three = _rows("events3-20")
    assert len(three) == 20
    assert {events_of(row["id"]) for row in three} == {3}
    assert _rows("text-1")[0]["text"].endswith(_rows("en-1")[0]["response"])
    every = _rows("all-24")
    assert [row["response"] for row in every] == [row["response"] for row in _rows("en-24")]
    assert sum(row["query"].isascii() for row in every) <= 10  # English, and sentences of others without accents
    held_out = {row["query"] for row in _rows("held-out")}
    assert len(held_out) >= 60
    assert not held_out & {row["query"] for row in _rows("en-2000")}


@pytest.mark.skipif(not parents.FOLDER.is_dir(), reason="the miniature's models are not built here")
def test_snapped_soft_prompts_are_the_language_models_own_embeddings() -> None:
    from langbridge.model import build_bridge

    model, processor = build_bridge(str(parents.ENCODER), str(parents.LANGUAGE_MODEL), dtype=torch.float32)
    inputs = processor(["Tom has 28 apples."], return_tensors="pt")
    source = inputs["encoder_input_ids"], inputs["encoder_attention_mask"]
    table = model.get_input_embeddings().weight
    with torch.no_grad():
        before, mask = model.soft_prompts(*source)
        with snapped(SimpleNamespace(lm=SimpleNamespace(model=model))):  # type: ignore[arg-type]
            inside, same_mask = model.soft_prompts(*source)
        after, _ = model.soft_prompts(*source)
    assert torch.equal(mask, same_mask)
    assert torch.equal(before, after)
    assert torch.equal(inside[0, -1], before[0, -1]), "the end vector stands for no text"
    assert (inside[0, :-1, None] == table).all(-1).any(-1).all()
    # Of each soft prompt the nearest: no other row is nearer.
    nearest = (before[0, :-1, None] - table).norm(dim=-1).amin(1)
    torch.testing.assert_close((before[0] - inside[0])[:-1].norm(dim=1), nearest)


@pytest.mark.skipif(not parents.FOLDER.is_dir(), reason="the miniature's models are not built here")
def test_a_run_is_made_by_the_ordinary_training_and_evaluation(tmp_path: Path) -> None:
    """Two updates, questions at a checkpoint and at the end; a second call finds everything done."""
    from langbridge.cli.studies.written import write_problems, write_training

    place = Place(tmp_path / "study", tmp_path / "models")
    write_problems(place.out, Sizes(problems=2, validation=2, sentences=10, curve={}))
    run = Run(
        name="one", model="trained", seed=7, data="en-32", examples=32,
        settings={"train.save_strategy": "steps", "train.save_steps": 1, "train.save_total_limit": None},
        asked=(
            Asked(name="test", languages=("en", "sw"), limit=1),
            Asked(name="at-16", languages=("en",), limit=2, checkpoint=1),
        ),
    )  # fmt: skip
    write_training(place.out, run)
    record = carry_out(run, place)
    found = Found(place)
    assert found.has([run])
    assert {language for _, language in found.answers("one")} == {"en", "sw"}
    assert {problem for problem, _ in found.answers("one", "at-16")} == {"test-0", "test-1"}
    assert (place.folder("one") / "training" / "checkpoint-1").is_dir()
    assert carry_out(run, place) == record


KILLED = """
import sys, time
from pathlib import Path
from langbridge.cli.studies import working
from langbridge.cli.studies.runs import Place
out = Path(sys.argv[1])
if __name__ == "__main__":
    context = working.multiprocessing.get_context("spawn")
    with working.ProcessPoolExecutor(1, mp_context=context, initializer=working._begin_worker) as pool:
        print(pool.submit(working.os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


@pytest.mark.slow  # starts two processes that import torch
def test_a_killed_study_leaves_no_worker_behind(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    study = subprocess.Popen([sys.executable, tmp_path / "killed.py", tmp_path], stdout=subprocess.PIPE, text=True)
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
