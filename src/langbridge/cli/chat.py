"""`langbridge chat`: one line in, one answer out, token by token."""

import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import typer

from langbridge.cli.bridge import Folder, MaxNewTokens, RouteFile, SourceLanguage, model_folder

if TYPE_CHECKING:
    from langbridge.serve.engine import Decoding, Request
    from langbridge.serve.live import LiveEngine

ANEW = "/new"
"""The line that begins a new conversation."""


def chat(
    folder: Folder, max_new_tokens: MaxNewTokens = 256, source_language: SourceLanguage = None, route: RouteFile = None
) -> None:
    """Talk to a bridge in the terminal; end with Ctrl-D.

    A bridge with `template: chat` keeps the conversation, and the line /new begins another. To other bridges every line
    is a prompt of its own.
    """
    folder = model_folder(folder)
    from langbridge.serve.continuous import ContinuousEngine
    from langbridge.serve.engine import Decoding, Request
    from langbridge.serve.load import bridge_reader, load_bridge

    model, processor = load_bridge(folder, rows=1)
    reader = bridge_reader(model, processor, route, strict=True)
    decoding = Decoding(max_new_tokens)
    messages: list[dict[str, str]] = []
    with closing(ContinuousEngine(model, reader, slots=1)) as engine:
        for line in _lines():
            if not engine.chats:
                _say(engine, Request(line, language=source_language), decoding)
            elif line.strip() == ANEW:
                messages.clear()
            else:
                messages.append({"role": "user", "content": line})
                answer = _talk(engine, messages, source_language, decoding)
                messages.append({"role": "assistant", "content": answer.strip()})


def _say(engine: "LiveEngine", request: "Request", decoding: "Decoding") -> str:
    """The answer to a request, printed as it is written."""
    said = ""
    for piece in engine.pieces(request, decoding):
        print(piece.text, end="", flush=True)
        said += piece.text
    print()
    return said


def _talk(
    engine: "LiveEngine", messages: list[dict[str, str]], source_language: str | None, decoding: "Decoding"
) -> str:
    """The answer to a conversation, whose oldest turns are dropped where there is no room for them."""
    from langbridge.serve.engine import PromptTooLong, Request

    dropped = 0
    while True:
        try:
            answer = _say(engine, Request(messages=messages, language=source_language), decoding)
        except PromptTooLong:
            if len(messages) == 1:
                raise
            del messages[:2]
            dropped += 1
            continue
        if dropped:
            turns = "oldest turn is" if dropped == 1 else f"{dropped} oldest turns are"
            typer.echo(
                f"(the language model has no room for all of this conversation: its {turns} forgotten)", err=True
            )
        return answer


def _lines() -> Iterator[str]:
    """Lines that hold something, until the input ends; with a prompt sign where a person types."""
    while True:
        try:
            line = input("> ") if sys.stdin.isatty() else input()
        except EOFError:
            return
        if line.strip():
            yield line
