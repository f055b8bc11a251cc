"""A bridge as a model of the harness: what it writes, scores and refuses, on a tiny random one."""

from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.errors import LangBridgeError
from langbridge.evaluate.asking import GENERATE, SCORE, BridgeAsker, Request
from langbridge.evaluate.harness import LangBridgeLM, Prompt
from langbridge.evaluate.models import load_asker
from langbridge.model import ConnectorSettings

PROMPTS = ["b", "What is 12 + 30, please?", "c d", "২৭ రె ท", "a", "Two and two"]
SETTINGS = {"until": [], "do_sample": False, "max_gen_toks": 12}


def requests(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [Instance(kind, {}, one, 0, ("task", index, 1)) for index, one in enumerate(arguments)]


def generations(prompts: list[str], **settings) -> list[Instance]:
    return requests(GENERATE, [(prompt, {**SETTINGS, **settings}) for prompt in prompts])


@pytest.fixture(scope="module")
def lm(bridge_folder: Path) -> LangBridgeLM:
    return LangBridgeLM(str(bridge_folder), batch_size=4)


@pytest.fixture(scope="module")
def alone(lm: LangBridgeLM) -> list[str]:
    """What `generate` itself writes to each prompt."""
    found = []
    for prompt in PROMPTS:
        inputs = lm.processor([prompt])
        ids = lm.model.generate(**inputs, max_new_tokens=12, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        found.append(lm.processor.batch_decode(ids)[0])
    return found


def test_generation_is_that_of_the_model_itself_in_any_batch(lm: LangBridgeLM, alone: list[str]) -> None:
    assert len(set(alone)) > 2
    assert lm.generate_until(generations(PROMPTS)) == alone


def test_it_is_made_as_the_harness_makes_its_models(bridge_folder: Path, alone: list[str]) -> None:
    from lm_eval.api.registry import get_model

    made = get_model("langbridge").create_from_arg_string(
        f"pretrained={bridge_folder},dtype=float32", {"batch_size": 2, "max_batch_size": None, "device": "cpu"}
    )
    assert made.generate_until(generations(PROMPTS)) == alone


def test_stop_strings_cut_exactly_wherever_they_begin_and_end(lm: LangBridgeLM, alone: list[str]) -> None:
    whole = next(text for text in alone if len(text) >= 8)
    prompt = PROMPTS[alone.index(whole)]
    for start, end in ((2, 3), (2, 5), (3, 8)):  # the tokenizer's tokens are characters: these straddle several
        stop = whole[start:end]
        (found,) = lm.generate_until(generations([prompt], until=["never there", stop]))
        assert found == whole[: whole.index(stop)]
    first, second = whole[5:7], whole[2:4]
    (found,) = lm.generate_until(generations([prompt], until=[first, second]))
    assert found == whole[: min(whole.index(first), whole.index(second))], "the first in the text, not in the list"


def test_a_stop_ends_its_own_row_only_and_spares_the_rest(lm: LangBridgeLM, alone: list[str], monkeypatch) -> None:
    # Stops at what the first answer writes second: that row ends there, the others go on or stop in their own place.
    stop = alone[1][1]
    found = lm.generate_until(generations(PROMPTS, until=[stop]))
    assert found == [text.split(stop)[0] for text in alone]


def test_a_limit_or_an_end_is_told_apart(lm: LangBridgeLM) -> None:
    (cut,) = lm.continue_prompts([Prompt("b")], {**SETTINGS, "max_gen_toks": 3})
    assert (cut.cut_off, cut.tokens) == (True, 3)
    (ended,) = lm.continue_prompts([Prompt("b")], {**SETTINGS, "until": [cut.text[0]]})
    assert not ended.cut_off


@torch.inference_mode()
def by_hand(lm: LangBridgeLM, context: str, continuation: str) -> tuple[float, bool]:
    """Token by token, each after one more forward pass over the prompt and what is known so far."""
    tokens = lm.processor.tokenizer(continuation, add_special_tokens=False)["input_ids"]
    inputs = lm.processor([context])
    total, greedy = 0.0, True
    for token in tokens:
        logits = lm.model(**inputs).logits[0, -1].log_softmax(-1)
        total, greedy = total + float(logits[token]), greedy and int(logits.argmax()) == token
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[token]])], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return total, greedy


