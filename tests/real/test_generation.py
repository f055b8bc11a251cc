"""Every way to generate, through a real encoder and a real language model."""

from pathlib import Path
from threading import Thread

import pytest
import torch
from transformers import TextIteratorStreamer, TextStreamer

from langbridge import LangBridgeModel, LangBridgeProcessor

PROMPTS = [
    "Tom has 28 apples. Then Tom buys 9 apples. How many apples does Tom have now?",
    "Tom ana matufaa 28. Kisha Tom ananunua matufaa 9. Tom anapoteza matufaa 5. Tom ana matufaa mangapi sasa?",
    "7 + 5?",
]
NEW = 8
GREEDY = {"max_new_tokens": NEW, "do_sample": False}


@pytest.fixture(scope="module")
def processor(bridge_folder: Path) -> LangBridgeProcessor:
    return LangBridgeProcessor.from_pretrained(bridge_folder)


@pytest.fixture(scope="module")
def bridge(bridge_folder: Path) -> LangBridgeModel:
    return LangBridgeModel.from_pretrained(bridge_folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def inputs(processor):
    return processor(PROMPTS)


@pytest.fixture(scope="module")
def greedy(bridge, inputs) -> torch.Tensor:
    return bridge.generate(**inputs, **GREEDY)


def new(sequences: torch.Tensor, inputs) -> list[list[int]]:
    return sequences[:, inputs["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("beams", [1, 2])
def test_a_row_of_a_padded_batch_answers_as_alone(bridge, processor, inputs, beams) -> None:
    together = new(bridge.generate(**inputs, **GREEDY, num_beams=beams), inputs)
    assert len({tuple(row) for row in together}) == 3, "rows that read alike would hide a fault"
    for row, prompt in zip(together, PROMPTS, strict=True):
        single = processor(prompt)
        (alone,) = new(bridge.generate(**single, **GREEDY, num_beams=beams), single)
        assert row[: len(alone)] == alone


@pytest.mark.parametrize(
    "way",
    [
        {"cache_implementation": "static"},
        {"use_cache": False, "max_new_tokens": 3},
        {"prefill_chunk_size": 16},
    ],
    ids=str,
)
def test_the_cache_changes_nothing(bridge, inputs, greedy, way) -> None:
    found = new(bridge.generate(**inputs, **{**GREEDY, **way}), inputs)
    length = way.get("max_new_tokens", NEW)
    assert found == [row[:length] for row in new(greedy, inputs)]


def test_prompt_lookup_changes_nothing(bridge, processor) -> None:
    single = processor(PROMPTS[0])
    plain = bridge.generate(**single, **GREEDY)
    assert torch.equal(bridge.generate(**single, **GREEDY, prompt_lookup_num_tokens=3), plain)


def test_attention_of_another_kind_gives_the_same_tokens(bridge_folder, inputs, greedy) -> None:
    for kind in ("eager", {"encoder_config": "eager", "text_config": "sdpa"}):
        model = LangBridgeModel.from_pretrained(bridge_folder, dtype=torch.float32, attn_implementation=kind)
        assert new(model.generate(**inputs, **GREEDY), inputs) == new(greedy, inputs)


def test_samples_repeat_with_their_seed(bridge, inputs) -> None:
    wanted = {"max_new_tokens": NEW, "do_sample": True, "temperature": 1.5, "num_return_sequences": 2}
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(bridge.generate(**inputs, **wanted))
    assert found[0].shape[0] == 6
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_several_beams_of_a_row(bridge, inputs) -> None:
    found = new(bridge.generate(**inputs, **GREEDY, num_beams=2, num_return_sequences=2), inputs)
    assert len(found) == 6
    assert all(found[i] != found[i + 1] for i in (0, 2, 4))


def test_guidance(bridge, inputs, greedy) -> None:
    assert new(bridge.generate(**inputs, **GREEDY, guidance_scale=1.0), inputs) == new(greedy, inputs)
    assert new(bridge.generate(**inputs, **GREEDY, guidance_scale=4.0), inputs) != new(greedy, inputs)


def test_streams(bridge, processor, capsys) -> None:
    single = processor(PROMPTS[1])
    out = bridge.generate(**single, **GREEDY)
    (text,) = processor.batch_decode(out[:, single["input_ids"].shape[1] :])
    capsys.readouterr()
    settings = {"skip_prompt": True, "skip_special_tokens": True}
    bridge.generate(**single, **GREEDY, streamer=TextStreamer(processor, **settings))
    assert capsys.readouterr().out.strip() == text.strip()
    streamer = TextIteratorStreamer(processor, **settings, timeout=120)
    thread = Thread(target=bridge.generate, kwargs={**single, **GREEDY, "streamer": streamer})
    thread.start()
    pieces = list(streamer)
    thread.join()
    assert len(pieces) > 2
    assert "".join(pieces).strip() == text.strip()


def test_half_precision_reads_the_same_prompt(bridge_folder, bridge, inputs) -> None:
    """bfloat16 keeps 8 bits: the most probable next token may change where two are close, the distribution hardly."""
    half = LangBridgeModel.from_pretrained(bridge_folder, dtype=torch.bfloat16)
    with torch.no_grad():
        single, rough = (
            model(**inputs, logits_to_keep=1).logits[:, -1].float().softmax(-1) for model in (bridge, half)
        )
    assert ((single - rough).abs().sum(-1) / 2 < 0.1).all(), "total variation"


@pytest.mark.parametrize("name", ["language_model_folder", "larger_language_model_folder"])
def test_a_turn_of_soft_prompts_text_and_instruction_is_the_chat_template_s(encoder_folder, name, request) -> None:
    after = f"\n{PROMPTS[1]}\nAnswer in English, step by step."
    bases = (encoder_folder, request.getfixturevalue(name))
    processor = LangBridgeProcessor.from_bases(
        *bases, template="chat: <soft>{prompt}</soft>\n{prompt}\nAnswer in English, step by step."
    )
    (ids,) = processor([PROMPTS[1]], return_tensors=None)["input_ids"]
    soft = [at for at, token in enumerate(ids) if token == processor.soft_prompt_token_id]
    assert soft == [*range(soft[0], soft[-1] + 1)]
    whole = processor.tokenizer.apply_chat_template(
        # A special token is one with no text beside it.
        [{"role": "user", "content": f"{processor.tokenizer.eos_token}{after}"}],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert [*ids[: soft[0]], processor.tokenizer.eos_token_id, *ids[soft[-1] + 1 :]] == whole


def test_the_text_besides_is_read_and_kept_with_the_bridge(bridge_folder, bridge, tmp_path) -> None:
    processor = LangBridgeProcessor.from_pretrained(bridge_folder)
    processor.template = "chat: <soft>{prompt}</soft>\n{prompt}\nAnswer in English, step by step."
    processor.save_pretrained(tmp_path)
    inputs = LangBridgeProcessor.from_pretrained(tmp_path)(PROMPTS)
    together = new(bridge.generate(**inputs, **GREEDY), inputs)
    for row, prompt in zip(together, PROMPTS, strict=True):
        single = processor(prompt)
        (alone,) = new(bridge.generate(**single, **GREEDY), single)
        assert row[: len(alone)] == alone
    other = processor(PROMPTS[:1], own_prompts=[PROMPTS[2]])
    assert new(bridge.generate(**other, **GREEDY), other) != together[:1], "the text decides with the soft prompts"
