"""A language model as the teacher of its own bridge: what is compared, where, and at what cost."""

import pytest
import torch
from tiny import PLACEHOLDER, make_batch, make_bridge, make_encoder, make_language_model

from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel, language_models
from langbridge.model.memory import Memory
from langbridge.model.teaching import Lesson, hidden_distance, layers_of, states_after

KINDS = ("llama", "qwen2", "gemma2", "opt", "gpt2", "bloom")


def taught(bridge, lengths=(9, 4, 6), prompt=(7, 3, 10)):
    """Rows whose continuation, the last three tokens, is learned, and what their teacher reads: prompts of other
    lengths before the same tokens."""
    batch = make_batch(bridge, lengths=lengths, text=5, side="right")
    batch["labels"] = torch.full_like(batch["input_ids"], -100)
    generator = torch.Generator().manual_seed(3)
    rows = []
    for row, (ids, mask) in enumerate(zip(batch["input_ids"], batch["attention_mask"], strict=True)):
        end = int(mask.sum())
        batch["labels"][row, end - 3 : end] = ids[end - 3 : end]
        tail = ids[:end][int((ids == PLACEHOLDER).nonzero().max()) + 1 :]
        rows.append(torch.cat([torch.tensor([1]), torch.randint(5, 90, (prompt[row],), generator=generator), tail]))
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return batch, ids, (torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for row in rows])).long()


def by_hand(bridge, batch, ids, mask, temperature, hidden_layers, hidden):
    """The same loss, a row at a time, from all logits and all hidden states."""
    total = 0
    for row in range(len(ids)):
        real = batch["attention_mask"][row].bool()
        source = batch["encoder_attention_mask"][row].bool()
        student = bridge(
            input_ids=batch["input_ids"][row][real][None],
            encoder_input_ids=batch["encoder_input_ids"][row][source][None],
            output_hidden_states=True,
        )
        with torch.no_grad():
            teacher = bridge.language_model(input_ids=ids[row][mask[row].bool()][None], output_hidden_states=True)
        p, log_q = (
            (out.logits[0, -4:-1] / temperature).softmax(-1) if out is teacher else
            (out.logits[0, -4:-1] / temperature).log_softmax(-1) for out in (teacher, student)
        )  # fmt: skip
        total = total + (p * (p.log() - log_q)).sum() * temperature**2
        behind = int((~(batch["input_ids"][row][real] == PLACEHOLDER)).flip(0).long().cumprod(0).sum())
        for layer in hidden_layers:
            ours, theirs = (out.hidden_states[layer][0, -behind:] for out in (student, teacher))
            away = (ours - theirs).square().sum(1).mean() / theirs.var(0).sum()
            total = total + hidden * away * 3 / len(hidden_layers)
    return total


def gradients(bridge, loss):
    bridge.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in bridge.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("temperature", "hidden_layers"), [(1.0, ()), (2.0, (1, 2))])
