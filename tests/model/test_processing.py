"""The layout of a sequence, drawn; whitespace, templates, cuts and mistakes."""

import pytest
import torch

from langbridge import LangBridgeProcessor
from langbridge.errors import LangBridgeError
from langbridge.model import ConnectorSettings, build_bridge


@pytest.fixture(scope="module")
def processor(bases):
    return LangBridgeProcessor.from_bases(*bases)


def test_layout(processor):
    #  [BOS] [placeholder] x (tokens of the prompt, </s> included) [placeholder: end] [prefix] [target] [EOS]
    batch = processor(
        ["Tom has 3 apples", "Tom"], targets=["The answer is 3", "no"], lm_prefix="so ", return_tensors=None
    )
    bos, eos, soft = (
        processor.tokenizer.bos_token_id,
        processor.tokenizer.eos_token_id,
        processor.soft_prompt_token_id,
    )
    for row, target in enumerate(["The answer is 3", "no"]):
        n = sum(batch["encoder_attention_mask"][row])
        words = processor.tokenizer(target, add_special_tokens=False)["input_ids"]
        prefix = processor.tokenizer("so ", add_special_tokens=False)["input_ids"]
        real = sum(batch["attention_mask"][row])
        assert batch["input_ids"][row][:real] == [bos, *[soft] * (n + 1), *prefix, *words, eos]
        assert batch["labels"][row][:real] == [-100] * (n + 2 + len(prefix)) + [*words, eos]
        assert set(batch["labels"][row][real:]) <= {-100}


def test_eos_is_learned_where_it_is_also_the_pad(processor):
    assert processor.tokenizer.pad_token_id == processor.tokenizer.eos_token_id
    for side in ("left", "right"):
        batch = processor(["Tom has 3 apples", "Tom"], targets=["a", "the answer is 3"], padding_side=side)
        assert (batch["labels"] == processor.tokenizer.eos_token_id).sum(1).tolist() == [1, 1]


def test_generation_is_padded_on_the_left(processor):
    batch = processor(["Tom has 3 apples", "Tom"])
    assert batch["attention_mask"][:, -1].tolist() == [1, 1]
    assert batch["attention_mask"][1, 0] == 0
    assert "labels" not in batch


def test_whitespace_survives(processor):
    for space in ("\t", "\n", "\r", "\x0b", "\x0c", "  ", "   ", "    "):
        ids = processor.encoder_tokenizer.encode(f"Tom{space}has", add_special_tokens=False)
        assert space in processor.encoder_tokenizer.decode(ids)
    assert len(processor.new_token_ids) == 8


def test_whitespace_is_not_added_twice(bases, tmp_path):
    processor = LangBridgeProcessor.from_bases(*bases)
    processor.encoder_tokenizer.save_pretrained(tmp_path)
    for name in ("config.json",):
        (tmp_path / name).write_bytes((bases[0] / name).read_bytes())
    assert LangBridgeProcessor.from_bases(tmp_path, bases[1]).new_token_ids == []


def test_braces_in_a_prompt_survive(bases):
    processor = LangBridgeProcessor.from_bases(*bases, template="Q: {prompt}\nA: {x}")
    assert processor.format("{prompt} {0} {{") == "Q: {prompt} {0} {{\nA: {x}"
    with pytest.raises(LangBridgeError, match="exactly once"):
        LangBridgeProcessor.from_bases(*bases, template="no field")


def test_template_in_the_language_model(bases):
    processor = LangBridgeProcessor.from_bases(*bases, template="The {prompt} answer", template_in="lm")
    plain = LangBridgeProcessor.from_bases(*bases)
    batch, bare = processor(["Tom has"], return_tensors=None), plain(["Tom has"], return_tensors=None)
    assert batch["encoder_input_ids"] == bare["encoder_input_ids"]
    ids = [i for i in batch["input_ids"][0] if i != processor.soft_prompt_token_id]
    assert processor.tokenizer.decode(ids, skip_special_tokens=True).split() == ["The", "answer"]


