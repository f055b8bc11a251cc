"""What a bridge reads of a request: what is cut, what goes through the encoder, and what is refused."""

from pathlib import Path

import pytest
import torch

from langbridge.errors import LangBridgeError
from langbridge.model import ConnectorSettings, LangBridgeModel, LangBridgeProcessor
from langbridge.serve.engine import Decoding, PromptTooLong, Request
from langbridge.serve.hf import HFEngine
from langbridge.serve.load import bridge_engine, load_engine
from langbridge.serve.readers import BridgeReader

FEW = Decoding(12)
LONG = "What is 12 + 30, please?"


def reader(folder: Path, **settings) -> BridgeReader:
    return bridge(folder, **settings).reader


def bridge(folder: Path, **settings) -> HFEngine:
    model, processor = LangBridgeModel.from_pretrained(folder), LangBridgeProcessor.from_pretrained(folder)
    return bridge_engine(model, processor, **settings)


def positions(engine: HFEngine, number: int | None) -> None:
    vars(engine.model.language_model.config)["max_position_embeddings"] = number  # None is not for a Llama to say


def test_ids_are_those_of_the_processor(bridge_folder: Path, chat_bridge_folder: Path, marking_bridge_folder) -> None:
    """Laid out of one encoding, against the processor's own call on the text."""
    for folder, languages in ((bridge_folder, "te"), (chat_bridge_folder, "te"), (marking_bridge_folder, "sw")):
        engine = bridge(folder, shots_in="lm")
        asked = [Request("b", "1 ", languages, "So "), Request(LONG, "1 ", languages, "So ")]
        processor, read = engine.reader.processor, engine.reader.read(asked, continuations=[" x", " is 4"])
        texts = [one.prompt for one in asked]
        expected = processor(
            texts, ["x", "is 4"], shots="1 ", lm_prefix="So ", source_language=languages, add_eos=False
        )
        found = engine._inputs(read, "right")
        assert all(torch.equal(found[name], expected[name]) for name in found), folder
        assert found.keys() == expected.keys() - {"labels"}


def test_a_prompt_that_is_too_long_loses_its_beginning_and_is_counted(bridge_folder: Path) -> None:
    engine = bridge(bridge_folder, max_encoder_length=8, template="{prompt}")
    assert [one.cut for one in engine.reader.read([Request("abcdefg"), Request("abcdefgh")])] == [False, True]
    (read,) = engine.reader.read([Request("0123456789")])
    kept = engine.reader.processor.encoder_tokenizer.decode(read.sources[0], skip_special_tokens=True)
    assert kept == "3456789", "the question stands at the end"
    assert read.sources[0][-1] == engine.reader.processor.encoder_tokenizer.eos_token_id
    (answer,) = engine.answers([Request("3456789", "012")], FEW)
    assert answer.prompt_cut
    with pytest.raises(PromptTooLong, match="prompt 2: it has 11 encoder tokens, and there is room for 8"):
        reader(bridge_folder, max_encoder_length=8, template="{prompt}", strict=True).read(
            [Request("a"), Request("0123456789")]
        )


def test_the_mark_at_the_front_of_a_row_is_not_cut(marking_bridge_folder: Path) -> None:
    found = reader(marking_bridge_folder, max_encoder_length=5)
    (read,) = found.read([Request("0123456789", language="sw")])
    tokens = found.processor.encoder_tokenizer.convert_ids_to_tokens(read.sources[0])
    assert (tokens[0], tokens[-1], len(tokens)) == ("swh_Latn", "</s>", 5)


def test_what_the_language_model_has_no_positions_for_is_cut_and_counted(bridge_folder: Path) -> None:
    engine = bridge(bridge_folder)
    free = engine.answers([LONG], FEW)
    # BOS, one soft prompt a character and one for the encoder's end, the end vector, and twelve new tokens.
    whole = 1 + len(engine.shown(Request(LONG))) + 1 + 1 + 12
    positions(engine, whole)
    assert engine.answers([LONG], FEW) == free
    positions(engine, whole - 1)
    answers = engine.answers([LONG, "b"], FEW)
    assert [one.prompt_cut for one in answers] == [True, False]
    (long, _) = engine.reader.read([Request(LONG), Request("b")], new_tokens=12)
    assert len(long.ids) == whole - 1 - 12, "what is read and what is written fill the positions"
    positions(engine, None)
    (read,) = engine.reader.read([Request(LONG)], new_tokens=10**6)
    assert not read.cut, "relative positions have no end"


def test_a_continuation_takes_its_own_room(bridge_folder: Path) -> None:
    engine = bridge(bridge_folder)
    requests, after = [Request(LONG), Request(LONG), Request("b")], [" it", " it is forty-two", " no"]
    free = dict(engine.score(requests, after))
    positions(engine, 34)
    found = dict(engine.score(requests, after))
    assert [found[place].prompt_cut for place in range(3)] == [True, True, False]
    for place in range(3):
        ((_, single),) = engine.score(requests[place : place + 1], after[place : place + 1])
        # Single precision in batches of other shapes.
        assert found[place].log_probability == pytest.approx(single.log_probability, rel=1e-5), "in any batch the same"
    assert found[2].log_probability == pytest.approx(free[2].log_probability, rel=1e-5)
    assert abs(found[1].log_probability - free[1].log_probability) > 1e-3, "another, shorter prompt"


