"""The house's rules that are broken without noticing: who imports whom, names, sizes, start-up time."""

import ast
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "langbridge"
STUDIES = ROOT / "studies"
SOURCES = sorted(PACKAGE.rglob("*.py"))

FOUNDATION = {"errors", "files", "languages", "markdown", "registry", "revision", "settings"}
"""Single files below every room."""

MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "languages": {"errors"},
    "markdown": set(),
    "registry": {"errors"},
    "revision": set(),
    "settings": {"errors"},
    "model": FOUNDATION,
    "data": FOUNDATION | {"model"},
    "train": FOUNDATION | {"model", "data"},
    "evaluate": FOUNDATION | {"model", "data", "serve"},
    "analyze": FOUNDATION | {"model", "data"},
    "serve": FOUNDATION | {"model"},
    "miniature": FOUNDATION | {"model"},
    "cli": FOUNDATION | {"model", "data", "train", "evaluate", "analyze", "serve", "miniature"},
    # The package itself only names what the model room offers.
    "langbridge": {"errors", "model"},
}
"""Room by room, which others it may import; its own modules always."""

LONGEST_FILE = 450
"""Lines. A file above this has more than one job."""

NOT_ROOMS = {"utils", "util", "common", "core", "helpers", "helper", "misc"}


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return "langbridge" if first == "__init__.py" else first.removesuffix(".py")


def imports(path: Path, package: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file of a package imports, wherever in the file it stands:
    `a.b.c` of `from a.b import c`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = [*above, *([node.module] if node.module else [])]
            yield from ((node.lineno, ".".join([*module, alias.name])) for alias in node.names)


def imported_rooms(path: Path) -> Iterator[tuple[int, str]]:
    """Line and room of every import of ours in a file."""
    for line, name in imports(path, ("langbridge", *path.relative_to(PACKAGE).parent.parts)):
        top, *rest = name.split(".")
        if top == "langbridge" and rest:
            # `from langbridge import model` imports a room, `from langbridge import LangBridgeModel` a name.
            yield line, rest[0] if rest[0] in MAY_IMPORT else "model"


def import_graph(root: Path, name: str) -> dict[str, set[str]]:
    """By module of the package `name` in `root`: the modules of the same room that it imports, also inside functions
    and for annotations alone. A room is a folder right below the package."""
    files = {}
    for path in root.rglob("*.py"):
        parts = (name, *path.relative_to(root).with_suffix("").parts)
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        found = set()
        for _, target in imports(path, (name, *path.relative_to(root).parent.parts)):
            # What is imported is a module, or a name in one.
            found |= {target if target in files else target.rpartition(".")[0]} & files.keys() - {module}
        graph[module] = {target for target in found if target.split(".")[:2] == module.split(".")[:2]}
    return graph


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_room_is_known() -> None:
    unknown = {room_of(path) for path in SOURCES} - MAY_IMPORT.keys()
    assert not unknown, f"{unknown}: say in MAY_IMPORT what these rooms may import"


def test_imports_run_one_way() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {room}"
        for path in SOURCES
        for line, room in imported_rooms(path)
        if room not in MAY_IMPORT[room_of(path)] | {room_of(path)}
    ]
    assert not wrong, "\n".join(wrong)


def test_the_reader_of_imports_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "x.py"
    path.write_text(
        "import langbridge.cli.main\n"
        "from langbridge import train, LangBridgeModel\n"
        "from langbridge.evaluate import scores\n"
        "from ..data import labelled\n"
        "from . import y\n"
        "def f():\n    from langbridge.cli import main\n"
        "import torch\n"
    )
    seen = [room for _, room in sorted(imported_rooms(path), key=lambda found: found[0])]
    assert seen == ["cli", "train", "model", "evaluate", "data", "model", "cli"]


@pytest.mark.parametrize(("root", "name"), [(PACKAGE, "langbridge"), (STUDIES, "studies")])
def test_no_circles_inside_a_room(root: Path, name: str) -> None:
    try:
        TopologicalSorter(import_graph(root, name)).prepare()
    except CycleError as circle:
        pytest.fail(f"modules that import each other: {' <- '.join(circle.args[1])}")


