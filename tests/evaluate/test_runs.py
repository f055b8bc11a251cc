"""The folder of an evaluation: what goes in comes out, and other settings are refused by name."""

import json
from pathlib import Path

import pytest

from langbridge.errors import LangBridgeError
from langbridge.evaluate import runs
from langbridge.evaluate.runs import Run, Sample

SAMPLE = Sample("farm", "sw", "3", "2 + 2?\u2028", "4", "It is 4", "4", 1, {"cut_off": False})
UNSCORED = Sample("farm", "te", "3", "2 + 2?", "4", "...", None, None)
RESULTS = {"tasks": {"farm": {"languages": {"sw": {}, "te": {}}}}}


def test_a_finished_run_reads_back(tmp_path: Path) -> None:
    runs.begin(tmp_path / "run", {"limit": 3})
    written = runs.finish(tmp_path / "run", RESULTS, {"farm": [SAMPLE, UNSCORED]})
    assert written == Run.read(tmp_path / "run")
    assert written.tasks == ["farm"]
    assert written.languages("farm") == ["sw", "te"]
    assert written.samples("farm") == [SAMPLE, UNSCORED]
    assert written.samples("farm", "te") == [UNSCORED]
    first = json.loads((tmp_path / "run" / "samples_farm.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert first["correct"] == 1
    assert first["cut_off"] is False, "what only this task has stands beside the rest"
    with pytest.raises(LangBridgeError, match="no task 'mgsm'; it has farm"):
        written.samples("mgsm")


def test_the_same_settings_go_on_and_others_are_named(tmp_path: Path) -> None:
    settings = {"model": {"dtype": "float32"}, "limit": None, "stop": ("a",)}
    first = runs.begin(tmp_path / "run", settings)
    assert runs.begin(tmp_path / "run", settings) == first
    with pytest.raises(LangBridgeError, match=r"model\.dtype was 'float32' and is 'bfloat16'") as raised:
        runs.begin(tmp_path / "run", {**settings, "model": {"dtype": "bfloat16"}})
    assert "limit" not in str(raised.value)


def test_a_change_in_all_tasks_is_named_once_and_a_new_task_by_its_name(tmp_path: Path) -> None:
    def settings(limit: int, *languages: str) -> dict:
        return {"tasks": {f"mgsm/{one}": {"generation": {"limit": limit}, "data": {"hash": one}} for one in languages}}

    def refusal(new: dict) -> str:
        with pytest.raises(LangBridgeError, match="other settings") as raised:
            runs.begin(tmp_path / "run", new)
        return str(raised.value).partition("settings: ")[2].partition(". ")[0]

    runs.begin(tmp_path / "run", settings(5, "en", "sw", "te"))
    changed = "tasks.mgsm/en.generation.limit was 5 and is 9 (the same in 2 more tasks)"
    assert refusal(settings(9, "en", "sw", "te")) == changed
    assert refusal(settings(5, "en", "sw", "te", "th")) == "tasks.mgsm/th is new"
    assert refusal(settings(5, "en")) == "tasks.mgsm/sw, mgsm/te are gone"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(LangBridgeError, match="holds other files"):
        runs.begin(tmp_path / "other", {})
    with pytest.raises(LangBridgeError, match="not the folder of an evaluation"):
        Run.read(tmp_path / "other")
    runs.begin(tmp_path / "begun", {})
    with pytest.raises(LangBridgeError, match="is not finished"):
        Run.read(tmp_path / "begun")
    (tmp_path / "begun" / "results.json").write_text('{"format": 99}')
    with pytest.raises(LangBridgeError, match="expected format 1, got 99"):
        Run.read(tmp_path / "begun")


@pytest.mark.parametrize(
    ("row", "message"),
    [({"task": "farm"}, "row 1: expected a sample, but it lacks language"), ({"correct": 2}, "got 2")],
)
def test_a_bad_sample_is_named(tmp_path: Path, row: dict, message: str) -> None:
    written = runs.finish(tmp_path, RESULTS, {"farm": [SAMPLE]})
    whole = {**SAMPLE.as_json(), **row} if "correct" in row else row
    (tmp_path / "samples_farm.jsonl").write_text(json.dumps(whole))
    with pytest.raises(LangBridgeError, match=message):
        written.samples("farm")
