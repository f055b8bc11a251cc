"""Noise on what the connector reads: in training alone, at each coordinate's own scale, and the same when gone on."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from langbridge.errors import LangBridgeError
from langbridge.model.connectors.linear import LinearConnector
from langbridge.train import train
from langbridge.train.state_noise import blur, blur_states


def test_it_is_at_each_coordinates_own_scale_over_real_tokens():
    scale = torch.tensor([0.0, 1.0, 50.0])
    states = torch.randn(40, 50, 3, generator=torch.Generator().manual_seed(0)) * scale
    mask = torch.ones(40, 50, dtype=torch.long)
    mask[:, 30:] = 0
    states[:, 30:] = 1e4  # padding, which means nothing
    torch.manual_seed(0)
    noise = (blur(states, mask, 0.5) - states)[:, :30].flatten(0, 1)
    # Of 1,200 draws a standard deviation is known to 2 per cent.
    assert torch.allclose(noise.std(0), 0.5 * scale, rtol=0.1)
    assert torch.allclose(noise.mean(0), torch.zeros(3), atol=3)
    assert not blur(states[:1, :1], mask[:1, :1], 0.5).isnan().any(), "one token has no spread"


def test_it_is_there_in_training_alone():
    connector = LinearConnector(6, 4)
    states, mask = torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.long)
    clean = connector(states, mask).soft_prompts
    handle = blur_states(connector, 0.5)
    assert not torch.equal(connector(states, mask).soft_prompts, clean)
    assert torch.equal(connector.eval()(states, mask).soft_prompts, clean)
    handle.remove()
    assert torch.equal(connector.train()(states, mask).soft_prompts, clean)


def test_a_run_learns_otherwise_from_the_same_start_and_goes_on_as_it_was(load, tmp_path):
    def run(name, *changes, **how):
        shared = ("train.max_steps=4", "train.save_strategy=steps", "train.save_steps=2", *changes)
        return train(load(*shared), tmp_path / name, progress=False, **how)

    plain, noisy = run("plain"), run("noisy", "state_noise=0.5")
    starts = [json.loads((folder / "run.json").read_text())["start"] for folder in (plain, noisy)]
    assert starts[0] == starts[1], "the closed form is of clean states"
    ends = [load_file(folder / "model.safetensors") for folder in (plain, noisy)]
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    for folder in (noisy, tmp_path / "noisy" / "checkpoint-4"):
        shutil.rmtree(folder)
    again = load_file(run("noisy", "state_noise=0.5", resume=True) / "model.safetensors")
    assert all(torch.equal(ends[1][name], again[name]) for name in again), "its random numbers go on too"


def test_it_is_refused_where_no_bridge_is_trained(load):
    with pytest.raises(LangBridgeError, match="state_noise: objective plain has no encoder"):
        load("objective=plain", "encoder=null", "state_noise=0.5")
    with pytest.raises(LangBridgeError, match="state_noise"):
        load("state_noise=-1")
