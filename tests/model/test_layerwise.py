"""The connector with cross-attention in the language model's layers, in every kind that it reaches into."""

from typing import Any

import pytest
import torch
from coming_and_going import written_as_each_alone
from tiny import VOCAB, language_model_config, make_batch, make_bridge, make_encoder, one_row
from torch import nn

from langbridge.errors import LangBridgeError
from langbridge.model import Bridge, LangBridgeModel, build_bridge
from langbridge.serve.prompt_embeddings import PromptEmbedder

LAYERS = [0, 1, 2]
LAYERWISE = {"kind": "layerwise", "encoder_layers": LAYERS}
REACHED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")


def opened(bridge: LangBridgeModel, seed: int = 0) -> LangBridgeModel:
    """With gates and mixes of its own in every layer."""
    torch.manual_seed(seed)
    bridge.generation_config.eos_token_id = None
    with torch.no_grad():
        bridge.connector.gates.uniform_(0.05, 0.2)
        bridge.connector.shares.uniform_(-1, 1)
    return bridge


@pytest.fixture
def bridge() -> LangBridgeModel:
    return opened(make_bridge(connector=LAYERWISE))


@pytest.mark.parametrize("language_model", [*REACHED, "smollm3", "olmo2"])
def test_it_begins_as_the_linear_bridge_bit_for_bit_and_reaches_every_layer(language_model: str) -> None:
    plain = make_bridge("mt5", language_model, connector={"kind": "linear", "encoder_layers": LAYERS})
    bridge = make_bridge("mt5", language_model, connector=LAYERWISE)
    batch, wanted = make_batch(bridge, side="right"), {"max_new_tokens": 5, "do_sample": False}
    with torch.no_grad():
        expected = plain(**batch).logits
        assert torch.equal(bridge(**batch).logits, expected)
        assert torch.equal(bridge.generate(**batch, **wanted), plain.generate(**batch, **wanted))
        for layer in range(2):  # each by itself
            bridge.connector.gates.zero_()[layer] = 0.1
            assert not torch.allclose(bridge(**batch).logits, expected, atol=1e-3)
    layers = bridge.language_model.get_decoder().layers
    assert not any(layer.self_attn._forward_hooks for layer in layers), "and it lets go"


