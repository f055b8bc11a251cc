"""Objectives are found by their names, and know alone what a row is, how rows are batched and what is minimised."""

import subprocess
import sys

import pytest
import torch

from langbridge.data import Example, TextExample
from langbridge.errors import LangBridgeError
from langbridge.train.objectives import GROUP, collators, objective, objective_of
from langbridge.train.prepare import build_model, load_processor

ROWS = {"labelled": Example("say aaa", "aaa"), "unlabelled": TextExample("say aaa and then abab baba")}
SHORT = ("min_encoder_length=2", "max_encoder_length=8", "min_lm_length=4", "max_length=32")


@pytest.mark.parametrize("name", ["labelled", "unlabelled", "plain"])  # the others' losses have tests of their own
def test_a_batch_has_a_loss_over_its_target_tokens(load, recipe_file, name):
    if name == "plain":
        recipe_file.write_text(recipe_file.read_text().replace("encoder: ", "# "))
    recipe = load(f"objective={name}", *SHORT)
    own, processor = objective_of(recipe), load_processor(recipe)
    model = build_model(recipe, processor)
    batch = own.collator(processor)([ROWS[own.kind]] * 2)
    assert len(batch.pop("rows")) == 2
    total, count = own.loss(model, batch)
    assert int(count) == int((batch["labels"][:, 1:] != -100).sum()) > 2
    with torch.no_grad():
        assert float(total) / int(count) == pytest.approx(float(model(**batch).loss), rel=1e-5)


def test_held_out_rows_of_another_kind_are_measured_by_the_objective_of_that_name(load, recipe_file, tmp_path):
    held_out = tmp_path / "held_out.jsonl"
    both = f"data.validation={{labelled: {{path: {held_out}}}, unlabelled: {{path: {held_out}, text: query}}}}"
    recipe = load(both, *SHORT)
    made = collators(objective_of(recipe), load_processor(recipe))
    assert [type(collate).__name__ for collate in made.values()] == ["LabelledCollator", "UnlabelledCollator"]
    recipe_file.write_text(recipe_file.read_text().replace("encoder: ", "# "))
    plain = load("objective=plain", both, "data.text=query")
    made = collators(objective_of(plain), load_processor(plain))
    assert list(made) == ["unlabelled", "labelled"], "the run's own first"
    assert {type(collate).__name__ for collate in made.values()} == {"CausalCollator"}


def test_one_of_another_package_is_held_to_the_class(tmp_path, monkeypatch):
    about = tmp_path / "wrong_objective-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: wrong-objective\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\nwrong = json:loads\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LangBridgeError, match=r"'wrong' of 'langbridge.objectives' is json:loads, expected a subclass"):
        objective("wrong")
    with pytest.raises(
        LangBridgeError, match=r"expected one of labelled, unlabelled, plain, distil, wrong, got 'other'"
    ):
        objective("other")


def test_objectives_are_known_without_torch():
    code = (
        "import sys; from langbridge.train.objectives import objective;"
        "[objective(name) for name in ('labelled', 'unlabelled', 'plain', 'distil')];"
        "print(*{'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