def test_circles_are_found_wherever_the_import_stands(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (room / "__init__.py").write_text("")
    (room / "a.py").write_text("from package.room.b import x\n")
    (room / "b.py").write_text("def f():\n    from package.room import c\n")
    (room / "c.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import y\n")
    (tmp_path / "other.py").write_text("import package.room.a\n")
    graph = import_graph(tmp_path, "package")
    assert graph["package.room.a"] == {"package.room.b"}
    assert graph["package.other"] == set(), "another room is the other test's"
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()


def test_only_the_command_line_plans() -> None:
    """The plan of a run reads the run's parts; no part of a run depends on it."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in SOURCES
        if room_of(path) != "cli" and path.parent.name != "plan"
        for line, name in imports(path, ("langbridge", *path.relative_to(PACKAGE).parent.parts))
        if name.startswith("langbridge.train.plan")
    ]
    assert not wrong, "\n".join(wrong)


def test_studies_use_what_is_public() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in STUDIES.rglob("*.py")
        for line, name in imports(path, path.relative_to(ROOT).parent.parts)
        if name.startswith("langbridge.cli") or any(part.startswith("_") for part in name.split("."))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_room_or_file_is_named_after_nothing() -> None:
    for path in (*SOURCES, *STUDIES.rglob("*.py")):
        assert not {part.removesuffix(".py") for part in path.relative_to(ROOT).parts} & NOT_ROOMS, path


def test_files_are_small() -> None:
    checked = (*SOURCES, *STUDIES.rglob("*.py"))
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in checked}
    too_long = {str(path): lines for path, lines in lengths.items() if lines > LONGEST_FILE}
    assert not too_long, too_long


def test_nothing_points_outside_the_project() -> None:
    for path in (*PACKAGE.rglob("*"), *STUDIES.rglob("*")):
        if path.suffix in {".py", ".md", ".yaml", ".txt"} or path.name == "config.json":
            text = path.read_text(encoding="utf-8")
            for place in ("../shared", "/work/", "/tmp/", "/home/", "/root/"):
                assert place not in text, f"{path.relative_to(ROOT)} mentions {place}"


def test_annotations_are_real() -> None:
    """Shapes in signatures are checked at run time; postponed annotations would switch that off in silence."""
    for path in SOURCES:
        assert "from __future__ import annotations" not in path.read_text(encoding="utf-8"), path


def test_importing_the_package_is_light_and_fast() -> None:
    code = (
        "import sys; from time import perf_counter as now; start = now(); import langbridge; took = now() - start;"
        "print(took, *{'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules))"
    )
    results = [run_python(code).split() for _ in range(3)]
    assert results[0][1:] == [], f"`import langbridge` loads {results[0][1:]}"
    best = min(float(result[0]) for result in results)
    assert best < 0.2, f"`import langbridge` took {best:.2f} s"


def test_the_reader_of_rows_is_light() -> None:
    loaded = "*{'torch', 'transformers', 'numpy', 'datasets', 'pyarrow'} & set(sys.modules)"
    assert run_python(f"import sys, langbridge.data.readers; print({loaded})") == ""


def test_help_is_fast_and_loads_no_torch() -> None:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "langbridge.cli", "--help"], capture_output=True, text=True)
        times.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    assert min(times) < 0.5, f"best of 5: {min(times):.2f} s"
    loaded = run_python(
        "import atexit, sys\n"
        "atexit.register(lambda: print('LOADED', *{'torch', 'transformers', 'numpy'} & set(sys.modules)))\n"
        "from langbridge.cli.main import run\n"
        "run(['--help'])"
    )
    assert loaded.splitlines()[-1] == "LOADED"


def test_the_help_of_no_command_loads_what_only_a_run_needs() -> None:
    loaded = run_python(
        "import sys, importlib\n"
        "from langbridge.cli.main import COMMANDS\n"
        "for place, _ in COMMANDS.values(): importlib.import_module(place.split(':')[0])\n"
        "print(*{'torch', 'transformers', 'numpy', 'pydantic'} & set(sys.modules))"
    )
    assert loaded == ""


def test_links_of_the_prose_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/**/*.md")]
    pages += [*ROOT.glob("benchmarks/**/*.md"), *PACKAGE.rglob("*.md")]
    broken = []
    for page in pages:
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)", prose):
            file = target.split("#")[0]
            if file and not re.match(r"[a-z]+:", target) and not (page.parent / file).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(broken)


def test_the_version_is_written_once() -> None:
    version = run_python("import langbridge; print(langbridge.__version__)")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in citation
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
