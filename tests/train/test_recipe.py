"""Recipes: what is read, how overrides get in, and that every mistake is named by its dotted path."""

import ast
import dataclasses
import inspect
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from langbridge.data import Source, Validation
from langbridge.errors import LangBridgeError
from langbridge.model.connectors.settings import LinearSettings, ResamplerSettings
from langbridge.train.blocks import Lora, Ridge
from langbridge.train.hyperparameters import OURS, Train
from langbridge.train.recipe import Data, Recipe

MINIMAL = "encoder: enc\nlanguage_model: lm\ndata: {path: rows.jsonl}\n"


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_defaults_are_those_of_the_paper(write) -> None:
    recipe = Recipe.load(write(MINIMAL))
    assert (recipe.connector.kind, recipe.template, recipe.template_in) == ("linear", "{prompt}", "encoder")
    assert (recipe.max_encoder_length, recipe.max_length, recipe.seed) == (1024, 1152, 42)
    train = recipe.train
    assert (train.learning_rate, train.encoder_learning_rate) == (None, 2e-5), "the start says which"
    assert (train.weight_decay, train.encoder_weight_decay) == (0.0, 0.1)
    assert train.per_device_train_batch_size * train.gradient_accumulation_steps == 128
    assert (train.lr_scheduler_type, train.max_grad_norm, train.num_train_epochs) == ("constant", 1.0, 1.0)


def test_numbers_that_yaml_reads_as_text_are_numbers(write) -> None:
    text = MINIMAL + "train: {learning_rate: 6e-4, max_steps: 1e3}\nridge: {penalty: 1}\n"
    assert isinstance(yaml.safe_load(text)["train"]["learning_rate"], str), "the trap this test is about"
    recipe = Recipe.load(write(text))
    assert recipe.train.learning_rate == 6e-4
    assert recipe.train.max_steps == 1000
    assert isinstance(recipe.train.max_steps, int)
    assert isinstance(recipe.ridge.penalty, float)


def test_overrides_win_and_are_read_by_the_type_of_their_field(write) -> None:
    recipe = Recipe.load(
        write(MINIMAL + "train: {learning_rate: 1.0e-3}\n"),
        [
            "train.learning_rate=1e-5",
            "train.bf16=true",
            "data.validation_path=held_out.jsonl",
            "template=Q: {prompt}\nA=",
            "encoder=123",
            "ridge.texts=7",
        ],
    )
    assert recipe.train.learning_rate == 1e-5
    assert recipe.train.bf16 is True
    assert recipe.data.validation_path == "held_out.jsonl"
    assert recipe.template == "Q: {prompt}\nA="
    assert recipe.encoder == "123"
    assert recipe.ridge.texts == 7


def test_an_override_takes_an_optional_value_back(write) -> None:
    path = write(MINIMAL.replace("rows.jsonl}", "rows.jsonl, validation_path: v.jsonl}"))
    assert Recipe.load(path, ["data.validation_path=null"]).data.validation_path is None


