"""Whatever a folder holds is asked in its own way: a bridge, a causal and an encoder-decoder model, and translators."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, MT5Config, MT5ForConditionalGeneration

from langbridge.errors import LangBridgeError
from langbridge.evaluate.asking import BridgeAsker, HarnessAsker
from langbridge.evaluate.models import load_asker
from langbridge.evaluate.run import evaluate
from langbridge.evaluate.suites import load_suites
from langbridge.evaluate.translating import Translator, translate_family


@pytest.fixture(scope="module")
def seq2seq(base_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder-decoder with the encoder's tokenizer."""
    folder = tmp_path_factory.mktemp("seq2seq")
    torch.manual_seed(0)
    MT5ForConditionalGeneration(
        MT5Config(
            vocab_size=128, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4, decoder_start_token_id=0,
            pad_token_id=0, eos_token_id=2, initializer_factor=2.0, tie_word_embeddings=False,
        )
    ).save_pretrained(folder)  # fmt: skip
    AutoTokenizer.from_pretrained(base_folders[0]).save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for language in ("en", "sw"):
        rows = [{"id": index, "question": f"{language} {index} + 1?", "answer_number": index + 1} for index in range(3)]
        (folder / f"mgsm_{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_every_kind_of_model_by_the_same_call(
    bridge_folder: Path, base_folders: tuple[Path, Path], seq2seq: Path, data: Path, tmp_path: Path
) -> None:
    tasks = load_suites(["mgsm"], data=data, languages=["en", "sw"], generation={"max_gen_toks": 5})
    for folder, kind in ((bridge_folder, "bridge"), (base_folders[1], "causal"), (seq2seq, "seq2seq")):
        asker, about = load_asker(str(folder), batch_size=2)
        assert isinstance(asker, BridgeAsker if kind == "bridge" else HarnessAsker)
        run = evaluate(asker, tasks, tmp_path / kind, about=about, limit=2)
        assert run.results["model"]["kind"] == kind
        assert run.results["model"]["name"] == str(folder)
        assert [one.id for one in run.samples("mgsm")] == ["0", "1", "0", "1"]
        assert all(len(one.output) <= 5 for one in run.samples("mgsm"))
    plain = [one.prompt for one in run.samples("mgsm")]
    assert plain == ["en 0 + 1?", "en 1 + 1?", "sw 0 + 1?", "sw 1 + 1?"], "no template where none is asked for"


