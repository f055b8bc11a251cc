"""The reference implementation's own numbers, for unpadded rows, from checkpoints in its published format.

One is in the repository (golden/README.md has its origin); more are taken from where LANGBRIDGE_GOLDEN says.
"""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from langbridge.model import LangBridgeModel, import_official

ROOT = Path(__file__).parents[2]
GOLDEN = Path(os.environ.get("LANGBRIDGE_GOLDEN", ROOT / ".." / "shared" / "golden"))
HERE = Path(__file__).parent / "golden"
# By name, since the one that is here may be there as well.
FOLDERS = {path.parent.name: path.parent for root in (GOLDEN, HERE) for path in root.glob("*/golden.safetensors")}


@pytest.fixture(scope="module", params=sorted(FOLDERS))
def golden(request, tmp_path_factory):
    folder = FOLDERS[request.param]
    encoder = next(
        path
        for path in sorted(folder.iterdir())
        if path.name.endswith("-encoder") or path.name.startswith(("mt5-", "umt5-"))
    )
    out = tmp_path_factory.mktemp(folder.name) / "bridge"
    report = import_official(
        folder / "official_checkpoint", encoder=encoder, language_model=folder / "language_model", out=out
    )
    assert "tokenizer" in str(report)
    return LangBridgeModel.from_pretrained(out), load_file(folder / "golden.safetensors")


def rows(values):
    return range(values["enc_ids"].shape[0])


def layout(model, values, row):
    """[BOS][soft prompts][end][text], and where the placeholders are: golden text is random and may hold any
    id."""
    keep = values["enc_mask"][row].bool()
    source = values["enc_ids"][row][keep][None]
    soft = model.config.connector.soft_length(source.shape[1]) + 1
    text = values["input_ids"][row]
    ids = torch.cat([text[:1], torch.full((soft,), model.config.soft_prompt_token_id), text[1:]])[None]
    positions = torch.zeros_like(ids, dtype=torch.bool)
    positions[:, 1 : 1 + soft] = True
    return source, ids, positions, soft


def test_soft_prompts(golden):
    model, values = golden
    for row in rows(values):
        source, *_ = layout(model, values, row)
        soft, _ = model.soft_prompts(source)
        # single precision leaves the reference itself 7e-6 from the same computation in double, on values up
        # to 6
        torch.testing.assert_close(soft[0], values[f"row{row}.soft_prompt"], rtol=1e-5, atol=2e-5)


def test_logits_and_loss(golden):
    model, values = golden
    for row in rows(values):
        source, ids, positions, soft = layout(model, values, row)
        with torch.no_grad():
            out = model(input_ids=ids, encoder_input_ids=source, soft_prompt_positions=positions)
            labels = ids.clone()
            labels[:, : 1 + soft] = -100
            loss = model(input_ids=ids, encoder_input_ids=source, soft_prompt_positions=positions, labels=labels).loss
        torch.testing.assert_close(out.logits[0], values[f"row{row}.logits"], rtol=0, atol=1e-5)
        torch.testing.assert_close(loss, values[f"row{row}.loss"].squeeze(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("batched", [False, True])
def test_greedy_tokens(golden, batched):
    model, values = golden
    model.generation_config.eos_token_id = None  # the reference ran on
    for row in rows(values):
        source, ids, _, soft = layout(model, values, row)
        batch = {"encoder_input_ids": source, "input_ids": ids[:, : 1 + soft]}
        if batched:  # beside the longest row, which makes padding
            longest, other, _, other_soft = layout(model, values, 0)
            width = longest.shape[1]
            batch = {
                "encoder_input_ids": torch.cat(
                    [torch.nn.functional.pad(source, (0, width - source.shape[1])), longest]
                ),
                "encoder_attention_mask": torch.tensor(
                    [[1] * source.shape[1] + [0] * (width - source.shape[1]), [1] * width]
                ),
                "input_ids": torch.cat(
                    [
                        torch.nn.functional.pad(ids[:, : 1 + soft], (other_soft - soft, 0)),
                        other[:, : 1 + other_soft],
                    ]
                ),
                "attention_mask": torch.tensor([[0] * (other_soft - soft) + [1] * (1 + soft), [1] * (1 + other_soft)]),
            }
        expected = values[f"row{row}.generated"][1:]
        out = model.generate(**batch, max_new_tokens=len(expected), do_sample=False)
        assert out[0, -len(expected) :].tolist() == expected.tolist()
