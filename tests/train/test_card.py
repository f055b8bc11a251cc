"""What the model card says of the languages that a bridge was trained on: no more than the recipes state."""

from collections.abc import Callable
from pathlib import Path

import pytest

from langbridge.data import Data, Source
from langbridge.errors import LangBridgeError
from langbridge.train import Recipe, train
from langbridge.train.card import prompt_languages

SHORT = "train.max_steps=2"


def languages(folder: Path) -> str:
    """The card's section about them."""
    return (folder / "README.md").read_text().partition("## Languages\n\n")[2].partition("\n\n##")[0]


def test_english_alone_is_said_where_it_is_stated(load: Callable[..., Recipe], tmp_path: Path) -> None:
    stated = train(load(SHORT, "data.language=English"), tmp_path / "stated", progress=False)
    assert "The prompts are in English alone, as the recipe states: it had no multilingual supervision." in languages(
        stated
    )
    unsaid = train(load(SHORT), tmp_path / "unsaid", progress=False)
    assert "The recipe leaves unsaid in which languages some of the prompts are (`data.language`)." in languages(unsaid)
    on = train(load(SHORT, "data.language=en", f"init={unsaid}"), tmp_path / "on", progress=False)
    assert "leaves unsaid" in languages(on), "of the bridge that it began with nothing is known"
    assert "beside those in en" not in languages(unsaid)
    assert "before on those of the bridge that it began with" in languages(on)


def test_what_training_does_to_its_rows_alone_is_said(load: Callable[..., Recipe], tmp_path: Path) -> None:
    both = "template=<soft>{prompt}</soft>{prompt}"
    disturbed = train(load(SHORT, both, "state_noise=0.25", "text_noise.drop=0.5"), tmp_path, progress=False)
    card = (disturbed / "README.md").read_text()
    assert "; noise of 0.25 of their deviation on the encoder's states; the language model's own copy of the" in card
    assert "copy of the prompt left out in 50% of the rows." in card
    assert "scrambled" not in card


def test_a_stage_of_bitext_is_no_stage_of_english(
    recipe_file: Path, load: Callable[..., Recipe], tmp_path: Path
) -> None:
    (tmp_path / "sw.txt").write_text("aab\nabb\n" * 8)
    (tmp_path / "en.txt").write_text("bba\nbaa\n" * 8)
    recipe_file.write_text(
        recipe_file.read_text().replace("data: {", "data: {language: en, ")
        + f"""
stages:
- data: {{path: {tmp_path / "sw.txt"}, targets: {tmp_path / "en.txt"}, input: text, output: target, language: swh}}
  train: {{max_steps: 2}}
- train: {{max_steps: 2}}
"""
    )
    final = train(load(), tmp_path / "run", progress=False)
    assert "The prompts are in en, sw, as the recipe states: in these it had supervision." in languages(final)
    assert "as the recipe states: in these" in languages(tmp_path / "run" / "stage-1" / "final")
    assert "alone" not in languages(final)


def test_what_the_language_model_was_trained_on_before_counts_too(
    recipe_file: Path, load: Callable[..., Recipe], base_folders: tuple[Path, Path], tmp_path: Path
) -> None:
    whole, plain = recipe_file.read_text(), tmp_path / "plain.yaml"
    kept = [line for line in whole.splitlines() if not line.startswith(("encoder:", "connector:"))]
    plain.write_text(
        "\n".join(kept).replace("data: {", "data: {language: en, ")
        + "\nobjective: plain\nstages: [{data: {language: sw}}, {data: {language: en}}]\n"
    )
    tuned = train(Recipe.load(plain, [SHORT]), tmp_path / "tuned", progress=False)
    assert "The prompts are in en, sw, as the recipe states: in these it had supervision." in languages(tuned)
    bridge = load(SHORT, "data.language=en", f"language_model={tuned}")
    assert prompt_languages(bridge) == {"en", "sw"}
    (tuned / "training_log.json").unlink()
    (tuned / "recipe.yaml").write_text("quantization: w4\n")
    assert prompt_languages(bridge) == {"en"}, "a recipe of another program says nothing"


def test_what_is_said_around_a_stage_does_not_hold_of_its_own_rows(
    recipe_file: Path, load: Callable[..., Recipe], tmp_path: Path
) -> None:
    text = recipe_file.read_text().replace("data: {", "data: {language: en, ")
    other = tmp_path / "held_out.jsonl"
    recipe_file.write_text(f"{text}\nstages: [{{data: {{path: {other}}}}}, {{train: {{max_steps: 2}}}}]\n")
    assert prompt_languages(load()) == {None, "en"}
    assert [one.data.language for one in load().stage_recipes] == [None, "en"]


def test_sources_have_languages_of_their_own() -> None:
    data = Data(language="en", sources=(Source(path="a.jsonl"), Source(path="b.jsonl", language="Swahili")))
    assert [source.language for source in data.training_sources] == ["en", "sw"]
    with pytest.raises(LangBridgeError, match=r"language: expected a language, such as en or English, got '\?'"):
        Data(path="a.jsonl", language="?")


def test_files_of_targets_are_looked_for_and_moved(tmp_path: Path) -> None:
    data = Data(path=str(tmp_path), targets="en.txt")
    with pytest.raises(LangBridgeError, match=r"data\.targets: no such file: en\.txt"):
        data.check_files()
    assert data.relocated(lambda name: f"/x/{name}").targets == "/x/en.txt"
    with pytest.raises(LangBridgeError, match="targets: stands beside sources; give each source its own"):
        Data(sources=(Source(path="a"),), targets="en.txt")


def test_rows_that_an_override_names_are_in_no_stated_language(recipe_file: Path, load: Callable[..., Recipe]) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("data: {", "data: {language: en, "))
    assert load().data.language == "en"
    assert load("data.path=other.jsonl").data.language is None
    assert load("data.language=sw", "data.path=other.jsonl").data.language == "sw"
