"""Every way to generate: the encoder runs once a request, and cached equals uncached."""

import pytest
import torch
import transformers as hf
from tiny import PLACEHOLDER, make_batch, make_bridge, make_encoder, make_language_model, one_row

from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel


@pytest.fixture(scope="module")
def bridge():
    model = make_bridge()
    model.generation_config.eos_token_id = None
    return model


@pytest.fixture
def encoded(bridge):
    """How often the encoder ran."""
    calls = []
    handle = bridge.encoder.register_forward_hook(lambda *_: calls.append(1))
    yield calls
    handle.remove()


WAYS = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "top_k": 20},
    "beams": {"num_beams": 3, "do_sample": False},
    "several": {"num_beams": 4, "num_return_sequences": 2, "do_sample": False},
    "samples": {"do_sample": True, "num_return_sequences": 3},
    "static cache": {"cache_implementation": "static", "do_sample": False},
    "no cache": {"use_cache": False, "do_sample": False},
    "beams without cache": {"use_cache": False, "num_beams": 3, "do_sample": False},
    "penalties": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "do_sample": False},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_encoder_runs_once(bridge, encoded, way):
    batch = make_batch(bridge)
    torch.manual_seed(0)
    out = bridge.generate(**batch, max_new_tokens=6, **WAYS[way])
    assert len(encoded) == 1
    assert out.shape == (3 * WAYS[way].get("num_return_sequences", 1), batch["input_ids"].shape[1] + 6)


def test_prompt_lookup(bridge, encoded):
    single = one_row(make_batch(bridge), 0)
    plain = bridge.generate(**single, max_new_tokens=6, do_sample=False)
    looked = bridge.generate(**single, max_new_tokens=6, do_sample=False, prompt_lookup_num_tokens=2)
    assert torch.equal(plain, looked)
    assert len(encoded) == 2


def test_an_assistant_bridge(bridge):
    single = one_row(make_batch(bridge), 0)
    torch.manual_seed(5)
    assistant = LangBridgeModel.from_bases(
        make_encoder("mt5"), make_language_model("llama"), soft_prompt_token_id=PLACEHOLDER
    )
    assistant.generation_config.eos_token_id = None
    plain = bridge.generate(**single, max_new_tokens=6, do_sample=False)
    assert torch.equal(plain, bridge.generate(**single, max_new_tokens=6, do_sample=False, assistant_model=assistant))


def test_a_streamer(bridge, encoded):
    class Collector(hf.generation.BaseStreamer):
        def __init__(self):
            self.ids = []

        def put(self, value):
            self.ids += value.flatten().tolist()

        def end(self):
            self.ended = True

    streamer = Collector()
    out = bridge.generate(**one_row(make_batch(bridge), 1), max_new_tokens=6, do_sample=False, streamer=streamer)
    assert streamer.ids == out[0].tolist()
    assert streamer.ended
    assert len(encoded) == 1


@pytest.mark.parametrize("way", ["static cache", "no cache"])
@pytest.mark.parametrize("language_model", ["llama", "gemma2", "opt"])
def test_caches_agree(way, language_model):
    bridge = make_bridge("mt5", language_model)
    batch = make_batch(bridge)
    plain = bridge.generate(**batch, max_new_tokens=6, do_sample=False)
    assert torch.equal(plain, bridge.generate(**batch, max_new_tokens=6, **WAYS[way]))


