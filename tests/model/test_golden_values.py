"""Our own numbers, kept: what a bridge reads, computes, writes and learns stays what it was. See golden/README.md."""

import json
import os
from pathlib import Path

import pytest
import torch
from golden_values import BRIDGES, HERE, losses, make_bases, make_bridges, values
from safetensors.torch import load_file, save_file

VALUES, CURVES = HERE / "values.safetensors", HERE / "curves.json"
REGIMES = ("labelled", "unlabelled")
RENEW = bool(os.environ.get("LANGBRIDGE_RENEW_GOLDEN"))


@pytest.fixture(scope="module")
def filled_bases(base_folders, tmp_path_factory) -> tuple[Path, Path]:
    return make_bases(base_folders, tmp_path_factory.mktemp("golden"))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch, tmp_path):
    """Sums are added up in one order, whatever the machine has."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def where() -> str:
    """What decides the last bits: the kernels, and the processor that they are chosen for."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().split("\n") if "model name" in line), "")
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {cpu.partition(':')[2].strip()}"


@pytest.mark.skipif(not RENEW, reason="LANGBRIDGE_RENEW_GOLDEN is not set: the values stay as they are")
def test_renew(filled_bases, tmp_path) -> None:
    make_bridges(filled_bases, tmp_path / "new")
    found = {key: tensor.contiguous() for name in BRIDGES for key, tensor in values(name, filled_bases, tmp_path)}
    save_file(found, VALUES, metadata={"where": where()})
    curves = {regime: losses(regime, filled_bases, tmp_path) for regime in REGIMES}
    CURVES.write_text(json.dumps({"where": where(), **curves}, indent=1) + "\n")


@pytest.mark.parametrize("name", BRIDGES)
def test_values(name: str, filled_bases, tmp_path) -> None:
    from safetensors import safe_open

    with safe_open(VALUES, framework="pt") as file:
        same_machine = file.metadata()["where"] == where()
    kept = {key: tensor for key, tensor in load_file(VALUES).items() if key.startswith(f"{name}/")}
    found = dict(values(name, filled_bases, tmp_path))
    assert found.keys() == kept.keys()
    for key, tensor in found.items():
        if same_machine or not tensor.is_floating_point():
            assert torch.equal(tensor, kept[key]), key
        else:  # another order of float32 sums, through two layers of each model, on values up to 10
            torch.testing.assert_close(
                tensor, kept[key], rtol=1e-5, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}"
            )


@pytest.mark.parametrize("regime", REGIMES)
def test_twenty_steps(regime: str, filled_bases, tmp_path) -> None:
    kept = json.loads(CURVES.read_text())
    found = losses(regime, filled_bases, tmp_path)
    assert len(found) == 20
    if kept["where"] == where():
        assert found == kept[regime]
    # Differences of the last bits grow with the steps: to 0.0016 with torch's plain kernels instead of AVX-512.
    assert found == pytest.approx(kept[regime], rel=1e-2)
