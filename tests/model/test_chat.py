"""Bridges that speak through the chat template of their language model: what is laid out, in every family and turn."""

import copy
import shutil
from pathlib import Path

import pytest
import torch
import transformers as hf
from chats import FAMILIES, chat_tokenizer
from tiny import language_model_config

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.data import Example, LabelledCollator
from langbridge.data.causal import CausalCollator
from langbridge.errors import LangBridgeError
from langbridge.model import build_bridge
from langbridge.model.language_models import end_ids
from langbridge.model.sequence import Own, Soft, conversation
from langbridge.serve.engine import Decoding
from langbridge.serve.load import bridge_engine

QUESTION, ANSWER = "Tom has 3 apples", "So it is 3."


@pytest.fixture(scope="module")
def chat_bases(bases: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """The tiny encoder with a tiny language model of each family."""
    root, found = tmp_path_factory.mktemp("chats"), {}
    for name in FAMILIES:
        tokenizer = chat_tokenizer(name)
        config = language_model_config("llama")
        config.vocab_size, config.max_position_embeddings = len(tokenizer), 512
        config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
        config.initializer_range = 0.5  # wide, so that answers depend on the prompt
        torch.manual_seed(5)
        hf.LlamaForCausalLM(config).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        found[name] = bases[0], root / name
    return found


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def processor_of(folders: tuple[Path, Path], **settings: object) -> LangBridgeProcessor:
    return LangBridgeProcessor.from_bases(*folders, **{"template": "chat", **settings})  # type: ignore[arg-type]


def spoken(processor: LangBridgeProcessor, ids: list[int]) -> str:
    """A row as text, special tokens included, with <soft> for each run of placeholders."""
    pieces: list[str] = []
    for token in ids:
        if token != processor.soft_prompt_token_id:
            pieces.append(processor.tokenizer.decode([token]))
        elif pieces[-1:] != ["<soft>"]:
            pieces.append("<soft>")
    return "".join(pieces)


def test_the_words_of_the_user_are_soft_prompts_and_all_else_is_the_templates(chat_bases, family: str) -> None:
    processor, about = processor_of(chat_bases[family]), FAMILIES[family]
    row = processor([QUESTION], return_tensors=None)
    assert spoken(processor, row["input_ids"][0]) == about.before + "<soft>" + about.after
    assert row["encoder_input_ids"] == [processor.encoder_tokenizer(QUESTION)["input_ids"]], "the words alone"
    assert row["input_ids"][0].count(processor.soft_prompt_token_id) == len(row["encoder_input_ids"][0]) + 1
    # As the template is tokenised by transformers itself: it adds no begin token, and parses special ones.
    whole = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], add_generation_prompt=True, return_dict=False
    )
    (place,) = [at for at, token in enumerate(whole) if processor.tokenizer.decode([token]) == "x"]
    head = row["input_ids"][0]
    assert (head[:place], head[len(head) - len(whole) + place + 1 :]) == (whole[:place], whole[place + 1 :])
    assert processor.own_length == len(whole) - 1, "the template"
    assert processor.format(QUESTION) == about.before + QUESTION + about.after


def test_with_text_the_language_model_reads_what_the_user_says_too(chat_bases, family: str) -> None:
    processor, about = (
        processor_of(chat_bases[family], template="chat: <soft>{prompt}</soft>\n{prompt}"),
        FAMILIES[family],
    )
    asked = {"role": "user", "content": QUESTION}
    row = processor([QUESTION], return_tensors=None)
    assert spoken(processor, row["input_ids"][0]) == f"{about.before}<soft>\n{QUESTION}{about.after}"
    assert row["encoder_input_ids"] == [processor.encoder_tokenizer(QUESTION)["input_ids"]]
    told = {"tokenize": True, "return_dict": True, "return_tensors": None}
    talked = processor.apply_chat_template([asked], add_generation_prompt=True, **told)
    assert dict(talked) == dict(row)
    left_out = processor([QUESTION], own_prompts=[""], return_tensors=None)
    assert spoken(processor, left_out["input_ids"][0]) == f"{about.before}<soft>\n{about.after}", "as text noise has it"
    turns = [asked, {"role": "assistant", "content": ANSWER}, {"role": "user", "content": "so"}]
    text = spoken(processor, processor.apply_chat_template(turns, **told)["input_ids"][0])
    marked = processor_of(chat_bases[family]).apply_chat_template([turns[0], turns[1], {**turns[2], "content": "@"}])
    assert text == marked.replace(QUESTION, f"<soft>\n{QUESTION}").replace("@", "<soft>\nso")
    end = processor.tokenizer.convert_tokens_to_ids(about.end)
    assert processor.answer_end_id == end


