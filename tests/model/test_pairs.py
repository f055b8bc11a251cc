"""Every pair of an encoder with Llama and of mT5 with a language model: a row in a padded batch is the row
alone, and padding says nothing."""

import pytest
import torch
from tiny import ENCODERS, LANGUAGE_MODELS, make_batch, make_bridge, one_row

PAIRS = [(encoder, "llama") for encoder in ENCODERS] + [
    ("mt5", language_model) for language_model in LANGUAGE_MODELS if language_model != "llama"
]
# Single precision: padding changes the order of summation in attention, and the tiny models' logits reach
# some tens.
TOLERANCE = {"rtol": 1e-4, "atol": 2e-4}


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def bridge(request):
    return make_bridge(*request.param)


def test_a_row_of_a_batch_generates_as_alone(bridge):
    batch = make_batch(bridge)
    together = bridge.generate(**batch, max_new_tokens=8, do_sample=False)[:, batch["input_ids"].shape[1] :]
    for row in range(3):
        single = one_row(batch, row)
        alone = bridge.generate(**single, max_new_tokens=8, do_sample=False)[0, single["input_ids"].shape[1] :]
        assert together[row, : len(alone)].tolist() == alone.tolist(), (
            f"row {row} of the batch differs from itself alone"
        )
    assert len({tuple(row.tolist()) for row in together}) > 1, "all rows read alike, so this test sees nothing"


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_of_a_row_are_those_alone(bridge, side):
    batch = make_batch(bridge, side=side)
    with torch.no_grad():
        together = bridge(**batch).logits
        for row in range(3):
            alone = bridge(**one_row(batch, row)).logits[0]
            real = batch["attention_mask"][row].bool()
            torch.testing.assert_close(together[row][real], alone, **TOLERANCE)


def test_padding_content_changes_nothing(bridge):
    batch = make_batch(bridge)
    other = {name: tensor.clone() for name, tensor in batch.items()}
    other["encoder_input_ids"][batch["encoder_attention_mask"] == 0] = 17
    other["input_ids"][batch["attention_mask"] == 0] = bridge.config.soft_prompt_token_id
    with torch.no_grad():
        real = batch["attention_mask"].bool()
        assert torch.equal(bridge(**batch).logits[real], bridge(**other).logits[real])
        # the encoder's padding may as well be on the left
        flipped = dict(batch)
        order = torch.argsort(batch["encoder_attention_mask"], dim=1, stable=True)
        flipped["encoder_input_ids"] = batch["encoder_input_ids"].gather(1, order)
        flipped["encoder_attention_mask"] = batch["encoder_attention_mask"].gather(1, order)
        torch.testing.assert_close(bridge(**batch).logits[real], bridge(**flipped).logits[real], **TOLERANCE)


def test_gradients_reach_the_connector_alone(bridge):
    bridge.train()
    bridge.zero_grad()
    batch = make_batch(bridge, side="right")
    labels = batch["input_ids"].masked_fill(
        (batch["attention_mask"] == 0) | (batch["input_ids"] == bridge.config.soft_prompt_token_id), -100
    )
    bridge(**batch, labels=labels).loss.backward()
    with_gradient = {name for name, parameter in bridge.named_parameters() if parameter.grad is not None}
    assert with_gradient == {name for name, _ in bridge.named_parameters() if name.startswith("connector.")}
    bridge.eval()


def test_saved_and_exported_pairs_load(bridge, tmp_path):
    from langbridge.model import LangBridgeModel
    from langbridge.model.saving import write_merged

    (tmp_path / "merged").mkdir()
    write_merged(bridge, tmp_path / "merged")
    batch = make_batch(bridge)
    loaded = LangBridgeModel.from_pretrained(tmp_path / "merged")
    with torch.no_grad():
        torch.testing.assert_close(bridge(**batch).logits, loaded(**batch).logits, rtol=0, atol=1e-5)
    bridge.save_pretrained(tmp_path / "small")
    small = LangBridgeModel.from_pretrained(
        tmp_path / "small",
        encoder=tmp_path / "merged" / "encoder",
        language_model=tmp_path / "merged" / "language_model",
    )
    with torch.no_grad():
        torch.testing.assert_close(bridge(**batch).logits, small(**batch).logits, rtol=0, atol=1e-5)
