"""What every way to train takes, measured side by side: DIR/PAIR/pace.json. What else the machine does spoils it.

Each arm is trained for a few updates, all in turn and then all again, in folders that are thrown away. `example`:
seconds an English example, by the loop's own account. `start`: all else of a training, loading and the closed form
above all. Medians of the rounds; an arm in stages has their sums.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from langbridge.files import write_atomically
from langbridge.train import train
from studies.real.arms import Arm
from studies.real.runs import Run

PACE = "pace.json"
ROUNDS = 2


class Pace:
    """The measurement of a pair, or none."""

    def __init__(self, folder: Path, arms: Mapping[str, Arm]) -> None:
        path = folder / PACE
        self.found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.arms = arms

    def seconds(self, arm: str, examples: int) -> float | None:
        """Of a training; of a mean or a route those of the arms that it is made of. None where it is not known."""
        of = self.arms[arm].of
        if of is None:
            found = self.found.get(arm) if self.arms[arm].bridge else None
            return None if found is None else float(found["start"] + found["example"] * examples)
        parts = [self.seconds(name, examples) for name in of if self.arms[name].bridge]
        known = [part for part in parts if part is not None]
        return sum(known) if known and len(known) == len(parts) else None


def measure_pace(run: Run, arms: Sequence[str], note: Callable[[str], object] = print) -> Path:
    """Measure those of the arms that make a bridge of their own. run: of any arm, with the examples of each."""
    measured: dict[str, list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for one in (replace(run, arm=arm) for arm in arms if run.design.arms[arm].own):
            with tempfile.TemporaryDirectory(prefix="pace-") as folder:
                started = time.monotonic()
                final = train(one.recipe, folder, progress=False)
                whole = time.monotonic() - started
                logs = [*final.glob("stages/*/training_log.json")] or [final / "training_log.json"]
                histories = [json.loads(log.read_text(encoding="utf-8"))["history"] for log in logs]
            looping = sum(history[-1]["train_runtime"] for history in histories if history)
            measured.setdefault(one.arm, []).append((whole - looping, looping / run.examples))
            note(f"{run.pair} {one.arm}: {whole - looping:.1f} s, {1000 * looping / run.examples:.1f} ms an example")
    found = {
        arm: {"start": median(start for start, _ in took), "example": median(each for _, each in took)}
        for arm, took in measured.items()
    }
    path = run.out / run.pair / PACE
    write_atomically(path, json.dumps(found, indent=1) + "\n")
    return path
