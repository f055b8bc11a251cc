"""A routed prompt is answered as its way alone would answer it, in any company. The way follows from two signals of the
language model and thresholds that English alone has set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from langbridge.analyze.soft_prompts import nearest_tokens
from langbridge.errors import LangBridgeError
from langbridge.miniature import parents
from langbridge.miniature.dataset import held_out_rows
from langbridge.model import LangBridgeModel, LangBridgeProcessor, build_bridge
from langbridge.serve.continuous import ContinuousEngine
from langbridge.serve.engine import Decoding, PromptTooLong, Request
from langbridge.serve.hf import HFEngine
from langbridge.serve.load import bridge_engine, load_bridge, load_engine
from langbridge.serve.readers import CausalReader
from langbridge.serve.routing import BRIDGE, TEXT, Route, RoutingReader, fit_route, mistyped
from langbridge.serve.signals import CUE, Signals
from langbridge.train.ridge import ridge_start

FEW = Decoding(8)
KNOWN, FOREIGN = ["b", "What is 12 + 30, please?", "c d"], ["Xa", "X what is it", "Xyz, and more of it"]
PROMPTS = [KNOWN[0], FOREIGN[0], KNOWN[1], FOREIGN[1], FOREIGN[2], KNOWN[2]]
WAYS = [TEXT, BRIDGE, TEXT, BRIDGE, BRIDGE, TEXT]
ROUTE = Route(loss=1)


class Told:
    """The signals of texts of which those with an X are hard to read, and those with an X and a y tell of it."""

    def loss(self, text: str) -> float:
        return 2.0 if "X" in text else 0.5

    def gloss(self, text: str) -> float:
        return 1.0 if "y" in text else 0.2


signals: Any = Told()


def reader(folder: Path, **reading: Any) -> tuple[LangBridgeModel, RoutingReader]:
    model, processor = load_bridge(folder)
    return model, RoutingReader(processor, model.language_model.config, route=ROUTE, signals=signals, **reading)


def one_way(folder: Path, way: str) -> HFEngine:
    """The engine that has no choice: the bridge, or its language model on the same template as text."""
    model, processor = load_bridge(folder)
    if way == BRIDGE:
        return bridge_engine(model, processor)
    template = processor.template
    plain = CausalReader(processor.tokenizer, model.language_model.config, template=template)
    return HFEngine(model.language_model, plain)


@pytest.fixture(scope="module")
def expected(bridge_folder: Path) -> list[str]:
    found = [one_way(bridge_folder, way).answers([text], FEW)[0].text for text, way in zip(PROMPTS, WAYS, strict=True)]
    other = [
        one_way(bridge_folder, TEXT if way == BRIDGE else BRIDGE).answers([text], FEW)[0].text
        for text, way in zip(PROMPTS, WAYS, strict=True)
    ]
    assert all(one != another for one, another in zip(found, other, strict=True)), "or the test could not tell"
    return found


def test_answers_are_those_of_either_way_and_say_which(bridge_folder: Path, expected: list[str]) -> None:
    engine = HFEngine(*reader(bridge_folder), batch_size=4)
    answers = engine.answers(PROMPTS, FEW)
    assert [one.text for one in answers] == expected
    assert [one.way for one in answers] == WAYS
    assert [one.encoder_tokens > 0 for one in answers] == [way == BRIDGE for way in WAYS]
    assert engine.identity["route"]["loss"] == 1
    assert one_way(bridge_folder, BRIDGE).answers(["b"], FEW)[0].way is None


def test_both_ways_are_written_together(bridge_folder: Path, expected: list[str]) -> None:
    engine = ContinuousEngine(*reader(bridge_folder), slots=6)
    try:
        told: list[list[Any]] = [[] for _ in PROMPTS]
        for prompt, heard in zip(PROMPTS, told, strict=True):
            engine.submit(Request(prompt), FEW, tell=heard.append)
        engine.close(60)
    finally:
        engine.close()
    assert [heard[-1].text for heard in told] == expected
    assert [heard[-1].way for heard in told] == WAYS


def test_continuations_are_scored_the_same_way(bridge_folder: Path) -> None:
    after = [" yes", " no", " 42", "a", " b c", " d"]
    engine = HFEngine(*reader(bridge_folder))
    found = dict(engine.score([Request(one) for one in PROMPTS], after))
    assert [found[place].way for place in range(6)] == WAYS
    for place, way in enumerate(WAYS):
        ((_, alone),) = one_way(bridge_folder, way).score([Request(PROMPTS[place])], [after[place]])
        assert found[place].log_probability == pytest.approx(alone.log_probability, abs=1e-4)


def test_a_conversation_goes_one_way(chat_bridge_folder: Path) -> None:
    _, routed = reader(chat_bridge_folder)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "X"}, {"role": "user", "content": "b"}]
    assert routed.ways([Request(messages=turns)]) == [TEXT], "what the model said does not count"
    turns[0]["content"] = [{"type": "text", "text": "X"}]
    assert routed.ways([Request(messages=turns)]) == [BRIDGE]
    turns[0]["content"] = "a"
    text = routed.own_text(Request(messages=turns))
    assert text == "<s>[system] Hi.<end>[user] a<end>[assistant] X<end>[user] b<end>[assistant] "
    (reading,) = routed.read([Request(messages=turns)])
    assert reading.ids == routed.tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("turn", [{"content": "b"}, {"role": "user"}, {"content": "X"}])
def test_a_turn_that_is_none_is_refused_as_without_a_route(chat_bridge_folder: Path, turn: dict[str, str]) -> None:
    _, routed = reader(chat_bridge_folder)
    with pytest.raises(LangBridgeError, match=r"messages, 0: got .* expected `role`"):
        routed.read([Request(messages=[turn])])


def test_a_prompt_that_a_template_has_twice_is_text_once(base_folders: tuple[Path, Path]) -> None:
    model, processor = build_bridge(*base_folders, template="<soft>{prompt}</soft>Q: {prompt}")
    routed = RoutingReader(processor, model.language_model.config, route=ROUTE, signals=signals)
    assert routed.own_text(Request("b")) == "Q: b"


def test_text_may_have_a_template_of_its_own(bridge_folder: Path) -> None:
    model, processor = load_bridge(bridge_folder)
    config, route = model.language_model.config, ROUTE.model_copy(update={"template": "Ask: {prompt} "})
    engine = HFEngine(model, RoutingReader(processor, config, route=route, signals=signals))
    plain = HFEngine(model.language_model, CausalReader(processor.tokenizer, config, template="Ask: {prompt} "))
    text, bridged = engine.answers(["b", "X"], FEW)
    assert (text.text, text.way) == (plain.answers(["b"], FEW)[0].text, TEXT)
    assert bridged.text == one_way(bridge_folder, BRIDGE).answers(["X"], FEW)[0].text
    with pytest.raises(LangBridgeError, match="template: got 'Ask'"):
        fit_route(model, processor, ["b"] * 8, template="Ask")


def test_what_is_too_long_is_named_by_its_place(bridge_folder: Path) -> None:
    _, routed = reader(bridge_folder, strict=True)
    with pytest.raises(PromptTooLong, match=r"prompt 2: it has 3.. tokens of the language model, which reads 256"):
        routed.read([Request("b"), Request("b" * 300)], new_tokens=8)
    with pytest.raises(PromptTooLong, match=r"prompt 3: it has 3.. encoder tokens"):
        routed.read([Request("b"), Request("b"), Request("X" * 300)], new_tokens=8)
    _, lenient = reader(bridge_folder)
    (reading,) = lenient.read([Request("b" * 300)], new_tokens=8)
    assert reading.cut
    assert len(reading.ids) == 248


def test_a_route_of_another_language_model_is_refused(bridge_folder: Path, tmp_path: Path) -> None:
    base = json.loads((bridge_folder / "config.json").read_text())["language_model_base"]
    ROUTE.model_copy(update={"language_model": base}).save(tmp_path / "mine.json")
    assert load_engine(bridge_folder, route=tmp_path / "mine.json").identity["route"]["loss"] == 1
    next(iter(base["fingerprint"]["samples"].values()))["values"][0] += 1
    ROUTE.model_copy(update={"language_model": base}).save(tmp_path / "other.json")
    with pytest.raises(LangBridgeError, match=r"language model: got .*, whose weights differ from those of"):
        load_engine(bridge_folder, route=tmp_path / "other.json")


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1, "threshold": 1}', '{"format": 2}'])
def test_what_is_no_route_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "route.json").write_text(content)
    with pytest.raises(LangBridgeError, match=r"route\.json: (broken JSON|holds no route)"):
        Route.load(tmp_path / "route.json")


def test_a_plain_model_has_one_way(base_folders: tuple[Path, Path], tmp_path: Path) -> None:
    ROUTE.save(tmp_path / "route.json")
    with pytest.raises(LangBridgeError, match=r"--route: .* is no bridge"):
        load_engine(base_folders[1], route=tmp_path / "route.json")


def test_the_loss_is_that_of_the_engine(bridge_folder: Path) -> None:
    model, processor = load_bridge(bridge_folder)
    text = "What is 12 + 30, please?"
    ((_, likelihood),) = bridge_engine(model, processor).score([Request()], [text])
    count = len(processor.encoder_tokenizer(text, add_special_tokens=False)["input_ids"])
    found = Signals(model, processor)
    assert found.loss(text) == pytest.approx(-likelihood.log_probability / count, rel=1e-5)
    assert found.loss("") == 0.0


@pytest.fixture(scope="module")
def closed_form() -> tuple[LangBridgeModel, LangBridgeProcessor]:
    model, processor = build_bridge(parents.ENCODER, parents.LANGUAGE_MODEL, dtype=torch.float32)
    english = [row["question"] for row in held_out_rows("en", 64)]
    assert ridge_start(model, processor, english, penalty=1e-4) is not None
    return model, processor


def test_a_gloss_is_told_by_what_stands_before_it(
    closed_form: tuple[LangBridgeModel, LangBridgeProcessor],
) -> None:
    model, processor = closed_form
    text = held_out_rows("sw", 1)[0]["question"]
    words = [
        one.nearest[0].id
        for one in nearest_tokens(model, processor, text, top=1).soft_prompts[:-1]
        if (word := one.nearest[0].text.strip()).isascii() and word.isalpha()
    ]
    gloss = [token for place, token in enumerate(words) if not place or words[place - 1] != token]
    assert len(gloss) > 8
    tokenizer = processor.tokenizer
    read, cue = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (text, CUE))
    losses = []
    for known in ([], read):
        ids = torch.tensor([[tokenizer.bos_token_id, *known, *cue, *gloss]])
        with torch.inference_mode():
            judged = model.language_model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
        losses.append(-float(judged[-len(gloss) :].mean()))
    found = Signals(model, processor)
    assert found.gloss(text) == pytest.approx(losses[0] - losses[1], rel=1e-4)
    assert found.gloss("") == 0.0


@pytest.mark.parametrize(
    ("told", "gloss"),
    [
        pytest.param(lambda text: 2.0 if "apples" in text else 0.5, 1.0, id="English tells what mistyped does not"),
        pytest.param(lambda text: 2.0, None, id="both tell as much"),
        pytest.param(lambda text: -2.0 if "apples" in text else -3.0, None, id="neither tells anything"),
        pytest.param(lambda text: 2.0 if "1" in text else 0.1, None, id="most of English tells nothing"),
    ],
)
def test_a_route_asks_for_the_gloss_where_english_tells_it(
    bridge_folder: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[[str], float], gloss: float | None
) -> None:
    monkeypatch.setattr(Signals, "_gloss", lambda _, text: told(text))
    monkeypatch.setattr(Signals, "_loss", lambda _, text: 1.0 if "apples" in text else 3.0)
    route = fit_route(*load_bridge(bridge_folder), [f"Tom has {number} apples." for number in range(1, 13)])
    assert (route.gloss, route.loss) == (gloss, 2.0 if gloss is None else 1.0)
    assert (route.prompts, route.english_by_bridge, route.mistyped_by_text) == (12, 0, 0)


def test_a_prompt_is_text_that_is_expected_or_that_tells_of_its_gloss() -> None:
    asked: list[str] = []

    class Asked(Told):
        def gloss(self, text: str) -> float:
            asked.append(text)
            return super().gloss(text)

    texts: Any = ["b", "X", "Xy"]
    assert ROUTE.model_copy(update={"gloss": 0.5}).ways(texts, Asked()) == [TEXT, BRIDGE, TEXT]  # type: ignore[arg-type]
    assert asked == ["X", "Xy"], "where the loss decides, the second pass is spared"
    assert ROUTE.ways(texts, signals) == [TEXT, BRIDGE, BRIDGE]


def test_a_long_prompt_is_weighed_by_its_end_and_within_the_positions(bridge_folder: Path) -> None:
    found = Signals(*load_bridge(bridge_folder))  # its language model has 256 positions
    assert found.loss("Z" * 900 + "b c" * 100) == pytest.approx(found.loss("Y" * 900 + "b c" * 100), rel=1e-6)
    assert found.gloss("Z" * 900 + "b c" * 100) == pytest.approx(found.gloss("Y" * 900 + "b c" * 100), rel=1e-6)


def test_a_prompt_with_several_answers_is_weighed_once(bridge_folder: Path) -> None:
    model, processor = load_bridge(bridge_folder)
    weigh, passes = Signals(model, processor), []
    model.language_model.register_forward_hook(lambda *_: passes.append(1))
    found = [[weigh.loss(text) for text in ("b", "c d")] for _ in range(16)]
    assert len(passes) == 2
    assert found == [[Signals(model, processor).loss(text) for text in ("b", "c d")]] * 16


@pytest.fixture(scope="module")
def miniature() -> tuple[LangBridgeModel, LangBridgeProcessor]:
    torch.manual_seed(0)
    return build_bridge(parents.ENCODER, parents.LANGUAGE_MODEL, dtype=torch.float32)


def test_english_sets_a_threshold_that_sends_other_languages_through_the_bridge(
    miniature: tuple[LangBridgeModel, LangBridgeProcessor],
) -> None:
    def questions(language: str) -> list[str]:
        return [row["question"] for row in held_out_rows(language, 16)]

    route = fit_route(*miniature, questions("en"))
    assert route.gloss is None, "a connector that was never trained gives no gloss"
    assert (route.prompts, route.english_by_bridge, route.mistyped_by_text) == (16, 0, 0)
    ways = {language: route.ways(questions(language), Signals(*miniature)) for language in ("en", "sw", "te")}
    assert set(ways["en"]) == {TEXT}
    assert set(ways["sw"]) == set(ways["te"]) == {BRIDGE}, "the miniature's language model knows English alone"


def test_a_model_that_tells_nothing_apart_gets_no_route(bridge_folder: Path) -> None:
    bridge = load_bridge(bridge_folder)
    with pytest.raises(LangBridgeError, match="got 2 prompts to fit on, expected at least 8"):
        fit_route(*bridge, ["a", "b"])
    with pytest.raises(LangBridgeError, match="does not tell these prompts"):
        fit_route(*bridge, [f"What is {number} and {number}?" for number in range(8)])


def test_mistyped_text_keeps_all_but_letters() -> None:
    text = "Tom has 28 apples, and 9 more."
    found = mistyped(text, 0)
    assert found != text
    assert found == mistyped(text, 0)
    assert [one for one in found if not one.isalpha()] == [one for one in text if not one.isalpha()]


def test_a_connector_that_reaches_into_layers_is_not_routed_live(bridge_folder: Path, monkeypatch: Any) -> None:
    model, routed = reader(bridge_folder)
    monkeypatch.setattr(type(model.connector), "injects", True)
    with pytest.raises(LangBridgeError, match="--route: LinearConnector reaches into the language model's layers"):
        ContinuousEngine(model, routed)


def test_a_bridge_that_chats_has_no_text_in_a_template_without_turns(chat_bridge_folder: Path) -> None:
    model, processor = load_bridge(chat_bridge_folder)

    def engine(template: str | None) -> ContinuousEngine:
        route = ROUTE.model_copy(update={"template": template})
        config = model.language_model.config
        return ContinuousEngine(model, RoutingReader(processor, config, route=route, signals=signals), slots=1)

    with pytest.raises(
        LangBridgeError, match=r"--route: .* 'Ask: \{prompt\}', which has no place for turns, .* fit it again"
    ):
        engine("Ask: {prompt}")
    asked = Request(messages=[{"role": "user", "content": "b"}])
    for template in (None, "chat"):
        live = engine(template)
        assert list(live.pieces(asked, FEW))
        live.close()


@pytest.fixture
def routed(bridge_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a route by which texts with an X go through the bridge."""
    monkeypatch.setattr(Signals, "_loss", lambda _, text: signals.loss(text))
    ROUTE.save(tmp_path / "route.json")
    return tmp_path / "route.json"


