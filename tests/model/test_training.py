"""What is learned, and that nothing else is."""

import pytest
import torch
from tiny import LANGUAGE_MODELS, PLACEHOLDER, make_batch, make_bridge, make_encoder, make_language_model, one_row

from langbridge.errors import LangBridgeError
from langbridge.model import ConnectorSettings, LangBridgeModel, language_models
from langbridge.model.language_models import remove_dropout

NEW = [90, 91, 92]


def with_labels(bridge, side="right"):
    batch = make_batch(bridge, side=side)
    unlearned = (batch["attention_mask"] == 0) | (batch["input_ids"] == PLACEHOLDER) | (batch["input_ids"] == 1)
    return {**batch, "labels": batch["input_ids"].masked_fill(unlearned, -100)}


@pytest.mark.parametrize(
    ("connector", "names"),
    [
        ("linear", {"end", "linear.weight", "linear.bias"}),
        ("mlp", {"end", "up.weight", "up.bias", "down.weight", "down.bias"}),
    ],
)
def test_the_labelled_regime_trains_the_connector(connector, names):
    bridge = make_bridge(connector=connector)
    assert bridge.trainable_parameter_names() == {f"connector.{name}" for name in names}


@pytest.mark.parametrize("encoder", ["mt5", "m2m_100", "xlm-roberta", "t5gemma"])
def test_regimes(encoder):
    bridge = make_bridge(encoder, new_token_ids=NEW)
    connector = {name for name, _ in bridge.named_parameters() if name.startswith("connector.")}
    whole_encoder = {name for name, _ in bridge.named_parameters() if name.startswith("encoder.")}
    assert bridge.trainable_parameter_names() == connector
    bridge.set_training_regime(freeze_encoder=True, train_new_rows=True)
    assert bridge.trainable_parameter_names() == connector | {"new_rows"}
    bridge.set_training_regime(freeze_encoder=False)
    assert bridge.trainable_parameter_names() == connector | whole_encoder | {"new_rows"}
    bridge.train()
    assert bridge.encoder.training
    bridge.set_training_regime(freeze_encoder=True)
    assert not bridge.encoder.training
    assert bridge.trainable_parameter_names() == connector


@pytest.mark.parametrize("encoder", ["mt5", "m2m_100", "xlm-roberta", "modernbert", "t5gemma"])
@pytest.mark.parametrize("ids", [NEW, [94, 95, 96, 97]], ids=["inside the table", "beyond it"])
def test_new_rows_are_all_that_moves(encoder, ids):
    bridge = make_bridge(encoder, new_token_ids=ids, train_new_rows=True)
    before = {name: parameter.detach().clone() for name, parameter in bridge.named_parameters()}
    batch = with_labels(bridge)
    batch["encoder_input_ids"][0, 2] = ids[0]
    batch["encoder_input_ids"][1, 1] = ids[1]
    optimizer = torch.optim.AdamW([p for p in bridge.parameters() if p.requires_grad], lr=0.1, weight_decay=0.0)
    bridge(**batch).loss.backward()
    optimizer.step()
    moved = {name for name, parameter in bridge.named_parameters() if not torch.equal(parameter, before[name])}
    assert "new_rows" in moved
    assert moved <= bridge.trainable_parameter_names()
    changed = (bridge.new_rows != before["new_rows"]).any(1).tolist()
    assert changed == [True, True, *[False] * (len(ids) - 2)]


@pytest.mark.parametrize("encoder", ["mt5", "m2m_100", "xlm-roberta"])
def test_new_rows_start_at_the_mean_and_are_read_like_a_table_row(encoder):
    bridge = make_bridge(encoder, new_token_ids=[90, 91])
    table = bridge.encoder.get_input_embeddings().weight
    torch.testing.assert_close(bridge.new_rows[0], table[:90].mean(0), rtol=1e-5, atol=1e-6)
    states = bridge.encode(torch.tensor([[7, 90, 8]]))
    with torch.no_grad():
        bridge.new_rows.copy_(table[[11, 12]])
    assert not torch.allclose(states, bridge.encode(torch.tensor([[7, 90, 8]])))
    torch.testing.assert_close(bridge.encode(torch.tensor([[7, 90, 8]])), bridge.encode(torch.tensor([[7, 11, 8]])))