def test_all_text_goes_through_one_template(bases):
    processor = LangBridgeProcessor.from_bases(*bases, template="Q: {prompt} A:")
    encoded = processor.encoder_tokenizer(processor.format("Tom has"))["input_ids"]
    assert processor("Tom has", return_tensors=None)["encoder_input_ids"][0] == encoded
    assert processor(["Tom has"], targets=["no"], return_tensors=None)["encoder_input_ids"][0] == encoded


def test_cuts_are_errors_or_warnings_that_name_the_rows(processor):
    texts = ["Tom", "Tom has 3 apples and buys 12 more"]
    with pytest.raises(LangBridgeError, match=r"rows \[1\]"):
        processor(texts, max_encoder_length=6)
    with pytest.warns(UserWarning, match=r"rows \[1\]"):
        batch = processor(texts, max_encoder_length=6, truncation="encoder")
    assert batch["encoder_input_ids"].shape[1] == 6
    assert batch["encoder_input_ids"][1, -1] == processor.encoder_tokenizer.eos_token_id
    with pytest.raises(LangBridgeError, match="row 0"):
        processor(["Tom"], targets=["the answer is " * 9], max_length=12)
    with pytest.warns(UserWarning, match=r"rows \[0\]"):
        batch = processor(["Tom"], targets=["the answer is " * 9], max_length=12, truncation=True)
    assert batch["input_ids"].shape[1] == 12
    assert batch["labels"][0, -1] == processor.tokenizer.eos_token_id


def test_max_length_cuts_the_prompt_where_no_target_is_to_be_cut(processor):
    texts, eos = ["Tom", "Tom has 3 apples and buys 12 more"], processor.encoder_tokenizer.eos_token_id
    for truncation in (True, "encoder"):
        with pytest.warns(UserWarning, match=r"prompts of rows \[1\] were cut to fit max_length=10") as told:
            batch = processor(texts, max_length=10, truncation=truncation)
        assert len(told) == 1
        assert batch["input_ids"].shape[1] == 10
        assert batch["encoder_input_ids"][1].tolist()[-1] == eos
        assert batch["encoder_input_ids"][0].tolist() == processor(texts)["encoder_input_ids"][0].tolist()[:8]
    with pytest.warns(UserWarning, match="prompts of rows"):
        batch = processor(texts, targets=["no", "no"], max_length=10, truncation="encoder")
    assert processor.decode(batch["labels"][1]) == "no", "the target is whole"
    with pytest.raises(LangBridgeError, match=r"cutting \(encoder and target\) does not make it short enough"):
        processor(texts, max_length=2, truncation=True)
    with pytest.raises(LangBridgeError, match="ask for truncation"):
        processor(texts, max_length=10)


def test_calls_as_processors_of_transformers_are_called(processor):
    texts = ["Tom has 3 apples", "Tom"]
    plain = processor(texts)
    for padding in (True, "longest"):
        found = processor(text=texts, padding=padding, return_tensors="pt")
        assert all(torch.equal(found[name], plain[name]) for name in plain)
    for wrong in ({}, {"texts": texts, "text": texts}):
        with pytest.raises(LangBridgeError, match="once, as texts or as text"):
            processor(**wrong)
    with pytest.raises(LangBridgeError, match="padding: got 'max_length', expected True or 'longest'"):
        processor(texts, padding="max_length")
    ids = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
    for batch in (ids, [torch.tensor(row) for row in ids]):
        assert processor.decode(batch) == processor.batch_decode(batch) == [processor.decode(row) for row in ids]
    assert processor.decode(torch.tensor(ids[1:])) == [processor.decode(torch.tensor(ids[1]))]


def test_the_placeholder_is_inside_the_vocabulary_and_outside_text(processor):
    assert processor.tokenizer.decode([processor.soft_prompt_token_id]) == ""
    tokenizer = processor.tokenizer
    taken = LangBridgeProcessor(tokenizer, processor.encoder_tokenizer, soft_prompt_token_id=tokenizer.encode("T")[1])
    with pytest.raises(LangBridgeError, match=r"targets: 'T' contains .* marks soft prompts"):
        taken(["a", "b"], targets=["a", "T"])
    with pytest.raises(LangBridgeError, match=r"texts: 'T' contains .* marks soft prompts"):
        taken(["a", "b", "c"], lm_prefix=["a", "a", "T"])


