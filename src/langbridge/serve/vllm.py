"""A bridge whose language model runs in a vLLM server: encoder and connector here, and embedded prompts over HTTP."""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path, PurePath
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig

from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeConfig, LangBridgeProcessor
from langbridge.model.bases import checkpoint_folder
from langbridge.model.language_models import positions as positions_of
from langbridge.model.sequence import begin_ids
from langbridge.serve.engine import GREEDY, Decoding, PromptTooLong, Request
from langbridge.serve.generation import Ending, own_decoding, seed_of
from langbridge.serve.live import LiveEngine, Load, Tell, Ticket, Token, Unavailable
from langbridge.serve.prompt_embeddings import PromptEmbedder
from langbridge.serve.readers import BridgeReader, Reading
from langbridge.serve.rows import Asked, check_new_tokens
from langbridge.serve.sampling import TOP_K
from langbridge.serve.turns import Pace, Turns
from langbridge.serve.vllm_protocol import ServedModel, VLLMServer, Written, encoded

_log = logging.getLogger(__name__)

_SAMPLING: Mapping[str, float] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": TOP_K,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
"""What vLLM and transformers call by the same name, with the values where nobody says otherwise. All are sent: a server
fills in those that are missing from its own copy of the language model."""

_PROBE, _LIKELIEST, _CLOSE = "The sum of 12 and 30 is", 5, 0.2
"""A text for which the server tells the likeliest tokens, and how far their log-probabilities may be apart between
tokens and embeddings: the same numbers, in half precision and perhaps through other kernels."""

Result = TypeVar("Result")


def load_vllm(
    folder: str | Path,
    url: str,
    *,
    api_key: str | None = None,
    encoder: Any = None,
    language_model: Any = None,
    dtype: str | torch.dtype = "auto",
    device: str | None = None,
    batch_size: int = 16,
    slots: int = 64,
    queue: int = 256,
    max_new_tokens: int | None = None,
    timeout: float = 300.0,
) -> "VLLMEngine":
    """A bridge's engine in front of the vLLM server at `url`, which serves its language model.

    api_key: the server's. encoder, language_model: where the checkpoint does not find them; of the language model only
    its input embeddings are read. dtype, device, batch_size: of the encoder. slots: requests at the server at once.
    queue: those that may wait for one. timeout: the server's longest silence, in seconds.

    Raises `LangBridgeError` where the folder holds no bridge, or one that cannot be served so, and where the server
    reads embeddings otherwise than it reads the same tokens.
    """
    place = checkpoint_folder(folder)
    kind = LangBridgeConfig.get_config_dict(str(place))[0].get("model_type")
    if kind != LangBridgeConfig.model_type:
        raise LangBridgeError(
            f"{folder}: a {kind!r} model, not a bridge: there is nothing to embed; vLLM serves such a model by itself"
        )
    server = VLLMServer(url, api_key=api_key, timeout=timeout, connections=slots)
    embedder = PromptEmbedder.load(
        place, encoder=encoder, language_model=language_model, dtype=dtype, device=device, batch_size=batch_size
    )
    processor = LangBridgeProcessor.from_pretrained(place)
    reader = BridgeReader(processor, embedder.bridge.config.text_config, strict=True)
    own = (place / "generation_config.json").is_file()
    generation_config = GenerationConfig.from_pretrained(place) if own else GenerationConfig()
    engine = VLLMEngine(
        reader, embedder, server, generation_config, slots=slots, queue=queue, max_new_tokens=max_new_tokens
    )
    try:
        engine.meet()
    except BaseException:
        engine.close()
        raise
    return engine


