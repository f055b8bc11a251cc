"""Where every request comes in: keys, sizes, drain, and what is logged and counted of it."""

import asyncio
import logging
from collections.abc import Sequence

from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from langbridge.serve.http.errors import Refusal, draining, internal, refusal
from langbridge.serve.http.keys import Keys
from langbridge.serve.http.limits import Limits
from langbridge.serve.http.metrics import Metrics
from langbridge.serve.http.visit import Visit, begin

_log = logging.getLogger(__name__)

GUARDED = "/v1/"
"""What stands below it takes a key, and is not begun any more when the server ends."""

_BODY_SECONDS = 30.0
"""For all of a body to come."""


class Gate:
    """Whether requests are let in, and which of them are inside."""

    def __init__(self) -> None:
        self.closed = False
        self.inside: set[str] = set()


class Door:
    """routes: all that there are behind it."""

    def __init__(
        self, app: ASGIApp, *, routes: Sequence[BaseRoute], keys: Keys, limits: Limits, metrics: Metrics, gate: Gate
    ):
        self.app, self.routes, self.keys, self.limits = app, routes, keys, limits
        self.metrics, self.gate = metrics, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        visit, started = begin(scope), False

        async def sent(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started, visit.status = True, message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", visit.id.encode())]
            await send(message)

        guarded = scope["path"].startswith(GUARDED)
        try:
            if guarded:
                self._let_in(scope, visit)
            await self.app(scope, self._bounded(scope, receive), sent)
        except Exception as error:
            told = refusal(error)
            if told is None:
                _log.exception("%s", visit.id)
                told = internal(visit.id)
            if not started:
                await told.response(scope, receive, sent)
        finally:
            self.gate.inside.discard(visit.id)
            for leave in visit.leaving:
                leave()
            self._note(scope, visit, guarded)

    def _let_in(self, scope: Scope, visit: Visit) -> None:
        if self.gate.closed:
            raise draining(self.limits.drain_seconds)
        visit.owner = self.keys.owner(HTTPConnection(scope))
        self.gate.inside.add(visit.id)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """Messages of a body that is neither too long nor takes too long to come."""
        most = self.limits.body_bytes
        until = asyncio.get_running_loop().time() + _BODY_SECONDS
        size, whole = 0, False

        async def bounded() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            if size == 0 and (said := _said(scope["headers"])) and said > most:
                raise _too_long(most)
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise Refusal(408, f"the body was not here after {_BODY_SECONDS:g} seconds", code="timeout") from None
            size += len(message.get("body", b""))
            if size > most:
                raise _too_long(most)
            whole = not message.get("more_body", False)
            return message

        return bounded

    def _note(self, scope: Scope, visit: Visit, guarded: bool) -> None:
        # Paths that there are, and no others: each becomes a row of Prometheus's.
        found = (route for route in self.routes if route.matches(scope)[0] is not Match.NONE)
        path = getattr(next(found, None), "path", "other")
        self.metrics.requests.labels(path, str(visit.status)).inc()
        if not guarded:
            return  # probes come every second
        self.metrics.seconds.labels(path).observe(visit.seconds)
        notes = "".join(f" {name}={value}" for name, value in visit.notes.items())
        _log.info("%s %s %s %d %.2fs%s", visit.id, scope["method"], path, visit.status, visit.seconds, notes)


def _said(headers: Sequence[tuple[bytes, bytes]]) -> int:
    """The length that a body is said to have."""
    return next((int(value) for name, value in headers if name == b"content-length" and value.isdigit()), 0)


def _too_long(most: int) -> Refusal:
    return Refusal(413, f"the body has more than {most} bytes", code="body_too_long")
