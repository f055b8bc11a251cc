"""The process that holds a model's program: defines it, then answers calls of its functions with values.

One JSON object a line: in `{"program"}`, then `{"call", "arguments", "keywords"}`; out `{"defined": true}`, then
`{"value"}`, or `{"error", "message"}` in either place.
"""

import json
import os
import sys
import types
from typing import Any

from .values import decode, encode


def main() -> None:
    requests, replies = os.fdopen(os.dup(0), "r", encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever the program reads and prints, it is neither a request nor a reply.
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    # A separate module, which `dataclasses` and others look up by name; not `__main__`, as in the reference.
    module = types.ModuleType("program")
    sys.modules["program"] = module
    for line in requests:
        try:
            reply = _answer(json.loads(line), module)
            text = json.dumps(reply)
        except BaseException as error:  # SystemExit too: the program's end is not ours
            text = json.dumps({"error": type(error).__name__, "message": _said(error)})
        replies.write(text + "\n")
        replies.flush()


def _answer(request: dict[str, Any], module: types.ModuleType) -> dict[str, Any]:
    if "program" in request:
        exec(compile(request["program"], "program", "exec"), module.__dict__)
        return {"defined": True}
    function = module.__dict__[request["call"]]
    keywords = {name: decode(value) for name, value in request["keywords"].items()}
    return {"value": encode(function(*decode(request["arguments"]), **keywords))}


def _said(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except BaseException:
        return ""