def test_a_bridge_that_was_trained_in_one_template_keeps_another(chat_bases, tmp_path: Path) -> None:
    processor = processor_of(chat_bases["qwen"])
    processor.template = "chat: <soft>{prompt}</soft>\n{prompt}\nSo."
    processor.save_pretrained(tmp_path)
    again = LangBridgeProcessor.from_pretrained(tmp_path)
    about, row = FAMILIES["qwen"], again([QUESTION], return_tensors=None)["input_ids"][0]
    assert spoken(again, row) == f"{about.before}<soft>\n{QUESTION}\nSo.{about.after}"


@pytest.mark.parametrize(
    "turn", ["chat: {prompt}", "chat: {shots}<soft>{prompt}</soft>", "chat: <soft>a</soft>{prompt}"]
)
def test_a_turn_without_a_place_for_the_prompt_is_refused(chat_bases, turn: str) -> None:
    with pytest.raises(LangBridgeError, match=r"^template: got '.*, expected "):
        _ = processor_of(chat_bases["qwen"], template=turn).layout


def test_an_answer_ends_as_the_template_ends_it_in_training_and_in_generation(chat_bases, family: str) -> None:
    model, processor = build_bridge(*chat_bases[family], template="chat")
    about, tokenizer = FAMILIES[family], processor.tokenizer
    end = tokenizer.convert_tokens_to_ids(about.end)
    batch = LabelledCollator(processor, max_encoder_length=64, max_length=256)([Example(QUESTION, ANSWER)])
    learned = [token for token in batch["labels"][0].tolist() if token >= 0]
    assert learned == [*tokenizer(ANSWER, add_special_tokens=False)["input_ids"], end]
    assert {end, tokenizer.eos_token_id} == set(end_ids(model.generation_config)), "the model's own is an end still"
    assert processor.decode(learned) == ANSWER
    assert processor.decode(learned, skip_special_tokens=False) == ANSWER + about.end


def test_training_generation_and_conversations_lay_out_alike(chat_bases, family: str) -> None:
    processor = processor_of(chat_bases[family])
    asked = processor([QUESTION], return_tensors=None)
    trained = LabelledCollator(processor, max_encoder_length=64, max_length=256)([Example(QUESTION, ANSWER)])
    talked = processor.apply_chat_template(
        [{"role": "user", "content": QUESTION}],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors=None,
    )  # fmt: skip
    assert dict(talked) == dict(asked)
    assert trained["encoder_input_ids"].tolist() == asked["encoder_input_ids"]
    head = asked["input_ids"][0]
    assert trained["input_ids"][0].tolist()[: len(head)] == head


def test_a_system_message_is_the_language_models_own_text(chat_bases, family: str) -> None:
    if family == "gemma":
        with pytest.raises(LangBridgeError, match="refuses the roles system, user: System role not supported; leave"):
            processor_of(chat_bases[family], system="Be brief.")
        return
    processor = processor_of(chat_bases[family], system="Be brief.")
    text = spoken(processor, processor([QUESTION], return_tensors=None)["input_ids"][0])
    assert text.count("Be brief.") == 1
    assert "You " not in text, "instead of the template's own"
    own = [{"role": "system", "content": "Sing."}, {"role": "user", "content": "a"}]
    assert "Sing." in processor.apply_chat_template(own)
    assert "Be brief." not in processor.apply_chat_template(own), "a conversation may have another"


