"""A bridge before a server of vLLM's protocol: its answers are those of the same bridge in one process, and what goes
wrong on the way is told."""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from langbridge.errors import LangBridgeError
from langbridge.serve.engine import Answer, Decoding, PromptTooLong, Request
from langbridge.serve.live import Busy, Piece, Unavailable
from langbridge.serve.load import load_engine
from langbridge.serve.vllm import VLLMEngine, load_vllm
from tests.serve.vllm_standin import Served, Standin

PROMPTS = ["b", "What is 12 + 30, please?", "c d", "২৭ రె ท", "a", "Two and two make what "]
FEW = Decoding(12)


class Heard:
    """What is told of a request."""

    def __init__(self) -> None:
        self.news: Queue[Any] = Queue()
        self.pieces: list[Piece] = []

    def end(self, seconds: float = 30) -> Any:
        while isinstance(news := self.news.get(timeout=seconds), Piece):
            self.pieces.append(news)
        return news

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


def ask(engine: VLLMEngine, request: Request | str, decoding: Decoding = FEW, owner: str = "") -> tuple[Heard, Any]:
    heard = Heard()
    asked = Request(request) if isinstance(request, str) else request
    return heard, engine.submit(asked, decoding, tell=heard.news.put, owner=owner)


def answers(engine: VLLMEngine, requests: list[Request | str], decoding: Decoding = FEW) -> list[Answer]:
    heard = [ask(engine, one, decoding)[0] for one in requests]
    found = []
    for one in heard:
        end = one.end()
        if isinstance(end, BaseException):
            raise end
        assert one.text == end.text, "the pieces make up the answer"
        found.append(end)
    return found


@pytest.fixture(scope="module")
def language_model(base_folders: tuple[Path, Path]) -> Any:
    return AutoModelForCausalLM.from_pretrained(base_folders[1]).eval()


@pytest.fixture
def standin(language_model: Any) -> Standin:
    return Standin(language_model)


@pytest.fixture
def url(standin: Standin) -> Iterator[str]:
    with Served(standin) as url:
        yield url


@pytest.fixture
def load(url: str) -> Iterator[Callable[..., VLLMEngine]]:
    made: list[VLLMEngine] = []

    def load(folder: Path, **options: Any) -> VLLMEngine:
        made.append(load_vllm(folder, url, **{"device": "cpu", **options}))
        return made[-1]

    yield load
    for engine in made:
        engine.close()


@pytest.fixture
def engine(load: Callable[..., VLLMEngine], bridge_folder: Path) -> VLLMEngine:
    return load(bridge_folder)


