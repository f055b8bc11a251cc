"""An average of two bridges: its soft prompts are the average of theirs, and it is a checkpoint like any other."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from langbridge import LangBridgeConfig, LangBridgeModel, LangBridgeProcessor
from langbridge.errors import LangBridgeError
from langbridge.model import build_bridge
from langbridge.model.averaging import average_checkpoints


@pytest.fixture(scope="module")
def trained(bridge_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bridge with a connector that has moved."""
    folder = tmp_path_factory.mktemp("trained") / "bridge"
    shutil.copytree(bridge_folder, folder)
    model = LangBridgeModel.from_pretrained(bridge_folder)
    with torch.no_grad():
        for parameter in model.connector.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder


def soft_prompts(folder: Path) -> torch.Tensor:
    model = LangBridgeModel.from_pretrained(folder).eval()
    batch = LangBridgeProcessor.from_pretrained(folder)(["two words"])
    with torch.no_grad():
        return model.soft_prompts(batch["encoder_input_ids"], batch["encoder_attention_mask"])[0]


def test_where_models_were_read_is_no_difference(bridge_folder: Path, trained: Path, tmp_path: Path) -> None:
    """Bridges of earlier versions have it in their models' configs."""
    earlier = shutil.copytree(bridge_folder, tmp_path / "earlier")
    config = json.loads((earlier / "config.json").read_text(encoding="utf-8"))
    for name in ("encoder_config", "text_config"):
        config[name]["_name_or_path"] = f"/somewhere/{name}"
    (earlier / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert average_checkpoints(earlier, trained, tmp_path / "mean").is_dir()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_soft_prompts_are_averaged(bridge_folder: Path, trained: Path, tmp_path: Path, share: float) -> None:
    out = average_checkpoints(bridge_folder, trained, tmp_path / "mean", share=share)
    first, second, mean = map(soft_prompts, (bridge_folder, trained, out))
    assert not torch.allclose(first, second, atol=1e-2)
    torch.testing.assert_close(mean, (1 - share) * first + share * second, rtol=1e-4, atol=1e-5)  # float32
    assert f"{share:g} of `{trained}`" in (out / "README.md").read_text(encoding="utf-8")


def test_the_average_finds_its_models_from_where_it_is(bridge_folder: Path, trained: Path, tmp_path: Path) -> None:
    out = average_checkpoints(bridge_folder, trained, tmp_path / "deep" / "er" / "mean")
    found = LangBridgeConfig.from_pretrained(out).encoder_base
    assert (out / found["relative"]).resolve() == Path(found["id"])


def test_the_command(
    command: Callable[..., tuple[int, str, str]], bridge_folder: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mean"
    assert command("average", bridge_folder, trained, "--out", out) == (0, f"{out}\n", "")
    code, _, said = command("average", bridge_folder, trained, "--out", out)
    assert code == 2
    assert "is there already" in said


def test_what_cannot_be_averaged_is_refused(
    base_folders: tuple[Path, Path], bridge_folder: Path, trained: Path, tmp_path: Path
) -> None:
    model, processor = build_bridge(*base_folders, connector="mlp")
    other = tmp_path / "mlp"
    model.save_pretrained(other)
    processor.save_pretrained(other)
    with pytest.raises(LangBridgeError, match=r"differ in connector; expected two bridges of one make"):
        average_checkpoints(bridge_folder, other, tmp_path / "out")
    whole = tmp_path / "whole"
    shutil.copytree(trained, whole)
    (whole / "language_model").mkdir()
    with pytest.raises(LangBridgeError, match="holds a model of its own"):
        average_checkpoints(bridge_folder, whole, tmp_path / "out")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(trained, elsewhere)
    config = json.loads((elsewhere / "config.json").read_text(encoding="utf-8"))
    next(iter(config["encoder_base"]["fingerprint"]["samples"].values()))["values"][0] += 1
    (elsewhere / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(LangBridgeError, match=r"encoder: got .*, whose weights differ from those of"):
        average_checkpoints(bridge_folder, elsewhere, tmp_path / "out")
    with pytest.raises(LangBridgeError, match="is a 'llama' model, not a bridge"):
        average_checkpoints(base_folders[1], base_folders[1], tmp_path / "out")
    half = tmp_path / "half"
    shutil.copytree(trained, half)
    (half / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes()[:100])
    with pytest.raises(LangBridgeError, match=r"half.model\.safetensors: is damaged or not whole"):
        average_checkpoints(bridge_folder, half, tmp_path / "out")
    with pytest.raises(LangBridgeError, match=r"share: got 2"):
        average_checkpoints(bridge_folder, trained, tmp_path / "out", share=2)
    assert not (tmp_path / "out").exists()
