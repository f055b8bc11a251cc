"""The ridge start against numpy, by hand, and where it is not possible."""

import numpy as np
import pytest
import torch

from langbridge.model import build_bridge
from langbridge.train import ridge
from langbridge.train.ridge import NoOffsetsWarning, collect, ridge_start, touching

PROMPTS = [f"Tom has {n} apples and {name} has {n * 7 % 10}." for n in range(10) for name in ("Ann", "Bo", "Cy")]


@pytest.fixture
def bridge(base_folders):
    return build_bridge(*base_folders)


def test_tokens_touch_that_share_a_character():
    #         |Tom|' has'|        |Tom |ha|s|
    source = torch.tensor([[0, 3], [3, 7], [0, 0]])
    read = torch.tensor([[0, 4], [4, 6], [6, 7]])
    assert touching(source, read).tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]


def test_white_space_before_a_word_touches_nothing():
    spans = [[0, 3], [3, 7], [7, 9], [9, 9]]
    assert ridge._without_space("Tom has  ", spans).tolist() == [[0, 3], [4, 7], [7, 9], [9, 9]]


def test_states_are_paired_with_the_embeddings_of_their_own_characters(bridge):
    model, processor = bridge
    states, targets, tokens = collect(model, processor, ["ab c", "d"])
    assert processor.encoder_tokenizer.convert_ids_to_tokens(tokens.tolist()) == list("ab cd")
    # Both tokenizers have one token a character, so the targets are the characters' own embeddings.
    ids = processor.tokenizer("ab cd", add_special_tokens=False)["input_ids"]
    expected = model.language_model.get_input_embeddings()(torch.tensor(ids))
    torch.testing.assert_close(targets, expected)
    encoded = processor.encoder_tokenizer(["ab c"], return_tensors="pt")
    alone = model.encode(encoded["input_ids"], encoded["attention_mask"])[0, :4]
    # Batched with padding against alone, in single precision.
    torch.testing.assert_close(states[:4], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_the_fit_is_the_closed_form(bridge, balance, monkeypatch):
    monkeypatch.setattr(ridge, "ROWS", 100)  # several pieces
    model, processor = bridge
    fit = ridge_start(model, processor, PROMPTS, penalty=0.05, balance=balance)
    states, targets, tokens = (t.numpy() for t in collect(model, processor, PROMPTS))
    states, targets = states.astype(np.float64), targets.astype(np.float64)
    share = np.array([np.sum(tokens == token) for token in tokens], dtype=float) ** -balance
    share = (share / share.sum())[:, None]
    state_mean, target_mean = (share * states).sum(0), (share * targets).sum(0)
    centred = states - state_mean
    penalty = 0.05 * np.mean(np.sum(share * centred**2, axis=0))
    # Ridge is least squares with the penalty as further rows: another way to the same numbers.
    rows = np.vstack([np.sqrt(share) * centred, np.sqrt(penalty) * np.eye(centred.shape[1])])
    goals = np.vstack([np.sqrt(share) * (targets - target_mean), np.zeros((centred.shape[1], targets.shape[1]))])
    weight = np.linalg.lstsq(rows, goals, rcond=None)[0]
    bias = target_mean - state_mean @ weight
    made = states @ weight + bias
    explained = 1 - (share * (targets - made) ** 2).sum() / (share * (targets - target_mean) ** 2).sum()
    assert fit.explained == pytest.approx(explained, abs=1e-9)
    # Soft prompts are as long as the embeddings.
    scale = (share[:, 0] @ np.linalg.norm(targets, axis=1)) / (share[:, 0] @ np.linalg.norm(made, axis=1))
    assert fit.scale == pytest.approx(scale, abs=1e-9)
    assert scale > 1.01
    # The model holds it in single precision.
    np.testing.assert_allclose(model.connector.linear.weight.detach().numpy(), scale * weight.T, atol=1e-5)
    np.testing.assert_allclose(model.connector.linear.bias.detach().numpy(), scale * bias, atol=1e-5)
    # A random encoder's states name their own character well enough to be found in them.
    assert fit.explained > 0.4


def test_several_layers_are_fitted_side_by_side(base_folders):
    def explained(layers: list[int] | None) -> float:
        model, processor = build_bridge(*base_folders, connector={"kind": "linear", "encoder_layers": layers})
        fit = ridge_start(model, processor, PROMPTS, penalty=1e-4)
        assert collect(model, processor, PROMPTS[:2])[0].shape[1] == 32 * len(layers or [2])
        return fit.explained

    assert explained([2]) == explained(None) < explained([0, 2])


def test_soft_prompts_start_near_the_tokens_own_embeddings(bridge):
    model, processor = bridge

    def read(text: str) -> float:
        """The share of the text's characters whose own embedding is the nearest one to their soft prompt."""
        batch = processor([text], return_tensors="pt")
        soft, _ = model.soft_prompts(batch["encoder_input_ids"], batch["encoder_attention_mask"])
        ids = torch.tensor(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        table = model.language_model.get_input_embeddings().weight
        return (torch.cdist(soft[0, : len(ids)], table).argmin(1) == ids).double().mean().item()

    text = "Tom has 7 apples and Bo has 9."
    before = read(text)
    ridge_start(model, processor, PROMPTS, penalty=1e-4)
    assert before < 0.2
    assert read(text) > 0.6


def test_without_offsets_a_named_warning_and_the_start_stays(bridge, monkeypatch):
    model, processor = bridge
    before = {name: p.clone() for name, p in model.connector.named_parameters()}
    monkeypatch.setattr(type(processor.encoder_tokenizer), "is_fast", property(lambda self: False))
    with pytest.warns(NoOffsetsWarning, match="offsets"):
        assert ridge_start(model, processor, PROMPTS, penalty=0.01) is None
    for name, p in model.connector.named_parameters():
        assert torch.equal(p, before[name])


def test_types_held_out_are_judged_by_a_fit_without_them(bridge):
    model, processor = bridge
    fit = ridge_start(model, processor, PROMPTS, penalty=0.05)
    states, targets, tokens = collect(model, processor, PROMPTS)
    unseen = ridge._some_types(tokens)
    types = tokens.unique()
    assert len(tokens[unseen].unique()) == max(1, round(0.1 * len(types)))
    x, y = states[~unseen].double(), targets[~unseen].double()
    gram = torch.cov(x.T, correction=0)
    gram += 0.05 * gram.diagonal().mean() * torch.eye(len(gram))
    weight = torch.linalg.solve(gram, (x - x.mean(0)).T @ (y - y.mean(0)) / len(x))
    made = (states[unseen].double() - x.mean(0)) @ weight + y.mean(0)
    rest = (targets[unseen] - made).square().sum() / (targets[unseen] - y.mean(0)).square().sum()
    assert fit.explained_held_out == pytest.approx(1 - float(rest), abs=1e-6)
    # A random encoder tells a character it has never seen from no other one.
    assert fit.explained_held_out < fit.explained - 0.2


def test_bare_tokens_get_no_soft_prompt_and_are_not_fitted(base_folders):
    _, processor = build_bridge(*base_folders)
    model, dropping = build_bridge(*base_folders, drop_bare_tokens=True)
    special = processor.encoder_tokenizer.num_special_tokens_to_add()
    assert special
    with_all, without = (one("ab c", return_tensors="pt") for one in (processor, dropping))
    soft = dropping.soft_prompt_token_id
    assert (without["input_ids"] == soft).sum() == (with_all["input_ids"] == soft).sum() - special
    fit = ridge_start(model, dropping, PROMPTS, penalty=0.05)
    assert fit is not None
    assert torch.isfinite(model(**dropping(["ab c"], targets=["d"])).loss)


def test_mixed_layers_are_fitted_as_their_mean(base_folders):
    model, processor = build_bridge(*base_folders, connector={"kind": "linear", "mix_layers": True})
    states, *_ = collect(model, processor, PROMPTS[:2])
    beside, _ = build_bridge(*base_folders, connector={"kind": "linear", "encoder_layers": [0, 1, 2]})
    beside.encoder.load_state_dict(model.encoder.state_dict())
    all_states, *_ = collect(beside, processor, PROMPTS[:2])
    torch.testing.assert_close(states, all_states.unflatten(1, (3, -1)).mean(1))
    assert ridge_start(model, processor, PROMPTS, penalty=1e-4) is not None
    model.train()
    model(**processor(["ab c"], targets=["d"])).loss.backward()
    assert model.connector.mix.logits.grad.abs().sum() > 0
