"""A service that listens, in a thread, with an engine that writes a script."""

import asyncio
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from langbridge.serve.http.app import Service
from langbridge.serve.http.server import Server, bound
from langbridge.serve.live import LiveEngine

_spec = importlib.util.spec_from_file_location("scripted", Path(__file__).parent / "scripted.py")
assert _spec is not None
assert _spec.loader is not None
_scripted = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_scripted)


@dataclass
class Running:
    """A server, where it listens, and its engine."""

    service: Service
    server: Server
    url: str
    engine: Any
    thread: threading.Thread

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=20, **options)

    def post(self, body: dict[str, Any]) -> httpx.Response:
        """A chat completion asked for by a client of its own."""
        with self.client() as client:
            return client.post("/v1/chat/completions", json=body)

    def eventually(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "it did not come about"
            time.sleep(0.01)


@pytest.fixture(scope="session")
def scripted() -> type[Any]:
    return _scripted.ScriptedEngine


def serving() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def serve(engine: LiveEngine, *others: LiveEngine, **options: Any) -> Running:
        names = ["bridge", "plain"]
        service = Service(dict(zip(names, (engine, *others), strict=False)), **options)
        server, listening = Server(service), bound("127.0.0.1", 0)
        port = listening.getsockname()[1]
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        thread.start()
        running = Running(service, server, f"http://127.0.0.1:{port}", engine, thread)
        running.eventually(lambda: server.started)
        started.append(running)
        return running

    yield serve
    for one in started:
        one.server.should_exit = True
    for one in started:
        one.thread.join(10)
        assert not one.thread.is_alive()


serve = pytest.fixture(serving, name="serve")
"""Starts servers that end with the test."""
serve_all = pytest.fixture(serving, scope="module", name="serve_all")
"""Starts servers that end with the file's last test."""