MISTAKES = {
    "unknown key": ("conector: mlp", "conector: unknown key; did you mean connector or freeze_connector?"),
    "unknown nested key": ("train: {lr: 1}", "train.lr: unknown key; known here: learning_rate, "),
    "close nested key": ("train: {learning_rat: 1}", "did you mean train.learning_rate"),
    "text for a number": (
        "train: {learning_rate: fast}",
        "train.learning_rate: expected a number, got 'fast' (str)",
    ),
    "not finite": ("train: {learning_rate: .nan}", "train.learning_rate: expected a finite number, got nan"),
    "fraction for a count": ("seed: 1.5", "seed: expected a whole number, got 1.5 (float)"),
    "true for a number": ("seed: true", "seed: expected a whole number, got True (bool)"),
    "text for a switch": (
        'freeze_encoder: "yes please"',
        "freeze_encoder: expected true or false, got 'yes please'",
    ),
    "number for text": ("template: 3", "template: expected text, got 3 (int)"),
    "nothing": ("template:", "template: expected text, got nothing"),
    "wrong choice": (
        "connector: perceiver",
        "connector: expected one of linear, layerwise, mlp, resampler, got 'perceiver'",
    ),
    "no, which YAML reads as false": (
        "init: no",
        "init: expected text, got False (bool)",
    ),
    "value for a section": ("train: 3", "train: expected keys and values, got 3 (int)"),
    "zero": ("ridge: {texts: 0}", "ridge.texts: expected greater than 0, got 0"),
    "negative": ("train: {learning_rate: -1}", "train.learning_rate: expected greater than 0, got -1"),
    "no place for the prompt": (
        "template: Question",
        "template: got 'Question', expected 'chat' (the language model's own chat template), or text that",
    ),
    "ridge for mlp": (
        "connector: mlp\ninit: ridge",
        "init: got ridge, but the connector mlp has no closed-form start",
    ),
    "no room": (
        "max_length: 1024",
        "max_length: 1024 leaves no room for a target after max_encoder_length 1024",
    ),
    "other regime": ("objective: text", "objective: expected one of labelled, unlabelled, plain, distil, got 'text'"),
    "an encoder that nothing reads": ("objective: plain", "encoder: objective plain has none, got 'enc'"),
    "lengths that cross": (
        "objective: unlabelled\nmin_encoder_length: 1025",
        "min_encoder_length: 1025 is more than max_encoder_length 1024",
    ),
    "dropout of everything": ("lora: {r: 4, dropout: 1}", "lora.dropout: expected less than 1, got 1"),
    "two ways to shard": ("train: {fsdp: true, deepspeed: z.json}", "train.fsdp: is on, and so is deepspeed"),
    "adapters in pieces": ("lora: {r: 4}\ntrain: {fsdp: true}", "lora: does not go with train.fsdp"),
    "the best of nothing": (
        "train: {load_best_model_at_end: true}",
        "train.load_best_model_at_end: needs eval_strategy and save_strategy to be the same",
    ),
    "patience without scores": (
        "train: {reading_score_patience: 3, reading_score_steps: 0}",
        "train.reading_score_patience: needs reading scores",
    ),
    "two ways to be the best": (
        "train: {reading_score_patience: 3, metric_for_best_model: loss}",
        "train.reading_score_patience: is set, and so is metric_for_best_model",
    ),
    "validation of nothing": (
        "train: {eval_strategy: steps}",
        "train.eval_strategy: needs data.validation_path",
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_named_with_file_and_dotted_path(write, kind: str) -> None:
    line, message = MISTAKES[kind]
    path = write(MINIMAL + line + "\n")
    with pytest.raises(LangBridgeError) as caught:
        Recipe.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("missing", ["encoder", "language_model", "data", "data.path"])
def test_what_has_no_default_must_be_there(write, missing: str) -> None:
    mapping = yaml.safe_load(MINIMAL)
    if missing == "data.path":
        mapping["data"] = {"input": "question"}
    else:
        del mapping[missing]
    with pytest.raises(LangBridgeError, match=rf"recipe\.yaml: {missing}: missing"):
        Recipe.load(write(yaml.safe_dump(mapping)))


BAD_OVERRIDES = {
    "train.lr=1": "override train.lr: unknown key",
    "conector=mlp": "override conector: unknown key; did you mean connector or freeze_connector?",
    "seed.x=1": "override seed: expected a whole number, got {'x': '1'}",
    "seed": "override 'seed': expected key=value",
    "=3": "expected key=value",
    "seed=[1": "override seed: cannot read '[1' as a value",
    "seed=many": "seed: expected a whole number, got 'many'",
}


@pytest.mark.parametrize("override", BAD_OVERRIDES)
def test_a_bad_override_says_so(write, override: str) -> None:
    with pytest.raises(LangBridgeError) as caught:
        Recipe.load(write(MINIMAL), [override])
    assert BAD_OVERRIDES[override] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "train: {learning_rate: 1\nseed: 3", r"recipe\.yaml:\d+: broken YAML"),
        (MINIMAL + "\ttabs: 1", r"recipe\.yaml:4: broken YAML: found character '\\t'"),
        (MINIMAL + "seed: 1\nseed: 2\n", r"recipe\.yaml:5: broken YAML: the key 'seed' stands twice"),
        (MINIMAL + "? [a, b]\n: 1\n", r"recipe\.yaml:\d+: broken YAML: found unhashable key"),
        (MINIMAL + "seed: &again [*again]\n", r"recipe\.yaml: (broken YAML|seed: expected)"),
        ("", r"recipe\.yaml: expected a recipe's keys and values"),
        ("- a\n- b\n", r"recipe\.yaml: expected a recipe's keys and values"),
        (MINIMAL + "seed: !!python/object:os.system {}", r"recipe\.yaml:4: broken YAML: could not determine"),
    ],
)
def test_broken_yaml_gives_file_and_line(write, text: str, message: str) -> None:
    with pytest.raises(LangBridgeError, match=message):
        Recipe.load(write(text))