def test_loglikelihood_of_one_and_many_tokens(lm: LangBridgeLM, alone: list[str]) -> None:
    pairs = [
        ("b", " x"),
        ("What is 12 + 30, please?", " it is 42"),
        ("c d", " no"),
        ("a", ""),
        ("b", " " + alone[0][:1]),
    ]
    found = lm.loglikelihood(requests(SCORE, pairs))
    for (context, continuation), (value, greedy) in zip(pairs, found, strict=True):
        expected, wanted = by_hand(lm, context, continuation.removeprefix(" "))
        # Single precision, summed over up to 12 tokens in another order.
        assert value == pytest.approx(expected, abs=1e-4)
        assert greedy == wanted
    assert found[3] == (0.0, True), "nothing to write is certain"
    assert found[4][1], "what it writes first is greedy"


def test_an_empty_context_is_the_language_model_alone_as_in_the_harness(
    lm: LangBridgeLM, base_folders: tuple[Path, Path]
) -> None:
    plain = HFLM(pretrained=str(base_folders[1]), device="cpu", dtype="float32", batch_size=3)
    pairs = [("", " hello there"), ("", "x"), ("", " 12")]
    ours, theirs = lm.loglikelihood(requests(SCORE, pairs)), plain.loglikelihood(requests(SCORE, pairs))
    for (value, greedy), (expected, wanted) in zip(ours, theirs, strict=True):
        assert value == pytest.approx(expected, abs=1e-4)  # single precision in batches of other shapes
        assert greedy == wanted


def test_what_a_bridge_cannot_do_is_refused_clearly(lm: LangBridgeLM, bridge_folder: Path, base_folders) -> None:
    with pytest.raises(LangBridgeError, match="no rolling log-likelihood"):
        lm.loglikelihood_rolling(requests("loglikelihood_rolling", [("text",)]))
    with pytest.raises(LangBridgeError, match="cache=FOLDER"):
        lm.set_cache_hook(None)
    with pytest.raises(LangBridgeError, match="its own template"):
        lm.apply_chat_template([])
    with pytest.raises(LangBridgeError, match="unknown model argument colour"):
        LangBridgeLM(str(bridge_folder), colour="red")
    with pytest.raises(LangBridgeError, match="batch_size: got 'auto'"):
        LangBridgeLM(str(bridge_folder), batch_size="auto")
    with pytest.raises(LangBridgeError, match="not a bridge"):
        LangBridgeLM(str(base_folders[1]))
    if not torch.cuda.is_available():
        with pytest.raises(LangBridgeError, match="got 'cuda:0', but there is no GPU"):
            LangBridgeLM(str(bridge_folder), device="cuda:0")


def test_the_cache_answers_again_and_never_for_another_model_or_setting(
    bridge_folder: Path, tmp_path: Path, alone: list[str], monkeypatch
) -> None:
    asked: list[int] = []

    def made(**settings) -> LangBridgeLM:
        made = LangBridgeLM(str(bridge_folder), batch_size=4, cache=tmp_path, **settings)
        ask = made.continue_prompts
        monkeypatch.setattr(made, "continue_prompts", lambda p, s: asked.append(len(p)) or ask(p, s))
        return made

    first = made()
    assert first.generate_until(generations(PROMPTS)) == alone
    assert sum(asked) == 6
    again = made()
    assert again.generate_until(generations(PROMPTS)) == alone
    assert sum(asked) == 6, "not one was asked twice"
    shorter = again.generate_until(generations(PROMPTS, max_gen_toks=2))
    fresh = LangBridgeLM(str(bridge_folder)).generate_until(generations(PROMPTS, max_gen_toks=2))
    assert shorter == fresh, "another generation setting is another request"
    other = made(template="Other: {prompt}")
    other.generate_until(generations(PROMPTS))
    assert sum(asked) == 18
    model = LangBridgeModel.from_pretrained(bridge_folder)
    with torch.no_grad():
        next(model.connector.parameters()).add_(0.01)
    processor = LangBridgeProcessor.from_pretrained(bridge_folder)
    trained_on = LangBridgeLM(model, processor, cache=tmp_path)
    assert len(trained_on._responses) == 0, "a model that was trained a little further is another one"