def test_a_conversation_is_the_tokenizers_own_rendering(chat_bases) -> None:
    processor = processor_of(chat_bases["qwen"])
    processor.tokenizer.chat_template = (
        "{{ style }}" * 2
        + "{% if not enable_thinking | default(true) %}!{% endif %}"
        + ("{{ tools | tojson }}" + processor.tokenizer.chat_template)
    )
    asked, begun = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": "So it"}
    plain = {"tools": None, "style": "s", "add_generation_prompt": True, "continue_final_message": False}
    for messages, told in (
        ([asked], plain),
        ([asked], plain | {"enable_thinking": False, "tools": [{"type": "function"}]}),
        ([asked, begun], plain | {"add_generation_prompt": False, "continue_final_message": True}),
        ([asked], plain | {"chat_template": "{% for m in messages %}{{ m.content }}?{% endfor %}"}),
    ):
        text = processor.tokenizer.apply_chat_template(messages, tokenize=False, **told)
        assert processor.apply_chat_template(messages, **told) == text
        batch = processor.apply_chat_template(
            messages, tokenize=True, return_dict=True, padding=True, processor_kwargs={"return_tensors": None}, **told
        )
        assert spoken(processor, batch["input_ids"][0]) == text.replace(QUESTION, "<soft>")


def test_conversations_become_a_batch_as_prompts_do(chat_bases) -> None:
    processor = processor_of(chat_bases["qwen"])
    told = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
    messages = [{"role": "user", "content": QUESTION}]
    whole = processor.apply_chat_template(messages, **told)
    length = whole["input_ids"].shape[1] - 3
    for limited in (
        {"max_length": length, "truncation": True},
        {"processor_kwargs": {"max_length": length, "truncation": True}},
    ):
        with pytest.warns(UserWarning, match="prompts of rows"):
            assert processor.apply_chat_template(messages, **told, **limited)["input_ids"].shape[1] == length
    with pytest.raises(LangBridgeError, match="processor_kwargs: got images_kwargs, expected some of"):
        processor.apply_chat_template(messages, **told, processor_kwargs={"images_kwargs": {}})


def test_several_turns_are_several_sources_of_a_row(chat_bases, family: str) -> None:
    processor, about = processor_of(chat_bases[family]), FAMILIES[family]
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": [{"type": "text", "text": "Tom"}]},
    ]
    said = {"add_generation_prompt": True}
    batch = processor.apply_chat_template(
        [messages, messages[2:]], **said, tokenize=True, return_dict=True, return_tensors=None
    )
    texts = processor.apply_chat_template([messages, messages[2:]], **said)
    first = spoken(processor, [i for i, m in zip(batch["input_ids"][0], batch["attention_mask"][0], strict=True) if m])
    assert texts[0].startswith(about.before + QUESTION)
    assert first == texts[0].replace(QUESTION, "<soft>").replace("Tom", "<soft>")
    assert ANSWER + about.end in first, "answers are its own tokens"
    read = processor.encoder_tokenizer([QUESTION, "Tom", "Tom"])["input_ids"]
    lengths = [sum(mask) for mask in batch["encoder_attention_mask"]]
    assert [row[:length] for row, length in zip(batch["encoder_input_ids"], lengths, strict=True)] == read


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3, "num_return_sequences": 2}], ids=["greedy", "beams"])
def test_a_conversation_in_a_batch_is_answered_as_alone(chat_bases, settings: dict[str, int]) -> None:
    model, processor = build_bridge(*chat_bases["llama"], template="chat")
    long = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": "and buys 12 more. how many are left?"},
    ]
    conversations = [long[:1], long, [{"role": "user", "content": "Tom"}]]

    def answered(some: list[list[dict[str, str]]]) -> list[list[int]]:
        inputs = processor.apply_chat_template(some, add_generation_prompt=True, tokenize=True, return_dict=True)
        written = model.generate(**inputs, max_new_tokens=8, do_sample=False, **settings)
        return written[:, inputs["input_ids"].shape[1] :].tolist()

    def ended(rows: list[list[int]]) -> list[list[int]]:
        pad = processor.tokenizer.pad_token_id
        return [[token for token in row if token != pad] for row in rows]

    alone = [row for one in conversations for row in ended(answered([one]))]
    assert ended(answered(conversations)) == alone
    assert len({tuple(row) for row in alone}) > 2, "and not all alike"
    other = [*long[:2], {"role": "user", "content": "Tom"}]
    assert answered([long]) != answered([other]), "the last turn is read"
    changed = [{"role": "user", "content": "The answer"}, *long[1:]]
    assert answered([long]) != answered([changed]), "and the first"


