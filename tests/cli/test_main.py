"""The door: help without torch, and one clear message with exit code 2 for what a user gets wrong."""

import importlib
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import typer

import langbridge
from langbridge.cli.main import COMMANDS, run
from langbridge.errors import LangBridgeError
from langbridge.train.recipe import Recipe

RECIPE = "encoder: {folder}/enc\nlanguage_model: {folder}/lm\ndata: {{path: {folder}/rows.jsonl}}\n"
ENCODER = '{"model_type": "mt5", "vocab_size": 32, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}'
LANGUAGE_MODEL = (
    '{"model_type": "llama", "vocab_size": 32, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, '
    '"num_attention_heads": 2}'
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe whose files exist, with model folders that hold only a configuration."""
    for name, config in (("enc", ENCODER), ("lm", LANGUAGE_MODEL)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
    (tmp_path / "rows.jsonl").write_text('{"query": "2+2?", "response": "4"}\n')
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(folder=tmp_path))
    return path


def in_a_shell(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "langbridge.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )


def test_help_lists_every_command(command) -> None:
    code, out, _ = command("--help")
    assert code == 0
    for name, (_, line) in COMMANDS.items():
        assert f"  {name} " in out
        assert line in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_explains_itself(command, name: str) -> None:
    module, attribute = COMMANDS[name][0].split(":")
    target = getattr(importlib.import_module(module), attribute)
    code, out, _ = command(name, "--help")
    assert code == 0
    if name == "lm-eval":  # hands everything over, --help too
        assert "usage: lm-eval" in out
        return
    assert f"langbridge {name}" in out
    if not isinstance(target, typer.Typer):
        assert target.__doc__.strip().splitlines()[0][:40] in out


def test_the_version(command) -> None:
    assert command("--version") == (0, langbridge.__version__ + "\n", "")


def test_a_dry_run_prints_the_whole_recipe_resolved(command, recipe: Path, tmp_path: Path) -> None:
    code, out, _ = command("train", recipe, "--dry-run", "--set", "train.learning_rate=1e-3", "seed=7")
    assert code == 0
    (tmp_path / "printed.yaml").write_text(out)
    printed = Recipe.load(tmp_path / "printed.yaml")
    assert printed == Recipe.load(recipe, ["train.learning_rate=1e-3", "seed=7"])
    code, _, err = command("train", recipe, "seed")
    assert (code, "got 'seed' behind the recipe, expected KEY=VALUE" in err) == (2, True)


def test_a_dry_run_prints_the_plan(command, recipe: Path) -> None:
    code, out, _ = command("train", recipe, "--dry-run", "--gpus", 2, "--sharding", "zero2", "--gpu-memory", 80)
    assert code == 0
    assert "# memory on each of 2 GPUs, sharding zero2, GiB" in out
    assert "of 80 GiB" in out


def test_what_only_plans_a_run_is_refused_without_a_dry_run(command, recipe: Path) -> None:
    code, _, err = command("train", recipe, "--gpus", 2)
    assert code == 2
    assert "--gpus" in err
    assert "--dry-run" in err


def test_a_wrong_key_is_told_without_torch(recipe: Path) -> None:
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('LOADED', *{'torch', 'transformers'} & set(sys.modules)))\n"
        "from langbridge.cli.main import run\n"
        "run(['train', sys.argv[1], '--dry-run', '--set', 'sede=1'])"
    )
    done = subprocess.run([sys.executable, "-c", code, recipe], capture_output=True, text=True)
    assert done.returncode == 2
    assert "did you mean seed?" in done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED"


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Stands in for the training itself, which has its own tests; records what it was asked for."""
    calls: list[tuple] = []

    def train(recipe: Recipe, out: Path, *, resume: bool, progress: bool) -> Path:
        calls.append((recipe, out, resume, progress))
        return out / "final"

    module = types.ModuleType("langbridge.train.run")
    module.train = train  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "langbridge.train.run", module)
    return calls


def test_train_hands_the_recipe_to_the_run_and_names_the_bridge(command, recipe: Path, training, tmp_path) -> None:
    code, out, _ = command("train", recipe, "--out", tmp_path / "run", "--quiet", "--set", "seed=7", "--resume")
    assert (code, out) == (0, f"{tmp_path / 'run' / 'final'}\n")
    assert training == [(Recipe.load(recipe, ["seed=7"]), tmp_path / "run", True, False)]