def test_a_prompt_that_is_too_long_loses_its_beginning_and_is_counted(bridge_folder: Path) -> None:
    lm = LangBridgeLM(str(bridge_folder), max_encoder_length=8, template="{prompt}")
    assert not lm.cut(Prompt("abcdefg"))
    assert lm.cut(Prompt("abcdefgh"))
    inputs = lm._inputs([Prompt("0123456789")], cut_to=lm._cut_to(Prompt("0123456789")))
    kept = lm.processor.encoder_tokenizer.decode(inputs["encoder_input_ids"][0], skip_special_tokens=True)
    assert kept == "3456789", "the question stands at the end"
    (answer,) = BridgeAsker(lm).answer([Request(GENERATE, "012", "3456789", SETTINGS, "en")])
    assert answer["prompt_cut"]


def test_the_harness_alone_tells_of_prompts_that_were_cut(bridge_folder: Path, caplog) -> None:
    """It keeps no count of its own, and a score of cut prompts is another score."""
    lm = LangBridgeLM(str(bridge_folder), max_encoder_length=8, template="{prompt}")
    lm.generate_until(generations(["abc", "0123456789", "abcdefgh"]))
    assert "2 of 3 prompts were longer than the model reads (max_encoder_length 8" in caplog.text
    caplog.clear()
    lm.loglikelihood(requests("loglikelihood", [("0123456789", " yes"), ("", "yes")]))
    assert "1 of 2 prompts were longer" in caplog.text
    caplog.clear()
    lm.generate_until(generations(["abc"]))
    assert not caplog.text


def positions(lm: LangBridgeLM, monkeypatch, number: int) -> None:
    monkeypatch.setattr(lm.model.language_model.config, "max_position_embeddings", number)


def test_what_the_language_model_has_no_positions_for_is_cut_and_counted(
    lm: LangBridgeLM, alone: list[str], monkeypatch
) -> None:
    # BOS, one soft prompt a character and one for the encoder's end, the end vector, and twelve new tokens.
    prompt = Prompt("What is 12 + 30, please?")
    whole = 1 + len(lm.processor.format(prompt.text)) + 1 + 1 + 12
    positions(lm, monkeypatch, whole)
    assert not lm.cut(prompt, 12)
    assert lm.generate_until(generations([prompt.text])) == [alone[1]]
    positions(lm, monkeypatch, whole - 1)
    assert lm.cut(prompt, 12)
    seen: list[tuple[int, ...]] = []
    generate = lm.model.generate
    monkeypatch.setattr(lm.model, "generate", lambda **k: seen.append(k["input_ids"].shape) or generate(**k))
    answers = BridgeAsker(lm).answer([Request(GENERATE, "", text, SETTINGS, "en") for text in (prompt.text, "b")])
    assert [one["prompt_cut"] for one in answers] == [True, False]
    assert seen == [(2, whole - 1 - 12)], "what is read and what is written fill the positions"
    monkeypatch.setitem(vars(lm.model.language_model.config), "max_position_embeddings", None)
    assert not lm.cut(prompt, 10**6), "relative positions have no end"


def test_a_continuation_takes_its_own_room(lm: LangBridgeLM, monkeypatch) -> None:
    pairs = [("What is 12 + 30, please?", " it"), ("What is 12 + 30, please?", " it is forty-two"), ("b", " no")]
    free = lm.score_prompts([Prompt(text) for text, _ in pairs], [text for _, text in pairs])
    assert not lm.cut(Prompt(pairs[0][0]), 2)
    positions(lm, monkeypatch, 34)
    requests = [Request(SCORE, "", text, after, "en") for text, after in pairs]
    answers = BridgeAsker(lm).answer(requests)
    assert [one["prompt_cut"] for one in answers] == [True, True, False]
    for request, answer in zip(requests, answers, strict=True):
        (single,) = BridgeAsker(lm).answer([request])
        # Single precision in batches of other shapes.
        assert answer["loglikelihood"] == pytest.approx(single["loglikelihood"], abs=1e-4), "in any batch the same"
    assert answers[2]["loglikelihood"] == pytest.approx(free[2][0], abs=1e-4)
    assert abs(answers[1]["loglikelihood"] - free[1][0]) > 1e-3, "another, shorter prompt"


