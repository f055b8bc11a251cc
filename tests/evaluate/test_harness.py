"""A bridge as a model of the harness: how it is made, what it keeps, tells and refuses."""

import shutil
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from safetensors.torch import load_file, save_file

from langbridge.errors import LangBridgeError
from langbridge.evaluate.harness import GENERATE, SCORE, LangBridgeLM
from langbridge.serve.engine import Decoding
from langbridge.serve.load import load_engine
from langbridge.serve.replay import ReplayEngine

PROMPTS = ["b", "What is 12 + 30, please?", "c d", "২৭ రె ท", "a", "Two and two"]
SETTINGS = {"until": [], "do_sample": False, "max_gen_toks": 12}
DRAWN = {"until": [], "do_sample": True, "temperature": 1.0, "max_gen_toks": 8}


def requests(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [Instance(kind, {}, one, 0, ("task", index, 1)) for index, one in enumerate(arguments)]


def generations(prompts: list[str], **settings) -> list[Instance]:
    return requests(GENERATE, [(prompt, {**SETTINGS, **settings}) for prompt in prompts])


def made(folder: Path, **settings) -> LangBridgeLM:
    """As the harness makes its models."""
    arguments = ",".join(f"{name}={value}" for name, value in {"pretrained": folder, **settings}.items())
    more = {"batch_size": 4, "max_batch_size": None, "device": "cpu"}
    return get_model("langbridge").create_from_arg_string(arguments, more)


def test_it_answers_as_the_engine_does(bridge_folder: Path) -> None:
    lm, engine = made(bridge_folder, dtype="float32"), load_engine(bridge_folder)
    answers = engine.answers(PROMPTS, Decoding(12))
    assert lm.generate_until(generations(PROMPTS)) == [one.text for one in answers]
    ((value, greedy),) = lm.loglikelihood(requests(SCORE, [("b", " x")]))
    assert value < 0
    assert not greedy
    stop = answers[0].text[2:4]
    assert lm.generate_until(generations(PROMPTS[:1], until=stop)) == [answers[0].text.split(stop)[0]]


def test_it_is_made_by_hand_as_other_models_of_the_harness_are(bridge_folder: Path) -> None:
    asked = generations(PROMPTS)
    assert LangBridgeLM(pretrained=bridge_folder, device="cpu").generate_until(asked) == made(
        bridge_folder
    ).generate_until(asked)


def test_what_a_bridge_cannot_do_is_refused_clearly(bridge_folder: Path, base_folders) -> None:
    lm = LangBridgeLM(ReplayEngine({}))
    with pytest.raises(LangBridgeError, match="no rolling log-likelihood"):
        lm.loglikelihood_rolling(requests("loglikelihood_rolling", [("text",)]))
    with pytest.raises(LangBridgeError, match="cache=FOLDER"):
        lm.set_cache_hook(None)
    with pytest.raises(LangBridgeError, match="its own template"):
        lm.apply_chat_template([])
    for folder, settings, message in [
        (bridge_folder, {"colour": "red"}, "unknown model argument colour"),
        (base_folders[1], {}, "not a bridge"),
    ]:
        with pytest.raises(LangBridgeError, match=message):
            made(folder, **settings)
    for settings, message in [
        ({"batch_size": "auto"}, "batch_size: got 'auto'"),
        ({} if torch.cuda.is_available() else {"device": "cuda:0"}, "got 'cuda:0', but there is no GPU"),
    ]:
        if settings:
            with pytest.raises(LangBridgeError, match=message):
                LangBridgeLM.create_from_arg_obj({"pretrained": str(bridge_folder), **settings})


def test_the_cache_answers_again_and_never_for_another_model_or_setting(bridge_folder: Path, tmp_path: Path) -> None:
    asked: list[int] = []

    def counting(folder: Path = bridge_folder, **settings) -> LangBridgeLM:
        lm = made(folder, cache=tmp_path / "cache", **settings)
        generate = lm.engine.generate
        lm.engine.generate = lambda some, *rest: asked.append(len(some)) or generate(some, *rest)
        return lm

    alone = counting().generate_until(generations(PROMPTS))
    assert asked == [6]
    again = counting()
    assert again.generate_until(generations(PROMPTS)) == alone
    assert asked == [6], "not one was asked twice"
    shorter = again.generate_until(generations(PROMPTS, max_gen_toks=2))
    fresh = load_engine(bridge_folder).answers(PROMPTS, Decoding(2))
    assert shorter == [one.text for one in fresh], "another generation setting is another request"
    counting(template="Other: {prompt}").generate_until(generations(PROMPTS))
    assert sum(asked) == 18
    folder = shutil.copytree(bridge_folder, tmp_path / "further")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "connector" in name)
    save_file({**weights, name: weights[name] + 0.01}, folder / "model.safetensors", {"format": "pt"})
    assert len(made(folder, cache=tmp_path / "cache").responses) == 0, "a model that was trained on is another one"


def test_samples_of_a_question_are_kept_apart(bridge_folder: Path, tmp_path: Path) -> None:
    asked = [Instance(GENERATE, {}, ("b", DRAWN), 0, ("task", 0, 3)) for _ in range(3)]
    first = made(bridge_folder, cache=tmp_path / "one").generate_until(asked)
    assert len(set(first)) > 1, "not the same sample three times"
    torch.rand(5)
    assert made(bridge_folder, cache=tmp_path / "two").generate_until(asked) == first
    assert made(bridge_folder, cache=tmp_path / "one").generate_until(asked) == first


def test_the_harness_alone_tells_of_prompts_that_were_cut(bridge_folder: Path, caplog) -> None:
    """It keeps no count of its own, and a score of cut prompts is another score."""
    lm = made(bridge_folder, max_encoder_length=8, template="{prompt}")
    lm.generate_until(generations(["abc", "0123456789", "abcdefgh"]))
    assert "2 of 3 prompts were longer than the model reads" in caplog.text
    caplog.clear()
    lm.loglikelihood(requests(SCORE, [("0123456789", " yes"), ("", "yes")]))
    assert "1 of 2 prompts were longer" in caplog.text
    caplog.clear()
    lm.generate_until(generations(["abc"]))
    assert not caplog.text
