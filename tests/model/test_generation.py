"""Every way to generate: the encoder runs once a request, and cached equals uncached."""

import pytest
import torch
import transformers as hf
from tiny import PLACEHOLDER, make_batch, make_bridge, make_encoder, make_language_model, one_row

from langbridge.errors import LangBridgeError
from langbridge.model import ConnectorSettings, LangBridgeModel, Memory


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
    "guidance": {"guidance_scale": 1.5, "do_sample": False},
    "guidance without cache": {"guidance_scale": 1.5, "use_cache": False, "do_sample": False},
    "guidance, beams": {"guidance_scale": 1.5, "num_beams": 4, "num_return_sequences": 2, "do_sample": False},
    "allowed tokens": {"prefix_allowed_tokens_fn": lambda row, ids: [7, 8, 9], "do_sample": False},
    "sequence bias": {"sequence_bias": [[[7], 3.0]], "bad_words_ids": [[8]], "do_sample": False},
    "watermark": {"watermarking_config": hf.WatermarkingConfig(), "do_sample": False},
    "prompt in chunks": {"prefill_chunk_size": 4, "do_sample": False},
    "a cache of the caller's": {"past_key_values": hf.DynamicCache(), "do_sample": False},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_encoder_runs_once(bridge, encoded, way):
    batch = make_batch(bridge)
    torch.manual_seed(0)
    out = bridge.generate(**batch, max_new_tokens=6, **WAYS[way])
    assert len(encoded) == 1
    assert out.shape == (3 * WAYS[way].get("num_return_sequences", 1), batch["input_ids"].shape[1] + 6)


def test_the_head_is_given_whole_tensors(bridge):
    """From a strided view of the states torch multiplies row by row, and copies a frozen head's table for each."""
    seen = []
    handle = bridge.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        bridge.generate(**make_batch(bridge), max_new_tokens=2, do_sample=False)
    finally:
        handle.remove()
    assert len(seen[0]) > 1
    assert {states.shape[1] for states in seen} == {1}
    assert all(states.is_contiguous() for states in seen)


@pytest.mark.parametrize("connector", ["linear", "resampler"])
@pytest.mark.parametrize("text", [0, 3])
@pytest.mark.parametrize("use_cache", [True, False])
def test_guidance_is_against_the_sequence_without_a_prompt(connector, text, use_cache):
    """Its unconditional half begins with the prompt's last token: text of the language model's own, or the place of
    the end vector."""
    bridge = make_bridge(connector=ConnectorSettings.read(connector, num_latents=3))
    bridge.generation_config.eos_token_id = None
    batch = make_batch(bridge, text=0) if text == 0 else make_batch(bridge, text=text)
    batch = one_row(batch, 0)  # the one row without text of its own, where text is 0
    assert (batch["input_ids"][0, -1] == PLACEHOLDER) == (text == 0)
    scale, steps = 1.7, 4
    out = bridge.generate(**batch, max_new_tokens=steps, do_sample=False, guidance_scale=scale, use_cache=use_cache)
    new = out[:, batch["input_ids"].shape[1] :]
    memory = bridge.read(batch["encoder_input_ids"], batch["encoder_attention_mask"])
    embed = bridge.get_input_embeddings()
    conditional = bridge.embed(batch["input_ids"], memory)
    unconditional = memory.soft_prompts[:, -1:] if text == 0 else embed(batch["input_ids"][:, -1:])
    for step in range(steps):
        halves = [
            bridge.language_model(inputs_embeds=torch.cat([half, embed(new[:, :step])], 1))
            .logits[:, -1]
            .log_softmax(-1)
            for half in (conditional, unconditional)
        ]
        guided = scale * (halves[0] - halves[1]) + halves[1]
        assert guided.argmax(-1).item() == new[0, step].item()


def test_a_negative_prompt_is_text_of_the_language_model(bridge):
    single = one_row(make_batch(bridge), 0)
    wanted = {"max_new_tokens": 6, "do_sample": False, "guidance_scale": 3.0}
    first, second = (
        bridge.generate(**single, **wanted, negative_prompt_ids=torch.tensor([ids])) for ids in ([1, 8, 9], [1, 30, 31])
    )
    assert not torch.equal(first, second)
    with pytest.raises(LangBridgeError, match="no encoder_input_ids"):
        bridge.generate(**single, **wanted, negative_prompt_ids=single["input_ids"])


def test_a_prompt_read_in_chunks_is_the_prompt(bridge):
    batch = make_batch(bridge)
    plain = bridge.generate(**batch, max_new_tokens=6, do_sample=False)
    for size in (1, 4, 11):  # one soft prompt at a time; a chunk's end among the soft prompts; and behind them
        assert torch.equal(plain, bridge.generate(**batch, max_new_tokens=6, do_sample=False, prefill_chunk_size=size))


