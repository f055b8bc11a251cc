"""Answers as they are written: server-sent events."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from langbridge.serve.http.asking import unless_gone
from langbridge.serve.http.errors import Gone, internal, refusal
from langbridge.serve.http.json import as_json
from langbridge.serve.http.visit import visit_of

_log = logging.getLogger(__name__)

_SILENCE = 15.0
"""Seconds without a word, after which a comment tells proxies that somebody is there."""

_SLOW = 30.0
"""Seconds that a client has to read the rest, once there is nothing more to write."""


class EventStream(Response):
    """Objects, one an event, then `[DONE]`; or an error, which is the last. seconds: for all of them."""

    media_type = "text/event-stream"

    def __init__(self, objects: AsyncIterator[Any], seconds: float):
        # Proxies that buffer would hold the text back until it is whole (nginx reads the second header).
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self.objects, self.seconds = objects, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self.seconds + _SLOW):  # a client that reads too slowly holds up `send`
                await unless_gone(receive, self._send(scope, send))
        except (Gone, TimeoutError):
            visit_of(scope).status = 499

    async def _send(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

        async def event(data: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        try:
            async for data in _patiently(self.objects):
                await event(b": waiting\n\n" if data is None else b"data: " + as_json(data) + b"\n\n")
            await event(b"data: [DONE]\n\n", more=False)
        except Exception as error:
            visit = visit_of(scope)
            told = refusal(error)
            if told is None:
                _log.exception("%s", visit.id)
                told = internal(visit.id)
            visit.status = told.status_code
            await event(b"data: " + as_json(told.body) + b"\n\n", more=False)


async def _patiently(objects: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The objects, and None after every silence."""
    following = None
    try:
        while True:
            following = following or asyncio.ensure_future(anext(objects, _END))
            done, _ = await asyncio.wait((following,), timeout=_SILENCE)
            if not done:
                yield None
                continue
            found, following = following.result(), None
            if found is _END:
                return
            yield found
    finally:
        if following is not None:
            following.cancel()


_END = object()
