"""HumanEval's problems: prompts that join with their solutions, and corrections of the anonymised files.

A problem is a row as published: `task_id`, `prompt`, `canonical_solution`, `test`, `entry_point`.
"""

import re
import textwrap
import warnings
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.evaluate.code import Program

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""What ends a function's body (Chen et al. 2021, arXiv 2107.03374, section 2)."""

_STALE_NAMES = {
    # In the anonymised files the function is `func`, but these fields still say its old name.
    "HumanEval/33": ("test", "sort_third"),
    "HumanEval/55": ("canonical_solution", "fib"),
    "HumanEval/63": ("canonical_solution", "fibfib"),
}
_GARBLED = "HumanEval/106"
"""Its function was called `f`, and every letter f in the prompt was replaced: "defunc func", "ofunc numbers"."""

_CALL = re.compile(r"^check\((\w+)\)\s*\Z", re.MULTILINE)
_BEGINS_PROGRAM = re.compile(r"^(?:(?:import|from|(?:async )?def|class)\b|@)", re.MULTILINE)
_FENCED = re.compile(r"^[ \t]*```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL | re.MULTILINE)


def repaired(prompt: str) -> str:
    """The prompt as a model is to continue it: ending in a newline.

    In HumanEval-MT's translated files 65 to 81 of 164 prompts end right after the docstring's quotes, so that no body
    can follow. Every other prompt is left as published.
    """
    return prompt if prompt.endswith("\n") else prompt.rstrip() + "\n"


def entry_point(prompt: str) -> str | None:
    """The function that a prompt leaves to be written: the last one that it begins."""
    begun = re.findall(r"^def\s+(\w+)\s*\(", prompt, re.MULTILINE)
    return begun[-1] if begun else None


def corrected(row: dict[str, Any]) -> dict[str, Any]:
    """A row of an anonymised file with its four known faults corrected; any other row unchanged."""
    if row["entry_point"] != "func":
        return row
    name = row["task_id"]
    if name in _STALE_NAMES:
        field, stale = _STALE_NAMES[name]
        return {**row, field: re.sub(rf"\b{stale}\b", "func", row[field])}
    if name == _GARBLED:
        # The replacement has an exact inverse; then only the name itself is replaced.
        return {**row, "prompt": re.sub(r"\bf\b", "func", row["prompt"].replace("func", "f"))}
    return row


def completion(output: str) -> str:
    """A model's text up to where the function's body ends."""
    ends = [place for stop in STOPS if (place := output.find(stop)) >= 0]
    return output[: min(ends)] if ends else output


def source(row: dict[str, Any], output: str) -> str:
    """The whole program that a model's output makes of a problem.

    A fenced block that defines the function is the program, after the prompt's own imports and helpers; so is an output
    that defines it without a fence, less what is said before and after it. Otherwise the output continues the prompt up
    to the first of `STOPS` or to a fence, or, where that is only talk, a fenced block does.

    Detokenisation takes away the spaces that a text begins with, and a block may be written without the indentation of
    a body; they get it back where the program does not compile without it and does with it.
    """
    prompt = repaired(row["prompt"])
    defines = re.compile(rf"^(?:async )?def {re.escape(row['entry_point'])}\b", re.MULTILINE)
    blocks = _FENCED.findall(output)
    whole = [output] if _compiles(output) else []
    for block in [*map(textwrap.dedent, blocks), *whole]:
        if defines.search(block):
            return _whole(prompt) + "\n" + block
    before = output[: fence.start()] if (fence := _FENCED.search(output)) else output
    # Under the docstring, which is the last thing in the prompt.
    indent = re.findall(r"^[ \t]*", prompt.rstrip().rsplit("\n", 1)[-1])[0] or "    "
    body = completion(before)
    plain = _continued(prompt, body, indent)
    continues = _compiles(plain) and re.search(r"\b(?:return|yield)\b", body)
    # A helper that comes before the function has a `return` too.
    if (not continues or _BEGINS_PROGRAM.match(body)) and (found := _program_in(before, defines)):
        return _whole(prompt) + "\n" + found
    if continues:
        return plain
    for block in blocks:
        found = _continued(prompt, completion(block), indent)
        # The whole of an unindented block is the body: its `if` and `print` do not end it.
        shifted = prompt + textwrap.indent(block, indent)
        for candidate in (found,) if block.startswith((" ", "\t")) else (shifted, found):
            if _compiles(candidate):
                return candidate
    return plain


def _whole(prompt: str) -> str:
    """A prompt as a program of its own, where it ends at the function's head and not in a docstring."""
    ended = f"{prompt}    pass\n"
    return ended if not _compiles(prompt) and _compiles(ended) else prompt


def _program_in(text: str, defines: re.Pattern[str]) -> str | None:
    """Of text around a program that `defines` its function: the first lines that compile, as many as do."""
    for start in _BEGINS_PROGRAM.finditer(text):
        lines = text[start.start() :].splitlines(keepends=True)
        while defines.search(candidate := "".join(lines)):
            if _compiles(candidate):
                return candidate
            lines.pop()
    return None


def _continued(prompt: str, body: str, indent: str) -> str:
    """Prompt and body, with the indentation of the first line restored where it is missing."""
    plain, restored = prompt + body, prompt + indent + body.lstrip(" \t")
    if body.strip() and not body.startswith("\n") and not _compiles(plain) and _compiles(restored):
        return restored
    return plain


def checks(row: dict[str, Any]) -> str:
    """What judges a program: the prompt with its helpers, the tests, and the call of `check`, as Python."""
    return f"{_whole(repaired(row['prompt']))}\n{row['test'].rstrip()}\n\ncheck({row['entry_point']})\n"


def program(source: str, checks: str) -> Program:
    """A program and its checks, ready for the sandbox. Raises `LangBridgeError` where they do not end in the call."""
    match = _CALL.search(checks)
    if match is None:
        raise LangBridgeError(f"checks of a program: expected check(NAME) in the last line, got {checks[-80:]!r}")
    return Program(source, checks[: match.start()], match[1])


def _compiles(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about strange escapes and the like
            compile(text, "program", "exec")
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        return False
    return True