def test_a_conversation_goes_on_from_its_cache(bridge, encoded):
    single = one_row(make_batch(bridge), 0)
    wanted = {"do_sample": False, "return_dict_in_generate": True, "max_new_tokens": 4}
    first = bridge.generate(**single, **wanted)
    ids = torch.cat([first.sequences, torch.tensor([[11, 12]])], 1)
    assert not (first.sequences[:, -4:] == PLACEHOLDER).any()
    source = {key: single[key] for key in ("encoder_input_ids", "encoder_attention_mask")}
    mask = torch.ones_like(ids)
    anew = bridge.generate(input_ids=ids, attention_mask=mask, **source, **wanted).sequences
    assert len(encoded) == 2
    for given in (source, {}):
        cache = bridge.generate(**single, **wanted).past_key_values
        encoded.clear()
        on = bridge.generate(input_ids=ids, attention_mask=mask, past_key_values=cache, **given, **wanted).sequences
        assert torch.equal(on, anew)
        assert not encoded, "the cache has read the prompt"


def test_generation_without_the_source_of_its_placeholders_is_refused(bridge):
    single = one_row(make_batch(bridge), 0)
    with pytest.raises(LangBridgeError, match="no encoder_input_ids"):
        bridge.generate(input_ids=single["input_ids"], max_new_tokens=2)


def test_the_embedded_sequence_is_read_as_the_sequence(bridge):
    batch = make_batch(bridge)
    memory = bridge.read(batch["encoder_input_ids"], batch["encoder_attention_mask"])
    given = {
        "inputs_embeds": bridge.embed(batch["input_ids"], memory, batch["attention_mask"]).detach(),
        "attention_mask": batch["attention_mask"],
    }
    with torch.no_grad():
        whole = bridge(**batch)
        assert torch.equal(bridge(**given).logits, whole.logits)
        assert torch.equal(bridge(**batch, inputs_embeds=None, return_dict=False)[0], whole.logits)
    for beams in (1, 3):
        wanted = {"max_new_tokens": 6, "do_sample": False, "num_beams": beams}
        assert torch.equal(bridge.generate(**given, **wanted), bridge.generate(**batch, **wanted)[:, -6:])
    for call in (bridge, bridge.generate):
        with pytest.raises(LangBridgeError, match="inputs_embeds hold theirs already"):
            call(**given, encoder_input_ids=batch["encoder_input_ids"])
    for neither_nor_both in ({}, {**given, **batch}):
        with pytest.raises(LangBridgeError, match="either input_ids or inputs_embeds"):
            bridge(**neither_nor_both)


def test_inputs_are_another_name_of_input_ids(bridge):
    batch = make_batch(bridge)
    wanted = {"max_new_tokens": 4, "do_sample": False}
    plain = bridge.generate(**batch, **wanted)
    assert torch.equal(bridge.generate(inputs=batch.pop("input_ids"), **batch, **wanted), plain)
    with pytest.raises(LangBridgeError, match="another name"):
        bridge.generate(batch["encoder_input_ids"], inputs=batch["encoder_input_ids"])


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


def test_an_assistant_reads_the_prompt(bridge, encoded):
    """A bridge as its own assistant guesses every token, so it has read what it is to assist with."""
    single = one_row(make_batch(bridge), 0)
    reads = []
    handle = bridge.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: reads.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    guessed = {
        "num_assistant_tokens": 5,
        "num_assistant_tokens_schedule": "constant",
        "assistant_confidence_threshold": 0,
    }
    bridge.generation_config.update(**guessed)
    out = bridge.generate(**single, max_new_tokens=6, do_sample=False, assistant_model=bridge)
    handle.remove()
    assert torch.equal(out, bridge.generate(**single, max_new_tokens=6, do_sample=False))
    width = single["input_ids"].shape[1]
    assert reads == [width, 1, 1, 1, 1, width + 5], "five guesses, and one reading that confirms them all"


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
    embeds = bridge.embed(batch["input_ids"], Memory(soft, mask), batch["attention_mask"])
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
    with pytest.raises(LangBridgeError, match="no encoder_input_ids"):
        bridge(input_ids=single["input_ids"], past_key_values=hf.DynamicCache())


def test_a_hard_length_limit_is_an_error():
    bridge = make_bridge("xlm-roberta")
    assert bridge.encoder_length_limit == 40
    with pytest.raises(LangBridgeError, match=r"got 41 positions.*for 40.*truncation"):
        bridge.encode(torch.full((1, 41), 7))
    assert bridge.encode(torch.full((1, 40), 7)).shape == (1, 40, 32)