def test_examples_that_leave_no_room_are_refused(lm: LangBridgeLM, monkeypatch) -> None:
    request = Request(GENERATE, "Q: 1 A: 2; ", "What is 12 + 30, please?", SETTINGS, "en")
    least = 1 + len(request.shots) + 1 + 12 + 2  # BOS, shots, the end vector, the answer, one character and the end
    positions(lm, monkeypatch, least)
    assert BridgeAsker(lm, "lm").answer([request])[0]["prompt_cut"]
    positions(lm, monkeypatch, least - 1)
    message = rf"positions for {least - 1} tokens, of which 12 go to examples.* and 12 to the answer.*shots-in"
    with pytest.raises(LangBridgeError, match=message):
        BridgeAsker(lm, "lm").answer([request])
    assert BridgeAsker(lm).answer([request])[0]["prompt_cut"], "through the encoder they can be cut"
    positions(lm, monkeypatch, 12)
    with pytest.raises(LangBridgeError, match=r"got 0; let it write less \(--max-new-tokens\)$"):
        BridgeAsker(lm).answer([request])


def test_a_resampler_makes_the_same_number_of_soft_prompts_of_any_prompt(lm: LangBridgeLM, monkeypatch) -> None:
    monkeypatch.setattr(lm.processor, "connector", ConnectorSettings.read({"kind": "resampler", "num_latents": 8}))
    positions(lm, monkeypatch, 1 + 8 + 1 + 12)
    assert not lm.cut(Prompt("x" * 1000), 12)
    with pytest.raises(LangBridgeError, match="expected at least 9 left for the prompt, got 8"):
        lm.cut(Prompt("x"), 13)


def test_shots_go_through_the_encoder_or_to_the_language_model(lm: LangBridgeLM) -> None:
    request = Request(GENERATE, "Q: 1 A: 2; ", "3", SETTINGS, "en")
    through = BridgeAsker(lm)._prompt(request)
    own = BridgeAsker(lm, "lm")._prompt(request)
    assert through == Prompt("Q: 1 A: 2; 3", language="en")
    inputs = lm._inputs([own])
    soft = lm.processor.soft_prompt_token_id
    row = inputs["input_ids"][0].tolist()
    text = lm.processor.tokenizer.decode(row[1 : row.index(soft)])
    assert text == "Q: 1 A: 2; ", "after BOS, before the soft prompts, as the language model's own tokens"
    encoded = lm.processor.encoder_tokenizer.decode(inputs["encoder_input_ids"][0], skip_special_tokens=True)
    assert encoded == "Q: 3\nA:", "the question alone, in the processor's template"
    assert lm.processor.template == "Q: {prompt}\nA:", "the processor itself is as it was"
    with pytest.raises(LangBridgeError, match="got 'both'"):
        BridgeAsker(lm, "both")


def test_an_encoder_that_marks_languages_is_told_the_question_s(marking_bridge_folder: Path, caplog) -> None:
    lm = LangBridgeLM(str(marking_bridge_folder))
    asker = BridgeAsker(lm)
    prompts = [asker._prompt(Request(GENERATE, "", "3", SETTINGS, code)) for code in ("sw", "te", "tlh")]
    for inputs in (lm._inputs(prompts), lm._inputs(prompts, ["a"] * 3), lm._inputs(prompts, cut_to=4)):
        first = lm.processor.encoder_tokenizer.convert_ids_to_tokens(inputs["encoder_input_ids"][:, 0])
        assert first == ["swh_Latn", "tel_Telu", "eng_Latn"]
    assert caplog.text.count("no mark for 'tlh'") == 1
    assert lm.settings()["languages"] == "marked", "answers from before are not taken for these"


