"""Whatever a folder holds is asked in its own way: a bridge, a causal and an encoder-decoder model."""

import shutil
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer

from langbridge.errors import LangBridgeError
from langbridge.serve.engine import Decoding, Request
from langbridge.serve.load import load_engine


def test_the_chat_template_is_taken_where_there_is_one(base_folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(base_folders[1], tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %} [assistant]"
    tokenizer.save_pretrained(folder)
    request = Request("2?", "1 ")
    assert load_engine(folder).shown(request) == "[user] 1 2? [assistant]"
    assert load_engine(folder).shown(Request(messages=[{"role": "user", "content": "x"}])) == "[user] x [assistant]"
    assert load_engine(folder, template="Q {prompt}").shown(request) == "Q 1 2?"
    twice = load_engine(folder, template="chat: {prompt}\n{prompt}\nSo.")
    assert twice.shown(request) == "[user] 1 2?\n2?\nSo. [assistant]"
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}]
    assert twice.shown(Request(messages=turns)) == "[user] x\nx\nSo.[assistant] y[user] z\nz\nSo. [assistant]"
    with pytest.raises(LangBridgeError, match=r"messages, 0: got .*expected `role`"):
        twice.shown(Request(messages=[{"role": "user", "content": [{"type": "image"}]}]))
    assert twice.identity != load_engine(folder).identity, "or answers of the one would be taken for the other's"
    with pytest.raises(LangBridgeError, match="no chat template"):
        load_engine(base_folders[1], template="chat")
    with pytest.raises(LangBridgeError, match="leave no room for a prompt"):
        load_engine(folder).answers(["x"], Decoding(256))


def test_what_is_no_model_is_named(bridge_folder: Path, base_folders, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for name, settings, message in [
        (tmp_path / "none", {}, "no such folder"),
        (tmp_path / "config.json", {}, "is a file"),
        (tmp_path, {}, "not a model's folder"),
        (bridge_folder, {"template": "chat"}, "language model's tokenizer has no chat template"),
        (bridge_folder, {"template": "mathoctopus"}, "formats all languages alike"),
        (base_folders[1], {"shots_in": "lm"}, "is no bridge"),
        (
            base_folders[1],
            {"template": "chat: <soft>{prompt}</soft>"},
            "whose <soft> only a bridge has",
        ),
        (base_folders[0], {}, "cannot be loaded as a causal language model: Unrecognized configuration class"),
    ]:
        with pytest.raises(LangBridgeError, match=message):
            load_engine(name, **settings)


def test_device_and_precision_are_checked_alike_for_every_kind(bridge_folder: Path, base_folders) -> None:
    for name in (bridge_folder, base_folders[1]):
        for settings, message in [
            ({"device": "foo"}, "device: got 'foo', expected cpu, cuda or cuda:N"),
            ({"device": "meta"}, "device: got 'meta', expected cpu"),
            ({"device": "cuda:99"}, "device: got 'cuda:99', but "),
            ({"dtype": "foo"}, "dtype: got 'foo', expected auto, float32"),
        ]:
            with pytest.raises(LangBridgeError, match=message):
                load_engine(name, **settings)
        engine = load_engine(name, device="cpu", dtype="bfloat16")
        assert engine.identity["dtype"] == "bfloat16", "of the bases: what is trained stays in single precision"
        assert getattr(engine.model, "language_model", engine.model).dtype == torch.bfloat16


def test_an_encoder_decoder_writes_and_scores_as_the_harness_has_it(seq2seq: Path) -> None:
    engine = load_engine(seq2seq, batch_size=4)
    theirs = HFLM(pretrained=str(seq2seq), backend="seq2seq", device="cpu", dtype="float32", batch_size=3)
    prompts, after = ["b", "What is 12 + 30, please?", "c d"], [" so 4", "x", " yes"]
    settings = {"until": ["q"], "do_sample": False, "max_length": 13}  # the token that a decoder starts from is one
    asked = [Instance("generate_until", {}, (prompt, settings), 0) for prompt in prompts]
    answers = engine.answers(prompts, Decoding(12, ["q"]))
    assert [one.text for one in answers] == theirs.generate_until(asked, disable_tqdm=True)
    assert {one.tokens for one in answers if one.finish == "length"} <= {12}
    pairs = [Instance("loglikelihood", {}, pair, 0) for pair in zip(prompts, after, strict=True)]
    found = dict(engine.score([Request(prompt) for prompt in prompts], after))
    for place, (value, greedy) in enumerate(theirs.loglikelihood(pairs, disable_tqdm=True)):
        # Single precision in batches of other shapes.
        assert found[place].log_probability == pytest.approx(value, abs=1e-4)
        assert found[place].greedy == greedy
