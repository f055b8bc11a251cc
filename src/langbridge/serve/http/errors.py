"""What goes wrong, in the form in which clients of OpenAI's API read it."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import fastapi
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from langbridge.errors import LangBridgeError
from langbridge.serve.engine import PromptTooLong
from langbridge.serve.http.json import JSON
from langbridge.serve.live import Busy, Unavailable

_FIELDS = {"--max-new-tokens": "max_tokens", "--source-language": "language"}
"""What a request calls the options that messages of the engine name."""

_LATER = 5.0
"""Seconds after which what writes the answers may be there again."""

_SHOWN = 80
"""Characters of a value that an error repeats."""


class Refusal(fastapi.HTTPException):
    """A request that is not answered. param: the field that is wrong. code: for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(status, message, dict(headers or {}))
        self.param, self.code = param, code

    @property
    def body(self) -> dict[str, Any]:
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status_code, "invalid_request_error")
        kind = "server_error" if self.status_code >= 500 else kind
        return {"error": {"message": self.detail, "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> JSON:
        return JSON(self.body, self.status_code, self.headers)


class Gone(Exception):
    """The client does not wait for its answer any more."""


def refusal(error: Exception) -> Refusal | None:
    """What a client is told of an error; None of those that are ours."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, HTTPException):
        return _of_status(error)
    if isinstance(error, RequestValidationError):
        return _invalid(error.errors(), error.body)
    if isinstance(error, Busy):
        return unavailable(429, str(error), error.after, code="queue_full")
    if isinstance(error, Unavailable):
        return unavailable(503, str(error), _LATER, code="unavailable")
    if isinstance(error, LangBridgeError):
        message = re.sub("|".join(_FIELDS), lambda found: _FIELDS[found[0]], str(error))
        return Refusal(400, message, code="context_length_exceeded" if isinstance(error, PromptTooLong) else None)
    return None


def unavailable(status: int, message: str, after: float, code: str) -> Refusal:
    """Not now, but after so many seconds."""
    return Refusal(status, message, code=code, headers={"Retry-After": str(max(1, math.ceil(after)))})


def draining(seconds: float) -> Refusal:
    """The server ends, and is gone after so many seconds."""
    told = unavailable(503, "the server is ending", seconds, code="draining")
    told.headers = {**(told.headers or {}), "Connection": "close"}
    return told


def late(seconds: float) -> Refusal:
    """An answer that was not done in the time that a request has. To ask again at once would take as long."""
    message = f"the answer was not done within {seconds:g} seconds; ask for fewer tokens (max_tokens)"
    return Refusal(504, message, code="timeout", headers={"x-should-retry": "false"})


def internal(request: str) -> Refusal:
    return Refusal(500, f"internal error; the server's log says more of request {request}", code="internal_error")


def _of_status(error: HTTPException) -> Refusal:
    allowed = ", ".join(sorted(Headers(error.headers).get("Allow", "").split(", ")))
    message = {
        404: "no such path; this server has /v1/chat/completions, /v1/completions, /v1/models and the page at /",
        405: f"the method does not fit this path; it takes {allowed}",
        400: "the body cannot be read; expected JSON",
    }.get(error.status_code, str(error.detail))
    return Refusal(error.status_code, message, headers=error.headers)


def _invalid(errors: Sequence[Mapping[str, Any]], body: Any) -> Refusal:
    """Of the first field that is not as it should be: what was got, and all that it may be instead."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return Refusal(400, f"the body is no JSON: {first['ctx']['error']}, at character {first['loc'][-1]}")
    if not isinstance(body, dict):
        got = "nothing" if body is None else "something else"
        return Refusal(400, f"the body: got {got}, expected a JSON object, sent with `Content-Type: application/json`")
    path, value = _place(first["loc"][1:], body)
    if first["type"] == "missing":
        return Refusal(400, f"{path}: missing", param=path)
    reasons = [str(one["msg"]) for one in errors if _place(one["loc"][1:], body)[0] == path]
    reason = " or ".join(dict.fromkeys(text.removeprefix("Input should be ") for text in reasons))
    return Refusal(400, f"{path}: got {shown(value)}, expected {reason}", param=path)


def _place(location: Sequence[str | int], body: Any) -> tuple[str, Any]:
    """The path to a value, and the value. What pydantic adds to say which of several types it tried is left out."""
    path, value = "", body
    for number, part in enumerate(location):
        if isinstance(value, dict) and (part in value or number + 1 == len(location)):
            path, value = f"{path}.{part}" if path else str(part), value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path, value = f"{path}[{part}]", value[part]
        else:
            break
    return path, value


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
