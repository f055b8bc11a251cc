"""The process that holds the tests: calls the candidate's function, and alone can say that a program passed.

Reads one JSON object from its standard input (`source`, `checks`, `entry_point`, `token`, `limits`) and writes
one line, `{"token", "passed", "reason"}`.
"""

import builtins
import json
import os
import subprocess
import sys
from typing import Any, NoReturn

from . import confine
from .values import decode, encode

LONGEST_LINE = 16 * 2**20
"""Bytes of one reply."""


class Failed(Exception):
    """A failure of the program."""


class Candidate:
    """The other process, as a function that sends calls there."""

    def __init__(self) -> None:
        start = "import sys; sys.path.insert(0, sys.argv[1]); from inside.candidate import main; main()"
        # Unbuffered: a request must not wait for the next.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", start, sys.path[0]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self._process.stdout is not None
        self._replies = os.fdopen(os.dup(self._process.stdout.fileno()), "rb")

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps(request) + "\n").encode())
        except BrokenPipeError:
            self._ended()
        line = self._replies.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            self._ended()
        reply = json.loads(line)
        if not isinstance(reply, dict):
            raise Failed("the program wrote over its own answers")
        return reply

    def __call__(self, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        request = {
            "call": name,
            "arguments": encode(list(arguments)),
            "keywords": {key: encode(value) for key, value in keywords.items()},
        }
        reply = self.ask(request)
        if "error" in reply:
            raise _same_error(str(reply["error"]), str(reply.get("message")))
        if "value" not in reply:
            raise Failed("the program wrote over its own answers")
        return decode(reply["value"])

    def _ended(self) -> NoReturn:
        try:
            code: int | None = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            code = None
        raise Failed("the answer was too long" if code is None else f"the program ended by itself (exit code {code})")


def _same_error(name: str, message: str) -> BaseException:
    """An error of the same built-in class, for tests that expect one; any other class as `Failed`."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(message)
        except TypeError:  # UnicodeDecodeError and its like want more than a message
            pass
    return Failed(f"{name}: {message}")


def main() -> None:
    # First: from here on no other process can inspect this one.
    confine.closed_to_inspection()
    task = json.loads(sys.stdin.read())
    confine.limit(task["limits"])
    confine.deny_system_calls()
    passed, reason = _check(task)
    reason = reason[: task["limits"]["reason_characters"]]
    json.dump({"token": task["token"], "passed": passed, "reason": reason}, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # the candidate may still run; it ends with the sandbox


def _check(task: dict[str, Any]) -> tuple[bool, str]:
    entry_point = task["entry_point"]
    candidate = Candidate()
    try:
        defined = candidate.ask({"program": task["source"]})
        if "error" in defined:
            return False, f"{defined['error']}: {defined.get('message')}".removesuffix(": ")

        def function(*arguments: Any, **keywords: Any) -> Any:
            return candidate(entry_point, arguments, keywords)

        namespace: dict[str, Any] = {"__name__": "checks"}
        exec(compile(task["checks"], "checks", "exec"), namespace)
        # Checks may also call the function by name, which so far is the prompt's unfinished one.
        namespace[entry_point] = function
        namespace["check"](function)
    except Failed as error:
        return False, str(error)
    except BaseException as error:
        return False, f"{type(error).__name__}: {error}".removesuffix(": ")
    return True, "passed"
