"""`langbridge chat`: one line in, one answer out, token by token."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langbridge.cli.bridge import load_bridge
from langbridge.errors import LangBridgeError
from langbridge.model.sequence import CHAT

if TYPE_CHECKING:
    from langbridge import LangBridgeProcessor

ANEW = "/new"
"""The line that begins a new conversation."""


def chat(
    folder: Annotated[Path, typer.Argument(help="The bridge's folder.")],
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")] = 256,
    source_language: Annotated[
        str | None,
        typer.Option("--source-language", metavar="CODE", help="The prompts' language, for encoders that mark it."),
    ] = None,
) -> None:
    """Talk to a bridge in the terminal; end with Ctrl-D.

    A bridge with `template: chat` keeps the conversation, and the line /new begins another. To other bridges every line
    is a prompt of its own.
    """
    model, processor = load_bridge(folder, rows=1)
    import torch
    from transformers import TextStreamer

    tokenizer, keeps = processor.tokenizer, processor.template == CHAT
    positions = getattr(model.language_model.config.get_text_config(), "max_position_embeddings", None)
    room = None if positions is None else positions - max_new_tokens
    # Its `decode` leaves out what ends an answer, which a tokenizer may take for text.
    streamer = TextStreamer(processor, skip_prompt=True, skip_special_tokens=True)  # type: ignore[arg-type]
    messages: list[dict[str, str]] = []
    for line in _lines():
        if keeps and line.strip() == ANEW:
            messages.clear()
            continue
        messages = [*messages, {"role": "user", "content": line}] if keeps else []
        inputs = (
            _that_fit(messages, processor, room, source_language)
            if keeps
            else processor([line], source_language=source_language, return_tensors="pt")
        )
        with torch.inference_mode():
            written = model.generate(
                **inputs.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
                streamer=streamer,
            )
        answer = processor.decode(written[0, inputs["input_ids"].shape[1] :])
        messages.append({"role": "assistant", "content": answer.strip()})


def _that_fit(
    messages: list[dict[str, str]], processor: "LangBridgeProcessor", room: int | None, source_language: str | None
) -> Any:
    """The model's inputs for a conversation, whose oldest turns are dropped where there is no room for them."""
    dropped = 0
    while True:
        inputs = processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            source_language=source_language,
        )
        length = inputs["input_ids"].shape[1]
        if room is None or length <= room:
            break
        if len(messages) == 1:
            raise LangBridgeError(
                f"the line takes {length} of the language model's positions, and the answer leaves {max(room, 0)} for "
                "it; shorten it, or let the model write less (--max-new-tokens)"
            )
        del messages[:2]
        dropped += 1
    if dropped:
        turns = "oldest turn is" if dropped == 1 else f"{dropped} oldest turns are"
        typer.echo(f"(the language model has no room for all of this conversation: its {turns} forgotten)", err=True)
    return inputs


def _lines() -> Iterator[str]:
    """Lines that hold something, until the input ends; with a prompt sign where a person types."""
    while True:
        try:
            line = input("> ") if sys.stdin.isatty() else input()
        except EOFError:
            return
        if line.strip():
            yield line