def wait(what: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_answers_are_those_of_the_bridge_in_one_process(
    engine: VLLMEngine, bridge_folder: Path, standin: Standin
) -> None:
    local = load_engine(bridge_folder, device="cpu").answers(PROMPTS, FEW)
    assert len({one.text for one in local}) > 2, "the answers are too alike to prove anything"
    assert answers(engine, [*PROMPTS]) == local
    assert [answers(engine, [prompt])[0] for prompt in PROMPTS] == local
    assert standin.most_running > 1, "requests are at the server together"


def test_so_are_those_of_conversations_with_a_chat_template(
    load: Callable[..., VLLMEngine], chat_bridge_folder: Path
) -> None:
    engine, local = load(chat_bridge_folder), load_engine(chat_bridge_folder, device="cpu")
    assert engine.chats
    talk = [{"role": "user", "content": "What is 12 + 30?"}]
    first = local.answers([Request(messages=talk)], FEW)[0]
    longer = [*talk, {"role": "assistant", "content": first.text}, {"role": "user", "content": "and with 7 more?"}]
    requests = [Request(messages=talk), Request(messages=longer), Request("c d", prefix="So")]
    assert answers(engine, [*requests]) == local.answers(requests, FEW)


def test_a_bridge_in_half_precision_sends_it(
    load: Callable[..., VLLMEngine],
    bridge_folder: Path,
    base_folders: tuple[Path, Path],
    tmp_path: Path,
    standin: Standin,
) -> None:
    half = AutoModelForCausalLM.from_pretrained(base_folders[1], dtype=torch.bfloat16)
    half.save_pretrained(tmp_path)
    standin.model = half.eval()
    engine = load(bridge_folder, language_model=tmp_path)
    assert answers(engine, ["b"])[0].tokens == 12
    assert engine.embedder.embedded([1]).dtype == torch.bfloat16


def test_stop_strings_cut_as_everywhere_and_end_the_writing_at_the_server(
    engine: VLLMEngine, bridge_folder: Path, standin: Standin
) -> None:
    standin.pause = 0.02
    local = load_engine(bridge_folder, device="cpu")
    whole = local.answers(["b"], Decoding(100))[0].text
    decoding = Decoding(100, stop=[whole[4:6]])
    assert answers(engine, ["b"], decoding) == local.answers(["b"], decoding)
    wait(lambda: standin.running == 0)
    assert standin.written < 50


def test_what_is_sampled_depends_on_seed_and_request_alone(engine: VLLMEngine) -> None:
    def text(seed: int, **options: Any) -> str:
        asked = Request("b", key=options.pop("key", None))
        return answers(engine, [asked], Decoding(12, options={"do_sample": True, **options}, seed=seed))[0].text

    assert text(1) == text(1)
    assert len({text(1), text(2), text(1, key=1), text(1, key=2)}) == 4
    assert text(1, top_k=1) == text(2, top_p=1e-6) == answers(engine, ["b"])[0].text


def test_settings_of_the_bridge_hold_and_unknown_ones_are_told(
    load: Callable[..., VLLMEngine],
    bridge_folder: Path,
    tmp_path: Path,
    standin: Standin,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = shutil.copytree(bridge_folder, tmp_path / "bridge")
    file = folder / "generation_config.json"
    asks = {"repetition_penalty": 1.5, "no_repeat_ngram_size": 3, "eos_token_id": [2, 40]}
    file.write_text(json.dumps({**json.loads(file.read_text()), **asks}))
    engine = load(folder)
    assert "does not know what the bridge's generation_config.json asks for: ['no_repeat_ngram_size']" in caplog.text
    answers(engine, ["b"])
    body = standin.bodies[-1]
    assert (body.temperature, body.repetition_penalty, body.seed, body.logprobs) == (0.0, 1.5, None, None)
    assert (body.stop_token_ids, body.ignore_eos) == ([2, 40], True), "the server's own ends do not count"
    with pytest.raises(LangBridgeError, match=r"decoding: got num_beams; vLLM is asked for .*top_p"):
        engine.submit(Request("b"), Decoding(4, options={"num_beams": 3}), tell=print)


def test_log_probabilities_are_those_of_the_written_tokens(engine: VLLMEngine, bridge_folder: Path) -> None:
    local, compared = load_engine(bridge_folder, device="cpu"), 0
    for prompt in PROMPTS:
        heard, _ = ask(engine, prompt, Decoding(3, log_probabilities=2))
        answer = heard.end()
        tokens = [token for piece in heard.pieces for token in piece.tokens]
        assert "".join(token.text for token in tokens) == answer.text
        assert len(tokens) == answer.tokens
        for token in tokens:
            assert token.top[0] == (token.text, token.log_probability), "it was the likeliest"
            assert len(token.top) == 2
        if all(token.text for token in tokens):  # some ids are no text
            ((_, whole),) = local.score([Request(prompt)], [f" {answer.text}"])  # the space that parts the two
            assert sum(token.log_probability for token in tokens) == pytest.approx(whole.log_probability, abs=1e-3)
            compared += 1
    assert compared


def test_a_request_that_is_given_up_leaves_its_place_and_hears_nothing_more(
    engine: VLLMEngine, standin: Standin
) -> None:
    standin.pause = 0.05
    heard, ticket = ask(engine, "b", Decoding(200))
    assert isinstance(heard.news.get(timeout=20), Piece)
    ticket.cancel()
    told = heard.news.qsize()
    wait(lambda: standin.aborted == 1 and engine.load.running == 0)
    assert standin.written < 50
    assert heard.news.qsize() == told
    ticket.cancel()  # once more does no harm


def test_more_than_the_server_takes_wait_in_turns_and_too_many_are_refused(
    load: Callable[..., VLLMEngine], bridge_folder: Path, standin: Standin
) -> None:
    standin.pause = 0.02
    engine = load(bridge_folder, slots=1, queue=4)
    order: list[str] = []
    first, _ = ask(engine, "b", Decoding(40))
    assert isinstance(first.news.get(timeout=20), Piece)

    def noted(name: str) -> Callable[[Any], None]:
        return lambda news: None if isinstance(news, Piece) else order.append(name)

    for name in ("greedy 1", "greedy 2", "greedy 3", "other 1"):
        engine.submit(Request("b"), Decoding(2), tell=noted(name), owner=name.split()[0])
    load_now = engine.load
    assert (load_now.waiting, load_now.running, load_now.slots) == (4, 1, 1)
    with pytest.raises(Busy, match="the queue is full: 4 requests wait") as busy:
        engine.submit(Request("b"), Decoding(2), tell=noted("greedy 4"), owner="greedy")
    assert busy.value.after > 0
    engine.submit(Request("b"), Decoding(2), tell=noted("new 1"), owner="new")  # the greedy one's last gives way
    assert order == ["greedy 3"]
    wait(lambda: len(order) == 5)
    assert order == ["greedy 3", "greedy 1", "other 1", "new 1", "greedy 2"]
    assert standin.most_running == 1


def test_one_that_waits_can_be_given_up(load: Callable[..., VLLMEngine], bridge_folder: Path, standin: Standin) -> None:
    standin.pause = 0.02
    engine = load(bridge_folder, slots=1)
    first, _ = ask(engine, "b", Decoding(20))
    waiting, ticket = ask(engine, "a")
    ticket.cancel()
    assert isinstance(first.end(), Answer)
    wait(lambda: engine.load.waiting == engine.load.running == 0)
    assert waiting.news.empty()


def test_prompts_that_are_too_long_are_refused_before_they_are_sent(
    load: Callable[..., VLLMEngine], bridge_folder: Path, standin: Standin
) -> None:
    standin.positions = 40
    engine = load(bridge_folder)
    assert engine.positions == 40
    with pytest.raises(PromptTooLong, match="the server has 40 for both"):
        engine.submit(Request("a" * 30), Decoding(12), tell=print)
    with pytest.raises(PromptTooLong):  # more than the language model has at all
        engine.submit(Request("a" * 300), Decoding(12), tell=print)
    assert answers(engine, ["a" * 10])[0].tokens


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("http 500", r"failed \(HTTP 500\): EngineCore encountered an issue"),
        ("http 429", r"failed \(HTTP 429\)"),
        ("die", "(broke|ended) the connection in the middle of an answer"),
        ("error", r"failed \(HTTP 500\): out of memory"),
    ],
)
def test_a_server_that_fails_is_told_and_the_next_request_is_answered(
    engine: VLLMEngine, standin: Standin, fault: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    standin.fault = fault
    heard, _ = ask(engine, "b")
    end = heard.end()
    assert isinstance(end, Unavailable)
    assert re.search(words, str(end)), end
    assert engine.server.url not in str(end), "users are not told where it is"
    assert f"{engine.server.url}: " in caplog.text
    standin.fault = ""
    assert answers(engine, ["b"])[0].tokens


def test_a_request_that_the_server_refuses_is_not_its_failure(engine: VLLMEngine, standin: Standin) -> None:
    standin.fault = "http 400"
    end = ask(engine, "b")[0].end()
    assert isinstance(end, LangBridgeError)
    assert not isinstance(end, Unavailable)
    assert "refused a request (HTTP 400)" in str(end)


def test_a_silent_server_is_left_after_a_while(
    load: Callable[..., VLLMEngine], bridge_folder: Path, standin: Standin
) -> None:
    engine = load(bridge_folder, timeout=0.5)
    standin.fault = "slow"
    end = ask(engine, "b")[0].end()
    assert isinstance(end, Unavailable)
    assert "said nothing for 0.5 seconds" in str(end)
    wait(lambda: standin.aborted == 1)


def test_closing_waits_for_answers_and_then_gives_them_up(
    load: Callable[..., VLLMEngine], bridge_folder: Path, standin: Standin
) -> None:
    standin.pause = 0.02
    engine = load(bridge_folder, slots=1)
    short, _ = ask(engine, "b", Decoding(4))
    engine.close(30)
    assert isinstance(short.end(0.1), Answer)
    with pytest.raises(Unavailable, match="closing"):
        ask(engine, "b")
    engine = load(bridge_folder, slots=1)
    running, waiting = ask(engine, "b", Decoding(200))[0], ask(engine, "a", Decoding(200))[0]
    assert isinstance(running.news.get(timeout=20), Piece)
    engine.close(0.1)
    assert all(isinstance(one.end(0.1), Unavailable) for one in (running, waiting))
    assert "langbridge-vllm" not in {thread.name for thread in threading.enumerate() if thread.is_alive()}


def test_a_server_that_does_not_fit_is_refused_at_the_start(
    load: Callable[..., VLLMEngine], bridge_folder: Path, standin: Standin, caplog: pytest.LogCaptureFixture
) -> None:
    standin.enabled = False
    with pytest.raises(LangBridgeError, match="--enable-prompt-embeds"):
        load(bridge_folder)
    standin.enabled, standin.scale = True, 7.0
    with pytest.raises(LangBridgeError, match=r"does not read the bridge's embeddings .* apart"):
        load(bridge_folder)
    standin.scale = 1.0
    standin.source = "models/another"
    load(bridge_folder)
    assert "vLLM serves 'models/another', and the bridge was trained on" in caplog.text


def test_a_server_with_a_key_wants_it(load: Callable[..., VLLMEngine], bridge_folder: Path, standin: Standin) -> None:
    standin.key = "open sesame"
    with pytest.raises(LangBridgeError, match="VLLM_API_KEY"):
        load(bridge_folder)
    assert answers(load(bridge_folder, api_key="open sesame"), ["b"])


def test_what_cannot_be_served_so_is_refused(bridge_folder: Path, base_folders: tuple[Path, Path], url: str) -> None:
    with pytest.raises(LangBridgeError, match="a 'llama' model, not a bridge: there is nothing to embed"):
        load_vllm(base_folders[1], url)
    with pytest.raises(LangBridgeError, match="expected the address of a vLLM server"):
        load_vllm(bridge_folder, "localhost:8000")
    with pytest.raises(Unavailable, match="cannot be reached"):
        load_vllm(bridge_folder, "http://127.0.0.1:9")
    with pytest.raises(LangBridgeError, match=r"is no vLLM server|does not know"):
        load_vllm(bridge_folder, f"{url}/elsewhere")