@pytest.mark.parametrize("shots_in", ["encoder", "lm"])
def test_a_bridge_is_asked_through_the_chat_template(chat_bridge_folder: Path, monkeypatch, shots_in: str) -> None:
    lm = LangBridgeLM(str(chat_bridge_folder))
    processor, request = lm.processor, Request(GENERATE, "Q: 1 A: 2; ", "345", SETTINGS, "en")
    asker = BridgeAsker(lm, shots_in)
    assert asker.chats, "it ends its turn itself"
    inputs = lm._inputs([asker._prompt(request)])
    row = inputs["input_ids"][0].tolist()
    soft = row.index(processor.soft_prompt_token_id)
    before = "<s>[system] Hi.<end>[user] " + ("Q: 1 A: 2; " if shots_in == "lm" else "")
    assert processor.tokenizer.decode(row[:soft]) == before
    assert processor.tokenizer.decode(row[soft:]).endswith("<end>[assistant] ")
    read = processor.encoder_tokenizer.decode(inputs["encoder_input_ids"][0], skip_special_tokens=True)
    assert read == ("345" if shots_in == "lm" else "Q: 1 A: 2; 345")
    assert asker.shown(request) == "<s>[system] Hi.<end>[user] Q: 1 A: 2; 345<end>[assistant] "
    if shots_in == "encoder":
        same = processor.apply_chat_template(
            [{"role": "user", "content": "Q: 1 A: 2; 345"}], add_generation_prompt=True, tokenize=True, return_dict=True
        )
        assert all(torch.equal(inputs[name], same[name]) for name in same)
    # What is cut is the prompt's beginning, and what is left fills the positions.
    positions(lm, monkeypatch, len(row) - 1 + 12)
    (answer,) = asker.answer([request])
    assert answer["prompt_cut"]
    (scored,) = BridgeAsker(lm).answer([Request(SCORE, "", "3", " yes", "en")])
    assert scored["loglikelihood"] < 0


def test_generation_ends_where_the_chat_template_ends_an_answer(
    chat_bridge_folder: Path, bridge_folder: Path, monkeypatch
) -> None:
    lm = LangBridgeLM(str(chat_bridge_folder))
    end = lm.processor.answer_end_id
    assert lm.processor.tokenizer.decode([end]) == "<end>"
    seen: list[list[int]] = []
    generate = lm.model.generate
    monkeypatch.setattr(lm.model, "generate", lambda **k: seen.append(k["eos_token_id"]) or generate(**k))
    lm.generate_until(generations(["abc"]))
    assert end in seen[0]
    assert lm.processor.tokenizer.eos_token_id in seen[0]


def test_the_chat_template_stands_in_for_another(chat_bridge_folder: Path, bridge_folder: Path) -> None:
    text = LangBridgeLM(str(chat_bridge_folder), template="Q: {prompt}\nA:")
    chat = LangBridgeLM(str(chat_bridge_folder), template="chat")
    assert text.processor.format("x") == "Q: x\nA:", "and without the system message, which is the chat template's"
    assert chat.processor.format("x") == "<s>[system] Hi.<end>[user] x<end>[assistant] "
    assert text.settings() != chat.settings()
    with pytest.raises(LangBridgeError, match="no chat template"):
        LangBridgeLM(str(bridge_folder), template="chat")


def test_a_plain_model_and_a_bridge_see_the_same_prompts(
    bridge_folder: Path, base_folders: tuple[Path, Path], monkeypatch
) -> None:
    template = "Answer. {prompt} ->"
    bridge = LangBridgeLM(str(bridge_folder), template=template)
    plain, _ = load_asker(str(base_folders[1]), template=template)
    seen: dict[str, list[str]] = {"bridge": [], "plain": []}
    tokenize, encode = bridge.processor.encoder_tokenizer, plain.lm.tok_encode
    monkeypatch.setattr(
        type(bridge.processor), "_encode_sources", lambda self, texts, *a: seen["bridge"].extend(texts) or [
            tokenize(text)["input_ids"] for text in texts
        ],
    )  # fmt: skip
    monkeypatch.setattr(plain.lm, "tok_encode", lambda text: seen["plain"].append(text) or encode(text))
    batch = [Request(GENERATE, "1 + 1 = 2\n\n", text, SETTINGS, "sw") for text in PROMPTS]
    for asker in (BridgeAsker(bridge), plain):
        assert [asker.shown(one) for one in batch] == [f"Answer. 1 + 1 = 2\n\n{text} ->" for text in PROMPTS]
        asker.answer(batch)
    assert sorted(seen["bridge"]) == sorted(seen["plain"])
    assert len(set(seen["bridge"])) == len(PROMPTS)
