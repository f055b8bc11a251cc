"""What the documentation shows is so: its Python runs and prints what stands below it, its commands exist with their
options, its recipes load, the files it names are there."""

import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import typer
import yaml
from typer.core import TyperGroup

from langbridge.errors import LangBridgeError

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PROSE = [*PAGES, *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("recipes/**/*.md")), *sorted(ROOT.glob("src/**/*.md"))]
RUN = "<!-- run -->"
"""Stands above a block of Python that the tests run, in the page's order; a block of text right below is its output."""


class Block(NamedTuple):
    """A fenced block: its language, its lines, what is on the line above, and whether a block ended two lines above."""

    language: str
    text: str
    above: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        before = text[: match.start()].rstrip("\n").rpartition("\n")[2]
        found.append(Block(match[1], match[2], before, text.count("\n", 0, match.start()) + 1))
    return found


def marked(page: Path) -> list[tuple[Block, str | None]]:
    """The blocks to run, each with the output that the page promises."""
    found = blocks(page)
    return [
        (block, after.text if after is not None and (after.language, after.above) == ("text", "```") else None)
        for block, after in zip(found, [*found, None][1:], strict=True)
        if block.above == RUN
    ]


RUN_PAGES = [page for page in PAGES if marked(page)]


@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda page: page.stem)
def test_marked_python_prints_what_the_page_says(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for block, promised in marked(page):
        capsys.readouterr()
        exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
        if promised is not None:
            assert capsys.readouterr().out == promised


def test_pages_have_python_that_is_run():
    assert {"tour", "connector", "objective", "task-family"} <= {page.stem for page in RUN_PAGES}
    for page in RUN_PAGES:
        assert page.read_text(encoding="utf-8").count(RUN) == len(marked(page)), f"{page}: a mark above no block"


def commands(text: str) -> list[list[str]]:
    """The words after `langbridge` of every command in shell lines."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        match = re.search(r"(?:^|\s)(?:langbridge|-m langbridge\.cli)((?: .*)?)$", re.sub(r"\s#.*", "", line))
        if match and not line.startswith(("#", "langbridge:")):
            # `$'...'` is the shell's, and no word.
            found.append(shlex.split(match[1].split(" | ")[0].replace("$'", "'")))
    return found


def shown_commands() -> list[Any]:
    found = []
    for page in PROSE:
        place = page.relative_to(ROOT).as_posix()
        for block in blocks(page):
            if block.language == "bash":
                found += [(place, words, True) for words in commands(block.text)]
        prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        # In the running text a command is named, and not written out.
        found += [(place, shlex.split(span), False) for span in re.findall(r"`langbridge ([a-z][^`]*)`", prose)]
    return [pytest.param(*one, id=f"{one[0]}: {' '.join(one[1])}") for one in found]


SHOWN = shown_commands()


@pytest.mark.parametrize(("place", "words", "whole"), SHOWN)
def test_a_command_exists_with_its_options(place, words, whole):
    from langbridge.cli.main import app

    command: Any = typer.main.get_command(app)
    words = [word for word in words if word != "..."]
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        name, *words = words
        found = command.get_command(command.make_context("langbridge", [], resilient_parsing=True), name)
        assert found is not None, f"{place}: langbridge has no command {name!r}"
        command = found
    # Parsed as a run would parse it: unknown options, wrong values and, of a whole command, missing arguments raise.
    made = command.make_context("langbridge", list(words), resilient_parsing=not whole)
    check_overrides(made.params.get("overrides") or ())


def check_overrides(assignments: Any) -> None:
    """`--set KEY=VALUE` names a setting of a recipe."""
    from langbridge.settings import override
    from langbridge.train.recipe import Recipe

    mapping: dict[str, Any] = {}
    for assignment in assignments:
        override(mapping, assignment)
    try:
        Recipe.read(mapping)
    except LangBridgeError as error:  # what else a recipe needs is not there
        if "unknown key" in str(error):
            raise


def test_the_reader_of_commands_reads_them():
    text = "langbridge train R \\\n    --set a=1  # why\npip install x\ntorchrun -m langbridge.cli report A=b | head\n"
    assert commands(text) == [["train", "R", "--set", "a=1"], ["report", "A=b"]]
    assert len([one for one in SHOWN if one.values[2]]) > 40
    with pytest.raises(Exception, match=r"(?i)no such option"):
        test_a_command_exists_with_its_options("here", ["train", "R", "--fast"], True)
    with pytest.raises(Exception, match=r"(?i)missing .*suite"):
        test_a_command_exists_with_its_options("here", ["evaluate", "FOLDER"], True)
    with pytest.raises(AssertionError, match="no command 'fly'"):
        test_a_command_exists_with_its_options("here", ["fly"], True)
    with pytest.raises(LangBridgeError, match="train\\.speed"):
        test_a_command_exists_with_its_options("here", ["train", "R", "--set", "train.speed=1"], True)


def test_the_recipe_of_the_first_page_loads(tmp_path):
    from langbridge.train.recipe import Recipe

    (text,) = [block.text for block in blocks(DOCS / "how-to/bridge.md") if block.text.startswith("# bridge.yaml")]
    (tmp_path / "bridge.yaml").write_text(text, encoding="utf-8")
    recipe = Recipe.load(tmp_path / "bridge.yaml")
    for base in (recipe.encoder, recipe.language_model):
        assert (ROOT / str(base) / "config.json").is_file()


@pytest.fixture
def installed(base_folders, tmp_path):
    """The file and the package that a page shows, as `pip install .` leaves them; and Python with it, in its folder."""

    def installed(page: Path, file: str, wanted: str) -> Any:
        written = next(block.text for block, _ in marked(page) if wanted in block.text)
        (tmp_path / file).write_text(written, encoding="utf-8")
        (project,) = [tomllib.loads(block.text)["project"] for block in blocks(page) if block.language == "toml"]
        about = tmp_path / f"{project['name'].replace('-', '_')}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
        points = [(group, *item) for group, found in project["entry-points"].items() for item in found.items()]
        ((group, name, value),) = points
        (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
        (recipe,) = [yaml.safe_load(block.text) for block in blocks(page) if block.language == "yaml"]
        encoder, language_model = base_folders
        recipe |= {
            "encoder": str(encoder), "language_model": str(language_model), "max_encoder_length": 64, "max_length": 192,
            "train": {"max_steps": 2, "per_device_train_batch_size": 2, "report_to": "none", "use_cpu": True},
        }  # fmt: skip
        recipe.setdefault("data", {"path": "pairs.jsonl"})
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        (tmp_path / "pairs.jsonl").write_text('{"query": "2 + 2", "response": "4"}\n' * 8)
        (tmp_path / "texts.jsonl").write_text('{"text": "abba and baba"}\n' * 8)
        path = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
        environment = {**os.environ, "PYTHONPATH": path, "HF_DATASETS_CACHE": str(tmp_path / "cache")}

        def run(*words: str) -> str:
            done = subprocess.run(
                [sys.executable, *words], env=environment, cwd=tmp_path, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        return run

    return installed


@pytest.mark.slow
def test_a_connector_added_as_the_page_says_trains(installed):
    """In a package of its own, installed: a run of two steps, and its checkpoint loads."""
    run = installed(DOCS / "how-to/connector.md", "normed.py", "class NormedConnector")
    run("-m", "langbridge.cli", "train", "recipe.yaml", "--out", "run")
    code = (
        "from langbridge import LangBridgeModel as M, LangBridgeProcessor as P; m = M.from_pretrained('run/final');"
        "print(type(m.connector).__name__, m.config.connector == P.from_pretrained('run/final').connector,"
        " m.connector.dropout.p)"
    )
    assert run("-c", code).strip() == "NormedConnector True 0.1"


@pytest.mark.slow
def test_an_objective_added_as_the_page_says_trains(installed):
    """In a package of its own, installed: shown, planned, and the first of two stages."""
    run = installed(DOCS / "how-to/objective.md", "copying.py", "class Copy")
    shown = run("-m", "langbridge.cli", "show", "recipe.yaml", "--rows", "1")
    assert shown.count("a b b a") + shown.count("abba") >= 2, "what is read is what is learned"
    assert "stage 1 of 2, objective copy" in run("-m", "langbridge.cli", "train", "recipe.yaml", "--dry-run")
    run("-m", "langbridge.cli", "train", "recipe.yaml", "--set", "init=random", "--out", "run")
    code = (
        "import json; from langbridge.train import Recipe;"
        "print(*[s.objective for s in Recipe.load('run/final/recipe.yaml').stage_recipes],"
        " json.load(open('run/final/stages/1/run.json'))['learning_rate'])"
    )
    assert run("-c", code).strip() == "copy labelled 0.001"


def test_the_tour_names_files_that_are_there():
    text = (DOCS / "tour.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`", text)) - {"src/langbridge/", "src/", "tests/"}
    assert len(named) > 30
    missing = [name for name in sorted(named) if not (ROOT / "src/langbridge" / name).exists()]
    assert not missing, missing


ROOMS = ("langbridge", "langbridge.model", "langbridge.data", "langbridge.train", "langbridge.evaluate")


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_its_place_in_the_api(room):
    described = {
        line.rpartition(".")[2]
        for page in (DOCS / "api").glob("*.md")
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("::: ")
    }
    missing = {name for name in importlib.import_module(room).__all__ if not name.startswith("__")} - described
    assert not missing, f"{room}: docs/api/ lacks {', '.join(sorted(missing))}"


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("source", "page", "written", "shown"),
    [
        ("docs/scale.md", "scale.md", "[r](../recipes/README.md)", "[r](recipes.md)"),
        ("docs/scale.md", "scale.md", "[z](../recipes/deepspeed/zero2.json)", "z"),
        ("docs/how-to/a.md", "how-to/a.md", "[s](../scale.md#x)", "[s](../scale.md#x)"),
        ("recipes/README.md", "recipes.md", "[s](../docs/scale.md) [r](../README.md)", "[s](scale.md) [r](index.md)"),
        (
            "src/langbridge/evaluate/tasks/gsm8k/README.md",
            "tasks/gsm8k.md",
            "[m](../mgsm/README.md) [s](../../../../../docs/sandbox.md)",
            "[m](mgsm.md) [s](../sandbox.md)",
        ),
        ("docs/a.md", "a.md", "`[x](y.md)` [h](https://h.org) [i](#i)", "`[x](y.md)` [h](https://h.org) [i](#i)"),
        ("README.md", "x/index.md", "![p](docs/images/demo.png)", "![p](../images/demo.png)"),
    ],
)  # fmt: skip
def test_links_hold_in_the_site(source, page, written, shown):
    assert hook("outside").mended(written, source, page) == shown


def test_pages_from_outside_are_there():
    for source in hook("outside").PAGES:
        assert (ROOT / source).is_file(), source


def test_terms_of_a_docstring_become_a_list():
    pytest.importorskip("griffe", reason="the docs extra is not installed")
    text = "Reads.\n\npath: where.\n    All of it.\nold, new: names.\n\nNote: this is prose.\nend: so is this."
    assert hook("terms").listed(text) == (
        "Reads.\n\n- `path`: where.\n    All of it.\n- `old`, `new`: names.\n\nNote: this is prose.\nend: so is this."
    )