def test_the_command_line_says_the_way(
    command: Callable[..., tuple[int, str, str]], bridge_folder: Path, routed: Path, expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": one}) + "\n" for one in PROMPTS))
    asked = ("generate", bridge_folder, "--input", tmp_path / "in.jsonl", "--route", routed, "--max-new-tokens", 8)
    code, printed, error = command(*asked)
    assert (code, error) == (0, "")
    rows = [json.loads(line) for line in printed.splitlines()]
    assert [(row["output"], row["way"]) for row in rows] == [
        (text.strip(), way) for text, way in zip(expected, WAYS, strict=True)
    ]
    code, _, error = command(*asked, "--engine", "ray", "--out", tmp_path / "out.jsonl")
    assert (code, error) == (2, "langbridge: --route: goes with answers in this process, not with --engine ray\n")


def test_evaluations_count_the_ways(
    command: Callable[..., tuple[int, str, str]], bridge_folder: Path, routed: Path, tmp_path: Path
) -> None:
    rows = [{"q": question, "a": 1} for question in ("b?", "X?", "c?")]
    (tmp_path / "sum_en.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sum.yaml").write_text("suite: sum\nfiles: sum_*.jsonl\nquestion: q\nanswer: a\nmax_new_tokens: 4\n")
    asked = ("evaluate", bridge_folder, "--suite", tmp_path / "sum.yaml", "--out", tmp_path / "run", "--quiet")
    code, printed, _ = command(*asked, "--route", routed)
    assert code == 0
    assert "2 read as text" in printed
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples_sum.jsonl").read_text().splitlines()]
    assert [one["way"] for one in samples] == [TEXT, BRIDGE, TEXT]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["tasks"]["sum"]["languages"]["en"]["read_as_text"] == 2
    code, _, error = command(*asked)
    assert code == 2, "answers of a router and of the bridge alone are not mixed"
    assert "model.route is gone" in error


def test_a_route_is_written_by_one_command(
    command: Callable[..., tuple[int, str, str]],
    miniature: tuple[LangBridgeModel, LangBridgeProcessor],
    tmp_path: Path,
) -> None:
    for part in miniature:
        part.save_pretrained(tmp_path / "bridge")
    rows = "".join(json.dumps({"q": row["question"]}) + "\n" for row in held_out_rows("en", 12))
    (tmp_path / "en.jsonl").write_text(rows)
    asked = ("route", tmp_path / "bridge", "--data", tmp_path / "en.jsonl", "--field", "q")
    code, printed, error = command(*asked, "--out", tmp_path / "route.json")
    assert (code, error) == (0, "")
    assert "go to it as text: of 12 English ones 12, with mistyped letters 0" in printed
    assert Route.load(tmp_path / "route.json").language_model is not None
    code, _, error = command(*asked, "--limit", 3, "--out", tmp_path / "route.json")
    assert (code, error) == (2, "langbridge: route: got 3 prompts to fit on, expected at least 8\n")
