"""A bridge between real models on disk: small, whole, and through every door that transformers and the command line
have."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoProcessor

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.errors import LangBridgeError

QUESTION = "Tom ana matufaa 28. Kisha Tom ananunua matufaa 9. Tom ana matufaa mangapi sasa?"
LIMIT = ("--max-new-tokens", "8")


def answer(model, processor) -> torch.Tensor:
    return model.generate(**processor(QUESTION), max_new_tokens=4, do_sample=False)


@pytest.fixture(scope="module")
def expected(bridge_folder: Path) -> torch.Tensor:
    model = LangBridgeModel.from_pretrained(bridge_folder, dtype=torch.float32)
    return answer(model, LangBridgeProcessor.from_pretrained(bridge_folder))


def test_a_checkpoint_is_what_was_trained(bridge_folder: Path) -> None:
    weights = (bridge_folder / "model.safetensors").stat().st_size
    assert weights < 2e6, "the connector, its end vector and the rows of eight whitespace tokens"


def test_the_auto_classes_know_it(bridge_folder: Path, expected: torch.Tensor) -> None:
    model = AutoModelForCausalLM.from_pretrained(bridge_folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(bridge_folder)
    assert (type(model), type(processor)) == (LangBridgeModel, LangBridgeProcessor)
    assert torch.equal(answer(model, processor), expected)


def test_devices_are_found(bridge_folder: Path, expected: torch.Tensor) -> None:
    model = LangBridgeModel.from_pretrained(bridge_folder, dtype=torch.float32, device_map="auto")
    inputs = LangBridgeProcessor.from_pretrained(bridge_folder)(QUESTION).to(model.device)
    assert torch.equal(model.generate(**inputs, max_new_tokens=4, do_sample=False).cpu(), expected)


def test_an_exported_bridge_needs_nothing_else(command, bridge_folder: Path, expected, tmp_path: Path) -> None:
    assert command("export", bridge_folder, "--out", tmp_path / "merged")[0] == 0
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "merged", moved)
    config = json.loads((moved / "config.json").read_text())
    for base in ("encoder_base", "language_model_base"):
        config[base] |= {"id": "/nowhere", "relative": "../nowhere"}
    (moved / "config.json").write_text(json.dumps(config))
    model = LangBridgeModel.from_pretrained(moved, dtype=torch.float32)
    assert torch.equal(answer(model, LangBridgeProcessor.from_pretrained(moved)), expected)


def test_another_language_model_is_refused(bridge_folder: Path, larger_language_model_folder: Path) -> None:
    with pytest.raises(LangBridgeError, match=r"language model: got .*'qwen2' model; expected .*'llama' model"):
        LangBridgeModel.from_pretrained(bridge_folder, language_model=larger_language_model_folder)


def test_the_command_line_answers(command, bridge_folder: Path, tmp_path: Path, monkeypatch) -> None:
    code, one, err = command("generate", bridge_folder, QUESTION, *LIMIT)
    assert (code, err) == (0, "")
    assert one.strip()
    rows = [{"id": 1, "question": QUESTION}, {"id": 2, "question": "7 + 5?"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, out, _ = command("generate", bridge_folder, "--input", tmp_path / "rows.jsonl", "--field", "question", *LIMIT)
    answered = [json.loads(line) for line in out.splitlines()]
    assert [{key: row[key] for key in ("id", "question")} for row in answered] == rows
    assert all(row["output"] for row in answered)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{QUESTION}\n\n{QUESTION}\n"))
    code, out, err = command("chat", bridge_folder, *LIMIT)
    assert (code, err) == (0, "")
    first, second = (line for line in out.splitlines() if line.strip())
    assert first == second == one.strip().splitlines()[0]