def test_the_chat_template_is_taken_where_there_is_one(base_folders: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(base_folders[1], tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %} [assistant]"
    tokenizer.save_pretrained(folder)
    from langbridge.evaluate.asking import GENERATE, Request

    request = Request(GENERATE, "1 ", "2?", {"max_gen_toks": 4}, "en")
    assert load_asker(str(folder))[0].shown(request) == "[user] 1 2? [assistant]"
    assert load_asker(str(folder), template="Q {prompt}")[0].shown(request) == "Q 1 2?"
    with pytest.raises(LangBridgeError, match="no chat template"):
        load_asker(str(base_folders[1]), template="chat")
    with pytest.raises(LangBridgeError, match="leave no room for a prompt"):
        load_asker(str(folder))[0].answer([Request(GENERATE, "", "x", {"max_gen_toks": 256}, "en")])


def test_what_is_no_model_is_named(bridge_folder: Path, base_folders, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for name, settings, message in [
        (tmp_path / "none", {}, "no such folder"),
        (tmp_path / "config.json", {}, "is a file"),
        (tmp_path, {}, "not a model's folder"),
        (bridge_folder, {"template": "chat"}, "language model's tokenizer has no chat template"),
        (bridge_folder, {"template": "mathoctopus"}, "formats all languages alike"),
        (base_folders[1], {"shots_in": "lm"}, "is no bridge"),
        (base_folders[0], {}, "cannot be loaded as a causal language model: Unrecognized configuration class"),
    ]:
        with pytest.raises(LangBridgeError, match=message):
            load_asker(str(name), **settings)


def test_device_and_precision_are_checked_alike_for_every_kind(bridge_folder: Path, base_folders) -> None:
    for name in (bridge_folder, base_folders[1]):
        for settings, message in [
            ({"device": "foo"}, "device: got 'foo', expected cpu, cuda or cuda:N"),
            ({"device": "meta"}, "device: got 'meta', expected cpu"),
            ({"device": "cuda:99"}, "device: got 'cuda:99', but "),
            ({"dtype": "foo"}, "dtype: got 'foo', expected auto, float32"),
        ]:
            with pytest.raises(LangBridgeError, match=message):
                load_asker(str(name), **settings)
        asker, _ = load_asker(str(name), device="cpu", dtype="bfloat16")
        assert asker.settings()["dtype"] == "bfloat16", "of the bases: what is trained stays in single precision"
        lm = asker.lm
        assert getattr(lm.model, "language_model", lm.model).dtype == torch.bfloat16


def test_translate_then_solve(seq2seq: Path, data: Path, tmp_path: Path) -> None:
    translator = Translator(str(seq2seq), batch_size=2)
    out = translate_family(translator, "mgsm", ["en", "sw"], data, tmp_path / "english", limit=2)
    rows = [json.loads(line) for line in (out / "mgsm" / "mgsm_sw.jsonl").read_text().splitlines()]
    assert [row["original"]["question"] for row in rows] == ["sw 0 + 1?", "sw 1 + 1?"]
    assert [row["question"] for row in rows] == translator.translate(["sw 0 + 1?", "sw 1 + 1?"], "sw")
    english = [json.loads(line) for line in (out / "mgsm" / "mgsm_en.jsonl").read_text().splitlines()]
    assert [row["question"] for row in english] == ["en 0 + 1?", "en 1 + 1?"], "English stays as it is"
    translator.translate = None  # not asked again
    translate_family(translator, "mgsm", ["en", "sw"], data, tmp_path / "english", limit=2)
    with pytest.raises(LangBridgeError, match="translated otherwise: limit was 2 and is 3; delete it first"):
        translate_family(translator, "mgsm", ["sw"], data, tmp_path / "english", limit=3)
    with pytest.raises(LangBridgeError, match="gsm8k has no text to translate"):
        translate_family(translator, "gsm8k", ["en"], data, tmp_path / "english")


def test_a_translated_question_is_asked_as_english(base_folders, seq2seq: Path, data: Path, tmp_path: Path) -> None:
    out = translate_family(Translator(str(seq2seq)), "mgsm", ["sw"], data, tmp_path / "english", limit=1)
    tasks = load_suites(["mgsm"], data=out, languages=["sw"], generation={"max_gen_toks": 3}, metadata={"frame": "en"})
    asker, _ = load_asker(str(base_folders[1]), template="In {language}: {prompt}")
    run = evaluate(asker, tasks, tmp_path / "run")
    assert run.samples("mgsm")[0].prompt.startswith("In English: ")


@pytest.mark.parametrize(
    ("settings", "says"), [({"device": "foo"}, "device: got 'foo'"), ({"dtype": "foo"}, "dtype: got")]
)
def test_a_translator_is_asked_for_a_device_and_precision_as_models_are(
    seq2seq: Path, settings: dict, says: str
) -> None:
    with pytest.raises(LangBridgeError, match=says):
        Translator(str(seq2seq), **settings)


def test_a_translator_warns_of_texts_that_it_cut(seq2seq: Path) -> None:
    translator = Translator(str(seq2seq))
    translator.tokenizer.model_max_length = 8
    with pytest.warns(UserWarning, match=r"reads 8 tokens: 1 of 2 texts in 'sw' lost their end"):
        translator.translate(["a" * 20, "b"], "sw", max_new_tokens=2)


def test_a_translator_is_told_the_languages_that_it_knows(seq2seq: Path, tmp_path: Path) -> None:
    translator = Translator(str(seq2seq))
    assert translator._languages("sw") == {}, "this one only translates"
    translator.tokenizer.add_tokens(["eng_Latn", "swh_Latn"])
    assert translator._languages("sw") == {"forced_bos_token_id": translator.tokenizer.get_vocab()["eng_Latn"]}
    assert translator.tokenizer.src_lang == "swh_Latn"
    with pytest.raises(LangBridgeError, match="does not know the language 'te'"):
        translator._languages("te")
