"""Encoders that are told the language of their input: each prompt has its own language's mark."""

import json
import string

import pytest
import sentencepiece
import transformers as hf

from langbridge.errors import LangBridgeError
from langbridge.languages import FLORES
from langbridge.model import LangBridgeProcessor, build_bridge
from langbridge.model.language_marks import knows_language, own_mark
from langbridge.model.tokenizers import whitespace_ids

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", *string.ascii_letters, *string.digits, *".,?!"]
VOCABULARY = {piece: i for i, piece in enumerate(PIECES)}


@pytest.fixture(scope="module")
def m2m_100(tmp_path_factory):
    """Its marks are `__sw__`, before the text, and its tokenizer is a slow one."""
    folder = tmp_path_factory.mktemp("m2m")
    (folder / "text").write_text("\n".join([string.ascii_letters, string.digits, "how many are there now"] * 9))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "spm"), vocab_size=68, character_coverage=1.0
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    names = ["<s>", "<pad>", "</s>", "<unk>", *(pieces.id_to_piece(i) for i in range(3, len(pieces)))]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    return hf.M2M100Tokenizer(vocab_file=str(folder / "vocab.json"), spm_file=str(folder / "spm.model"))


@pytest.fixture(params=["nllb", "nllb, as published first", "mbart", "m2m_100"])
def marking(request):
    """A tokenizer that marks, the place of its mark, and the mark that it should set for Swahili."""
    if request.param == "m2m_100":
        return request.getfixturevalue("m2m_100"), 0, "__sw__"
    if request.param == "mbart":
        return hf.MBart50Tokenizer(vocab=[(piece, -1.0) for piece in PIECES], src_lang="en_XX"), 0, "sw_KE"
    legacy = request.param != "nllb"
    return hf.NllbTokenizer(vocab=VOCABULARY, merges=[], legacy_behaviour=legacy), (-1 if legacy else 0), "swh_Latn"


def processor_of(tokenizer) -> LangBridgeProcessor:
    language_model = hf.PreTrainedTokenizerFast(
        tokenizer_object=hf.NllbTokenizer(vocab=VOCABULARY, merges=[])._tokenizer, bos_token="<s>", eos_token="</s>"
    )
    return LangBridgeProcessor(language_model, tokenizer, soft_prompt_token_id=1)


def read(processor, texts, **kwargs) -> list[list[str]]:
    batch = processor(texts, return_tensors=None, **kwargs)
    rows = zip(batch["encoder_input_ids"], batch["encoder_attention_mask"], strict=True)
    return [processor.encoder_tokenizer.convert_ids_to_tokens(ids[: sum(mask)]) for ids, mask in rows]


def test_each_row_has_its_own_mark_and_nothing_else_changes(marking):
    tokenizer, place, swahili = marking
    processor = processor_of(tokenizer)
    texts = ["how many", "how", "now"]
    plain = read(processor, texts)
    english = own_mark(tokenizer)
    marked = read(processor, texts, source_language=["sw", None, "swh_Latn"])
    assert [row[place] for row in plain] == [english] * 3
    assert [row[place] for row in marked] == [swahili, english, swahili]
    for row in (*plain, *marked):
        del row[place]
    assert marked == plain
    assert read(processor, "now", source_language="en")[0][place] == english
    assert [row[place] for row in read(processor, texts)] == [english] * 3, "nothing is left of it in the next call"


def test_the_mark_is_the_one_that_the_tokenizer_itself_would_set(marking):
    tokenizer, _, swahili = marking
    ours = read(processor_of(tokenizer), "how many", source_language="sw")
    tokenizer.src_lang = swahili.strip("_")
    assert ours == [tokenizer.convert_ids_to_tokens(tokenizer("how many")["input_ids"])]
    tokenizer.src_lang = "en" if swahili == "__sw__" else {"sw_KE": "en_XX"}.get(swahili, "eng_Latn")


def test_a_prompt_that_is_cut_keeps_its_mark(marking):
    tokenizer, place, swahili = marking
    with pytest.warns(UserWarning, match="were cut to 5"):
        (row,) = read(
            processor_of(tokenizer), "how many now", source_language="sw", max_encoder_length=5, truncation="encoder"
        )
    assert len(row) == 5
    assert row[place] == swahili


def test_codes_of_one_language_are_one(marking):
    tokenizer, place, _ = marking
    processor = processor_of(tokenizer)
    for codes in (("sw", "swa", "swh", "swh_Latn"), ("de", "deu", "deu_Latn", "de-AT"), ("zh", "zho", "zh-Hans")):
        assert len({read(processor, "now", source_language=code)[0][place] for code in codes}) == 1, codes


def test_a_script_is_heeded():
    processor = processor_of(hf.NllbTokenizer(vocab=VOCABULARY, merges=[]))
    for code, mark in (("zh", "zho_Hans"), ("zh-Hant", "zho_Hant"), ("zho_Hant", "zho_Hant"), ("nn", "nno_Latn")):
        assert read(processor, "now", source_language=code)[0][0] == mark


def test_every_code_of_the_table_is_a_mark_of_nllb():
    marks = hf.NllbTokenizer(vocab=VOCABULARY, merges=[]).get_vocab()
    assert not [code for code in FLORES.values() if code not in marks]


def test_an_unknown_language_is_refused(marking):
    tokenizer, _, swahili = marking
    processor = processor_of(tokenizer)
    with pytest.raises(LangBridgeError, match=r"source_language, row 1: got 'tlh'.*" + swahili.strip("_")):
        processor(["now", "how"], source_language=["sw", "tlh"])
    with pytest.raises(LangBridgeError, match="source_language: got 2 for 1 prompts"):
        processor(["now"], source_language=["sw", "en"])
    assert knows_language(tokenizer, "sw")
    assert not knows_language(tokenizer, "tlh")


def test_new_tokens_are_not_laid_over_marks(m2m_100):
    before = m2m_100("")["input_ids"]
    assert whitespace_ids(m2m_100) == []
    assert m2m_100("")["input_ids"] == before
    assert m2m_100.convert_ids_to_tokens(list(m2m_100.lang_code_to_id.values()))[:2] == ["__af__", "__am__"]


def test_encoders_without_marks_take_no_notice(bases):
    _, processor = build_bridge(*bases)
    texts = ["Tom has 3 apples", "and"]
    plain, told = processor(texts), processor(texts, source_language=["sw", "tlh"])
    assert plain.keys() == told.keys()
    assert all((plain[name] == told[name]).all() for name in plain)
    assert own_mark(processor.encoder_tokenizer) is None
    assert knows_language(processor.encoder_tokenizer, "tlh")
