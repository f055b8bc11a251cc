"""Translate, then solve."""

import json
from pathlib import Path

import pytest

from langbridge.errors import LangBridgeError
from langbridge.evaluate.run import evaluate
from langbridge.evaluate.suites import load_suites
from langbridge.evaluate.translating import Translator, translate_family
from langbridge.serve.engine import Answer
from langbridge.serve.load import load_engine


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for language in ("en", "sw"):
        rows = [{"id": index, "question": f"{language} {index} + 1?", "answer_number": index + 1} for index in range(3)]
        (folder / f"mgsm_{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.filterwarnings("ignore:--translator")  # one with random weights writes to the limit
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


@pytest.mark.filterwarnings("ignore:--translator")  # one with random weights writes to the limit
def test_a_translated_question_is_asked_as_english(base_folders, seq2seq: Path, data: Path, tmp_path: Path) -> None:
    out = translate_family(Translator(str(seq2seq)), "mgsm", ["sw"], data, tmp_path / "english", limit=1)
    tasks = load_suites(["mgsm"], data=out, languages=["sw"], generation={"max_gen_toks": 3}, metadata={"frame": "en"})
    engine = load_engine(base_folders[1], template="In {language}: {prompt}")
    run = evaluate(engine, tasks, tmp_path / "run")
    assert run.samples("mgsm")[0].prompt.startswith("In English: ")


@pytest.mark.parametrize(
    ("settings", "says"), [({"device": "foo"}, "device: got 'foo'"), ({"dtype": "foo"}, "dtype: got")]
)
def test_a_translator_is_asked_for_a_device_and_precision_as_models_are(
    seq2seq: Path, settings: dict, says: str
) -> None:
    with pytest.raises(LangBridgeError, match=says):
        Translator(str(seq2seq), **settings)


@pytest.mark.filterwarnings("ignore:--translator.*cut off")  # random weights write to the limit
def test_a_translator_warns_of_texts_that_it_cut(seq2seq: Path) -> None:
    translator = Translator(str(seq2seq))
    translator.tokenizer.model_max_length = 8
    with pytest.warns(UserWarning, match=r"1 of 2 texts in 'sw' are longer than .* reads and lost their beginning"):
        translator.translate(["a" * 20, "b"], "sw", max_new_tokens=2)


def test_a_translator_that_writes_nothing_or_without_end_is_told_of(
    seq2seq: Path, data: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    translator = Translator(str(seq2seq))
    written = [Answer(" ", 1), Answer("one and one and one and", 512, "length"), Answer("2 + 1 ?", 4)]
    translator.engine.generate = lambda requests, decoding: enumerate(written)
    out = translate_family(translator, "mgsm", ["sw"], data, tmp_path / "english")
    assert [str(one.message) for one in recwarn] == [
        "--translator: 1 of 3 texts in 'sw' have a translation that was cut off after 512 tokens",
        f"--translator: 1 of 3 texts in 'sw' stay as they are, because {seq2seq} wrote nothing for them",
    ]
    documents = load_suites(["mgsm"], data=out, languages=["sw"], metadata={"frame": "en"})[0].task.eval_docs
    assert len(documents) == 3
    rows = [json.loads(line) for line in (out / "mgsm" / "mgsm_sw.jsonl").read_text().splitlines()]
    assert [row["question"] for row in rows] == ["sw 0 + 1?", "one and one and one and", "2 + 1 ?"]


def test_a_translator_is_told_the_languages_that_it_knows(seq2seq: Path, tmp_path: Path) -> None:
    translator = Translator(str(seq2seq))
    assert translator._languages("sw") == {}, "this one only translates"
    translator.tokenizer.add_tokens(["eng_Latn", "swh_Latn"])
    assert translator._languages("sw") == {"forced_bos_token_id": translator.tokenizer.get_vocab()["eng_Latn"]}
    assert translator.tokenizer.src_lang == "swh_Latn"
    with pytest.raises(LangBridgeError, match="does not know the language 'te'"):
        translator._languages("te")
