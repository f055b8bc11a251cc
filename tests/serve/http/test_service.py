"""What stands around the answers: limits, keys, clients that go, the end of the server, what is logged and counted."""

import json
import logging
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from langbridge.errors import LangBridgeError
from langbridge.serve.http import door, server, stream
from langbridge.serve.http.keys import VARIABLE, read_keys
from langbridge.serve.http.limits import Limits
from langbridge.serve.http.server import Server, bound

CHAT = "/v1/chat/completions"
KEYS = ("a-key-of-one-client", "a-key-of-the-other")


def ask(text: str = "Ana matufaa mangapi?", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


def long(request: Any) -> str:
    return " ".join(map(str, range(500)))


def metrics(client: httpx.Client) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_a_body_that_is_too_long_is_refused_however_it_comes(serve, scripted) -> None:
    running = serve(scripted(), limits=Limits(body_bytes=1000))

    def drops() -> Any:
        for _ in range(100):
            yield b" " * 100

    with running.client() as client:
        for body in (b" " * 1001, drops()):
            found = client.post(CHAT, content=body, headers={"Content-Type": "application/json"})
            assert (found.status_code, found.json()["error"]["code"]) == (413, "body_too_long")
        assert client.post(CHAT, json=ask()).status_code == 200


def test_who_is_too_slow_to_ask_is_not_waited_for(serve, scripted, monkeypatch) -> None:
    monkeypatch.setattr(door, "_BODY_SECONDS", 0.2)
    monkeypatch.setattr(server, "_HEAD", 0.2)
    running = serve(scripted())
    address = ("127.0.0.1", int(running.url.rsplit(":")[-1]))
    with running.client() as client, socket.create_connection(address, 10) as silent:
        with socket.create_connection(address, 10) as slow:
            head = ["Host: x", "Content-Type: application/json", "Content-Length: 100", "", "{"]
            slow.sendall("\r\n".join([f"POST {CHAT} HTTP/1.1", *head]).encode())
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")
        silent.sendall(b"POST ")
        assert client.get("/health").status_code == 200
        assert silent.recv(1000) == b"", "it is hung up"
        assert client.get("/health").status_code == 200


def test_a_full_queue_says_when_to_come_again(serve, scripted) -> None:
    running = serve(scripted(long, pause=0.05, slots=1, queue=1))
    with running.client() as client:
        with client.stream("POST", CHAT, json=ask(stream=True)):
            running.eventually(lambda: running.engine.load.running == 1)
            with client.stream("POST", CHAT, json=ask(stream=True)):
                assert running.engine.load.waiting == 1
                found = client.post(CHAT, json=ask())
        assert (found.status_code, found.headers["retry-after"]) == (429, "2")
        assert found.json()["error"] == {
            "message": "the queue is full", "type": "rate_limit_error", "param": None, "code": "queue_full"
        }  # fmt: skip
        running.eventually(lambda: running.engine.load.running == running.engine.load.waiting == 0)
        assert client.post(CHAT, json=ask(max_tokens=1)).status_code == 200


def test_a_request_of_which_a_part_is_refused_gives_up_the_rest(serve, scripted) -> None:
    running = serve(scripted(long, pause=0.02, slots=1, queue=2))
    with running.client() as client:
        assert client.post(CHAT, json=ask(n=10)).status_code == 429
        running.eventually(lambda: running.engine.load.running == running.engine.load.waiting == 0)
    assert len(running.engine.cancelled) == len(running.engine.asked)


def test_an_answer_that_takes_too_long_is_given_up(serve, scripted) -> None:
    running = serve(scripted(long, pause=0.02), limits=Limits(seconds=0.5))
    with running.client() as client:
        found = client.post(CHAT, json=ask())
        assert (found.status_code, found.json()["error"]["code"]) == (504, "timeout")
        assert found.headers["x-should-retry"] == "false"
        streamed = client.post(CHAT, json=ask(stream=True)).text.strip().split("\n\n")
    assert len(streamed) >= 3
    assert json.loads(streamed[-1].removeprefix("data: "))["error"]["code"] == "timeout"
    running.eventually(lambda: len(running.engine.cancelled) == 2)


@pytest.mark.parametrize("stream", [True, False])
def test_the_time_to_become_tokens_counts(serve, scripted, stream) -> None:
    go = threading.Event()
    running = serve(scripted(long, pause=0.02, read=lambda: go.wait(60)), limits=Limits(seconds=0.3))
    found = running.post(ask(stream=stream))
    assert not go.is_set()
    go.set()
    assert (found.status_code, found.json()["error"]["code"]) == (504, "timeout")
    running.eventually(lambda: len(running.engine.cancelled) == 1)


@pytest.mark.parametrize("stream", [True, False])
def test_who_goes_gives_up_the_answer(serve, scripted, stream) -> None:
    running = serve(scripted(long, pause=0.01))
    with running.client() as client:
        with socket.create_connection(("127.0.0.1", int(running.url.rsplit(":")[-1]))) as gone:
            body = json.dumps(ask(stream=stream)).encode()
            head = ["Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
            gone.sendall("\r\n".join([f"POST {CHAT} HTTP/1.1", *head]).encode() + body)
            running.eventually(lambda: running.engine.load.running == 1)
            if stream:
                assert gone.recv(10) == b"HTTP/1.1 2"
        running.eventually(lambda: len(running.engine.cancelled) == 1)
        running.eventually(lambda: running.engine.load.running == 0)
        assert metrics(client)[f'langbridge_requests_total{{route="{CHAT}",status="499"}}'] == 1
    assert not running.service.gate.inside


def test_short_models_keep_room_for_the_prompt(serve, scripted) -> None:
    engine = scripted()
    engine.positions = 100
    running = serve(engine)
    with running.client() as client:
        client.post(CHAT, json=ask())
        client.post(CHAT, json=ask(max_tokens=90))
    assert [decoding.max_new_tokens for _, decoding in running.engine.asked] == [50, 90]


def test_a_stream_says_that_it_waits(serve, scripted, monkeypatch) -> None:
    monkeypatch.setattr(stream, "_SILENCE", 0.05)
    running = serve(scripted(lambda request: "one two", pause=0.2))
    said = running.post(ask(stream=True)).text.strip().split("\n\n")
    assert said.count(": waiting") >= 2
    chunks = [json.loads(line.removeprefix("data: ")) for line in said if line.startswith("data: {")]
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "one", " two"]


def test_keys(serve, scripted) -> None:
    running = serve(scripted(), keys=KEYS)
    with running.client() as client:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {KEYS[0]}"},
            {"Authorization": "é"},
        ):
            sent = {name: value.encode("latin-1") for name, value in headers.items()}
            found = client.post(CHAT, json=ask(), headers=sent)
            assert (found.status_code, found.json()["error"]["code"]) == (401, "invalid_api_key")
            assert client.get("/v1/models", headers=sent).status_code == 401
        for key in KEYS:
            assert client.post(CHAT, json=ask(), headers={"Authorization": f"Bearer {key}"}).status_code == 200
        for path in ("/", "/health", "/ready", "/metrics"):
            assert client.get(path).status_code == 200
    owners = running.engine.owners
    assert len(set(owners)) == 2, "each key is an owner, whose turn comes"
    assert not set(owners) & set(KEYS)


