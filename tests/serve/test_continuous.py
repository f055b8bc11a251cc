"""Requests that come at any time are answered as each would be alone; what goes wrong with one hurts no other."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from langbridge.errors import LangBridgeError
from langbridge.serve.continuous import ContinuousEngine
from langbridge.serve.engine import Answer, Decoding, PromptTooLong, Request
from langbridge.serve.hf import HFEngine
from langbridge.serve.live import Busy, Piece, Token, Unavailable
from langbridge.serve.load import load_engine, load_live

PROMPTS = ["b", "What is 12 + 30, please?", "c d", "২৭ రె ట", "a", "Two and two make what "]
FEW = Decoding(12)
LONG = Decoding(200)
SAMPLED = Decoding(10, options={"do_sample": True, "temperature": 1.3, "top_p": 0.9})


class Heard:
    """What was told of one request."""

    def __init__(self) -> None:
        self.pieces, self.ends, self._over, self._begun = [], [], threading.Event(), threading.Event()

    def __call__(self, what: Piece | Answer | BaseException) -> None:
        assert not self.ends, "nothing is told after the end"
        if isinstance(what, Piece):
            self.pieces.append(what)
        else:
            self.ends.append(what)
            self._over.set()
        self._begun.set()

    def begun(self) -> "Heard":
        assert self._begun.wait(20)
        return self

    @property
    def end(self) -> Answer | BaseException:
        assert self._over.wait(20), "never told an end"
        return self.ends[0]

    @property
    def answer(self) -> Answer:
        if isinstance(self.end, BaseException):
            raise self.end
        assert "".join(piece.text for piece in self.pieces) == self.end.text
        return self.end

    @property
    def tokens(self) -> list[Token]:
        return [token for piece in self.pieces for token in piece.tokens]


def ask(engine: ContinuousEngine, request: Request | str, decoding: Decoding = FEW, owner: str = "") -> Heard:
    heard = Heard()
    heard.ticket = engine.submit(
        Request(request) if isinstance(request, str) else request, decoding, tell=heard, owner=owner
    )
    return heard


@pytest.fixture(scope="module")
def engines(bridge_folder: Path, base_folders: tuple[Path, Path]) -> Iterator[dict[str, tuple]]:
    folders = {"bridge": bridge_folder, "plain": base_folders[1]}
    both = {kind: (load_live(folder, slots=3), load_engine(folder, batch_size=1)) for kind, folder in folders.items()}
    yield both
    for live, _ in both.values():
        live.close()


@pytest.fixture(params=["bridge", "plain"])
def pair(request: pytest.FixtureRequest, engines: dict) -> tuple[ContinuousEngine, HFEngine]:
    return engines[request.param]


@pytest.fixture
def live(engines: dict) -> ContinuousEngine:
    return engines["bridge"][0]


@pytest.fixture
def fresh(engines: dict) -> Iterator[Any]:
    """Engines of a test's own, on the model of the others."""
    made: list[ContinuousEngine] = []

    def fresh(**settings: Any) -> ContinuousEngine:
        other = engines["bridge"][0]
        made.append(ContinuousEngine(other.model, other.reader, **settings))
        return made[-1]

    yield fresh
    for engine in made:
        engine.close()


def calm(engine: ContinuousEngine) -> None:
    """Wait until there is nothing to do."""
    for _ in range(1000):
        if not engine.load.running and not engine.load.waiting:
            return
        time.sleep(0.01)
    raise AssertionError("it never came to rest")


def test_answers_under_load_are_those_of_each_alone(pair) -> None:
    live, alone = pair
    draw = random.Random(0)
    asked = [
        ("".join(draw.choices("abc 12?", k=draw.randint(1, 60))), Decoding(draw.randint(1, 30), stop=("q", "7&")))
        for _ in range(30)
    ]
    heard = []
    for number, (prompt, decoding) in enumerate(asked):
        heard.append(ask(live, prompt, decoding, owner=str(number % 4)))
        time.sleep(draw.choice([0, 0, 0.02]))
    for (prompt, decoding), one in zip(asked, heard, strict=True):
        assert one.answer == alone.answers([prompt], decoding)[0]
    assert len({one.answer.text for one in heard}) > 20, "too alike to tell them apart"