def test_examples_that_leave_no_room_are_refused(bridge_folder: Path) -> None:
    request = Request(LONG, "Q: 1 A: 2; ")
    engine, through = bridge(bridge_folder, shots_in="lm"), bridge(bridge_folder)
    least = 1 + len(request.shots) + 1 + 12 + 2  # BOS, shots, the end vector, the answer, one character and the end
    positions(engine, least)
    assert engine.answers([request], FEW)[0].prompt_cut
    positions(engine, least - 1)
    message = rf"positions for {least - 1} tokens, of which 12 go to examples.* and 12 to the answer.*shots-in"
    with pytest.raises(PromptTooLong, match=message):
        engine.answers([request], FEW)
    positions(through, least - 1)
    assert through.answers([request], FEW)[0].prompt_cut, "through the encoder they can be cut"
    positions(through, 12)
    with pytest.raises(PromptTooLong, match=r"got 0; let it write less \(--max-new-tokens\)$"):
        through.answers([request], FEW)


def test_a_resampler_makes_the_same_number_of_soft_prompts_of_any_prompt(bridge_folder: Path) -> None:
    engine = bridge(bridge_folder)
    engine.reader.processor.connector = ConnectorSettings.read({"kind": "resampler", "num_latents": 8})
    positions(engine, 1 + 8 + 1 + 12)
    (read,) = engine.reader.read([Request("x" * 1000)], new_tokens=12)
    assert not read.cut
    with pytest.raises(PromptTooLong, match="expected at least 9 left for the prompt, got 8"):
        engine.reader.read([Request("x")], new_tokens=13)


def test_shots_go_through_the_encoder_or_to_the_language_model(bridge_folder: Path) -> None:
    request = Request("3", "Q: 1 A: 2; ")
    for shots_in, own, encoded in (("lm", "Q: 1 A: 2; ", "Q: 3\nA:"), ("encoder", "", "Q: Q: 1 A: 2; 3\nA:")):
        found = reader(bridge_folder, shots_in=shots_in)
        (read,) = found.read([request])
        soft = found.processor.soft_prompt_token_id
        assert found.tokenizer.decode(read.ids[1 : read.ids.index(soft)]) == own, "after BOS, as its own tokens"
        assert found.processor.encoder_tokenizer.decode(read.sources[0], skip_special_tokens=True) == encoded
    with pytest.raises(LangBridgeError, match="got 'both'"):
        reader(bridge_folder, shots_in="both")


def test_an_encoder_that_marks_languages_is_told_the_question_s(marking_bridge_folder: Path, caplog) -> None:
    found = reader(marking_bridge_folder)
    asked = [Request("3", language=code) for code in ("sw", "te", "tlh")]
    for read in (found.read(asked), found.read(asked, continuations=["a"] * 3)):
        first = found.processor.encoder_tokenizer.convert_ids_to_tokens([one.sources[0][0] for one in read])
        assert first == ["swh_Latn", "tel_Telu", "eng_Latn"]
    assert caplog.text.count("no mark for 'tlh'") == 1
    assert found.identity["languages"] == "marked", "answers from before are not taken for these"
    with pytest.raises(LangBridgeError, match="'tlh'"):
        reader(marking_bridge_folder, strict=True).read(asked)


@pytest.mark.parametrize("shots_in", ["encoder", "lm"])
def test_a_bridge_is_asked_through_the_chat_template(chat_bridge_folder: Path, shots_in: str) -> None:
    engine = bridge(chat_bridge_folder, shots_in=shots_in)
    processor, request = engine.reader.processor, Request("345", "Q: 1 A: 2; ")
    assert engine.chats, "it ends its turn itself"
    (read,) = engine.reader.read([request])
    soft = read.ids.index(processor.soft_prompt_token_id)
    before = "<s>[system] Hi.<end>[user] " + ("Q: 1 A: 2; " if shots_in == "lm" else "")
    assert processor.tokenizer.decode(read.ids[:soft]) == before
    assert processor.tokenizer.decode(read.ids[soft:]).endswith("<end>[assistant] ")
    encoded = processor.encoder_tokenizer.decode(read.sources[0], skip_special_tokens=True)
    assert encoded == ("345" if shots_in == "lm" else "Q: 1 A: 2; 345")
    assert engine.shown(request) == "<s>[system] Hi.<end>[user] Q: 1 A: 2; 345<end>[assistant] "
    if shots_in == "encoder":
        messages = [{"role": "user", "content": "Q: 1 A: 2; 345"}]
        (same,) = engine.reader.read([Request(messages=messages)])
        assert (same.ids, same.sources) == (read.ids, read.sources)
        assert engine.shown(Request(messages=messages)) == engine.shown(request)
    # What is cut is the prompt's beginning, and what is left fills the positions.
    positions(engine, len(read.ids) - 1 + 12)
    (answer,) = engine.answers([request], FEW)
    assert answer.prompt_cut
    ((_, scored),) = engine.score([Request("3")], [" yes"])
    assert scored.log_probability < 0