def test_without_keys_an_address_is_an_owner(serve, scripted) -> None:
    running = serve(scripted())
    with running.client() as client:
        client.post(CHAT, json=ask())
        client.post(CHAT, json=ask(), headers={"X-Forwarded-For": "192.0.2.7"})
    assert running.engine.owners == ["127.0.0.1", "192.0.2.7"]


def test_where_keys_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_keys() == []
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{KEYS[0]}  # the app's\n\n")
    monkeypatch.setenv(VARIABLE, f"{KEYS[1]}, ")
    assert read_keys(file) == [KEYS[1], KEYS[0]]
    file.write_text("short\n")
    with pytest.raises(LangBridgeError, match=r"keys, line 1: expected keys of at least 16 ASCII characters"):
        read_keys(file)
    file.write_text("# none\n")
    with pytest.raises(LangBridgeError, match="there is no key in"):
        read_keys(file)
    with pytest.raises(LangBridgeError, match="cannot be read"):
        read_keys(tmp_path / "nothing")


def test_pages_elsewhere_may_ask_where_they_are_allowed_to(serve, scripted) -> None:
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    allowed = "access-control-allow-origin"
    with serve(scripted()).client() as client:
        assert client.options(CHAT, headers=asked).status_code == 405
        assert allowed not in client.post(CHAT, json=ask(), headers=asked).headers
    with serve(scripted(), keys=KEYS, allowed_origins=["https://example.org"]).client() as client:
        assert client.options(CHAT, headers=asked).headers[allowed] == "https://example.org"
        assert allowed not in client.options(CHAT, headers=asked | {"Origin": "https://example.com"}).headers
        refused = client.post(CHAT, json=ask(), headers=asked)
        assert (refused.status_code, refused.headers[allowed]) == (401, "https://example.org")