def test_train_has_a_folder_of_its_own_by_default(command, recipe: Path, training) -> None:
    assert command("train", recipe)[1] == "runs/recipe/final\n"


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (
            LangBridgeError("rows.jsonl, row 3: no field 'query'"),
            2,
            "langbridge: rows.jsonl, row 3: no field",
        ),
        (
            PermissionError(13, "Permission denied", "/locked"),
            2,
            "langbridge: [Errno 13] Permission denied: '/locked'",
        ),
        (OSError(28, "No space left on device"), 2, "langbridge: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), 130, "langbridge: interrupted"),
    ],
)
def test_how_a_command_ends(
    command, recipe: Path, training, monkeypatch, raised: BaseException, code: int, message: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(sys.modules["langbridge.train.run"], "train", fail)
    got, out, err = command("train", recipe)
    assert (got, out) == (code, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "raised",
    [
        ZeroDivisionError(),
        ConnectionResetError(104, "Connection reset by peer"),  # an `OSError`, and about no path
        FileNotFoundError(2, "No such file or directory", "/tmp/.part"),
        PermissionError(13, "Permission denied", langbridge.__file__),
    ],
)
def test_our_own_mistakes_keep_their_traceback(recipe: Path, training, monkeypatch, raised: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(sys.modules["langbridge.train.run"], "train", fail)
    with pytest.raises(type(raised)):
        run(["train", str(recipe)])


def test_a_mistake_in_a_shell_has_no_traceback(tmp_path: Path) -> None:
    done = in_a_shell("generate", tmp_path / "absent", "2+2?")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"langbridge: {tmp_path / 'absent'}: no such folder\n"


def test_each_mistake_is_one_line(command, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.yaml").write_text("encoder: [\n")
    for arguments, message in [
        (("generate", tmp_path / "absent", "2+2?"), "absent: no such folder"),
        (
            ("generate", tmp_path / "empty", "2+2?"),
            "empty: no config.json in it, so it is not a model's folder",
        ),
        (("generate", recipe, "2+2?"), "recipe.yaml: is a file, expected a folder"),
        (("chat", tmp_path / "absent"), "absent: no such folder"),
        (("export", tmp_path / "absent", "--out", tmp_path / "x"), "absent: no such folder"),
        (("import", tmp_path / "absent", "--out", tmp_path / "x"), "absent: no such folder"),
        (("train", tmp_path / "absent.yaml"), "absent.yaml: No such file or directory"),
        (("train", tmp_path / "broken.yaml"), "broken.yaml:2: broken YAML"),
        (("train", recipe, "--set", "train.lr=1"), "override train.lr: unknown key"),
        (("train", recipe, "--set", "encoder=./absent"), "encoder: no such folder: ./absent"),
        (("train", recipe, "--set", "data.path=absent.jsonl"), "data.path: no such file: absent.jsonl"),
        (("show", tmp_path / "absent.yaml"), "absent.yaml: No such file or directory"),
        (("report", tmp_path, "--languages", ","), "--languages: got ',', expected names with commas between them"),
        (
            ("analyze", "representations", tmp_path / "lm", "--corpus", recipe, "--out", tmp_path, "--languages", " ,"),
            "--languages: got ' ,', expected names with commas between them",
        ),
    ]:
        code, out, err = command(*arguments)
        assert (code, out) == (2, ""), arguments
        assert message in err
        assert err.count("\n") == 1, err


def test_usage_mistakes_are_exit_code_2_too(command) -> None:
    assert command("tarin")[0] == 2
    assert command("train")[0] == 2
    assert command("train", "x.yaml", "--no-such-option")[0] == 2
    assert command("generate", "x", "y", "--batch-size", "0")[0] == 2
    assert command()[0] == 2


ROWS = {
    "empty": ("", "there are no rows in it"),
    "no field": ('{"text": "a"}', "row 1: no field 'question'; the row has 'text'"),
    "broken": ('{"question": "a"}\n{', "row 2: broken JSON"),
    "wrong type": ('{"question": 1}', "row 1, field 'question': expected text, got int"),
    "answered already": ('{"question": "a", "output": "b"}', "row 1: has a field 'output'"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows_to_answer_are_checked_before_a_model_is_loaded(command, tmp_path: Path, recipe: Path, kind: str) -> None:
    text, message = ROWS[kind]
    (tmp_path / "in.jsonl").write_text(text)
    out = tmp_path / "out.jsonl"
    code, _, err = command(
        "generate", tmp_path / "lm", "--input", tmp_path / "in.jsonl", "--field", "question", "--out", out
    )
    assert code == 2
    assert message in err
    assert not out.exists()


def test_generate_wants_prompts_or_a_file(command, recipe: Path, tmp_path: Path) -> None:
    code, _, err = command("generate", tmp_path / "lm")
    assert (code, "nothing to answer" in err) == (2, True)
    code, _, err = command("generate", tmp_path / "lm", "2+2?", "--input", tmp_path / "rows.jsonl")
    assert (code, "one of them is enough" in err) == (2, True)
    code, _, err = command("generate", tmp_path / "lm", "2+2?", "--out", tmp_path)
    assert (code, "is a folder, expected a file's name" in err) == (2, True)
    code, _, err = command("generate", tmp_path / "lm", "2+2?", " ")
    assert (code, "prompt 2, field 'prompt': the text is empty" in err) == (2, True)