def test_a_frozen_encoder_has_no_dropout():
    bridge = make_bridge().train()
    batch = with_labels(bridge)
    assert not any(module.training for module in bridge.encoder.modules())
    losses = {float(bridge(**batch).loss.detach()) for _ in range(3)}
    assert len(losses) == 1
    bridge.set_training_regime(freeze_encoder=False)
    assert len({float(bridge(**batch).loss.detach()) for _ in range(3)}) > 1


@pytest.mark.parametrize("language_model", ["opt", "gpt2"])
def test_a_frozen_language_model_has_no_dropout(language_model):
    bridge = make_bridge("mt5", language_model)
    batch = with_labels(bridge)
    quiet = bridge(**batch).loss.detach()
    assert torch.equal(bridge.train()(**batch).loss.detach(), quiet)


@pytest.mark.parametrize("language_model", ["llama", "gemma2", "opt", "gpt2", "bloom"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_loss_is_that_of_all_logits(language_model, side):
    bridge = make_bridge("mt5", language_model)
    batch = with_labels(bridge, side=side)
    labels = batch.pop("labels")
    with torch.no_grad():
        full = bridge(**batch).logits
        out = bridge(**batch, labels=labels)
        summed = torch.nn.functional.cross_entropy(
            full[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
        )
    count = int((labels[:, 1:] != -100).sum())
    torch.testing.assert_close(out.loss, summed / count, rtol=1e-5, atol=1e-5)
    assert out.logits.shape == (count, full.shape[-1]), "the head ran at other positions than the targets"
    torch.testing.assert_close(
        bridge(**batch, labels=labels, num_items_in_batch=torch.tensor(7)).loss,
        summed / 7,
        rtol=1e-5,
        atol=1e-5,
    )


def test_the_first_column_is_never_learned():
    bridge = make_bridge()
    batch = with_labels(bridge)
    labels = batch.pop("labels")
    one, other = labels.clone(), labels.clone()
    one[:, 0], other[:, 0] = -100, 5
    assert torch.equal(bridge(**batch, labels=one).loss, bridge(**batch, labels=other).loss)
    padded = with_labels(bridge, side="left")
    first = padded["labels"].masked_fill(padded["input_ids"] == 1, 1)
    assert torch.equal(bridge(**{**padded, "labels": first}).loss, bridge(**padded).loss), (
        "a row's first token was predicted from padding"
    )
    nothing = bridge(**batch, labels=torch.full_like(labels, -100)).loss
    assert nothing == 0
    assert nothing.requires_grad


def test_rows_add_up():
    """The loss of a batch is that of its rows, weighted by their targets."""
    bridge = make_bridge()
    batch = with_labels(bridge, side="left")
    total = 0
    for row in range(3):
        labels = batch["labels"][row][batch["attention_mask"][row].bool()][None]
        total += bridge(**one_row(batch, row), labels=labels, num_items_in_batch=1).loss
    torch.testing.assert_close(bridge(**batch, num_items_in_batch=1).loss, total, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("freeze_encoder", [True, False])
@pytest.mark.parametrize("encoder", ["mt5", "modernbert"])
def test_gradient_checkpointing_gives_the_same_gradients(freeze_encoder, encoder):
    bridge = make_bridge(encoder, freeze_encoder=freeze_encoder)
    remove_dropout(bridge.encoder)
    batch = with_labels(bridge)
    gradients, calls = [], []
    for enable in (False, True):
        if enable:
            bridge.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            # on the way in: recomputation stops as soon as it has what it needs
            bridge.language_model.model.layers[0].self_attn.register_forward_pre_hook(lambda *_: calls.append(1))
        bridge.train()
        bridge.zero_grad()
        bridge(**batch).loss.backward()
        gradients.append({name: p.grad.clone() for name, p in bridge.named_parameters() if p.grad is not None})
    assert len(calls) == 2, "checkpointing was not active: the layer was not computed again"
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "layerwise", "mlp", "resampler"])
def test_connectors_ignore_padding(kind):
    bridge = make_bridge(connector=ConnectorSettings.read(kind, num_latents=5))
    states, mask = torch.randn(2, 6, 32), torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])
    noisy = states.clone()
    noisy[1, 3:] = 1e3
    with torch.no_grad():
        soft, soft_mask = bridge.connector(states, mask)[:2]
        other = bridge.connector(noisy, mask).soft_prompts
        short = bridge.connector(states[1:, :3], mask[1:, :3]).soft_prompts
    keep = soft_mask[1].bool()
    assert torch.equal(soft[1][keep], other[1][keep])
    torch.testing.assert_close(soft[1][keep], short[0])
    assert soft_mask.sum(1).tolist() == [n + 1 for n in map(bridge.config.connector.soft_length, [6, 3])]


