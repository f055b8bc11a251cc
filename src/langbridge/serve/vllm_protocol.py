"""What a vLLM server is asked over HTTP, and what it says: completions of prompt embeddings, streamed as token ids.

As in vLLM 0.33, started with `--enable-prompt-embeds`. Tokens come as ids, and become text here, as those of the engine
in this process do.
"""

import base64
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import torch
from jaxtyping import Float
from torch import Tensor

from langbridge.errors import LangBridgeError
from langbridge.serve.live import Unavailable

_ID = "token_id:"
_CONNECT = 10.0


@dataclass(frozen=True)
class ServedModel:
    """name: as requests call it. source: the folder or hub id that it was loaded from. positions: of prompt and answer
    together."""

    name: str
    source: str
    positions: int | None


@dataclass(frozen=True)
class Written:
    """More tokens of an answer. log_probabilities: of each, where they were asked for. likeliest: ids at its place with
    theirs, the likeliest first. finish: why it ended, with the last ones."""

    ids: Sequence[int]
    log_probabilities: Sequence[float] = ()
    likeliest: Sequence[Sequence[tuple[int, float]]] = ()
    finish: str | None = None


class VLLMServer:
    """url: of the server, with or without `/v1`. timeout: the longest silence in seconds, also before the first token.

    Errors of what is asked are `LangBridgeError`s, those of the server and the way to it `Unavailable`. They do
    not name its address: users are told them.
    """

    def __init__(self, url: str, *, api_key: str | None = None, timeout: float = 300.0, connections: int = 64):
        self.url = url.rstrip("/").removesuffix("/v1")
        if not self.url.startswith(("http://", "https://")) or not self.url.partition("://")[2]:
            raise LangBridgeError(f"--url: got {url!r}, expected the address of a vLLM server: http://HOST:PORT")
        self.timeout = timeout
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(timeout, connect=_CONNECT),
            # Closed before the server closes them, which it does after 5 s: a request sent just then would be lost.
            limits=httpx.Limits(max_connections=connections + 1, keepalive_expiry=2.0),
            trust_env=False,  # it stands on a private address: what is embedded in a prompt goes through no proxy
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def models(self) -> list[ServedModel]:
        """The models that it serves, adapters on them left out."""
        async with self._told("before it named its models"):
            response = await self._client.get("/v1/models")
            self._check(response.status_code, response.content)
        try:
            entries = response.json()["data"]
            return [
                ServedModel(one["id"], one.get("root") or one["id"], one.get("max_model_len"))
                for one in entries
                if one.get("parent") is None
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise LangBridgeError(f"--url: what answers at {self.url}/v1/models is no vLLM server") from None

    async def write(self, body: Mapping[str, Any]) -> AsyncGenerator[Written, None]:
        """The answer to a body of `/v1/completions` with one prompt, as it is written. Closing the iterator closes the
        connection, at which vLLM stops writing."""
        asked = {**body, "stream": True, "return_token_ids": True, "return_tokens_as_token_ids": True}
        ended, count = False, 0
        async with (
            self._told("in the middle of an answer"),
            self._client.stream("POST", "/v1/completions", json=asked) as response,
        ):
            if response.status_code >= 400:
                self._check(response.status_code, await response.aread())
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue
                written = self._written(data)
                if written is not None:
                    ended, count = ended or written.finish is not None, count + len(written.ids)
                    yield written
        if not ended:
            raise Unavailable(f"the vLLM server ended the connection in the middle of an answer ({count} tokens)")

    def _written(self, data: str) -> Written | None:
        """Of an event of the stream; None where it tells of no tokens."""
        try:
            event = json.loads(data)
            if "error" in event:
                self._check(int(event["error"].get("code") or 500), data.encode())
            choice = next(iter(event["choices"]), None)
            if choice is None:
                return None
            finish, log_probs = choice.get("finish_reason"), choice.get("logprobs") or {}
            if finish not in (None, "stop", "length"):
                raise Unavailable(f"the vLLM server gave an answer up ({finish})")
            if choice.get("token_ids") is None:
                raise LangBridgeError("the vLLM server sends no token ids; expected one of version 0.33 or later")
            return Written(
                choice["token_ids"],
                log_probs.get("token_logprobs", ()),
                [_likeliest(top or {}) for top in log_probs.get("top_logprobs") or ()],
                finish,
            )
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"the vLLM server sent what is no part of an answer: {data[:200]}") from error

    def _check(self, status: int, content: bytes) -> None:
        """Raise for an answer that is an error, in the server's words."""
        if status < 400:
            return
        words = _words(content)
        if status in (401, 403):
            raise LangBridgeError(f"the vLLM server takes no request without its key ({words}); give VLLM_API_KEY")
        if status == 404:
            raise LangBridgeError(f"the vLLM server does not know what it was asked for: {words}")
        if status == 429 or status >= 500:
            raise Unavailable(f"the vLLM server failed (HTTP {status}): {words}")
        raise LangBridgeError(f"the vLLM server refused a request (HTTP {status}): {words}")

    @asynccontextmanager
    async def _told(self, when: str) -> AsyncIterator[None]:
        """Errors of the connection in words."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unavailable(f"the vLLM server cannot be reached ({error or 'no answer'}); is it running?") from error
        except httpx.TimeoutException as error:
            raise Unavailable(f"the vLLM server said nothing for {self.timeout:g} seconds") from error
        except httpx.HTTPError as error:
            raise Unavailable(f"the vLLM server broke the connection {when} ({error})") from error


def encoded(prompt: Float[Tensor, "seq d_lm"]) -> str:
    """An embedded prompt as the field `prompt_embeds` has it."""
    file = io.BytesIO()
    torch.save(prompt, file)
    return base64.b64encode(file.getvalue()).decode()


def _likeliest(top: Mapping[str, float]) -> list[tuple[int, float]]:
    pairs = [(int(token.removeprefix(_ID)), value) for token, value in top.items()]
    return sorted(pairs, key=lambda pair: -pair[1])


def _words(content: bytes) -> str:
    """What an error's body says."""
    text = content.decode(errors="replace")
    try:
        found = json.loads(text)
        found = found.get("error", found)
        return str(found.get("message", found) if isinstance(found, dict) else found)
    except (ValueError, AttributeError):
        return text[:200] or "without a word"
