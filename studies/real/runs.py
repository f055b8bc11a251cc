"""One run of the study: an arm with a seed. Training is the product's own; what is there is not made again.

DIR/PAIR/ARM/seed-N/recipe.yaml     what the run is
DIR/PAIR/ARM/seed-N/start           the bridge that it begins with, where the arm has a start of its own
DIR/PAIR/ARM/seed-N/training        what `langbridge train` writes
DIR/PAIR/ARM/seed-N/averaged/EXAMPLES   a mean of two other arms' bridges, where the arm is one
DIR/PAIR/ARM/seed-N/clock.json      seconds up to each checkpoint; none of a training in stages
DIR/PAIR/ARM/seed-N/measured/QUESTIONS/EXAMPLES/LANGUAGE.json     one measurement
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.files import write_atomically
from langbridge.model.averaging import average_checkpoints
from langbridge.train import Recipe, train
from langbridge.train.checkpointing import COMPLETE, last_checkpoint, step_of
from langbridge.train.resuming import changed
from studies.real.arms import Arm, Design, recipe_of
from studies.real.disturbed import standing_in
from studies.real.reading import CARELESS, ENGLISH, Questions, Reader, measure
from studies.real.starts import write_start

Note = Callable[[str], object]


@dataclass(frozen=True)
class Run:
    """Where a run is and what it is made of. settings: instead of the arm's, KEY=VALUE."""

    out: Path
    models: Path
    data: Path
    pair: str
    arm: str
    seed: int = 0
    examples: int = 0
    settings: tuple[str, ...] = ()
    design: Design = field(default_factory=Design)

    @property
    def way(self) -> Arm:
        return self.design.arms[self.arm]

    @property
    def folder(self) -> Path:
        return self.out / self.pair / self.arm / f"seed-{self.seed}"

    @cached_property
    def recipe(self) -> Recipe:
        pair = self.design.pairs[self.pair]
        return recipe_of(self.way, pair=pair, models=self.models, data=self.data, seed=self.seed,
                         examples=self.examples, settings=self.settings)  # fmt: skip

    @property
    def update(self) -> int:
        """Examples of one update."""
        return self.recipe.train.per_device_train_batch_size * self.recipe.train.gradient_accumulation_steps

    def measured(self, questions: int, examples: int, language: str) -> Path:
        return self.folder / "measured" / str(questions) / str(examples) / f"{language}.json"


def carry_out(
    run: Run, questions: Questions, languages: Sequence[str], *, checkpoints: bool = False, note: Note = print
) -> Path | None:
    """Train what is not trained, and measure what is not measured, at the end and with `checkpoints` at every one.
    Returns the bridge at the end, None for the language model alone.

    English and careless English are measured whatever `languages` are. Raises `LangBridgeError`.
    """
    languages = list(dict.fromkeys([ENGLISH, CARELESS, *languages]))
    for language in languages:
        _ = questions[language]  # a missing file is an error now, and not after the training
    _check_same(run)
    places = bridges_of(run, checkpoints, note)
    for examples, bridge in places.items():
        missing = [code for code in languages if not run.measured(questions.count, examples, code).is_file()]
        if not missing:
            continue
        if bridge is None:
            reader = Reader.of_language_model(run.recipe)
        else:
            reader = Reader.of_bridge(bridge, run.recipe, run.way.asked_in)
        for code in missing:
            found = measure(reader, questions, code)
            own, other = (sum(found[key]) / sum(found["tokens"]) for key in ("own", "other"))
            write_atomically(run.measured(questions.count, examples, code), json.dumps(found) + "\n")
            note(f"{run.pair} {run.arm} seed {run.seed}, {examples} examples, {code}: own {own:.3f}, other {other:.3f}"
                 f"  ({found['seconds']:.0f} s)")  # fmt: skip
    return places[max(places)]


def bridges_of(run: Run, checkpoints: bool, note: Note) -> dict[int, Path | None]:
    """By examples, with `checkpoints` every one of them; None is the language model alone. Makes what is missing."""
    if not run.way.bridge:
        return {0: None}
    if run.way.asked_in is not None:
        assert run.way.of is not None
        other = replace(run, arm=run.way.of[0])
        _check_same(other)
        return bridges_of(other, checkpoints, note)
    return dict((_averaged if run.way.mean is not None else _trained)(run, checkpoints, note))