def test_generation_ends_where_the_chat_template_ends_an_answer(chat_bridge_folder: Path) -> None:
    engine = bridge(chat_bridge_folder)
    (end,) = engine.reader.ends
    assert engine.reader.tokenizer.decode([end]) == "<end>"
    for written in (end, engine.reader.tokenizer.eos_token_id):
        for beams in (1, 2):  # written here, and by `generate`
            bias = {"sequence_bias": [[[written], 1e4]], "num_beams": beams}
            (found,) = engine.answers(["abc"], Decoding(12, options=bias))
            assert (found.text, found.tokens, found.finish) == ("", 0, "stop")


def test_the_chat_template_stands_in_for_another(chat_bridge_folder: Path, bridge_folder: Path) -> None:
    text, chat = (bridge(chat_bridge_folder, template=template) for template in ("Q: {prompt}\nA:", "chat"))
    assert text.shown(Request("x")) == "Q: x\nA:", "and without the system message, which is the chat template's"
    assert chat.shown(Request("x")) == "<s>[system] Hi.<end>[user] x<end>[assistant] "
    assert text.identity != chat.identity
    with_text = bridge(chat_bridge_folder, template="chat: <soft>{prompt}</soft>\n{prompt}")
    (read,) = with_text.reader.read([Request("345")])
    own = read.ids[len(read.ids) - read.ids[::-1].index(with_text.reader.processor.soft_prompt_token_id) :]
    assert own == with_text.reader.tokenizer("\n345<end>[assistant] ", add_special_tokens=False)["input_ids"]
    encoded = with_text.reader.processor.encoder_tokenizer.decode(read.sources[0], skip_special_tokens=True)
    assert encoded == "345"
    (turn,) = with_text.reader.read([Request(messages=[{"role": "user", "content": "345"}])])
    assert (turn.ids, turn.sources) == (read.ids, read.sources)
    positions(with_text, 60)
    with pytest.raises(PromptTooLong, match="go to the prompt's own text, which is not cut, template and beginning"):
        with_text.reader.read([Request("3" * 60)])
    assert with_text.identity != chat.identity, "or answers of the one would be taken for the other's"
    with pytest.raises(LangBridgeError, match="no chat template"):
        bridge(bridge_folder, template="chat")


def test_a_plain_model_and_a_bridge_see_the_same_prompts(bridge_folder: Path, base_folders) -> None:
    template = "Answer. {prompt} ->"
    asked = [Request(text, "1 + 1 = 2; ", "sw") for text in ("b", LONG)]
    expected = [f"Answer. 1 + 1 = 2; {one.prompt} ->" for one in asked]
    through, plain = bridge(bridge_folder, template=template), load_engine(base_folders[1], template=template)
    for engine in (through, plain):
        assert [engine.shown(one) for one in asked] == expected
    read = plain.reader.read(asked)
    assert [plain.reader.decode(one.ids) for one in read] == expected
    encoded = through.reader.processor.encoder_tokenizer
    assert [encoded.decode(one.sources[0], skip_special_tokens=True) for one in through.reader.read(asked)] == expected


@pytest.mark.parametrize(
    "template",
    ["<soft>{prompt}</soft>{prompt}", "{shots}<soft>{prompt}</soft> so <soft>A</soft>", "Q: <soft>{prompt}</soft>"],
)
def test_a_template_s_row_is_read_as_the_processor_lays_it_out(bridge_folder: Path, template: str) -> None:
    """Whole, and shortened: then the longest source loses its beginning, and the language model's own text stays."""
    engine = bridge(bridge_folder, template=template)
    processor = engine.reader.processor
    request = Request("Tom has 9", shots="1+1=2 ", prefix="So")
    (read,) = engine.reader.read([request])
    shots, prompt = engine.reader._split(request)
    batch = processor([prompt], shots=shots, lm_prefix="So", return_tensors=None)
    assert read.ids == batch["input_ids"][0]
    rows = zip(batch["encoder_input_ids"], batch["encoder_attention_mask"], strict=True)
    assert read.sources == [row[: sum(mask)] for row, mask in rows]
    positions(engine, len(read.ids) + 1)
    (short,) = engine.reader.read([request], new_tokens=4)
    own = [token for token in read.ids if token != processor.soft_prompt_token_id]
    assert short.cut
    assert len(short.ids) == len(read.ids) - 3
    assert [token for token in short.ids if token != processor.soft_prompt_token_id] == own
    assert [short.sources[0], *short.sources[1:]] == [read.sources[0][3:], *read.sources[1:]]


def test_a_chat_template_that_refuses_a_turn_says_so(base_folders: tuple[Path, Path]) -> None:
    reader = load_engine(base_folders[1]).reader
    reader.tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    )
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "b"}]
    reader.chats = True
    with pytest.raises(LangBridgeError, match=r"refuses turns of system, user: no system"):
        reader.shown(Request(messages=turns))