class VLLMEngine(LiveEngine):
    """A reader of requests, what embeds them, and the server that answers. `meet` comes first.

    slots, queue: requests at the server, and those that wait, at most. max_new_tokens: the most of an answer.
    """

    def __init__(
        self,
        reader: BridgeReader,
        embedder: PromptEmbedder,
        server: VLLMServer,
        generation_config: GenerationConfig,
        *,
        slots: int = 64,
        queue: int = 256,
        max_new_tokens: int | None = None,
    ):
        self.reader, self.embedder, self.server, self.generation_config = reader, embedder, server, generation_config
        self.slots, self.queue, self.chats, self.max_new_tokens = slots, queue, reader.chats, max_new_tokens
        self.positions = positions_of(reader.config)
        self._model = ""
        self._turns, self._pace, self._running = Turns[_Asked](), Pace(), set[_Asked]()
        self._closed = False
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._torch = ThreadPoolExecutor(1, "langbridge-encoder")
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="langbridge-vllm", daemon=True)
        self._thread.start()
        self._feeder = asyncio.run_coroutine_threadsafe(self._feed(), self._loop)

    @property
    def load(self) -> Load:
        with self._lock:
            return Load(len(self._turns), len(self._running), self.slots)

    def meet(self) -> None:
        """Ask the server what it serves, and prove that it reads embeddings as it reads tokens."""
        found = self._in_loop(self.server.models())
        if not found:
            raise LangBridgeError(f"vLLM at {self.server.url} serves no language model")
        served = found[0]  # a server has one, by whatever names
        self._model = served.name
        self._know(served)
        if served.positions is not None:
            self.positions = min(served.positions, self.positions or served.positions)
        self._prove()

    def submit(self, request: Request, decoding: Decoding = GREEDY, *, tell: Tell, owner: str = "") -> Ticket:
        check_new_tokens(decoding.max_new_tokens, self.max_new_tokens)
        body = self._body(request, decoding)
        with self._reading:  # the tokenizers are not made for several threads
            (reading,) = self.reader.read([request], new_tokens=decoding.max_new_tokens)
        needed = len(reading.ids) + decoding.max_new_tokens
        if self.positions is not None and needed > self.positions:
            raise PromptTooLong(
                f"the prompt takes {len(reading.ids)} positions and the answer may take {decoding.max_new_tokens}, but "
                f"the server has {self.positions} for both; shorten it, or let the model write less (--max-new-tokens)"
            )
        # Stop strings are found here, by the rule of the other engines; at one the connection is closed.
        ending = Ending.of(self, self.reader.tokenizer, self.reader.decode, decoding.stop, self.reader.ends)
        # The ids that end an answer are the bridge's, whatever the server's copy of the language model says.
        body |= {"stop_token_ids": sorted(ending.final), "ignore_eos": True}
        asked = _Asked(self, body, reading, decoding, ending, tell, owner)
        with self._lock:
            if self._closed:
                raise Unavailable("the engine is closing and takes no more requests")
            if not self._turns and not self._running:
                self._pace.begun()
            out = self._turns.admit(owner, asked, self.queue, lambda one: one.gone)
            if out is asked:
                raise self._pace.busy(self.queue)
        self._loop.call_soon_threadsafe(self._wake.set)
        if out is not None:
            out.end(self._pace.busy(self.queue))
        return asked

    def close(self, seconds: float = 0.0) -> None:
        with self._lock:
            first, self._closed = not self._closed, True
        if not first:
            return
        self._in_loop(self._end(seconds))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._torch.shutdown()

    # Before the first request

    def _know(self, served: ServedModel) -> None:
        """Warn where the server seems to serve another model. Paths differ between machines, so names prove nothing."""
        base = (self.embedder.bridge.config.language_model_base or {}).get("id")
        names = {PurePath(one).name.lower() for one in (served.name, served.source)}
        if base and PurePath(base).name.lower() not in names:
            _log.warning("vLLM serves %r, and the bridge was trained on %r: is it the same?", served.source, base)
        if ignored := own_decoding(self).get("generation_config", {}).keys() - _SAMPLING.keys():
            _log.warning("vLLM does not know what the bridge's generation_config.json asks for: %s", sorted(ignored))

    def _prove(self) -> None:
        """Raise unless a text is the same to the server as tokens and as embeddings."""
        tokenizer = self.reader.tokenizer
        ids = [*begin_ids(tokenizer), *tokenizer(_PROBE, add_special_tokens=False)["input_ids"]]
        body = {"model": self._model, "max_tokens": 1, "temperature": 0.0, "logprobs": _LIKELIEST}
        embeds = encoded(self.embedder.embedded(ids))

        async def likeliest(prompt: Mapping[str, Any]) -> list[float]:
            written = [one async for one in self.server.write({**body, **prompt})]
            return [value for _, value in written[0].likeliest[0]][:_LIKELIEST]

        as_tokens = self._in_loop(likeliest({"prompt": ids}))
        as_embeds = self._in_loop(likeliest({"prompt_embeds": embeds}))
        apart = max((abs(a - b) for a, b in zip(as_tokens, as_embeds, strict=False)), default=0.0)
        if not apart <= _CLOSE:
            raise LangBridgeError(
                f"vLLM at {self.server.url} does not read the bridge's embeddings as it reads the same tokens: the "
                f"log-probabilities of what comes next are {apart:.2f} apart. Either it serves another model than the "
                "bridge's language model, or its version reads embeddings of this kind of model otherwise"
            )

    # What is asked

    def _body(self, request: Request, decoding: Decoding) -> dict[str, Any]:
        """The request to the server, but for the prompt."""
        known = {"do_sample", *_SAMPLING}
        options = {name: value for name, value in decoding.options.items() if (name, value) != ("num_beams", 1)}
        if unknown := sorted(options.keys() - known):
            raise LangBridgeError(f"decoding: got {', '.join(unknown)}; vLLM is asked for {', '.join(sorted(known))}")
        own = {name: getattr(self.generation_config, name, None) for name in _SAMPLING}
        given = {name: value for name, value in own.items() if value is not None}
        body: dict[str, Any] = {**_SAMPLING, **given, **options}
        body |= {"model": self._model, "max_tokens": decoding.max_new_tokens}
        if body.pop("do_sample", False):
            body["seed"] = seed_of([request.drawn_by], decoding.seed)
        else:
            body["temperature"] = 0.0
        if decoding.log_probabilities is not None:
            body["logprobs"] = decoding.log_probabilities
        return body

    # In the thread of the loop

    async def _feed(self) -> None:
        """Embed what waits, as many at once as there are places for, and send it."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._next():
                prompts = await self._loop.run_in_executor(self._torch, self._embedded, [one.reading for one in batch])
                for asked, prompt in zip(batch, prompts, strict=True):
                    task = asked.task = self._loop.create_task(self._answer(asked, prompt))
                    task.add_done_callback(partial(self._leave, asked))

    def _next(self) -> list["_Asked"]:
        with self._lock:
            self._turns.without(lambda one: one.gone)
            free = min(len(self._turns), self.slots - len(self._running), self.embedder.batch_size)
            batch = [self._turns.next() for _ in range(free)]
            self._running.update(batch)
        return batch

    def _embedded(self, readings: Sequence[Reading]) -> list[str | Exception]:
        """Each prompt as it is sent, or what is wrong with it; in the encoder's thread."""
        try:
            return [_finite(one) for one in self.embedder.embed(readings)]
        except Exception as error:
            if len(readings) == 1:
                return [error]
            return [found for one in readings for found in self._embedded([one])]

    async def _answer(self, asked: "_Asked", prompt: str | Exception) -> None:
        try:
            if isinstance(prompt, Exception):
                raise prompt
            if not asked.gone:
                await self._listen(asked, prompt)
        except Exception as error:
            if isinstance(error, Unavailable):
                _log.warning("%s: %s", self.server.url, error)
            asked.end(error)

    def _leave(self, asked: "_Asked", _: Any = None) -> None:
        with self._lock:
            self._running.discard(asked)
            self._pace.ended()
        self._wake.set()

    async def _listen(self, asked: "_Asked", prompt: str) -> None:
        async with aclosing(self.server.write({**asked.body, "prompt_embeds": prompt})) as events:
            async for written in events:
                for place, token in enumerate(written.ids):
                    if not asked.gone:
                        asked.write(token, _telling(asked, written, place))
                if asked.gone and written.finish is None:  # at a stop string, of which the server knows nothing
                    return
        if asked.gone:
            return
        raise Unavailable("the vLLM server ended an answer where nothing ends it")

    async def _end(self, seconds: float) -> None:
        """Wait for what is asked, give it up after so many seconds, and leave."""
        until = self._loop.time() + seconds
        while (self._turns or self._running) and self._loop.time() < until:
            await asyncio.sleep(0.02)
        self._feeder.cancel()
        with self._lock:
            left = [*self._turns.all(), *self._running]
        tasks = [one.task for one in left if one.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for asked in left:
            asked.end(Unavailable("the server is shutting down"))
        await self.server.aclose()

    # Between threads

    def _in_loop(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def give_up(self, asked: "_Asked") -> None:
        """Free the place of a request that nobody waits for."""

        def stop() -> None:
            with self._lock:
                self._turns.without(lambda one: one.gone)
            if asked.task is not None:
                asked.task.cancel()

        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(stop)


class _Asked(Asked):
    """A request to a server. task: the conversation about it."""

    def __init__(self, engine: VLLMEngine, body: dict[str, Any], *of: Any):
        super().__init__(*of)
        self.body = body
        self.task: asyncio.Task[None] | None = None
        self._engine = engine

    def cancel(self) -> None:
        super().cancel()
        self._engine.give_up(self)


def _telling(asked: Asked, written: Written, place: int) -> Token | None:
    likeliest = asked.decoding.log_probabilities
    if likeliest is None:
        return None
    # The written token is among them, one more than were asked for.
    top = [(asked.shown(id), value) for id, value in written.likeliest[place][:likeliest]]
    return Token(asked.shown(written.ids[place]), written.log_probabilities[place], top)


def _finite(prompt: torch.Tensor) -> str:
    if not bool(prompt.isfinite().all()):
        raise LangBridgeError("encoder: its states are not finite numbers; load it in bfloat16 or float32")
    return encoded(prompt)