def test_a_missing_recipe_and_a_binary_one_are_errors(tmp_path: Path) -> None:
    with pytest.raises(LangBridgeError, match=r"absent\.yaml: No such file or directory"):
        Recipe.load(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LangBridgeError, match="broken YAML: 'utf-8' codec"):
        Recipe.load(tmp_path / "binary.yaml")


def test_paths_are_found_from_here_first_then_beside_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, recipes = tmp_path / "here", tmp_path / "recipes"
    for folder in (here / "enc", recipes / "enc", recipes / "lm"):
        folder.mkdir(parents=True)
    (recipes / "rows.jsonl").touch()
    (recipes / "recipe.yaml").write_text(MINIMAL)
    monkeypatch.chdir(here)
    recipe = Recipe.load(recipes / "recipe.yaml")
    assert recipe.encoder == "enc", "found from the current folder"
    assert recipe.language_model == str(recipes / "lm")
    assert recipe.data.path == str(recipes / "rows.jsonl")


def test_ids_on_the_hub_stay_as_they_are(write) -> None:
    text = MINIMAL.replace("enc\n", "google/mt5-xl\n")
    assert Recipe.load(write(text)).encoder == "google/mt5-xl"


def test_a_saved_recipe_loads_as_the_same_recipe(write, tmp_path: Path) -> None:
    recipe = Recipe.load(write(MINIMAL), ["template=Frage:\n{prompt}\n", "train.save_total_limit=null"])
    recipe.save(tmp_path / "run" / "recipe.yaml")
    assert Recipe.load(tmp_path / "run" / "recipe.yaml") == recipe
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text()) == recipe.to_dict()


@pytest.mark.parametrize("key", ["save_strategy", "eval_strategy"])
def test_nothing_happens_at_the_ends_of_a_streams_epochs(write, key: str) -> None:
    """To the loop a stream is one epoch without an end, so what waits for that would wait for the run's."""
    changes = ["train.max_steps=9", "data.validation_path=v.jsonl", f"train.{key}=epoch"]
    assert getattr(Recipe.load(write(MINIMAL), changes).train, key) == "epoch"
    with pytest.raises(LangBridgeError, match=rf"train\.{key}: got 'epoch' with data\.streaming.*expected steps or no"):
        Recipe.load(write(MINIMAL), [*changes, "data.streaming=true"])


def test_recipes_made_in_python_are_held_to_the_same_rules() -> None:
    recipe = Recipe(encoder="e", language_model="l", data=Data(path="d"), ridge=Ridge(penalty="1e-3"))  # type: ignore[arg-type]
    assert recipe.ridge.penalty == 1e-3
    with pytest.raises(LangBridgeError, match="connector: expected one of"):
        Recipe(encoder="e", language_model="l", data=Data(path="d"), connector="x")  # type: ignore[arg-type]
    with pytest.raises(LangBridgeError, match="data: expected keys and values, got 'd'"):
        Recipe(encoder="e", language_model="l", data="d")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Recipe("e", "l", Data(path="d"))  # type: ignore[misc, call-arg]


def test_files_are_checked_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "model").mkdir()
    recipe = Recipe(encoder="owner/name", language_model="owner/name", data=Data(path=str(tmp_path / "rows.jsonl")))
    recipe.check_files()
    for change, message in [
        ({"data": Data(path="absent.jsonl")}, r"data\.path: no such file: absent\.jsonl"),
        ({"encoder": "./absent"}, r"encoder: no such folder: \./absent"),
        ({"encoder": "a/b/c"}, "encoder: no such folder: a/b/c"),
        ({"language_model": str(tmp_path / "model")}, r"language_model: the folder .* has no config\.json"),
    ]:
        with pytest.raises(LangBridgeError, match=message):
            recipe.model_copy(update=change).check_files()


def test_adapters_do_not_go_with_weights_in_pieces(write) -> None:
    shipped = Path(__file__).parents[2] / "recipes" / "deepspeed"
    path = write("encoder: owner/name\nlanguage_model: owner/name\ndata: {path: r.yaml}\nlora: {r: 4}\n")
    Recipe.load(path, [f"data.path={path}", f"train.deepspeed={shipped / 'zero2.json'}"]).check_files()
    with pytest.raises(LangBridgeError, match=r"lora: does not go with ZeRO-3 \(.*zero3\.json\), .*use one whole"):
        Recipe.load(path, [f"data.path={path}", f"train.deepspeed={shipped / 'zero3.json'}"]).check_files()


