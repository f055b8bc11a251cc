"""Means over a sentence's own tokens: what is in them, and that a batch changes nothing."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.analyze import states
from langbridge.analyze.corpus import Corpus
from langbridge.analyze.states import BRIDGE, LM, Stage, pool_states
from langbridge.errors import LangBridgeError
from langbridge.model import build_bridge

TEXTS = {
    "en": ["What is 12 + 30, please?", "c d", "a", "Tom has 3 apples and sells 2."],
    "te": ["రె 12?", "ెట cd", "২৭", "a longer one, with some words in it"],
}
CORPUS = Corpus(tuple(TEXTS), ("0", "1", "2", "3"), tuple(map(tuple, TEXTS.values())))


@pytest.fixture(scope="module")
def bridge(bridge_folder: Path) -> tuple[LangBridgeModel, LangBridgeProcessor]:
    return LangBridgeModel.from_pretrained(bridge_folder), LangBridgeProcessor.from_pretrained(bridge_folder)


def test_means_are_over_the_text_s_own_tokens(bridge, tmp_path: Path) -> None:
    """By hand, one text at a time: the tokenizers are of characters, so the text's place in the template is known."""
    model, processor = bridge
    pooled = pool_states(model, processor, CORPUS, tmp_path, batch_size=3)
    assert [stage.name for stage in pooled.stages if stage.model == BRIDGE] == [
        "encoder",
        "soft prompts",
        "layer 1",
        "layer 2",
    ]
    assert [stage.name for stage in pooled.stages if stage.model == LM] == ["embeddings", "layer 1", "layer 2"]
    for j, code in enumerate(CORPUS.languages):
        for i, text in enumerate(TEXTS[code]):
            own = slice(3, 3 + len(text))  # after "Q: ", before "\nA:" and </s>
            inputs = processor([text])
            with torch.inference_mode():
                encoded = model.encode(inputs["encoder_input_ids"])[0]
                soft = model.soft_prompts(inputs["encoder_input_ids"])[0][0]
                layers = model(**inputs, output_hidden_states=True).hidden_states
                ids = processor.tokenizer(processor.format(text), return_tensors="pt")["input_ids"]
                alone = model.language_model(ids, output_hidden_states=True).hidden_states
            # The language model reads BOS before the soft prompts, and before its own tokens.
            shifted = slice(4, 4 + len(text))
            expected = {
                Stage(BRIDGE, -1): encoded[own],
                Stage(BRIDGE, 0): soft[own],
                Stage(BRIDGE, 1): layers[1][0, shifted],
                Stage(BRIDGE, 2): layers[2][0, shifted],
                Stage(LM, 0): alone[0][0, shifted],
                Stage(LM, 1): alone[1][0, shifted],
                Stage(LM, 2): alone[2][0, shifted],
            }
            assert set(expected) == set(pooled.stages)
            for stage, those in expected.items():
                # Batched and unbatched matrix products round differently in single precision.
                np.testing.assert_allclose(pooled.load(stage)[i, j], those.mean(0).numpy(), rtol=1e-4, atol=1e-4)


def test_a_chat_template_is_the_language_models_own(chat_bridge_folder: Path, tmp_path: Path) -> None:
    """The encoder reads the words alone; the language model reads them in the template, with its one begin token."""
    model = LangBridgeModel.from_pretrained(chat_bridge_folder)
    processor = LangBridgeProcessor.from_pretrained(chat_bridge_folder)
    pooled = pool_states(model, processor, CORPUS, tmp_path, batch_size=3)
    before = len(["<s>", *"[system] Hi.", "<end>", *"[user] "])
    for j, code in enumerate(CORPUS.languages):
        for i, text in enumerate(TEXTS[code]):
            inputs = processor([text])
            ids = processor.tokenizer(processor.format(text), add_special_tokens=False, return_tensors="pt")
            own = slice(before, before + len(text))
            with torch.inference_mode():
                encoded = model.encode(inputs["encoder_input_ids"])[0, : len(text)]
                layers = model(**inputs, output_hidden_states=True).hidden_states
                alone = model.language_model(ids["input_ids"], output_hidden_states=True).hidden_states
            expected = {
                Stage(BRIDGE, -1): encoded,
                Stage(BRIDGE, 2): layers[2][0, own],
                Stage(LM, 0): alone[0][0, own],
                Stage(LM, 2): alone[2][0, own],
            }
            for stage, those in expected.items():
                # As above.
                np.testing.assert_allclose(pooled.load(stage)[i, j], those.mean(0).numpy(), rtol=1e-4, atol=1e-4)