def test_a_sample_does_not_depend_on_its_neighbours(pair) -> None:
    live, _ = pair
    requests = [Request("b", key=("b", number)) for number in range(8)]
    alone = [ask(live, request, SAMPLED).answer for request in requests]
    together = [ask(live, request, SAMPLED) for request in reversed(requests)]
    assert [one.answer for one in together] == alone[::-1]
    assert len({one.text for one in alone}) > 4
    other = ask(live, requests[0], Decoding(10, options=SAMPLED.options, seed=1))
    assert other.answer.text not in {one.text for one in alone}


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 2},
        {"suppress_tokens": [40, 41, 42]},
        {"bad_words_ids": [[50], [60, 61]]},
        {"do_sample": True, "top_k": 1},
        {"do_sample": True, "temperature": 0.001},
    ],
)
def test_options_are_those_of_generate(pair, options: dict) -> None:
    live, alone = pair
    decoding = Decoding(12, options=options)
    together = [ask(live, prompt, decoding) for prompt in PROMPTS]
    assert [one.answer for one in together] == [alone.answers([prompt], decoding)[0] for prompt in PROMPTS]


def test_a_model_s_own_penalties_hold(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    live, alone = pair
    plainly = ask(live, "What is 12 + 30, please?").answer
    for model in (live.model, alone.model):
        monkeypatch.setattr(model.generation_config, "repetition_penalty", 2.0)
    penalised = ask(live, "What is 12 + 30, please?").answer
    assert penalised == alone.answers(["What is 12 + 30, please?"], FEW)[0] != plainly


def test_what_it_cannot_do_is_refused(live: ContinuousEngine) -> None:
    for options, words in (
        ({"num_beams": 4}, "got num_beams.*expected do_sample, repetition_penalty"),
        ({"penalty_alpha": 0.5}, "got penalty_alpha"),
        ({"do_sample": True, "temperature": 0.0}, "decoding: .*temperature"),
    ):
        with pytest.raises(LangBridgeError, match=words):
            ask(live, "b", Decoding(4, options=options))


def test_encoder_decoders_are_refused(seq2seq: Path) -> None:
    with pytest.raises(LangBridgeError, match="need a causal model"):
        load_live(seq2seq)


def test_probabilities_of_tokens_are_the_model_s_own(pair) -> None:
    live, alone = pair
    # Some tokens of this model have no text, and would not be scored.
    answers = {prompt: alone.answers([prompt], Decoding(4))[0] for prompt in (*PROMPTS, "x", "1 2", "d e f")}
    prompt, wanted = next((prompt, one) for prompt, one in answers.items() if len(one.text) == one.tokens)
    heard = ask(live, prompt, Decoding(4, log_probabilities=3))
    assert heard.answer == wanted
    tokens = heard.tokens
    assert "".join(token.text for token in tokens) == wanted.text
    ((_, likelihood),) = alone.score([Request(prompt)], [" " * (alone.reader.kind == "bridge") + wanted.text])
    # Single precision, in passes of other shapes.
    assert sum(token.log_probability for token in tokens) == pytest.approx(likelihood.log_probability, abs=1e-4)
    for token in tokens:
        values = [value for _, value in token.top]
        assert len(values) == 3
        assert sorted(values, reverse=True) == values
        assert token.top[0] == (token.text, token.log_probability), "greedily the likeliest is taken"
    places = range(1, len(wanted.text))
    begin = next(place for place in places if wanted.text.find(wanted.text[place:]) == place)
    stopped = ask(live, prompt, Decoding(4, log_probabilities=3, stop=[wanted.text[begin:]]))
    assert stopped.answer.text == wanted.text[:begin]
    assert stopped.tokens == tokens[:begin], "a stop string's tokens are not told"
    unasked = ask(live, prompt, Decoding(4))
    assert unasked.answer == wanted
    assert not unasked.tokens


def test_half_characters_and_beginnings_of_stop_strings_wait(live: ContinuousEngine, monkeypatch) -> None:
    texts = ["x", "x\N{REPLACEMENT CHARACTER}", "xé", "xé ", "xé #", "xé #a", "xé #a#", "xé #a##", "xé #a##b"]
    # These texts are no sums of their tokens', so they are decoded as those of a tokenizer that mends them.
    monkeypatch.setattr(live.reader.tokenizer, "clean_up_tokenization_spaces", True, raising=False)
    monkeypatch.setattr(live.reader, "decode", lambda ids: texts[min(len(ids), len(texts)) - 1] if ids else "")
    heard = ask(live, "b", Decoding(20, stop=["##b"]))
    assert heard.answer.text == "xé #a"
    assert [piece.text for piece in heard.pieces] == ["x", "é", " ", "#a"]


def test_a_conversation_is_answered(chat_bridge_folder: Path) -> None:
    live, alone = load_live(chat_bridge_folder, slots=2), load_engine(chat_bridge_folder)
    assert live.chats
    turns = [("user", "b"), ("assistant", "2"), ("user", "c d")]
    request = Request(messages=[{"role": role, "content": content} for role, content in turns])
    assert ask(live, request).answer == alone.answers([request], FEW)[0]
    live.close()


# Limits


def test_limits_are_kept_before_anything_runs(fresh) -> None:
    live = fresh(max_new_tokens=20)
    assert ask(live, "b").answer.tokens <= 12
    with pytest.raises(LangBridgeError, match="max_new_tokens: got 21, expected at least 1 and at most 20"):
        ask(live, "b", Decoding(21))
    with pytest.raises(LangBridgeError, match="slots: expected at least 1, got 0"):
        fresh(slots=0)


def test_a_prompt_without_room_is_an_error_and_not_cut(engines: dict) -> None:
    for kind in ("bridge", "plain"):
        live = engines[kind][0]
        assert live.positions == 256
        with pytest.raises(PromptTooLong, match=r"there is room for|leaves no room for"):
            ask(live, "b" * 250, FEW)


def test_a_full_queue_says_when_to_come_again(fresh) -> None:
    live = fresh(slots=1, queue=2)
    running = ask(live, "b", LONG).begun()
    waiting = [ask(live, "b", FEW), ask(live, "b", FEW)]
    with pytest.raises(Busy, match="the queue is full: 2 requests wait; try again in") as caught:
        ask(live, "b")
    assert 0 < caught.value.after < 20
    assert (live.load.waiting, live.load.running, live.load.slots) == (2, 1, 1)
    running.ticket.cancel()
    assert all(one.answer for one in waiting)
    assert ask(live, "b").answer


def test_a_full_queue_has_room_for_who_asks_little(fresh) -> None:
    """The last of whoever has most in it gives way, and is told as if it had come last."""
    live = fresh(slots=1, queue=3)
    running = ask(live, "b", LONG, owner="a").begun()
    first, second, third = (ask(live, "b", FEW, owner="a") for _ in range(3))
    other = ask(live, "b", FEW, owner="b")
    assert isinstance(third.end, Busy)
    with pytest.raises(Busy):
        ask(live, "b", FEW, owner="a")
    with pytest.raises(Busy):
        ask(live, "b", FEW, owner="b")
    assert live.load.waiting == 3
    running.ticket.cancel()
    assert all(one.answer for one in (first, second, other))


def test_a_tiny_temperature_ends_nobody_elses_answer(fresh) -> None:
    live = fresh(slots=2)
    other = ask(live, "b", Decoding(40)).begun()
    drawn = ask(live, "a", Decoding(8, options={"do_sample": True, "temperature": 1e-39}))
    assert isinstance(drawn.end, LangBridgeError)
    assert other.answer


def test_owners_take_turns(fresh) -> None:
    live, order = fresh(slots=1), []

    def listener(name: str) -> Any:
        return lambda what: order.append(name) if isinstance(what, Answer) else None

    first = ask(live, "b", LONG).begun()
    for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
        live.submit(Request("b"), Decoding(2), tell=listener(name), owner=name[0])
    first.ticket.cancel()
    calm(live)
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


# What goes wrong


def test_a_cancelled_request_leaves_its_place_and_hears_nothing_more(fresh) -> None:
    live = fresh(slots=1)
    running, waiting = ask(live, "b", LONG).begun(), ask(live, "a", LONG)
    waiting.ticket.cancel()
    running.ticket.cancel()
    assert ask(live, "c d").answer
    assert not running.ends
    assert not waiting.pieces
    assert len(running.pieces) < 200


def test_pieces_come_one_by_one_until_nobody_reads_on(fresh) -> None:
    live = fresh(slots=1)
    whole = ask(live, "b").answer
    assert "".join(piece.text for piece in live.pieces(Request("b"), FEW)) == whole.text
    pieces = live.pieces(Request("b"), LONG)
    next(pieces)
    pieces.close()
    assert ask(live, "b").answer == whole
    live.close()
    with pytest.raises(Unavailable):
        next(live.pieces(Request("b"), FEW))


def test_a_listener_that_fails_hurts_no_other(live: ContinuousEngine, caplog) -> None:
    def fails(what: object) -> None:
        raise ValueError("no one is there")

    wanted = [ask(live, prompt).answer for prompt in PROMPTS]
    live.submit(Request("b"), FEW, tell=fails)
    assert [one.answer for one in [ask(live, prompt) for prompt in PROMPTS]] == wanted
    assert "an answer could not be told" in caplog.text


def test_a_prompt_that_cannot_be_read_ends_alone(live: ContinuousEngine, monkeypatch) -> None:
    wanted = {prompt: ask(live, prompt).answer for prompt in PROMPTS}
    calm(live)
    read, ready = live.model.read, threading.Event()

    def broken(ids: torch.Tensor, mask: torch.Tensor) -> Any:
        ready.wait(10)
        if any(int(row.sum()) == bad for row in mask):
            raise RuntimeError("these do not fit")
        return read(ids, mask)

    bad = len(live.reader.read([Request("x" * 33)], new_tokens=1)[0].sources[0])
    monkeypatch.setattr(live.model, "read", broken)
    heard = {prompt: ask(live, prompt) for prompt in ("b", "x" * 33, "c d")}
    ready.set()
    assert isinstance(heard["x" * 33].end, Unavailable)
    assert {heard["b"].answer, heard["c d"].answer} == {wanted["b"], wanted["c d"]}


def test_a_step_that_fails_is_told_and_the_engine_lives_on(live: ContinuousEngine, monkeypatch) -> None:
    wanted = ask(live, "b").answer
    step, left = live._batch.step, [3]

    def broken() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise RuntimeError("shapes do not fit")
        step()

    monkeypatch.setattr(live._batch, "step", broken)
    with pytest.raises(Unavailable, match="could not be written: RuntimeError: shapes do not fit"):
        _ = ask(live, "b", LONG).answer
    assert ask(live, "b").answer == wanted


@pytest.mark.parametrize("where", ["steps", "prompts"])
def test_where_memory_ends_fewer_are_written_and_none_is_lost(fresh, engines, monkeypatch, where: str) -> None:
    alone, live = engines["bridge"][1], fresh(slots=4)
    forward, seen = live._batch.writer.forward, []

    def small(*arguments: Any, **inputs: Any) -> Any:
        prompts = "inputs_embeds" in inputs
        rows = len(inputs["inputs_embeds" if prompts else "input_ids"])
        seen.append(rows)
        if rows > 2 and prompts == (where == "prompts"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*arguments, **inputs)

    monkeypatch.setattr(live._batch.writer, "forward", small)
    first = ask(live, "b", Decoding(30)).begun()
    heard = [ask(live, prompt, Decoding(20)) for prompt in PROMPTS]
    assert [one.answer for one in heard] == [alone.answers([prompt], Decoding(20))[0] for prompt in PROMPTS]
    assert first.answer == alone.answers(["b"], Decoding(30))[0]
    assert max(seen) > 2


def test_what_does_not_fit_alone_says_so(live: ContinuousEngine, monkeypatch) -> None:
    wanted, read = ask(live, "c d").answer, live.model.read

    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4611686018427387904 bytes")

    monkeypatch.setattr(live.model, "read", full)
    with pytest.raises(LangBridgeError, match="not even one input at a time fits"):
        _ = ask(live, "b").answer
    monkeypatch.setattr(live.model, "read", read)
    assert ask(live, "c d").answer == wanted


# The end


def test_closing_waits_for_what_is_asked(fresh) -> None:
    live = fresh(slots=1)
    heard = [ask(live, prompt) for prompt in PROMPTS]
    live.close(20)
    assert all(one.ends and one.answer for one in heard)
    with pytest.raises(Unavailable, match="takes no more requests"):
        ask(live, "b")


def test_closing_at_once_gives_up(fresh) -> None:
    live = fresh(slots=1)
    heard = [ask(live, "b", LONG) for _ in range(3)]
    live.close()
    assert all(isinstance(one.ends[0], Unavailable | Answer) for one in heard)
    live.close()
