"""The service: routes, and what each of them asks of an engine."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.responses import Response

import langbridge
from langbridge.errors import LangBridgeError
from langbridge.serve.engine import Answer
from langbridge.serve.http.asking import Asking, unless_gone
from langbridge.serve.http.door import Door, Gate
from langbridge.serve.http.errors import Gone, Refusal, draining, late, refusal, shown
from langbridge.serve.http.forms import ChatForm, Form, TextForm
from langbridge.serve.http.json import JSON
from langbridge.serve.http.keys import Keys
from langbridge.serve.http.limits import Limits
from langbridge.serve.http.metrics import Metrics
from langbridge.serve.http.page import page_routes
from langbridge.serve.http.replies import ChatReply, Reply
from langbridge.serve.http.stream import EventStream
from langbridge.serve.http.visit import visit_of
from langbridge.serve.live import LiveEngine, Piece

_log = logging.getLogger(__name__)


class Service:
    """Models by the names that requests call them by, the first of which is asked where none is named.

    keys: of those who may ask, with none everybody. allowed_origins: of pages elsewhere that may ask from a browser.
    log_prompts: prompts and answers go into the log.
    """

    def __init__(
        self,
        models: Mapping[str, LiveEngine],
        limits: Limits = Limits(),  # noqa: B008
        *,
        keys: Sequence[str] = (),
        allowed_origins: Sequence[str] = (),
        log_prompts: bool = False,
    ):
        self.models, self.limits, self.log_prompts = dict(models), limits, log_prompts
        self.gate, self.metrics, self.began = Gate(), Metrics(models), int(time.time())
        # Prompts become tokens in it, while the loop goes on.
        self._submitting = ThreadPoolExecutor(1, "submit")
        self.app = self._build(Keys(keys), allowed_origins)

    async def close(self, seconds: float = 0.0) -> None:
        """End all engines; what they are writing has so long."""
        self.gate.closed = True
        await asyncio.gather(*(asyncio.to_thread(engine.close, seconds) for engine in self.models.values()))

    def _build(self, keys: Keys, allowed_origins: Sequence[str]) -> FastAPI:
        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            yield
            await self.close()
            self._submitting.shutdown(wait=False)

        # The pages that FastAPI has for its documentation load scripts from elsewhere.
        app = FastAPI(
            title="langbridge", version=langbridge.__version__, lifespan=lifespan, docs_url=None, redoc_url=None
        )
        app.add_middleware(
            Door, routes=app.router.routes, keys=keys, limits=self.limits, metrics=self.metrics, gate=self.gate
        )
        if allowed_origins:
            app.add_middleware(
                CORSMiddleware, allow_origins=allowed_origins, allow_methods=["GET", "POST"], allow_headers=["*"]
            )
        for kind in (HTTPException, RequestValidationError, LangBridgeError, Gone):
            app.add_exception_handler(kind, _told)
        app.post("/v1/chat/completions")(self.chat)
        app.post("/v1/completions")(self.complete)
        app.get("/v1/models")(self.list_models)
        app.get("/v1/models/{name:path}")(self.one_model)
        for path, state in (("/health", self.health), ("/ready", self.ready)):
            app.get(path)(state)
            app.head(path, include_in_schema=False)(state)
        app.get("/metrics")(self.count)
        app.router.routes += page_routes()
        return app

    async def chat(self, form: ChatForm, request: Request) -> Response:
        return await self._answer(form, request, ChatReply)

    async def complete(self, form: TextForm, request: Request) -> Response:
        return await self._answer(form, request, Reply)

    async def list_models(self) -> Response:
        return JSON({"object": "list", "data": [self._about(name) for name in self.models]})

    async def one_model(self, name: str) -> Response:
        self._engine(name)
        return JSON(self._about(name))

    async def health(self) -> Response:
        return JSON({"status": "alive"})

    async def ready(self) -> Response:
        if self.gate.closed:
            raise draining(self.limits.drain_seconds)
        return JSON({"status": "ready"})

    async def count(self) -> Response:
        return self.metrics.response

    def _engine(self, name: str | None) -> tuple[str, LiveEngine]:
        name = next(iter(self.models)) if name is None else name
        if name not in self.models:
            known = ", ".join(self.models)
            raise Refusal(404, f"model: got {shown(name)}, expected {known}", param="model", code="model_not_found")
        return name, self.models[name]

    def _about(self, name: str) -> dict[str, Any]:
        engine = self.models[name]
        return {"id": name, "object": "model", "created": self.began, "owned_by": "langbridge", "chats": engine.chats}

    async def _answer(self, form: Form, request: Request, kind: type[Reply]) -> Response:
        visit = visit_of(request.scope)
        until = asyncio.get_running_loop().time() + self.limits.seconds
        name, engine = self._engine(form.model)
        requests = form.requests(self.limits, engine.chats)
        decoding = form.decoding(self.limits, engine.positions)
        asking = Asking(engine, requests, decoding, visit.owner)
        visit.leaving.append(asking.leave)
        if self.log_prompts:
            for one in requests:
                _log.info("%s asks: %r", visit.id, one.messages or one.prompt)
        reply = kind(name, len(requests), form.n or 1, decoding.log_probabilities is not None)
        answering = _Answering(self, request, asking, reply, until)
        async with _in_time(until, self.limits.seconds):
            await unless_gone(request.receive, asking.submit(self._submitting))
        if form.stream:
            return EventStream(answering.chunks(form.include_usage), self.limits.seconds)
        return JSON(await unless_gone(request.receive, answering.whole()))


class _Answering:
    """One request while it is answered."""

    def __init__(self, service: Service, request: Request, asking: Asking, reply: Reply, until: float):
        self.service, self.asking, self.reply, self.until = service, asking, reply, until
        self.visit, self.model = visit_of(request.scope), str(reply.head["model"])
        self.answers: dict[int, Answer] = {}

    async def whole(self) -> dict[str, Any]:
        async for place, news in self._news():
            if isinstance(news, Piece):
                self.reply.keep(place, news.tokens)
        return self.reply.whole(self._in_order)

    async def chunks(self, include_usage: bool) -> AsyncIterator[dict[str, Any]]:
        usage = {"usage": None} if include_usage else {}
        for chunk in self.reply.first():
            yield chunk | usage
        async for place, news in self._news():
            if isinstance(news, Answer):
                yield self.reply.last(place, news) | usage
            elif news.text or news.tokens:
                yield self.reply.more(place, news.text, news.tokens) | usage
        if include_usage:
            yield self.reply.used(self._in_order)

    @property
    def _in_order(self) -> list[Answer]:
        return [self.answers[place] for place in range(len(self.answers))]

    async def _news(self) -> AsyncIterator[tuple[int, Piece | Answer]]:
        """Until all is answered. Raises what went wrong."""
        while len(self.answers) < len(self.asking.requests):
            async with _in_time(self.until, self.service.limits.seconds):
                place, news = await self.asking.next()
            if "first" not in self.visit.notes:
                self.visit.notes["first"] = f"{self.visit.seconds:.2f}s"
                self.service.metrics.first.labels(self.model).observe(self.visit.seconds)
            if isinstance(news, Answer):
                self.answers[place] = news
                self._note(news)
            yield place, news

    def _note(self, answer: Answer) -> None:
        self.service.metrics.answered(self.model, answer)
        notes = self.visit.notes
        notes |= {"model": self.model, "read": answer.prompt_tokens}
        notes["written"] = sum(one.tokens for one in self.answers.values())
        if self.service.log_prompts:
            _log.info("%s answer: %r", self.visit.id, answer.text)


@asynccontextmanager
async def _in_time(until: float, seconds: float) -> AsyncIterator[None]:
    """Refuses a request that is not done by then, on the loop's clock, which is so many seconds after it came."""
    try:
        async with asyncio.timeout_at(until):
            yield
    except TimeoutError:
        raise late(seconds) from None


async def _told(request: Request, error: Exception) -> Response:
    found = refusal(error)
    return Response(status_code=499) if found is None else found.response
