"""A connector that reaches into the language model's layers: one class, and every pass goes through it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from coming_and_going import written_as_each_alone
from tiny import make_batch, make_bridge, one_row
from torch import nn

from langbridge.errors import LangBridgeError
from langbridge.model import Connector, ConnectorSettings, LangBridgeModel, Memory
from langbridge.model.connectors import settings as known

D_MEMORY = 8


class Reaching(Connector):
    """One affine map a position, and cross-attention from the first layer's output to the encoder's states."""

    def __init__(self, d_encoder: int, d_lm: int, rms: float):
        super().__init__(d_lm, rms)
        self.linear = nn.Linear(d_encoder, d_lm)
        self.narrow = nn.Linear(d_encoder, D_MEMORY)
        self.query, self.back = nn.Linear(d_lm, D_MEMORY), nn.Linear(D_MEMORY, d_lm)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> Memory:
        memory = self.with_end(self.linear(states), mask)
        return memory._replace(keys_values=self.narrow(states), keys_values_mask=mask)

    @contextmanager
    def inject(self, language_model: Any, memory: Memory) -> Iterator[None]:
        keys, mask = memory.keys_values, memory.keys_values_mask

        def add(_module: nn.Module, _args: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            scores = (self.query(hidden) @ keys.mT).masked_fill(~mask.bool()[:, None], float("-inf"))
            changed = hidden + self.back(scores.softmax(-1) @ keys)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        handle = language_model.model.layers[0].register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()


class ReachingSettings(ConnectorSettings):
    kind: str = "reaching"

    def build(self, d_encoder: int, d_lm: int, rms: float) -> Reaching:
        return Reaching(d_encoder, d_lm, rms)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(known._OURS, "reaching", f"{__name__}:ReachingSettings")


@pytest.fixture
def bridge() -> LangBridgeModel:
    model = make_bridge(connector=ReachingSettings())
    model.generation_config.eos_token_id = None
    return model


def silent(bridge: LangBridgeModel) -> None:
    """Let it add nothing."""
    with torch.no_grad():
        bridge.connector.back.weight.zero_()
        bridge.connector.back.bias.zero_()


def test_it_reaches_the_layers_in_forward_and_in_every_step_of_generate(bridge) -> None:
    batch, wanted = make_batch(bridge), {"max_new_tokens": 6, "do_sample": False}
    with torch.no_grad():
        logits = bridge(**batch).logits
    cached, uncached = (bridge.generate(**batch, **wanted, use_cache=use) for use in (True, False))
    assert torch.equal(cached, uncached), "a step with a cache is reached like one that reads all again"
    silent(bridge)
    with torch.no_grad():
        assert not torch.allclose(bridge(**batch).logits, logits)
    assert not torch.equal(bridge.generate(**batch, **wanted), cached)
    assert not bridge.language_model.model.layers[0]._forward_hooks, "and it lets go"


@pytest.mark.parametrize(
    "way", [{}, {"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}, {"prefill_chunk_size": 4}]
)
def test_a_row_of_a_batch_is_what_it_is_alone(bridge, way) -> None:
    batch, count = make_batch(bridge), way.get("num_return_sequences", 1)
    wanted = {"max_new_tokens": 5, "do_sample": False, **way}
    together = bridge.generate(**batch, **wanted)[:, -5:]
    for row in range(3):
        alone = bridge.generate(**one_row(batch, row), **wanted)[:, -5:]
        assert torch.equal(together[row * count : (row + 1) * count], alone)


def test_several_sources_of_a_row_are_one_memory(bridge) -> None:
    """A row with two sources, beside a row with one: as each is alone."""
    first, second, third = (one_row(make_batch(bridge), row) for row in range(3))
    two, one = torch.cat([first["input_ids"], second["input_ids"]], 1)[0], third["input_ids"][0]
    sources = [single["encoder_input_ids"][0] for single in (first, second, third)]

    def padded(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        masks = [torch.ones_like(row) for row in rows]
        ids, mask = (nn.utils.rnn.pad_sequence(x, batch_first=True, padding_side="left") for x in (rows, masks))
        return ids, mask

    @torch.no_grad()
    def last(rows: list[torch.Tensor], read: list[torch.Tensor]) -> torch.Tensor:
        names = ("input_ids", "attention_mask", "encoder_input_ids", "encoder_attention_mask")
        return bridge(**dict(zip(names, (*padded(rows), *padded(read)), strict=True))).logits[:, -1]

    both = last([two, one], sources)
    # Padded against not, in single precision.
    torch.testing.assert_close(both[:1], last([two], sources[:2]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(both[1:], last([one], sources[2:]), rtol=1e-4, atol=1e-4)
    silent(bridge)
    assert not torch.allclose(both, last([two, one], sources), atol=1e-2)


def test_it_learns_and_a_conversation_goes_on_with_it(bridge) -> None:
    batch = make_batch(bridge, side="right")
    bridge(**batch, labels=batch["input_ids"]).loss.backward()
    assert all(parameter.grad is not None for parameter in bridge.connector.parameters())
    single = one_row(make_batch(bridge), 0)
    wanted = {"do_sample": False, "max_new_tokens": 4}
    first = bridge.generate(**single, **wanted, return_dict_in_generate=True)
    ids = torch.cat([first.sequences, torch.tensor([[11, 12]])], 1)
    longer = {**single, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    again = bridge.generate(**longer, **wanted)
    assert torch.equal(bridge.generate(**longer, **wanted, past_key_values=first.past_key_values), again)


def test_rows_that_come_and_go_are_reached_as_each_alone(bridge) -> None:
    """As a server writes them: joining and leaving between tokens."""
    told = written_as_each_alone(bridge)
    assert len({answer.text.split()[0] for answer in told.values()}) > 1


def test_it_is_saved_and_loaded_like_any_other(bridge, bases, tmp_path) -> None:
    model = LangBridgeModel.from_bases(*bases, connector="reaching")
    model.save_pretrained(tmp_path)
    loaded = LangBridgeModel.from_pretrained(tmp_path)
    batch = make_batch(model, lengths=(5, 3))
    batch["input_ids"] = batch["input_ids"].masked_fill(batch["input_ids"] == 95, model.config.soft_prompt_token_id)
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, model(**batch).logits)


def test_gradient_checkpointing_would_compute_the_layers_without_it(bridge) -> None:
    bridge.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    batch = make_batch(bridge, side="right")
    with pytest.raises(LangBridgeError, match=r"gradient checkpointing.*Reaching"):
        bridge.train()(**batch, labels=batch["input_ids"])
    with torch.no_grad():
        bridge(**batch, labels=batch["input_ids"])