def test_an_assistant_bridge_reads_a_conversation_too(chat_bases) -> None:
    model, processor = build_bridge(*chat_bases["llama"], template="chat")
    turn = {"role": "user", "content": QUESTION}
    messages = [turn, {"role": "assistant", "content": ANSWER}, turn]
    inputs = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    plain = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    assisted = model.generate(**inputs, max_new_tokens=8, do_sample=False, assistant_model=copy.deepcopy(model))
    chunked = model.generate(**inputs, max_new_tokens=8, do_sample=False, prefill_chunk_size=16)
    assert torch.equal(assisted, plain)
    assert torch.equal(chunked, plain)


def test_a_row_without_its_sources_is_told_of(chat_bases) -> None:
    model, processor = build_bridge(*chat_bases["qwen"], template="chat")
    turn = {"role": "user", "content": "Tom"}
    messages = [turn, {"role": "assistant", "content": "a"}, turn]
    batch = processor.apply_chat_template(
        [messages, [turn]], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    for keep, message in [(slice(0, 1), "row 0"), (slice(1, 3), "row 1|row 0"), (slice(0, 3), None)]:
        some = {key: value[keep] if key.startswith("encoder") else value for key, value in batch.items()}
        if message is None:
            model(**some)
        else:
            with pytest.raises(LangBridgeError, match=rf"{message}: input_ids holds \d+ placeholders"):
                model(**some)


def test_saved_and_loaded_it_says_and_ends_the_same(chat_bases, tmp_path: Path) -> None:
    model, processor = build_bridge(*chat_bases["llama"], template="chat", system="Be brief.")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = LangBridgeProcessor.from_pretrained(tmp_path)
    assert (again.template, again.template_in, again.system) == ("chat", "lm", "Be brief.")
    assert again([QUESTION], return_tensors=None) == processor([QUESTION], return_tensors=None)
    loaded = LangBridgeModel.from_pretrained(tmp_path)
    assert loaded.generation_config.eos_token_id == model.generation_config.eos_token_id
    found = [bridge_engine(*pair).answers([QUESTION], Decoding(6)) for pair in ((loaded, again), (model, processor))]
    assert found[0] == found[1]


def test_a_long_conversation_keeps_each_word_in_its_place() -> None:
    """As long as a client may send it. It is cut in one pass: a search for every turn took 18 seconds."""
    said = [str(number) for number in range(4000)]
    turns = [{"role": role, "content": text} for text in said for role in ("user", "assistant")][:-1]
    parts = conversation(chat_tokenizer("qwen"), turns, "chat", "Be brief.", True)
    assert [part.text for part in parts if isinstance(part, Soft)] == said
    assert [type(part) for part in parts] == [Own, Soft] * 4000 + [Own]
    between = "<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n<|im_start|>user\n"
    assert [part.text for part in parts[2:-1:2]] == [between.format(text) for text in said[:-1]]
    assert parts[0].text == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
    assert parts[-1].text == "<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0]['content'] }}", "leaves a message out"),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}{{ messages[-1]['content'] }}", "more than once"),
    ],
)
def test_a_later_turn_that_is_misplaced_is_refused(template: str, message: str) -> None:
    tokenizer = chat_tokenizer("qwen")
    tokenizer.chat_template = template
    turn = {"role": "user", "content": "Tom"}
    with pytest.raises(LangBridgeError, match=message):
        conversation(tokenizer, [turn, {"role": "assistant", "content": "a"}, turn], "chat", None, True)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "no chat template; use an instruction-tuned model"),
        ("{% for m in messages %}{{ m['role'] }}{% endfor %}", "leaves a message out"),
        ("{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}", "writes a message more than once"),
        ("{{ messages[0].no.such }}", "refuses the roles user"),
    ],
)
def test_a_template_that_gives_no_place_to_soft_prompts_is_refused(
    chat_bases, tmp_path: Path, template: str | None, message: str
) -> None:
    encoder, language_model = chat_bases["qwen"]
    shutil.copytree(language_model, tmp_path / "lm")
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "lm")
    tokenizer.chat_template = template
    (tmp_path / "lm" / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(tmp_path / "lm")
    with pytest.raises(LangBridgeError, match=message):
        processor_of((encoder, tmp_path / "lm"))


def test_what_a_conversation_needs_is_said(chat_bases) -> None:
    processor, plain = processor_of(chat_bases["qwen"]), LangBridgeProcessor.from_bases(*chat_bases["qwen"])
    with pytest.raises(LangBridgeError, match="needs a bridge with `template: chat`"):
        plain.apply_chat_template([{"role": "user", "content": "a"}])
    with pytest.raises(LangBridgeError, match="none is the user's"):
        processor.apply_chat_template([{"role": "assistant", "content": "a"}])
    with pytest.raises(LangBridgeError, match=r"messages, 0: got .*expected `role`"):
        processor.apply_chat_template([{"role": "user", "content": [{"type": "image"}]}])
    with pytest.raises(LangBridgeError, match="system: a system message belongs to `template: chat`"):
        LangBridgeProcessor.from_bases(*chat_bases["qwen"], system="Be brief.")


def test_a_template_that_writes_the_begin_token_itself_gets_one(chat_bases, family: str) -> None:
    """As one that is copied off a model's card."""
    begin, about = FAMILIES[family].specials[0], FAMILIES[family]
    for place in ("lm", "encoder"):
        processor = LangBridgeProcessor.from_bases(
            *chat_bases[family], template=begin + "Q: {prompt} A:", template_in=place
        )
        row = processor([QUESTION], return_tensors=None)
        text = spoken(processor, row["input_ids"][0])
        shots = spoken(processor, processor([QUESTION], shots="1+1=2 ", return_tensors=None)["input_ids"][0])
        assert not about.writes_begin or begin not in processor.format("").removeprefix(begin)
        if place == "lm":
            assert text == begin + "Q: <soft> A:"
            # A begin token that is one to the tokenizer alone (SmolLM2's <|im_start|>) is text like any other.
            assert shots == (f"{begin}1+1=2 Q: <soft> A:" if about.writes_begin else f"1+1=2 {begin}Q: <soft> A:")
        else:
            written = begin if about.writes_begin else ""
            assert (text, shots) == (f"{written}<soft>", f"{written}1+1=2 <soft>")
            read = begin.removeprefix(written) + f"Q: {QUESTION} A:"
            assert row["encoder_input_ids"][0] == processor.encoder_tokenizer(read)["input_ids"]


def test_a_plain_model_is_trained_in_the_same_words(chat_bases, family: str) -> None:
    processor, about = processor_of(chat_bases[family]), FAMILIES[family]
    tokenizer = processor.tokenizer
    batch = CausalCollator(tokenizer, template="chat", max_length=256)([Example(QUESTION, ANSWER)])
    whole = about.before + QUESTION + about.after + ANSWER + about.end
    assert batch["input_ids"][0].tolist() == tokenizer(whole, add_special_tokens=False)["input_ids"]
    learned = [token for token in batch["labels"][0].tolist() if token >= 0]
    assert tokenizer.decode(learned) == ANSWER + about.end
