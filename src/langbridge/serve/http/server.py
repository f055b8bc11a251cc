"""The service in a process of its own, until a signal ends it."""

import asyncio
import logging
import signal
import socket
import time
from types import FrameType
from typing import Any

import uvicorn

from langbridge.errors import LangBridgeError
from langbridge.serve.http.app import Service

_log = logging.getLogger(__name__)

_KEPT = 150
"""Seconds for which a connection is kept open, more than proxies keep theirs: they would write into one that closes."""

_HEAD = 30
"""Seconds for the first request of a connection to begin. uvicorn waits for ever, even for those who are long gone."""

_LAST_WORDS = 3
"""Seconds for the end of a response to be sent, once there is nothing more to write."""


class Server(uvicorn.Server):
    """Drains at the first signal: new requests are refused, those that are inside have their time. A second signal
    ends it at once."""

    def __init__(self, service: Service):
        self.service = service
        self._deadline = 0.0
        self._silent: dict[Any, float] = {}
        super().__init__(
            uvicorn.Config(
                service.app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEPT,
                timeout_graceful_shutdown=_LAST_WORDS,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for one in sockets or ():
            host, port = one.getsockname()[:2]
            where = f"[{host}]" if ":" in host else host
            _log.info("serving %s at http://%s:%d", " and ".join(self.service.models), where, port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.service.gate.closed:
            self.force_exit = True
            super().handle_exit(sig, frame)
        else:
            self.drain(signal.Signals(sig).name)

    def drain(self, reason: str) -> None:
        gate, seconds = self.service.gate, self.service.limits.drain_seconds
        gate.closed, self._deadline = True, time.monotonic() + seconds
        _log.info("%s: no new requests; %d have %g seconds to end", reason, len(gate.inside), seconds)

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._hang_up()
        gate = self.service.gate
        if gate.closed and not self.should_exit and (not gate.inside or time.monotonic() > self._deadline):
            if gate.inside:
                _log.warning("%d requests were not done, and are given up", len(gate.inside))
            await self.service.close()  # each of them is told
            self.should_exit = True
        return await super().on_tick(counter)

    def _hang_up(self) -> None:
        """End connections on which nothing was ever asked."""
        now = time.monotonic()
        silent = [one for one in self.server_state.connections if getattr(one, "cycle", one) is None]
        self._silent = {one: self._silent.get(one, now) for one in silent}
        for connection, since in self._silent.items():
            if now - since > _HEAD:
                connection.transport.close()


def bound(host: str, port: int) -> socket.socket:
    """A socket to serve on, so that a port that is taken is known before a model is loaded."""
    found = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        if found is not None:
            found.close()
        raise LangBridgeError(f"--host, --port: {host}:{port} cannot be listened on: {error.strerror}") from None
    return found


def run(service: Service, listening: socket.socket) -> None:
    """Until a signal."""
    asyncio.run(Server(service).serve([listening]))
