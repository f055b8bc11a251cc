"""From the engine's threads into the server's loop: requests of one client, asked, told, and given up."""

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from starlette.types import Receive

from langbridge.serve.engine import Answer, Decoding, Request
from langbridge.serve.http.errors import Gone
from langbridge.serve.live import LiveEngine, Piece, Ticket

Result = TypeVar("Result")
News = Piece | Answer | BaseException


class Asking:
    """Several requests to an engine, of which `next` tells as they are answered. `leave` gives up what is not done."""

    def __init__(self, engine: LiveEngine, requests: Sequence[Request], decoding: Decoding, owner: str):
        self.engine, self.requests, self.decoding, self.owner = engine, requests, decoding, owner
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[tuple[int, News]] = asyncio.Queue()
        self._tickets: list[Ticket] = []
        self._left = False

    async def submit(self, executor: Executor) -> None:
        """Raises what is wrong with a request."""
        await self._loop.run_in_executor(executor, self._submit)

    async def next(self) -> tuple[int, Piece | Answer]:
        """The place of a request, and what is new of it. Raises what went wrong."""
        place, news = await self._news.get()
        if isinstance(news, BaseException):
            raise news
        return place, news

    def leave(self) -> None:
        self._left = True
        for ticket in self._tickets:
            ticket.cancel()

    def _submit(self) -> None:
        for place, request in enumerate(self.requests):
            tell = partial(self._tell, place)
            self._tickets.append(self.engine.submit(request, self.decoding, tell=tell, owner=self.owner))
            if self._left:  # the client has gone meanwhile
                return self.leave()

    def _tell(self, place: int, news: News) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._news.put_nowait, (place, news))


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """What the work comes to. Raises `Gone`, and ends the work, when the client goes before."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