@pytest.mark.parametrize("beams", [{"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}])
def test_beams_of_a_row_are_those_alone(bridge, beams):
    batch = make_batch(bridge)
    n = beams.get("num_return_sequences", 1)
    together = bridge.generate(**batch, max_new_tokens=5, do_sample=False, **beams)[:, -5:]
    cached = bridge.generate(**batch, max_new_tokens=5, do_sample=False, use_cache=False, **beams)[:, -5:]
    assert torch.equal(together, cached)
    for row in range(3):
        alone = bridge.generate(**one_row(batch, row), max_new_tokens=5, do_sample=False, **beams)[:, -5:]
        assert torch.equal(together[row * n : (row + 1) * n], alone)


def test_generation_repeats_the_forward_pass(bridge):
    batch = make_batch(bridge)
    out = bridge.generate(**batch, max_new_tokens=5, do_sample=False)
    mask = torch.cat([batch["attention_mask"], torch.ones(3, 5, dtype=torch.long)], dim=1)
    positions = torch.nn.functional.pad(batch["input_ids"] == PLACEHOLDER, (0, 5))
    source = {key: batch[key] for key in ("encoder_input_ids", "encoder_attention_mask")}
    with torch.no_grad():
        logits = bridge(input_ids=out, attention_mask=mask, soft_prompt_positions=positions, **source).logits
    assert torch.equal(logits[:, -6:-1].argmax(-1), out[:, -5:])


def test_right_padded_prompts_are_moved(bridge):
    left, right = (make_batch(bridge, side=side) for side in ("left", "right"))
    assert torch.equal(
        bridge.generate(**left, max_new_tokens=5, do_sample=False),
        bridge.generate(**right, max_new_tokens=5, do_sample=False),
    )


def test_a_generated_placeholder_is_a_token(bridge):
    """Without a cache the whole sequence is read again, and what was generated is no place for a soft
    prompt."""

    class Force(hf.LogitsProcessor):
        def __call__(self, input_ids, scores):
            return torch.full_like(scores, -1e9).index_fill(1, torch.tensor([PLACEHOLDER]), 0.0)

    single = one_row(make_batch(bridge), 0)
    out = bridge.generate(
        **single,
        max_new_tokens=3,
        do_sample=False,
        use_cache=False,
        logits_processor=hf.LogitsProcessorList([Force()]),
    )
    assert out[0, -3:].tolist() == [PLACEHOLDER] * 3


def test_without_a_source_it_is_the_language_model(bridge):
    ids = torch.tensor([[1, 8, 9, 10]])
    alone = bridge.language_model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=5,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert torch.equal(bridge.generate(input_ids=ids, max_new_tokens=5, do_sample=False)[:, : alone.shape[1]], alone)
    with torch.no_grad():
        assert torch.equal(bridge(input_ids=ids).logits, bridge.language_model(ids).logits)


def test_soft_prompts_land_in_their_places(bridge):
    batch = make_batch(bridge)
    soft, mask = bridge.soft_prompts(batch["encoder_input_ids"], batch["encoder_attention_mask"])
    places = (batch["input_ids"] == PLACEHOLDER) & batch["attention_mask"].bool()
    embeds = bridge.fill(batch["input_ids"], places, soft, mask)
    for row in range(3):
        assert torch.equal(embeds[row][places[row]], soft[row][mask[row].bool()])
    rest = bridge.get_input_embeddings()(batch["input_ids"])
    assert torch.equal(embeds[~places], rest[~places])
    assert torch.equal(soft[:, -1], bridge.connector.end.expand(3, -1))


def test_a_wrong_count_says_both_numbers(bridge):
    single = one_row(make_batch(bridge), 0)
    single["encoder_input_ids"] = single["encoder_input_ids"][:, :-2]
    single["encoder_attention_mask"] = single["encoder_attention_mask"][:, :-2]
    with pytest.raises(ValueError, match=r"10 placeholders.*8 soft prompts.*LangBridgeProcessor"):
        bridge(**single)
    with pytest.raises(LangBridgeError, match="no encoder_input_ids"):
        bridge(input_ids=single["input_ids"])


def test_a_hard_length_limit_is_an_error():
    bridge = make_bridge("xlm-roberta")
    assert bridge.encoder_length_limit == 40
    with pytest.raises(LangBridgeError, match=r"got 41 positions.*for 40.*truncation"):
        bridge.encode(torch.full((1, 41), 7))
    assert bridge.encode(torch.full((1, 40), 7)).shape == (1, 40, 32)