def test_every_shipped_recipe_loads() -> None:
    """The miniature's build has a recipe of another kind; a training run's is told by its language model."""
    for path in sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml")):
        if "language_model" in yaml.safe_load(path.read_text(encoding="utf-8")):
            Recipe.load(path)


def test_every_field_has_its_docstring() -> None:
    """A field's docstring is where its meaning is written, so the source is read for it; those of a source that
    `Data` has too are documented there."""
    for cls in (Recipe, Data, Source, Validation, Ridge, Lora, Train):
        (body,) = (node.body for node in ast.parse(inspect.getsource(cls)).body if isinstance(node, ast.ClassDef))
        for field, after in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign):
                documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                documented |= cls is Source and ast.unparse(field.target) in Data.model_fields
                assert documented, f"{cls.__name__}.{ast.unparse(field.target)} has no docstring"


def test_settings_of_the_loop_are_names_of_training_arguments(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert set(Train.model_fields) - OURS <= known
    made = TrainingArguments(
        output_dir=str(tmp_path), **Train(use_cpu=True, learning_rate=1e-3, warmup_steps=5).arguments()
    )
    assert (made.learning_rate, made.warmup_steps) == (1e-3, 5)
    assert not OURS & set(Train().arguments())
    assert "activation_checkpointing" not in Train().arguments()


def test_earlier_names_are_read(write) -> None:
    """`regime` is what `objective` was called, and `lm_only` its `plain`."""
    assert Recipe.load(write(MINIMAL + "regime: unlabelled\n")).objective == "unlabelled"
    assert Recipe.load(write(MINIMAL.replace("encoder: enc\n", "")), ["regime=lm_only"]).objective == "plain"
    named = write(MINIMAL.replace("encoder: enc\n", "") + "objective: labelled\n")
    assert Recipe.load(named, ["regime=lm_only"]).objective == "plain"
    assert Recipe(encoder="e", language_model="l", data=Data(path="d"), regime="unlabelled").freeze_encoder is False


def test_an_objective_brings_its_own_defaults(write) -> None:
    labelled, unlabelled = Recipe.load(write(MINIMAL)), Recipe.load(write(MINIMAL), ["objective=unlabelled"])
    assert (labelled.freeze_encoder, unlabelled.freeze_encoder) == (True, False)
    assert Recipe.load(write(MINIMAL), ["objective=unlabelled", "freeze_encoder=true"]).freeze_encoder is True
    plain = Recipe.load(write(MINIMAL.replace("encoder: enc\n", "objective: plain\n")))
    assert plain.encoder is None


def test_reading_a_recipe_loads_neither_torch_nor_transformers(write) -> None:
    code = (
        "import sys; from langbridge.train.recipe import Recipe; Recipe.load(sys.argv[1]).to_yaml();"
        "print(*{'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, write(MINIMAL)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_connector_has_settings_of_its_own(write) -> None:
    path = write(MINIMAL + "connector: {kind: resampler, num_latents: 8}\n")
    assert Recipe.load(path).connector == ResamplerSettings(num_latents=8)
    assert Recipe.load(path, ["connector.num_latents=9"]).connector == ResamplerSettings(num_latents=9)
    assert Recipe.load(path, ["connector=mlp"]).connector.kind == "mlp"
    plain = write(MINIMAL + "connector: resampler\n")
    assert Recipe.load(plain, ["connector.num_latents=9"]).connector == ResamplerSettings(num_latents=9)
    with pytest.raises(LangBridgeError, match=r"override connector\.num_latents: unknown key; known here: kind"):
        Recipe.load(write(MINIMAL), ["connector.num_latents=9"])


@pytest.mark.parametrize(
    ("lines", "connector"),
    [
        ("connector: resampler\nnum_latents: 8\n", ResamplerSettings(num_latents=8)),
        ("connector: linear\nnum_latents: 8\n", LinearSettings()),
        ("num_latents: 8\n", LinearSettings()),
    ],
)
def test_a_recipe_of_old_has_the_latents_beside_the_kind(write, lines, connector) -> None:
    recipe = Recipe.load(write(MINIMAL + lines))
    assert recipe.connector == connector
    assert Recipe.load(write(recipe.to_yaml())) == recipe
