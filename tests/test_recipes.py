"""Every recipe that is shipped can be read and planned, says how it is launched, and stands in the ledger."""

import json
import re
from pathlib import Path

import pytest

from langbridge.serve.templates import TEMPLATES
from langbridge.train import Recipe
from langbridge.train.plan import plan

FOLDER = Path(__file__).parent.parent / "recipes"
NAMES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))
PAPER = [name for name in NAMES if name.startswith("paper/")]
BASELINES = [name for name in NAMES if name.startswith("baselines/")]


def recipe(name: str) -> Recipe:
    return Recipe.load(FOLDER / f"{name}.yaml")


def test_the_paper_is_all_there() -> None:
    pairs = {f"paper/{language_model}-{size}" for language_model in ("metamath", "orca2", "codellama")
             for size in ("9b", "15b", "20b")}  # fmt: skip
    assert set(PAPER) == pairs | {"paper/llemma-9b", "paper/llama2-9b"}
    assert len(BASELINES) == 4
    assert len([name for name in NAMES if name.startswith("modern/")]) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_can_be_planned(name: str) -> None:
    planned = plan(recipe(name), gpus=4, gpu_memory=80)
    assert planned.trained > 0
    if not name.startswith("miniature/"):  # its data are made first, so that its steps are not known before
        assert planned.steps is not None
        assert planned.fits, planned.as_text()  # what the ledger says of the hardware


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("laptop/")])
def test_a_laptops_recipe_fits_a_small_gpu_and_takes_any_rows(name: str, tmp_path: Path) -> None:
    assert plan(recipe(name), gpu_memory=8).fits
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"query": "a", "response": "b"}\n' * 64)
    own = Recipe.load(
        FOLDER / f"{name}.yaml", [f"data.path={rows}", "data.name=null", "data.input=query", "data.output=response"]
    )
    own.data.check_files("data")
    assert plan(own).steps == 200


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_is_and_how_it_is_launched(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    head = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    assert len(head) >= 2
    launch = next(line for line in head if line.startswith("# Launch:  "))
    assert f"train recipes/{name}.yaml" in launch


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_in_the_ledger(name: str) -> None:
    ledger = (FOLDER / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in ledger.splitlines() if line.startswith(f"| [{name}]({name}.yaml)")]
    assert row.count("|") == 6
    if not name.startswith(("miniature/", "laptop/")):
        assert "not run here" in row


@pytest.mark.parametrize("name", [*PAPER, *BASELINES])
def test_the_settings_are_the_papers(name: str) -> None:
    """LangBridge's published scripts: 200,000 rows once, 128 a step, constant rates."""
    loaded = recipe(name)
    train = loaded.train
    assert train.per_device_train_batch_size * train.gradient_accumulation_steps * 4 == 128
    assert (train.max_steps - 1) * 128 < 200_000 <= train.max_steps * 128
    assert (train.lr_scheduler_type, train.warmup_steps, train.max_grad_norm) == ("constant", 0, 1.0)
    assert (train.bf16, loaded.seed, loaded.max_length) == (True, 42, 1152)
    if name in BASELINES:
        assert (loaded.objective, train.learning_rate) == ("plain", 2e-5)
        return
    assert (train.learning_rate, train.weight_decay) == (6e-4, 0)
    assert (train.encoder_learning_rate, train.encoder_weight_decay) == (2e-5, 0.1)
    assert (loaded.init, loaded.connector.kind, loaded.template_in) == ("random", "linear", "encoder")
    assert loaded.max_encoder_length == 1024
    # Fine-tuned language models: labelled pairs and a frozen encoder. Base models: text, and the encoder learns.
    tuned = name.startswith(("paper/metamath", "paper/orca2"))
    assert (loaded.objective, loaded.freeze_encoder) == (("labelled", True) if tuned else ("unlabelled", False))


def test_a_start_that_reads_already_has_a_rate_that_fits_it() -> None:
    """None for one that is worked out; the family's recipes keep 2e-4, which was measured with SmolLM2."""
    rates = {name: recipe(name).train.learning_rate for name in NAMES if recipe(name).init == "ridge"}
    assert {"modern/qwen2.5-7b-mt5-xl", "laptop/smollm2-135m-e5-small", "family/bitext"} <= rates.keys()
    assert all(rate == (2e-4 if name.startswith("family/") else None) for name, rate in rates.items())


@pytest.mark.parametrize("name", [*PAPER, *BASELINES])
def test_a_template_is_the_one_that_evaluation_knows(name: str) -> None:
    kind = next((kind for kind in ("metamath", "orca") if kind in name), "plain")
    assert recipe(name).template == TEMPLATES["orca2" if kind == "orca" else kind]


@pytest.mark.parametrize("path", sorted((FOLDER / "deepspeed").glob("*.json")), ids=lambda path: path.stem)
def test_a_deepspeed_configuration_leaves_the_recipes_numbers_to_the_recipe(path: Path) -> None:
    settings = json.loads(path.read_text(encoding="utf-8"))
    assert path.stem == f"zero{settings['zero_optimization']['stage']}"
    for key in ("gradient_clipping", "gradient_accumulation_steps", "train_micro_batch_size_per_gpu"):
        assert settings[key] == "auto"
    assert not {"optimizer", "scheduler"} & settings.keys()
    # Without it, ZeRO-3 would save weights of no size.
    gathers = settings["zero_optimization"].get("stage3_gather_16bit_weights_on_model_save", False)
    assert gathers == (path.stem == "zero3")


def test_the_ledger_links_every_recipe_once() -> None:
    ledger = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| \[([^\]]+)\]", ledger, flags=re.MULTILINE)) == NAMES
