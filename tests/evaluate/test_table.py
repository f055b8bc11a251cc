"""Scores as table, file and picture."""

import json

from langbridge.evaluate.scores import Score
from langbridge.evaluate.table import as_json, as_text, draw_bars

COLUMNS = {"floor": "guessing", "lm": "LM alone", "bridge": "bridge"}
SCORES = {
    language: {model: Score(mean, 0.02 if mean else 0.0, 200) for model, mean in zip(COLUMNS, means, strict=True)}
    for language, means in {"sw": (0.08, 0.10, 0.80), "en": (0.08, 0.98, 0.96), "te": (0.08, 0.0, 0.70)}.items()
}
DIFFERENCES = {"en": Score(-0.02, 0.01, 200), "sw": Score(0.7, 0.03, 200), "te": Score(0.64, 0.04, 200)}


def test_json_has_one_object_a_score():
    objects = json.loads(as_json(SCORES))
    assert objects[2] == {
        "model": "bridge", "language": "sw", "group": "low", "accuracy": 0.80, "stderr": 0.02, "n": 200,
    }  # fmt: skip
    assert {row["group"] for row in objects if row["language"] == "en"} == {"high"}


def test_text_groups_languages_and_averages_each_group():
    lines = as_text(SCORES, DIFFERENCES, COLUMNS).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "high-resource", "en", "average", "low-resource", "sw", "te", "average",
    ]  # fmt: skip
    assert lines[-1].split() == ["average", "8.0", "5.0", "75.0", "67.0"]
    assert "-2.0 ± 1.0" in lines[2]
    assert lines[6].split() == ["te", "8.0", "±", "2.0", "0.0", "70.0", "±", "2.0", "64.0", "±", "4.0"], (
        "no error of 0.0 where no answer is right"
    )
    assert len({len(line) for line in lines if line.split()[0] not in ("high-resource", "low-resource")}) == 1


def test_the_picture_is_a_png(tmp_path):
    draw_bars(SCORES, COLUMNS, tmp_path / "bars.png", "A title")
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
