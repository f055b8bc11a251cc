"""The plan of a run: parameters, memory on each device, checkpoints, steps and tokens.

The bridge is laid out without its weights, so a plan needs neither the bases nor a GPU, and takes seconds at any
size. Counts are exact; assumptions are listed in `notes`.
"""

import dataclasses
import math
from pathlib import Path

from langbridge.errors import LangBridgeError
from langbridge.train.hyperparameters import Sharding
from langbridge.train.objectives import objective_of
from langbridge.train.plan.memory import Layout, PartSize
from langbridge.train.recipe import Recipe

GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What `plan` found. Memory is that of one device, in bytes."""

    gpus: int
    sharding: Sharding
    gpu_memory: float | None
    """GiB of one GPU, where they were given."""
    parts: tuple[PartSize, ...]
    checkpoint: int
    """Bytes of the weights in a checkpoint: what is trained, and nothing else."""
    resume_state: int
    """Bytes of the optimiser's state beside them, in a checkpoint to go on from."""
    rows_per_step: int
    steps: int | None
    """None where the number of rows is not known."""
    encoder_tokens: int | None
    """At most, in the whole run."""
    lm_tokens: int | None
    """Positions of the language model, at most, in the whole run."""
    reading: tuple[int, int] | None
    """Reading scores, that of the start among them, and the rows of each at most; None where there are none."""
    notes: tuple[str, ...]
    """What was assumed."""

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    @property
    def trained(self) -> int:
        return sum(part.trained for part in self.parts)

    @property
    def memory(self) -> int:
        return sum(part.memory for part in self.parts)

    @property
    def fits(self) -> bool | None:
        """Whether one GPU holds it; None where its size was not given."""
        return None if self.gpu_memory is None else self.memory <= self.gpu_memory * GIB

    def as_text(self) -> str:
        """The plan as a table and a few lines, to be read in a terminal."""
        counted = [part for part in self.parts if part.parameters]
        lines = [f"{'parameters':<18}{'total':>17}{'trained':>17}"]
        lines += [f"  {part.name:<16}{part.parameters:>17,}{part.trained:>17,}" for part in counted]
        lines += [f"  {'all':<16}{self.parameters:>17,}{self.trained:>17,}", ""]
        where = "on one device" if self.gpus == 1 else f"on each of {self.gpus} GPUs"
        lines.append(f"memory {where}, sharding {self.sharding}, GiB")
        names = ("weights", "gradients", "optimiser", "activations")
        lines.append(f"  {'':<16}" + "".join(f"{name:>12}" for name in (*names, "all")))
        total = PartSize(name="all", **{name: sum(getattr(part, name) for part in self.parts) for name in names})
        for part in (*self.parts, total):
            figures = [getattr(part, name) for name in names] + [part.memory]
            lines.append(f"  {part.name:<16}" + "".join(f"{figure / GIB:>12.2f}" for figure in figures))
        if self.gpu_memory is not None:
            verdict = "fits" if self.fits else "does not fit"
            lines.append(f"  {verdict}: {self.memory / GIB:.1f} of {self.gpu_memory:g} GiB")
        lines += ["", f"checkpoint        {_size(self.checkpoint)}, and {_size(self.resume_state)} to go on from it"]
        steps = "unknown" if self.steps is None else f"{self.steps:,}"
        lines.append(f"steps             {steps}, of {self.rows_per_step:,} rows")
        if self.steps:
            counts = [f"{self.lm_tokens:,} positions of the language model"]
            counts = ([f"{self.encoder_tokens:,} of the encoder"] if self.encoder_tokens else []) + counts
            lines.append(f"tokens            at most {', '.join(counts)}")
        if self.reading is not None:
            scores, rows = self.reading
            each = rows * self.gpus / self.rows_per_step
            lines.append(f"reading scores    {scores:,} of {rows} rows, each as long as about {each:.1f} steps")
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)])


def plan(recipe: Recipe, *, gpus: int = 1, sharding: Sharding | None = None, gpu_memory: float | None = None) -> Plan:
    """Plan a run on `gpus` GPUs of `gpu_memory` GiB each. `sharding` is the recipe's own where it is None.

    Raises `LangBridgeError` for a base whose shapes are nowhere to be found or that is of the wrong kind.
    """
    if gpus < 1:
        raise LangBridgeError(f"gpus: expected at least 1, got {gpus}")
    train = recipe.train
    layout = Layout(recipe, gpus, sharding or train.sharding)
    parts = layout.parts()
    rows_per_step = train.per_device_train_batch_size * train.gradient_accumulation_steps * gpus
    steps, note = _steps(recipe, gpus)
    rows = None if steps is None else steps * rows_per_step
    return Plan(
        gpus=gpus,
        sharding=layout.sharding,
        gpu_memory=gpu_memory,
        parts=parts,
        checkpoint=4 * sum(part.trained for part in parts),
        resume_state=sum(part.state for part in parts),
        rows_per_step=rows_per_step,
        steps=steps,
        encoder_tokens=None if rows is None or recipe.encoder is None else rows * layout.encoder_length,
        lm_tokens=None if rows is None else rows * recipe.max_length,
        reading=_reading(recipe, steps),
        notes=(*layout.notes, *([note] if note else [])),
    )


def _reading(recipe: Recipe, steps: int | None) -> tuple[int, int] | None:
    objective = objective_of(recipe)
    if steps is None or not objective.bridged or not recipe.train.reading_score_steps:
        return None
    if recipe.data.streaming and not recipe.data.validation_sources(objective.kind):
        return None  # of a stream no rows are kept apart
    return 1 + steps // recipe.train.reading_score_steps, recipe.train.reading_rows


def _steps(recipe: Recipe, gpus: int) -> tuple[int | None, str | None]:
    """Updates of the whole run, and what was assumed of them."""
    train, path = recipe.train, recipe.data.path
    if train.max_steps >= 0:
        return train.max_steps, None
    rows = _rows(path)
    if rows is None:
        try:
            recipe.data.check_files()
        except LangBridgeError as error:
            return None, f"steps: {error}; set train.max_steps to plan without it"
        return None, "steps: only one local JSON lines file is counted here; set train.max_steps to plan other data"
    batches = math.ceil(rows / (train.per_device_train_batch_size * gpus))
    per_epoch = math.ceil(batches / train.gradient_accumulation_steps)
    return math.ceil(train.num_train_epochs * per_epoch), f"steps: {rows:,} rows in {path}, bad ones included"


def _rows(path: str | None) -> int | None:
    """Rows of a local JSON lines file; None for everything else."""
    if path is None or not path.endswith((".jsonl", ".ndjson")) or not Path(path).is_file():
        return None
    with open(path, "rb") as lines:
        return sum(1 for line in lines if line.strip())


def _size(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"
