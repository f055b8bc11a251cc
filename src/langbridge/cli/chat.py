"""`langbridge chat`: one line in, one answer out, token by token."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from langbridge.cli.bridge import load_bridge


def chat(
    folder: Annotated[Path, typer.Argument(help="The bridge's folder.")],
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")] = 256,
    source_language: Annotated[
        str | None,
        typer.Option("--source-language", metavar="CODE", help="The prompts' language, for encoders that mark it."),
    ] = None,
) -> None:
    """Talk to a bridge in the terminal. Every line is a prompt of its own; end with Ctrl-D.

    The bridge was trained on single questions, so it does not see the lines before.
    """
    model, processor = load_bridge(folder)
    import torch
    from transformers import TextStreamer

    tokenizer = processor.tokenizer
    streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    for prompt in _lines():
        inputs = processor([prompt], source_language=source_language, return_tensors="pt").to(model.device)
        with torch.inference_mode():
            model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
                streamer=streamer,
            )


def _lines() -> Iterator[str]:
    """Lines that hold something, until the input ends; with a prompt sign where a person types."""
    while True:
        try:
            line = input("> ") if sys.stdin.isatty() else input()
        except EOFError:
            return
        if line.strip():
            yield line