def test_the_loss_is_that_of_all_logits_and_all_states(kind, temperature, hidden_layers, monkeypatch):
    """Sums in another order: single precision, so five digits and a little."""
    monkeypatch.setattr(language_models, "PIECE", 4)
    bridge = make_bridge("mt5", kind).train()
    batch, ids, mask = taught(bridge)
    hidden = 0.5 if hidden_layers else 0.0
    for _ in range(2):  # at first it is not known whether the logits are changed after the head
        lesson = Lesson(ids, mask, temperature=temperature, hidden_layers=hidden_layers, hidden=hidden)
        out = bridge(**batch, lesson=lesson, num_items_in_batch=1)
        found = gradients(bridge, out.loss)
        wanted = by_hand(bridge, batch, ids, mask, temperature, hidden_layers, hidden)
        torch.testing.assert_close(out.loss, wanted, rtol=1e-4, atol=1e-5)
        assert out.token_losses.shape == (9,)
        for name, gradient in gradients(bridge, wanted).items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_that_reads_what_its_teacher_reads_has_nothing_to_learn(kind):
    bridge = make_bridge("mt5", kind)
    batch = make_batch(bridge, text=5, side="right")
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    soft = batch["input_ids"] == PLACEHOLDER
    ids = torch.where(soft, torch.arange(10, 10 + soft.shape[1]), batch["input_ids"])
    width = int(soft.sum(1).max())
    mask = (torch.arange(width) < soft.sum(1, keepdim=True)).long()
    prompts = torch.zeros(*mask.shape, bridge.get_input_embeddings().embedding_dim)
    prompts[mask.bool()] = bridge.get_input_embeddings()(ids[soft]).detach()
    prompts.requires_grad_(True)
    lesson = Lesson(ids, batch["attention_mask"], hidden_layers=(0, 1, 2), hidden=1.0)
    del batch["encoder_input_ids"], batch["encoder_attention_mask"]
    out = bridge(**batch, memory=Memory(prompts, mask), lesson=lesson)
    out.loss.backward()
    assert float(out.loss.detach()) == 0
    assert not out.token_losses.any()
    # Through capped logits the gradient is autograd's, whose rounding is not the same at every word.
    assert prompts.grad.abs().max() <= (1e-8 if kind == "gemma2" else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_that_ends_early_runs_no_more_and_gives_the_same_states(kind):
    model = make_language_model(kind)
    ids, at = torch.randint(5, 90, (2, 7)), torch.zeros(2, 7, dtype=torch.bool)
    at[0, 2:], at[1, :3] = True, True
    whole = model(input_ids=ids, output_hidden_states=True).hidden_states
    ran = []
    for place, layer in enumerate(layers_of(model)):
        layer.register_forward_hook(lambda *_, place=place: ran.append(place))
    model.get_output_embeddings().register_forward_hook(lambda *_: ran.append("head"))
    with states_after(model, (0, 1), at, last=1) as found:
        model(input_ids=ids)
    assert ran == [0]
    for layer in (0, 1):
        assert torch.equal(found[layer], whole[layer][at])
    with states_after(model, (2,), at) as found:
        model(input_ids=ids)
    if kind != "opt":  # whose last states are turned to another width for the head
        torch.testing.assert_close(found[2], whole[2][at])
    assert ran == [0, 0, 1, "head"]
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_with_fewer_layers_the_loss_is_the_distance_of_the_hidden_states(checkpointing):
    bridge = make_bridge().train()
    batch, ids, mask = taught(bridge)
    lesson = Lesson(ids, mask, layers=1, hidden_layers=(1,), hidden=2.0)
    if checkpointing:
        bridge.gradient_checkpointing_enable()
    out = bridge(**batch, lesson=lesson, num_items_in_batch=1)
    assert out.token_losses is None
    found = gradients(bridge, out.loss)
    whole = by_hand(bridge, batch, ids, mask, 1.0, (1,), 2.0) - by_hand(bridge, batch, ids, mask, 1.0, (), 0.0)
    torch.testing.assert_close(out.loss, whole, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients(bridge, whole).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)


def test_the_distance_has_no_scale():
    teacher, student = torch.randn(6, 8), torch.randn(6, 8)
    distance = hidden_distance(student, teacher)
    torch.testing.assert_close(hidden_distance(100 * student + 7, 100 * teacher + 7), distance)
    assert hidden_distance(teacher, teacher) == 0
    torch.testing.assert_close(hidden_distance(teacher.mean(0).expand(6, -1), teacher), torch.tensor(5 / 6))
    assert hidden_distance(student[:1], teacher[:1]) == 0


def test_where_nothing_is_learned_there_is_no_loss():
    bridge = make_bridge()
    batch, ids, mask = taught(bridge)
    batch["labels"].fill_(-100)
    loss = bridge(**batch, lesson=Lesson(ids, mask, hidden_layers=(2,), hidden=1.0)).loss
    assert not any(gradient.any() for gradient in gradients(bridge, loss).values())


def test_layers_that_are_in_no_list_are_named():
    bridge = LangBridgeModel.from_bases(make_encoder(), make_language_model(), soft_prompt_token_id=PLACEHOLDER)
    bridge.language_model.model.layers = torch.nn.Sequential(*bridge.language_model.model.layers)
    with pytest.raises(LangBridgeError, match=r"no list of its 2 layers; leave hidden states out \(distil.hidden"):
        layers_of(bridge.language_model)
