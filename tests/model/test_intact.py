"""Files that are damaged, or pointers of Git LFS, are named by every way that reads a model's folder."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.errors import LangBridgeError
from langbridge.model import build_bridge
from langbridge.model.checkpoint import export_merged
from langbridge.model.intact import check_config, check_tokenizer, check_weights
from langbridge.serve.load import load_engine
from langbridge.train import Recipe, train

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 2225349\n"


def spoil(path: Path, how: str) -> Path:
    whole = path.read_bytes() if path.exists() else b"x" * 100
    path.write_bytes({"pointer": POINTER.encode(), "empty": b"", "half": whole[: len(whole) // 2]}[how])
    return path


SAYS = {
    "pointer": "is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull` in its clone",
    "empty": "is empty; fetch it again",
    "half": r"is damaged or not whole \(.+\); fetch it again",
}


BRIDGE_FILES = ["model.safetensors", "config.json", "tokenizer.json", "encoder_tokenizer/tokenizer.json"]


def named(path: Path, how: str) -> str:
    return f"^{re.escape(str(path))}: {SAYS[how]}$"


@pytest.fixture
def folders(base_folders, tmp_path) -> tuple[Path, Path]:
    return shutil.copytree(base_folders[0], tmp_path / "encoder"), shutil.copytree(base_folders[1], tmp_path / "lm")


@pytest.mark.parametrize("how", SAYS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_bases_and_plain_models(folders, tmp_path, name: str, how: str) -> None:
    encoder, lm = folders
    good = shutil.copytree(lm, tmp_path / "good")
    broken = spoil(lm / name, how)
    (tmp_path / "rows.jsonl").write_text('{"query": "a", "response": "b"}\n' * 8)
    for regime in ("labelled", "lm_only"):
        settings = {"regime": regime, "data": {"path": str(tmp_path / "rows.jsonl")}, "language_model": str(lm)}
        settings |= {"encoder": str(encoder)} if regime == "labelled" else {}
        (tmp_path / "recipe.yaml").write_text(json.dumps(settings))
        with pytest.raises(LangBridgeError, match=named(broken, how)):
            train(Recipe.load(tmp_path / "recipe.yaml"), tmp_path / "run", progress=False)
    with pytest.raises(LangBridgeError, match=named(broken, how)):
        load_engine(str(lm))
    broken = spoil(encoder / name, how)
    with pytest.raises(LangBridgeError, match=named(broken, how)):
        build_bridge(encoder, good)


@pytest.mark.parametrize("how", SAYS)
@pytest.mark.parametrize("name", BRIDGE_FILES)
def test_a_bridge(bridge_folder, tmp_path, name: str, how: str) -> None:
    folder = shutil.copytree(bridge_folder, tmp_path / "bridge")
    broken = spoil(folder / name, how)
    if "tokenizer" in name:
        ways = [LangBridgeProcessor.from_pretrained]
    else:
        ways = [LangBridgeModel.from_pretrained, lambda folder: export_merged(folder, tmp_path / "out")]
    for way in [*ways, lambda folder: load_engine(str(folder))]:
        with pytest.raises(LangBridgeError, match=named(broken, how)):
            way(folder)


def test_weights_in_every_layout(base_folders, tmp_path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base_folders[1])
    model.save_pretrained(tmp_path / "shards", max_shard_size="20kB")
    check_weights(tmp_path / "shards")
    shard = sorted((tmp_path / "shards").glob("*.safetensors"))[1]
    spoil(shard, "pointer")
    with pytest.raises(LangBridgeError, match=named(shard, "pointer")):
        check_weights(tmp_path / "shards")
    shard.unlink()
    with pytest.raises(LangBridgeError, match=re.escape(f"{shard}: no such file")):
        check_weights(tmp_path / "shards")
    for legacy in (False, True):
        old = tmp_path / f"old{legacy}"
        old.mkdir()
        torch.save(model.state_dict(), old / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
        check_weights(old)
    for how in SAYS:
        broken = spoil(tmp_path / "oldFalse" / "pytorch_model.bin", how)
        with pytest.raises(LangBridgeError, match=named(broken, how)):
            check_weights(tmp_path / "oldFalse")
        torch.save(model.state_dict(), broken)


def test_what_is_not_read_may_be_a_pointer(base_folders, tmp_path) -> None:
    """A clone of which only the safetensors were fetched."""
    folder = shutil.copytree(base_folders[1], tmp_path / "lm")
    for name in ("pytorch_model.bin", "tokenizer.model", "tf_model.h5"):
        (folder / name).write_text(POINTER)
    for check in (check_config, check_weights, check_tokenizer):
        check(folder)
    AutoModelForCausalLM.from_pretrained(folder)
    for check in (check_config, check_weights, check_tokenizer):
        check("owner/name")


def test_half_of_a_large_vocabulary(tmp_path) -> None:
    whole = json.dumps({"model": {str(n): n for n in range(200_000)}}, indent=1)
    (tmp_path / "tokenizer.json").write_text(whole + "\n")
    check_tokenizer(tmp_path)
    spoil(tmp_path / "tokenizer.json", "half")
    with pytest.raises(LangBridgeError, match=r"tokenizer\.json: is damaged or not whole \(no bracket at its end\)"):
        check_tokenizer(tmp_path)
