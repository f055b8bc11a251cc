"""A bridge over several processes: FSDP2 on two CPU processes, and DeepSpeed where it is installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel
from langbridge.train.sharding import gathered_state, shard

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def on_two_processes(*arguments: object, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=560,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


CASES = {
    # The encoder is trained; frozen with new rows trained; LM with a tied head; bases in half precision.
    "trained": 1e-6,
    "frozen": 1e-6,
    "tied": 1e-6,
    # bfloat16 has 8 bits: gradients of two halves are rounded before they are added, so the last bit may differ.
    "bf16": 8e-3,
}
"""Cases of the worker, and how much a weight may differ from one process's: float32 sums in another order."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """All cases in one pair of processes, because starting them takes most of the time."""
    out = tmp_path_factory.mktemp("sharded")
    on_two_processes(HERE / "sharding_worker.py", out, *CASES)
    return {case: (out / case, torch.load(out / case / "result.pt", weights_only=True)) for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_is_sharded_block_by_block(results, case: str) -> None:
    _, result = results[case]
    assert result["whole"] == []  # every parameter is a DTensor
    assert result["blocks"] == [
        *(f"encoder.encoder.block.{i}" for i in range(2)),
        *(f"language_model.model.layers.{i}" for i in range(2)),
    ]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_step_as_one(results, case: str) -> None:
    _, result = results[case]
    assert result["losses"] == pytest.approx(result["expected_losses"], rel=1e-3 if case == "bf16" else 1e-5)
    assert result["state"].keys() == result["expected_state"].keys() == result["start"].keys()
    for name, expected in result["expected_state"].items():
        torch.testing.assert_close(result["state"][name].float(), expected.float(), atol=CASES[case], rtol=1e-3)
    moved = [name for name, start in result["start"].items() if not torch.equal(start, result["state"][name])]
    assert {"connector.end", "connector.linear.weight", "new_rows"} <= set(moved)
    assert any(name.startswith("encoder.") for name in moved) == (case != "frozen")


@pytest.mark.parametrize("case", CASES)
def test_a_sharded_bridge_generates_as_a_whole_one(results, case: str) -> None:
    _, result = results[case]
    assert result["tokens"].tolist() == result["expected_tokens"].tolist()


@pytest.mark.parametrize("case", CASES)
def test_the_saved_checkpoint_is_whole_and_holds_only_what_was_trained(results, case: str) -> None:
    folder, result = results[case]
    saved = load_file(folder / "checkpoint" / "model.safetensors")
    assert saved.keys() == result["state"].keys()
    for name, tensor in saved.items():
        assert torch.equal(tensor, result["state"][name])
    config = json.loads((folder / "checkpoint" / "config.json").read_text())
    assert config["architectures"] == [LangBridgeModel.__name__]


@pytest.mark.parametrize("encoder_trained_earlier", [False, True])
def test_the_gathered_state_is_what_a_checkpoint_holds(encoder_trained_earlier: bool, tmp_path: Path) -> None:
    """Also what stays as it is: new rows that no prompt needs, a connector that is frozen, an encoder of an earlier
    run."""
    from tiny import make_bridge

    bridge = make_bridge(new_token_ids=[90])
    bridge.set_training_regime(freeze_encoder=not encoder_trained_earlier)
    bridge.set_training_regime(freeze_encoder=True)
    bridge.connector.requires_grad_(False)
    state = gathered_state(bridge)
    bridge.save_pretrained(tmp_path / "gathered", state_dict=state)
    bridge.save_pretrained(tmp_path / "whole")
    gathered, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("gathered", "whole"))
    assert "new_rows" in whole
    assert any(name.startswith("encoder.") for name in whole) == encoder_trained_earlier
    assert gathered.keys() == whole.keys()
    before = {name: tensor.clone() for name, tensor in state.items()}
    with torch.no_grad():
        bridge.connector.end.add_(1)  # a copy: what is trained on does not change what was gathered
    assert all(torch.equal(state[name], before[name]) for name in state)
    assert gathered_state(bridge, keep=False) == {}


def test_a_plain_language_model_is_gathered_whole() -> None:
    from tiny import make_bridge

    model = make_bridge().language_model  # frozen
    assert gathered_state(model).keys() == dict(model.named_parameters()).keys()


def test_a_base_without_named_blocks_is_refused() -> None:
    from tiny import make_bridge

    bridge = make_bridge()
    bridge.encoder._no_split_modules = None
    with pytest.raises(LangBridgeError, match="does not say which of its blocks stay whole"):
        shard(bridge)


def test_a_connector_that_reaches_into_the_layers_is_refused() -> None:
    from tiny import make_bridge

    with pytest.raises(LangBridgeError, match="sharding: LayerwiseConnector uses its weights inside"):
        shard(make_bridge(connector="layerwise"))


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed (the extra deepspeed)"
)
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_deepspeed_trains_and_saves_whole_weights(stage: str, base_folders, tmp_path: Path) -> None:
    """The command itself with a shipped configuration on two CPU processes, against plain data parallelism."""
    encoder, language_model = base_folders
    rows = [{"query": f"{i}+{i}?", "response": str(2 * i)} for i in range(16)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "encoder": str(encoder),
        "language_model": str(language_model),
        "data": {"path": str(tmp_path / "rows.jsonl")},
        "init": "random",
        "max_encoder_length": 32,
        "max_length": 64,
        "train": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "max_steps": 3,
                  "learning_rate": 1e-3, "use_cpu": True, "report_to": "none", "reading_score_steps": 0,
                  "logging_steps": 1, "save_strategy": "no"},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(json.dumps(settings))
    weights, losses = {}, {}
    for name, options in {
        "plain": (),
        stage: ("--set", f"train.deepspeed={ROOT / 'recipes' / 'deepspeed' / f'{stage}.json'}"),
    }.items():
        out = tmp_path / name
        command = ("-m", "langbridge.cli", "train", tmp_path / "recipe.yaml", "--out", out, *options)
        on_two_processes(*command, DS_ACCELERATOR="cpu")
        weights[name] = load_file(out / "final" / "model.safetensors")
        history = json.loads((out / "final" / "training_log.json").read_text())["history"]
        losses[name] = [line["loss"] for line in history if "loss" in line]
    assert losses[stage] == pytest.approx(losses["plain"], rel=1e-4)
    assert len(losses[stage]) == 3
    assert weights[stage].keys() == weights["plain"].keys()
    for name, expected in weights["plain"].items():
        # float32 sums in another order, and Adam's first steps divide small gradients by their own size.
        torch.testing.assert_close(weights[stage][name].float(), expected, atol=2e-4, rtol=1e-3)
