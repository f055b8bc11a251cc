"""Parents with parts taken out: all combinations, each parent built once, and a bridge between what was built."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from studies.miniature import ablation
from studies.miniature.ablation import bridge, build, combinations, prepare, unprepared
from studies.miniature.runs import Study, recipe_of
from studies.miniature.sizes import FULL, QUICK


def test_every_combination_has_its_parents_and_each_is_built_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = {}

    def note(kind: str, recipe: ablation.BuildRecipe, out: Path) -> None:
        assert built.setdefault(out.name, (kind, recipe)) == (kind, recipe)
        out.mkdir(parents=True)

    monkeypatch.setattr(ablation, "build", note)
    study = Study(tmp_path / "out", tmp_path / "models", FULL)
    assert unprepared(study) > 60
    with ThreadPoolExecutor(1) as pool:
        prepare(study, pool)
    assert len(combinations(FULL)) == 16
    assert sorted(kind for kind, _ in built.values()) == ["encoder"] * 4 + ["language_model"] * 8
    assert unprepared(study) == 0
    for one in combinations(FULL):
        recipe = recipe_of(bridge(FULL, one), study)
        _, made = built[Path(str(recipe.encoder)).name]
        assert (made.translation.lexical, made.seed) == (1.0 * one.lexical, one.seed)
        _, made = built[Path(str(recipe.language_model)).name]
        assert (made.language_model.noise, made.language_model.haste) == (0.5 * one.noise, 0.6 * one.careless)
    assert unprepared(replace(study, sizes=QUICK)) > 0, "parents of fewer steps are others"


@pytest.mark.slow  # trains two small models
@pytest.mark.parametrize("kind", ["encoder", "language_model"])
def test_a_parent_is_a_model_folder(kind: str, tmp_path: Path) -> None:
    one = ablation.Parents(noise=False, careless=False, lexical=False, seed=1)
    recipe = one.recipe(replace(QUICK, encoder_steps=2, language_model_steps=2))
    build(kind, replace(recipe, tokenizer_problems=60), tmp_path / kind)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in (tmp_path / kind).iterdir()}