def test_saved_and_loaded(processor, tmp_path):
    processor.template = "Q: {prompt}"
    processor.save_pretrained(tmp_path)
    loaded = LangBridgeProcessor.from_pretrained(tmp_path)
    processor_batch, loaded_batch = (
        processor(["a\nb", "c"], targets=["x", "y"]),
        loaded(["a\nb", "c"], targets=["x", "y"]),
    )
    processor.template = "{prompt}"
    assert all(torch.equal(processor_batch[key], loaded_batch[key]) for key in processor_batch)
    assert (tmp_path / "encoder_tokenizer" / "tokenizer.json").is_file()
    assert (tmp_path / "tokenizer.json").is_file()
    with pytest.raises(LangBridgeError, match="no folder"):
        LangBridgeProcessor.from_pretrained(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LangBridgeError, match="lacks a tokenizer"):
        LangBridgeProcessor.from_pretrained(tmp_path / "empty")


@pytest.mark.parametrize("connector", ["linear", "layerwise", "mlp", "resampler"])
def test_processor_and_model_agree(bases, connector):
    settings = ConnectorSettings.read(connector, num_latents=5)
    model, processor = build_bridge(*bases, connector=settings, template="Q: {prompt}\n")
    assert processor.new_token_ids == model.config.new_token_ids
    batch = processor(["Tom has\n\n3 apples", "a  b"])
    out = model.generate(**batch, max_new_tokens=5, do_sample=False)
    assert out.shape[0] == 2
    answers = processor.batch_decode(out)
    assert all(isinstance(answer, str) for answer in answers)
    assert answers == processor.batch_decode(out[:, batch["input_ids"].shape[1] :])


def test_the_encoder_reads_numbers_digit_by_digit(tmp_path, base_folders):
    """A pre-tokenizer of its own, which is saved with the tokenizer, so that offsets stay those of the text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[UNK]", "▁Tom", "▁has", "▁128", "▁apples", "▁", "▁1", "▁2", "▁8", "."]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    encoder = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[UNK]")
    language_model = LangBridgeProcessor.from_bases(*base_folders).tokenizer  # a token a character
    text = "Tom has 128 apples"
    assert encoder.tokenize(text) == ["▁Tom", "▁has", "▁128", "▁apples"]
    apart = LangBridgeProcessor(language_model, encoder, split_digits=True)
    split = ["▁Tom", "▁has", "▁1", "▁2", "▁8", "▁apples"]
    assert encoder.tokenize(text) == split
    spans = encoder(text, return_offsets_mapping=True)["offset_mapping"]
    assert [text[start:stop].strip() for start, stop in spans] == ["Tom", "has", "1", "2", "8", "apples"]
    before = str(encoder.backend_tokenizer.pre_tokenizer)
    LangBridgeProcessor(language_model, encoder, split_digits=True)
    assert str(encoder.backend_tokenizer.pre_tokenizer) == before
    apart.save_pretrained(tmp_path)
    loaded = LangBridgeProcessor.from_pretrained(tmp_path)
    assert loaded.split_digits
    assert loaded.encoder_tokenizer.tokenize(text) == split


def test_bare_tokens_get_no_place(base_folders):
    processor = LangBridgeProcessor.from_bases(*base_folders, drop_bare_tokens=True)
    tokenizer = processor.encoder_tokenizer
    assert set(tokenizer.all_special_ids) - {tokenizer.unk_token_id} <= set(processor.bare_token_ids)
    assert not set(processor.bare_token_ids) & {*processor.new_token_ids, tokenizer.unk_token_id}
    batch = processor(["abc", ""])
    places = (batch["input_ids"] == processor.soft_prompt_token_id).sum(1).tolist()
    assert places == [4, 1]  # of an empty prompt the end vector is left