def test_at_its_end_it_finishes_what_it_has_begun_and_takes_no_more(serve, scripted) -> None:
    go = threading.Event()
    running = serve(scripted(lambda request: "one two three" if go.wait(20) else ""), limits=Limits(drain_seconds=10))
    with running.client() as client, ThreadPoolExecutor(1) as pool:
        assert client.get("/ready").status_code == 200
        assert client.head("/health").status_code == client.head("/ready").status_code == 200
        begun = pool.submit(lambda: running.post(ask()))
        running.eventually(lambda: running.engine.load.running == 1)
        running.server.drain("test")
        found = client.post(CHAT, json=ask())
        assert (found.status_code, found.headers["retry-after"]) == (503, "10")
        assert found.json()["error"]["code"] == "draining"
        assert client.get("/ready").status_code == client.head("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        go.set()
        assert begun.result().json()["choices"][0]["message"]["content"] == "one two three"
    running.thread.join(5)
    assert not running.thread.is_alive()


def test_what_is_not_done_when_the_time_is_over_is_told(serve, scripted) -> None:
    running = serve(scripted(long, pause=0.05), limits=Limits(drain_seconds=0.1))
    with ThreadPoolExecutor(2) as pool:
        whole, streamed = (pool.submit(lambda body=body: running.post(body)) for body in (ask(), ask(stream=True)))
        running.eventually(lambda: running.engine.load.running == 2)
        running.server.drain("test")
        assert whole.result().status_code == 503
        assert "the engine was closed" in streamed.result().text.strip().split("\n\n")[-1]
    running.thread.join(5)
    assert not running.thread.is_alive()


def test_a_signal_drains_and_a_second_one_ends(scripted) -> None:
    from langbridge.serve.http.app import Service

    ending = Server(Service({"bridge": scripted()}))
    ending.handle_exit(signal.SIGTERM, None)
    assert ending.service.gate.closed
    assert not ending.should_exit
    ending.handle_exit(signal.SIGTERM, None)
    assert ending.should_exit


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(LangBridgeError, match="cannot be listened on"):
        bound("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(LangBridgeError, match="cannot be listened on"):
        bound("no such host", 1)


def test_what_is_counted(serve, scripted) -> None:
    running = serve(scripted())
    with running.client() as client:
        client.post(CHAT, json=ask(n=2))
        client.post(CHAT, json={})
        client.get("/a/path/of/theirs")
        client.get(CHAT)
        client.get("/another/one")
        found = metrics(client)
    assert found[f'langbridge_requests_total{{route="{CHAT}",status="200"}}'] == 1
    assert found[f'langbridge_requests_total{{route="{CHAT}",status="400"}}'] == 1
    assert found[f'langbridge_requests_total{{route="{CHAT}",status="405"}}'] == 1
    assert found['langbridge_requests_total{route="other",status="404"}'] == 2, "paths of others are no rows"
    tokens = [
        found[f'langbridge_tokens_total{{kind="{kind}",model="bridge"}}'] for kind in ("encoder", "prompt", "written")
    ]
    assert tokens == [6, 10, 12]
    assert found['langbridge_first_token_seconds_count{model="bridge"}'] == 1
    assert found[f'langbridge_request_seconds_count{{route="{CHAT}"}}'] == 3
    assert [found[f'langbridge_{name}{{model="bridge"}}'] for name in ("waiting", "running", "slots")] == [0, 0, 2]


@pytest.mark.parametrize("log_prompts", [False, True])
def test_what_people_write_is_logged_only_where_asked(serve, scripted, caplog, log_prompts) -> None:
    caplog.set_level(logging.INFO)
    running = serve(scripted(lambda request: "a secret answer"), keys=KEYS, log_prompts=log_prompts)
    headers = {"Authorization": f"Bearer {KEYS[0]}"}
    with running.client(headers=headers) as client:
        client.post(CHAT, json=ask("my secret"))
        client.post(CHAT, json=ask("my secret", stream=True))
        client.post(CHAT, json=ask("a bug in my secret"))
        client.post(CHAT, json=ask("my secret " * 10_000))
    running.eventually(lambda: " 413 " in caplog.text or " 400 " in caplog.text)
    text = "".join(record.getMessage() for record in caplog.records)
    assert ("secret" in text) is log_prompts
    assert re.search(rf"req_\w+ POST {CHAT} 200 0.\d\ds first=0.\d\ds model=bridge read=\d+ written=3", text)
    assert KEYS[0] not in caplog.text


def test_the_page_asks_for_nothing_from_elsewhere(serve, scripted) -> None:
    with serve(scripted()).client() as client:
        for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
            found = client.get(path)
            assert found.headers["content-type"] == f"{kind}; charset=utf-8"
            assert "default-src 'none'" in found.headers["content-security-policy"]
            assert not re.search(r"(src|href)=.?(https?:)?//|innerHTML|url\(http|\son\w+=", found.text)


def test_probes_are_answered_while_many_wait(serve, scripted) -> None:
    running = serve(scripted(long, pause=0.02, slots=1))
    threads = [threading.Thread(target=lambda: running.post(ask(max_tokens=5))) for _ in range(5)]
    for thread in threads:
        thread.start()
    with running.client() as client:
        begun = time.monotonic()
        assert client.get("/health").json() == {"status": "alive"}
        assert time.monotonic() - begun < 5
    for thread in threads:
        thread.join()