def _check_same(run: Run) -> None:
    """A folder holds one run, of any number of examples."""
    path = run.folder / "recipe.yaml"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        run.recipe.save(path)
    elif wrong := list(changed(Recipe.load(path), run.recipe)):
        raise LangBridgeError(f"{run.folder}: holds a run with other settings ({'; '.join(wrong)}); give another --out")


def _trained(run: Run, checkpoints: bool, note: Note) -> dict[int, Path]:
    """The bridge after the run's examples, or with `checkpoints` all up to there, by examples. Trains first."""
    arm, training, steps = run.way, run.folder / "training", run.recipe.train.max_steps
    last = last_checkpoint(training)
    whole = not steps or arm.stages is not None
    if not (training / "final").is_dir() or (not whole and (last is None or step_of(last) < steps)):
        recipe = run.recipe
        if arm.start is not None:
            start = run.folder / "start"
            recipe = recipe.model_copy(
                update={"init": str((start if start.is_dir() else write_start(arm.start, recipe, start)).resolve())}
            )
        _wind(run)
        note(f"{run.pair} {run.arm} seed {run.seed}: training, from step {0 if last is None else step_of(last)}")
        with standing_in(arm.objective):
            train(recipe, training, resume=True)
        _wind(run)
    if whole:
        return {run.examples if steps else 0: training / "final"}
    found = {step: training / f"checkpoint-{step}" for step in _checkpoints(run) if step <= steps}
    if steps not in found:
        raise LangBridgeError(f"{training}: was trained further, and kept no checkpoint after {run.examples} examples")
    return {step * run.update: path for step, path in found.items() if checkpoints or step == steps}


def _averaged(run: Run, checkpoints: bool, note: Note) -> dict[int, Path]:
    """The means of a start and a training of the same seed, by examples. Makes of both what is missing; its seconds are
    those of both."""
    arm = run.way
    assert arm.of is not None
    start, trained = replace(run, arm=arm.of[0], examples=0), replace(run, arm=arm.of[1])
    for part in (start, trained):
        _check_same(part)
    (first,) = _trained(start, False, note).values()
    means, clock = {}, run.folder / "clock.json"
    seconds = seconds_of(run) if clock.is_file() else {}
    for examples, second in _trained(trained, checkpoints, note).items():
        means[examples] = out = run.folder / "averaged" / str(examples)
        if not out.is_dir():
            assert arm.mean is not None
            average_checkpoints(first, second, out, share=arm.mean)
        seconds[str(examples)] = seconds_of(start).get("0", 0.0) + seconds_of(trained).get(str(examples), 0.0)
    write_atomically(clock, json.dumps({"seconds": seconds}, indent=1) + "\n")
    return means


def seconds_of(run: Run) -> dict[str, float]:
    """Up to each checkpoint that a run has, by examples."""
    seconds: dict[str, float] = json.loads((run.folder / "clock.json").read_text(encoding="utf-8"))["seconds"]
    return seconds


def _checkpoints(run: Run) -> list[int]:
    """The steps of the whole checkpoints."""
    paths = (run.folder / "training").glob(f"checkpoint-*/{COMPLETE}")
    return sorted(int(path.parent.name.rpartition("-")[2]) for path in paths)


def _wind(run: Run) -> None:
    """Close the account of the training under way, if there is one, and open the next.

    A checkpoint's seconds are from the call of `train` to its last file, loading and closed form included; a call that
    goes on adds to those of the checkpoint that it goes on from. What a killed call did after its last checkpoint does
    not count, since it is done again.
    """
    path, training, now = run.folder / "clock.json", run.folder / "training", time.time()
    clock: dict[str, Any] = {"seconds": {}} if not path.is_file() else json.loads(path.read_text(encoding="utf-8"))
    seconds = clock["seconds"]
    if "began" in clock:
        before = seconds.get(str(clock["from"] * run.update), 0.0)
        ends = {step: f"checkpoint-{step}/{COMPLETE}" for step in _checkpoints(run) if step > clock["from"]}
        if not run.recipe.train.max_steps:
            ends = {0: "final/training_log.json"}
        for step, name in ends.items():
            end = training / name
            if end.is_file():
                seconds[str(step * run.update)] = round(before + end.stat().st_mtime - clock["began"], 3)
    last = last_checkpoint(training)
    clock |= {"began": now, "from": 0 if last is None else step_of(last)}
    write_atomically(path, json.dumps(clock, indent=1) + "\n")
