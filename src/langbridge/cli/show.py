"""`langbridge show`: a batch of a recipe, token by token, before an hour of training is spent on it.

Rows and batch are made by the code that a run makes them by. Only the tokenizers and the bases' configurations are
loaded, no weights.
"""

import dataclasses
import itertools
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from langbridge.cli.train import MoreOverrides, Overrides, overrides_of

_READABLE = str.maketrans({" ": "▁", "\n": "⏎", "\t": "⇥", "\r": "␍"})
_STYLES: dict[str, dict[str, Any]] = {
    "read": {}, "soft": {"fg": "cyan"}, "trained": {"fg": "green", "bold": True}, "padding": {"dim": True}
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Neighbouring tokens of one kind: `read`, `soft`, `trained` or `padding`."""

    kind: str
    tokens: list[str]


def stretches(tokens: list[str], kinds: list[str]) -> list[Stretch]:
    """Tokens grouped by kind, in order:

    tokens  <s>  <unk> <unk>  ▁4       </s>
    kinds   read soft  soft   trained  trained
    found   [read: <s>] [soft: 2 tokens] [trained: ▁4 </s>]
    """
    groups = itertools.groupby(zip(tokens, kinds, strict=True), key=lambda pair: pair[1])
    return [Stretch(kind, [token for token, _ in group]) for kind, group in groups]


def paint(stretch: Stretch, colour: bool) -> str:
    """A stretch as text: in colour on a terminal, and with marks that survive a pipe elsewhere."""
    text = " ".join(stretch.tokens)
    if stretch.kind == "soft":
        # The last slot is the end vector's.
        text = f"[soft prompt x {len(stretch.tokens) - 1}] [end]"
    elif stretch.kind == "padding":
        text = f"[padding x {len(stretch.tokens)}]"
    if colour:
        return typer.style(text, **_STYLES[stretch.kind])
    return f"«{text}»" if stretch.kind == "trained" else text


def show(
    recipe: Annotated[Path, typer.Argument(help="YAML file of the run.")],
    more: MoreOverrides = None,
    overrides: Overrides = None,
    rows: Annotated[int, typer.Option("--rows", min=1, metavar="N", help="How many rows, from the first.")] = 4,
) -> None:
    """Print a batch of a recipe as the models will see it: the encoder's tokens, the soft prompts' slots
    and the tokens that are trained.
    """
    from langbridge.train.recipe import Recipe

    loaded = Recipe.load(recipe, overrides_of(overrides, more))
    loaded.check_files()
    for number, stage in enumerate(loaded.stage_recipes, start=1):
        if loaded.stages:
            gap = "\n" if number > 1 else ""
            typer.echo(f"{gap}stage {number} of {len(loaded.stages)}, objective {stage.objective}: ", nl=False)
        _show_batch(stage, rows)


def _show_batch(recipe: Any, rows: int) -> None:
    from langbridge.data import BatchRow, open_data
    from langbridge.data.teaching import TEACHER_IDS, TEACHER_MASK
    from langbridge.train.objectives import objective_of
    from langbridge.train.prepare import load_processor

    processor = load_processor(recipe)
    objective = objective_of(recipe)
    collate = objective.collator(processor)
    # The first rows in file order, not in the order of the run.
    settings = recipe.data.model_copy(update={"shuffle_buffer": 1})
    data: Any = open_data(settings, regime=objective.kind, seed=recipe.seed, judge=collate, batch_size=rows)
    if recipe.data.streaming:  # which may be too long to be read to its end
        chosen = list(itertools.islice(data, rows))
        there = f"{len(chosen)} rows streamed from {' and '.join(place for place, _ in data.places)}"
    else:
        chosen = data.__getitems__([BatchRow(row, 0) for row in range(min(rows, len(data)))])
        there = f"{len(data)} rows in {' and '.join(data.shares)}"
    made = objective.in_training(collate)(chosen)
    made.pop("rows")
    batch = {name: tensor.tolist() for name, tensor in made.items()}
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    trained = paint(Stretch("trained", ["trained"]), colour)
    typer.echo(f"{there}, {len(data.skipped)} skipped; {trained} tokens are marked so")
    sources = len(batch.get("encoder_input_ids", ())) // len(chosen)
    for index in range(len(chosen)):
        typer.echo(f"\nrow {index + 1}")
        parts = []
        for number in range(sources):
            place = index * sources + number
            ids, mask = batch["encoder_input_ids"][place], batch["encoder_attention_mask"][place]
            name = "encoder" if sources == 1 else f"encoder, source {number + 1} of {sources}"
            parts.append((name, _read(ids, mask, processor.encoder_tokenizer)))
        row = {name: batch[name][index] for name in ("input_ids", "attention_mask", "labels")}
        parts.append(("language model", _lm_tokens(row, processor)))
        if TEACHER_IDS in batch:
            found = _read(batch[TEACHER_IDS][index], batch[TEACHER_MASK][index], processor.tokenizer)
            parts.append(("teacher", found))
        for name, found in parts:
            typer.echo(f"  {name}, {_counts(found)}")
            typer.echo("    " + " ".join(paint(one, colour) for one in found))


def _read(ids: list[int], mask: list[int], tokenizer: Any) -> list[Stretch]:
    return stretches(_readable(tokenizer, ids), ["read" if seen else "padding" for seen in mask])


def _lm_tokens(row: dict[str, list[int]], processor: Any) -> list[Stretch]:
    # Without an encoder there is a plain tokenizer, and no placeholder.
    ids, placeholder = row["input_ids"], getattr(processor, "soft_prompt_token_id", None)
    kinds = []
    for token, seen, label in zip(ids, row["attention_mask"], row["labels"], strict=True):
        if not seen:
            kinds.append("padding")
        elif label >= 0:
            kinds.append("trained")
        else:
            kinds.append("soft" if token == placeholder else "read")
    return stretches(_readable(getattr(processor, "tokenizer", processor), ids), kinds)


def _readable(tokenizer: Any, ids: list[int]) -> list[str]:
    tokens = tokenizer.convert_ids_to_tokens(ids)
    if tokenizer.is_fast and type(tokenizer.backend_tokenizer.decoder).__name__ == "ByteLevel":
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
        as_written = {None, *tokenizer.added_tokens_encoder}
        tokens = [t if t in as_written else _text_of(bytes(byte_of[c] for c in t)) for t in tokens]
    # A placeholder may have a row that no token uses, and so no name.
    return ["<none>" if token is None else token.translate(_READABLE) for token in tokens]


def _text_of(raw: bytes) -> str:
    """A token's bytes as text, or by their values, <0xE0>, where a character goes on in another token."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in raw)


def _counts(found: list[Stretch]) -> str:
    counts = {kind: sum(len(one.tokens) for one in found if one.kind == kind) for kind in _STYLES}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