def test_the_mask_is_of_the_tokens_that_the_model_reads(bridge) -> None:
    """Which tokens are the text's own is asked of the tokenizer, and what is read comes from the processor."""
    reader = states._BridgeReader(*bridge)
    texts = ["2 + 2", "6 apples"]
    codes = ["en", "en"]
    rows = reader.tokens(texts, codes)
    with torch.inference_mode():
        reader.pooled(texts, codes, rows)
        for others in (["2 + 2", "6 apple"], ["2 + 2", "7 apples"]):
            with pytest.raises(AssertionError, match="one reading"):
                reader.pooled(others, codes, rows)


def test_an_encoder_that_marks_languages_is_told_each_row_s(
    marking_bridge_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    model = LangBridgeModel.from_pretrained(marking_bridge_folder)
    processor = LangBridgeProcessor.from_pretrained(marking_bridge_folder)
    read = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda ids, mask: read.extend(ids[:, 0].tolist()) or encode(ids, mask))
    corpus = Corpus(
        ("en", "swh_Latn", "tlh"), tuple("0123456789"), tuple(tuple(f"{i} apples" for i in range(10)) for _ in range(3))
    )
    pool_states(model, processor, corpus, tmp_path)
    marks = processor.encoder_tokenizer.convert_ids_to_tokens(read)
    assert sorted(marks) == ["eng_Latn"] * 20 + ["swh_Latn"] * 10, "and one that it does not know is read as English"


def test_counts_of_tokens_are_the_texts_own(bridge, tmp_path: Path) -> None:
    pooled = pool_states(*bridge, CORPUS, tmp_path)
    mean = sum(map(len, TEXTS["te"])) / 4
    assert pooled.tokens[BRIDGE]["te"] == pooled.tokens[LM]["te"] == mean
    assert pooled.cut == {BRIDGE: {}, LM: {}}


def test_what_is_too_long_is_cut_and_counted(bridge, tmp_path: Path) -> None:
    """The language model has 256 positions: BOS, soft prompts and end vector; or BOS and its own tokens."""
    model, processor = bridge
    long = dataclasses.replace(CORPUS, texts=(("a" * 400, "b", "c", "d"), CORPUS.texts[1]))
    pooled = pool_states(model, processor, long, tmp_path)
    assert pooled.cut == {BRIDGE: {"en": 1}, LM: {"en": 1}}
    assert np.isfinite(pooled.load(Stage(BRIDGE, 2))).all()
    # 254 encoder tokens, of which the template's first 3 and </s> are not the text's; the text's own end is cut.
    assert pooled.tokens[BRIDGE]["en"] == (250 + 3) / 4
    assert pooled.tokens[LM]["en"] == (252 + 3) / 4


@pytest.mark.parametrize(
    "options",
    [
        {"template_in": "lm"},
        {"template_in": "lm", "drop_bare_tokens": True},
        {"connector": {"kind": "resampler", "num_latents": 5}},
    ],
)
def test_other_layouts(base_folders: tuple[Path, Path], tmp_path: Path, options: dict) -> None:
    torch.manual_seed(0)
    model, processor = build_bridge(*base_folders, template="Q: {prompt}\nA:", **options)
    pooled = pool_states(model, processor, CORPUS, tmp_path / "together", batch_size=8)
    alone = pool_states(model, processor, CORPUS, tmp_path / "alone", batch_size=1)
    for stage in pooled.stages:
        np.testing.assert_allclose(pooled.load(stage), alone.load(stage), rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        inputs = processor(["c d"])
        soft = model.soft_prompts(inputs["encoder_input_ids"])[0][0]
    # All latents but the end vector; or the three tokens of the text, which the encoder reads without the template.
    expected = soft[: 5 if "connector" in options else 3].mean(0)
    np.testing.assert_allclose(pooled.load(Stage(BRIDGE, 0))[1, 0], expected.numpy(), rtol=1e-4, atol=1e-4)


def test_states_that_are_not_finite_are_refused(base_folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, processor = build_bridge(*base_folders)
    with torch.no_grad():
        model.connector.linear.bias[0] = float("inf")
    with pytest.raises(LangBridgeError, match="bridge, soft prompts: states are not finite"):
        pool_states(model, processor, CORPUS, tmp_path)


def test_progress_and_batch_size(bridge, tmp_path: Path) -> None:
    done: list[int] = []
    pool_states(*bridge, CORPUS, tmp_path, batch_size=3, progress=done.append)
    assert done == [3, 3, 2, 3, 3, 2], "eight texts, through the bridge and through the language model"
    with pytest.raises(LangBridgeError, match="batch_size"):
        pool_states(*bridge, CORPUS, tmp_path, batch_size=0)