def test_it_adds_the_layers_own_attention_to_the_memory() -> None:
    """Written out by hand, head by head, for a Llama with two keys to four queries."""
    bridge = opened(make_bridge(connector={**LAYERWISE, "gate_scale": 3.0}))
    batch = make_batch(bridge, lengths=(4,))
    connector, layer = bridge.connector, bridge.language_model.model.layers[0]
    seen: dict[str, torch.Tensor] = {}
    outputs: list[torch.Tensor] = []  # of the self-attention, then of what is added
    layer.self_attn.q_proj.register_forward_hook(lambda _m, args, _o: seen.update(hidden=args[0]))
    layer.self_attn.o_proj.register_forward_hook(lambda _m, _a, output: outputs.append(output))
    layer.post_attention_layernorm.register_forward_hook(lambda _m, args, _o: seen.update(after=args[0]))
    ids, mask = batch["encoder_input_ids"], batch["encoder_attention_mask"]
    with torch.no_grad():
        states = bridge.encode(ids, mask).unflatten(-1, (3, 32))
        maps = connector.memory.weight.unflatten(1, (3, 32))
        mixed = sum(connector.shares[0, n] * states[0, :, n] @ maps[:, n].T for n in range(3)) + connector.memory.bias
        read, attention = layer.input_layernorm(mixed), layer.self_attn
        bridge(**batch)
        keys, values = attention.k_proj(read).split(12, -1), attention.v_proj(read).split(12, -1)
        heads = []
        for head, query in enumerate(attention.q_proj(seen["hidden"][0]).split(12, -1)):
            weights = (query @ keys[head // 2].T / 12**0.5).softmax(-1)
            heads.append(weights @ values[head // 2])
        added = torch.tanh(3 * connector.gates[0]) * (torch.cat(heads, -1) @ attention.o_proj.weight.T)
        embeds = bridge.embed(batch["input_ids"], bridge.read(ids, mask), batch["attention_mask"])
    assert float(added.norm() / outputs[0].norm()) > 0.05, "there is something to be wrong about"
    torch.testing.assert_close(seen["after"][0], embeds[0] + outputs[0][0] + added, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("language_model", "way"),
    [
        *((kind, {}) for kind in REACHED),
        ("llama", {"num_beams": 3}),
        ("qwen3", {"num_beams": 4, "num_return_sequences": 2}),
        ("gemma3_text", {"use_cache": False}),
    ],
)
def test_a_row_of_a_batch_is_what_it_is_alone(language_model: str, way: dict[str, Any]) -> None:
    bridge = opened(make_bridge("mt5", language_model, connector=LAYERWISE))
    batch, count = make_batch(bridge), way.get("num_return_sequences", 1)
    wanted = {"max_new_tokens": 5, "do_sample": False, **way}
    together = bridge.generate(**batch, **wanted)[:, -5:]
    for row in range(3):
        alone = bridge.generate(**one_row(batch, row), **wanted)[:, -5:]
        assert torch.equal(together[row * count : (row + 1) * count], alone)


def test_the_cache_changes_nothing_and_padding_is_not_read(bridge: LangBridgeModel) -> None:
    batch, wanted = make_batch(bridge), {"max_new_tokens": 6, "do_sample": False}
    cached, uncached = (bridge.generate(**batch, **wanted, use_cache=use) for use in (True, False))
    assert torch.equal(cached, uncached)
    with torch.no_grad():
        for row in range(3):
            alone = bridge(**one_row(batch, row)).logits[:, -1]
            torch.testing.assert_close(bridge(**batch).logits[row : row + 1, -1], alone, rtol=1e-4, atol=1e-4)


def test_several_sources_are_one_memory_and_a_row_without_one_is_the_language_models_own(
    bridge: LangBridgeModel,
) -> None:
    singles = [one_row(make_batch(bridge), row) for row in range(3)]
    three = torch.cat([single["input_ids"] for single in singles], 1)[0]
    none = torch.tensor([1, 11, 12, 13])
    sources = [single["encoder_input_ids"][0] for single in singles]

    def padded(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        masks = [torch.ones_like(row) for row in rows]
        ids, mask = (nn.utils.rnn.pad_sequence(x, batch_first=True, padding_side="left") for x in (rows, masks))
        return ids, mask

    @torch.no_grad()
    def last(rows: list[torch.Tensor], read: list[torch.Tensor]) -> torch.Tensor:
        names = ("input_ids", "attention_mask", "encoder_input_ids", "encoder_attention_mask")
        return bridge(**dict(zip(names, (*padded(rows), *padded(read)), strict=True))).logits[:, -1]

    together = last([none, three], sources)
    # Padded against not, in single precision.
    torch.testing.assert_close(together[1:], last([three], sources), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        alone = bridge.language_model(none[None]).logits[:, -1]
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-4)


def test_it_alone_learns_gates_first(bridge: LangBridgeModel) -> None:
    """At closed gates nothing behind them has a gradient, and they have one."""
    batch = make_batch(bridge, side="right")
    before = {name: weight.clone() for name, weight in bridge.language_model.state_dict().items()}
    bridge.connector.gates.data.zero_()
    optimizer = torch.optim.SGD(bridge.connector.parameters(), lr=0.01)
    moved = []
    for _ in range(2):
        optimizer.zero_grad()
        bridge.train()(**batch, labels=batch["input_ids"]).loss.backward()
        moved.append({name for name, one in bridge.connector.named_parameters() if one.grad.abs().max() > 0})
        optimizer.step()
    assert moved[0] == {"end", "gates", "linear.weight", "linear.bias"}
    assert moved[1] == moved[0] | {"shares", "memory.weight", "memory.bias"}
    assert all(torch.equal(weight, before[name]) for name, weight in bridge.language_model.state_dict().items())
    assert all(parameter.grad is None for parameter in bridge.language_model.parameters())
    trained = sum(parameter.numel() for parameter in bridge.parameters() if parameter.requires_grad)
    affine = 3 * 32 * 48 + 48
    assert trained == 2 * affine + 48 + 2 * 3 + 2  # twice a map, the end vector, the mixes, the gates


def test_it_reaches_the_layers_that_it_is_told_to() -> None:
    bridge = make_bridge(connector={**LAYERWISE, "every": 2})
    assert bridge.connector.shares.shape == (1, 3)
    memory = bridge.read(torch.tensor([[7, 8, 9]]))
    assert memory.keys_values.shape == (1, 3, 2 * 2 * 12)  # keys and values of one layer, two heads of 12
    with bridge.connector.inject(bridge.language_model, memory):
        hooked = [len(layer.self_attn._forward_hooks) for layer in bridge.language_model.model.layers]
    assert hooked == [1, 0]


def test_one_mean_of_the_layers_is_one_layer_to_it() -> None:
    bridge = make_bridge(connector={"kind": "layerwise", "mix_layers": True})
    assert bridge.connector.shares.shape == (2, 1)
    assert bridge.read(torch.tensor([[7, 8, 9]])).keys_values.isfinite().all()


def test_a_closed_form_is_written_into_both_channels(bridge: LangBridgeModel) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias, end = (torch.randn(*shape, generator=generator) for shape in ((96, 48), (48,), (48,)))
    bridge.connector.set_affine(weight, bias, end)
    bridge.connector.shares.data.fill_(1.0)
    states = torch.randn(2, 4, 96, generator=generator)
    memory = bridge.connector(states, torch.ones(2, 4, dtype=torch.long))
    torch.testing.assert_close(memory.soft_prompts[:, :-1], states @ weight + bias)
    read = memory.keys_values.unflatten(-1, (3, 48)).sum(-2) + bridge.connector.memory.bias
    torch.testing.assert_close(read, memory.soft_prompts[:, :-1], rtol=1e-4, atol=1e-4)


def test_rows_that_come_and_go_are_reached_as_each_alone(bridge: LangBridgeModel) -> None:
    """As a server writes them: joining and leaving between tokens."""
    written_as_each_alone(bridge)


def test_it_is_saved_and_loaded_with_and_without_its_language_model(bases, tmp_path) -> None:
    model, processor = build_bridge(*bases, connector=LAYERWISE)
    opened(model).save_pretrained(tmp_path)
    loaded, alone = LangBridgeModel.from_pretrained(tmp_path), Bridge.from_pretrained(tmp_path, encoder=bases[0])
    batch = processor(["Tom has 3 apples", "a"])
    source = batch["encoder_input_ids"], batch["encoder_attention_mask"]
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, model(**batch).logits)
        assert torch.equal(alone.read(*source).soft_prompts, model.read(*source).soft_prompts)
    with pytest.raises(LangBridgeError, match="LayerwiseConnector reaches into the language model's layers"):
        PromptEmbedder(alone, model.get_input_embeddings())


@pytest.mark.parametrize("language_model", ["gpt2", "opt", "bloom"])
def test_a_language_model_that_is_built_otherwise_is_refused(language_model: str) -> None:
    with pytest.raises(LangBridgeError, match=r"connector: layerwise reaches into .*Use connector: linear"):
        make_bridge("mt5", language_model, connector=LAYERWISE)


def test_half_precision_of_the_language_model_is_followed() -> None:
    torch.manual_seed(0)
    import transformers as hf

    language_model = hf.AutoModelForCausalLM.from_config(language_model_config("llama")).to(torch.bfloat16)
    bridge = LangBridgeModel.from_bases(
        make_encoder(), language_model, connector=LAYERWISE, soft_prompt_token_id=VOCAB - 1
    )
    assert bridge.connector.gates.dtype == torch.float32
    assert opened(bridge)(**make_batch(bridge)).logits.isfinite().all()