@pytest.mark.parametrize("language_model", ["llama", "gemma", "gemma2"])
def test_the_end_vector_starts_at_the_scale_of_the_embeddings(language_model):
    bridge = LangBridgeModel.from_bases(
        make_encoder(), make_language_model(language_model), soft_prompt_token_id=PLACEHOLDER
    )
    read = bridge.get_input_embeddings()(torch.arange(96)).square().mean().sqrt()
    end = bridge.connector.end.square().mean().sqrt()
    assert 0.6 < float(end.detach() / read.detach()) < 1.6


def test_new_rows_cannot_be_trained_where_there_are_none():
    with pytest.raises(LangBridgeError, match="no new rows"):
        make_bridge().set_training_regime(freeze_encoder=True, train_new_rows=True)


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
@pytest.mark.parametrize("piece", [1, 4, 1000])
def test_logits_in_pieces_give_the_same_loss_and_gradients(kind, piece, monkeypatch):
    """Sums in another order: single precision, so five digits and a little."""
    monkeypatch.setattr(language_models, "PIECE", piece)
    bridge = make_bridge("mt5", kind)
    bridge.train()
    batch = with_labels(bridge)
    results = []
    for return_logits in (True, False, False):
        bridge.zero_grad()
        output = bridge(**batch, num_items_in_batch=7, return_logits=return_logits)
        output.loss.backward()
        gradients = {name: p.grad.clone() for name, p in bridge.named_parameters() if p.grad is not None}
        results.append((output, gradients))
    # Gemma 2 caps its logits after the head, which pieces of the head alone would miss.
    assert results[0][0].logits is not None
    assert all((output.logits is not None) == (kind == "gemma2") for output, _ in results[1:])
    for output, gradients in results[1:]:
        torch.testing.assert_close(output.loss, results[0][0].loss, rtol=1e-5, atol=1e-5)
        assert gradients.keys() == results[0][1].keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, results[0][1][name], rtol=1e-4, atol=1e-5)


def test_pieces_where_nothing_is_learned_or_the_head_is_trained():
    bridge = make_bridge()
    batch = with_labels(bridge)
    nothing = {**batch, "labels": torch.full_like(batch["labels"], -100)}
    assert bridge(**nothing, return_logits=False).loss == 0
    bridge.language_model.get_output_embeddings().requires_grad_(True)
    assert bridge(**batch, return_logits=False).logits is not None


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["q", "v"]], ids=["language model", "encoder"])
def test_adapters_of_peft_for_a_causal_model(targets):
    """Its wrapper says everything that a causal model takes, and None for what it was not given. In the encoder, which
    the bridge's config calls frozen, they learn too."""
    peft = pytest.importorskip("peft", reason="PEFT is not installed (the extra lora)")
    bridge = make_bridge()
    batch = with_labels(bridge)
    loss = bridge(**batch).loss
    adapted = peft.get_peft_model(bridge, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=targets))
    found = adapted(**batch).loss
    assert torch.equal(found, loss), "fresh adapters change nothing"
    found.backward()
    assert any(parameter.grad is not None for name, parameter in adapted.named_parameters() if "lora_B" in name)
