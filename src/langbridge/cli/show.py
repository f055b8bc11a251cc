"""`langbridge show`: a batch of a recipe, token by token, before an hour of training is spent on it.

Only the tokenizers and the bases' configurations are loaded, no weights.
"""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from langbridge.cli.train import Overrides
from langbridge.data import LabelledCollator, open_data
from langbridge.train.recipe import Recipe

# Byte-level tokenizers write space and newline as these.
_READABLE = str.maketrans({"Ġ": "▁", "Ċ": "⏎", "\n": "⏎", "\t": "⇥", "\r": "␍"})


@dataclasses.dataclass(frozen=True)
class Run:
    """Neighbouring tokens of one kind: `read`, `soft`, `trained` or `padding`."""

    kind: str
    tokens: list[str]


def runs(tokens: list[str], kinds: list[str]) -> list[Run]:
    """Tokens grouped by kind, in order:

    tokens  <s>  <unk> <unk>  ▁4       </s>
    kinds   read soft  soft   trained  trained
    runs    [read: <s>] [soft: 2 tokens] [trained: ▁4 </s>]
    """
    found: list[Run] = []
    for token, kind in zip(tokens, kinds, strict=True):
        if found and found[-1].kind == kind:
            found[-1].tokens.append(token)
        else:
            found.append(Run(kind, [token]))
    return found


def paint(run: Run, colour: bool) -> str:
    """A run as text: in colour on a terminal, and with marks that survive a pipe elsewhere."""
    text = " ".join(run.tokens)
    if run.kind == "soft":
        # The last slot is the end vector's.
        text = f"[soft prompt x {len(run.tokens) - 1}] [end]"
    elif run.kind == "padding":
        text = f"[padding x {len(run.tokens)}]"
    if colour:
        style: dict[str, Any] = {
            "soft": {"fg": "cyan"},
            "trained": {"fg": "green", "bold": True},
            "padding": {"dim": True},
            "read": {},
        }
        return typer.style(text, **style[run.kind])
    return f"«{text}»" if run.kind == "trained" else text


def show(
    recipe: Annotated[Path, typer.Argument(help="YAML file of the run.")],
    overrides: Overrides = None,
    rows: Annotated[int, typer.Option("--rows", min=1, metavar="N", help="How many rows, from the first.")] = 4,
) -> None:
    """Print a batch of a recipe as the models will see it: the encoder's tokens, the soft prompts' slots
    and the tokens that are trained.
    """
    loaded = Recipe.load(recipe, overrides or ())
    loaded.check_files()
    data = open_data(loaded.data, regime="labelled", seed=loaded.seed)
    from langbridge import LangBridgeProcessor

    processor = LangBridgeProcessor.from_bases(
        loaded.encoder,
        loaded.language_model,
        template=loaded.template,
        template_in=loaded.template_in,
        connector=loaded.connector,
        num_latents=loaded.num_latents,
    )
    collate = LabelledCollator(processor, max_encoder_length=loaded.max_encoder_length, max_length=loaded.max_length)
    chosen = data[:rows]
    batch = {name: tensor.tolist() for name, tensor in collate(chosen).items()}
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    trained = paint(Run("trained", ["trained"]), colour)
    places = " and ".join(data.shares)
    typer.echo(f"{len(data)} rows in {places}, {len(data.skipped)} skipped; {trained} tokens are marked so")
    for index in range(len(chosen)):
        row = {name: values[index] for name, values in batch.items()}
        typer.echo(f"\nrow {index + 1}")
        for name, found in (
            ("encoder", _encoder_runs(row, processor)),
            ("language model", _lm_runs(row, processor)),
        ):
            typer.echo(f"  {name}, {_counts(found)}")
            typer.echo("    " + " ".join(paint(run, colour) for run in found))


def _encoder_runs(row: dict[str, list[int]], processor: Any) -> list[Run]:
    kinds = ["read" if seen else "padding" for seen in row["encoder_attention_mask"]]
    return runs(_readable(processor.encoder_tokenizer, row["encoder_input_ids"]), kinds)


def _lm_runs(row: dict[str, list[int]], processor: Any) -> list[Run]:
    ids = row["input_ids"]
    kinds = []
    for token, seen, label in zip(ids, row["attention_mask"], row["labels"], strict=True):
        if not seen:
            kinds.append("padding")
        elif label >= 0:
            kinds.append("trained")
        else:
            kinds.append("soft" if token == processor.soft_prompt_token_id else "read")
    return runs(_readable(processor.tokenizer, ids), kinds)


def _readable(tokenizer: Any, ids: list[int]) -> list[str]:
    tokens = tokenizer.convert_ids_to_tokens(ids)
    # A placeholder may have a row that no token uses, and so no name.
    return ["<none>" if token is None else token.translate(_READABLE) for token in tokens]


def _counts(found: list[Run]) -> str:
    counts = {"read": 0, "soft": 0, "trained": 0, "padding": 0}
    for run in found:
        counts[run.kind] += len(run.tokens)
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
