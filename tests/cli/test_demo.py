"""The demo end to end, with few problems and little training: every file it promises, in its format."""

import json

import pytest

from langbridge.cli.demo import MAX_NEW_TOKENS, demo
from langbridge.miniature import parents
from langbridge.miniature.grammar import LANGUAGES
from langbridge.miniature.language_model import SEPARATOR


@pytest.mark.skipif(not parents.FOLDER.is_dir(), reason="the miniature's models are not built here")
def test_demo(tmp_path, capsys, command):
    demo(out=tmp_path / "demo", problems=6, examples=320, quiet=True)
    out = capsys.readouterr().out
    rows = json.loads((tmp_path / "demo" / "table.json").read_text())
    assert {(row["model"], row["language"]) for row in rows} == {
        (model, language) for model in ("lm", "bridge", "floor") for language in LANGUAGES
    }
    assert all(row["n"] == 6 and 0 <= row["accuracy"] <= 1 and row["stderr"] >= 0 for row in rows)
    assert {row["language"] for row in rows if row["group"] == "low"} == {"th", "sw", "bn", "te", "ko"}
    by_cell = {(row["model"], row["language"]): row["accuracy"] for row in rows}
    assert by_cell["lm", "en"] >= 5 / 6  # the shipped language model solves English problems
    assert (tmp_path / "demo" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "demo" / "bridge" / "config.json").is_file()
    assert len((tmp_path / "demo" / "samples.jsonl").read_text().splitlines()) == 6 * len(LANGUAGES)
    for heading in ("high-resource", "low-resource", "[sw]", "[te]", "[zh]"):
        assert heading in out

    # The same table by the ordinary command, which goes through the harness.
    suite = tmp_path / "demo" / "data" / "test" / "miniature.yaml"
    for model, folder, template in (
        ("bridge", tmp_path / "demo" / "bridge", []),
        ("lm", parents.LANGUAGE_MODEL, ["--template", "{prompt}" + SEPARATOR]),
    ):
        options = ["--out", tmp_path / model, "--max-new-tokens", MAX_NEW_TOKENS, "--batch-size", 24, "--quiet"]
        code, _, errors = command("evaluate", folder, "--suite", suite, *template, *options)
        assert code == 0, errors
        found = json.loads((tmp_path / model / "results.json").read_text())["tasks"]["miniature"]["languages"]
        assert {language: figures["accuracy"] for language, figures in found.items()} == {
            language: by_cell[model, language] for language in LANGUAGES
        }
