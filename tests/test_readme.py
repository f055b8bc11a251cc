"""The README's Python runs as it stands there, on a bridge between tiny models; its commands exist."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = sorted(set(re.findall(r"^langbridge (\w+)", README, re.MULTILINE)))


def test_there_are_snippets():
    assert SNIPPETS
    assert {"train", "generate", "chat", "show", "import", "export"} <= set(COMMANDS)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet_runs(snippet, bridge_folder, capsys):
    exec(compile(snippet.replace("demo/bridge", str(bridge_folder)), "README.md", "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exists(command):
    from langbridge.cli.main import app

    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
