"""What a bridge solves and what it costs: DIR/PAIR/ARM/seed-N/answers, and costs.json beside it."""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from safetensors import safe_open

from langbridge.evaluate.run import evaluate
from langbridge.evaluate.runs import RESULTS
from langbridge.evaluate.suites import load_suites
from langbridge.files import write_atomically
from langbridge.miniature.dataset import SUITE
from langbridge.serve.engine import Decoding, Request
from langbridge.serve.load import load_engine
from studies.real.reading import ENGLISH, Questions

NEW_TOKENS = 48
"""The longest solution of the miniature has 41 tokens; a question is timed with so many."""
TIMED = 9
"""English questions, one at a time; the first is not counted."""


def solve(
    model: Path, tests: Path, out: Path, *, languages: Sequence[str] | None = None, **asked: Any
) -> dict[str, float]:
    """The share of test questions solved, by language, all or these; asked once. asked: more for `load_engine`."""
    if not (out / RESULTS).is_file():
        engine = load_engine(model, batch_size=50, **asked)
        tasks = load_suites(
            [str(tests / f"{SUITE}.yaml")], languages=languages, generation={"max_gen_toks": NEW_TOKENS}
        )
        evaluate(engine, tasks, out)
    found = json.loads((out / RESULTS).read_text(encoding="utf-8"))["tasks"][SUITE]["languages"]
    return {code: one["accuracy"] for code, one in found.items()}


def cost(model: Path, questions: Questions, out: Path, *, bridge: bool, **asked: Any) -> dict[str, Any]:
    """Trained parameters (of a bridge), and milliseconds a question of `NEW_TOKENS` tokens, alone; measured once.

    bridge: whether it is one. asked: more for `load_engine`."""
    if out.is_file():
        return dict(json.loads(out.read_text(encoding="utf-8")))
    engine = load_engine(model, batch_size=1, **asked)
    seconds = []
    for text in questions[ENGLISH][:TIMED]:
        started = time.perf_counter()
        list(engine.generate([Request(text)], Decoding(NEW_TOKENS, options={"min_new_tokens": NEW_TOKENS})))
        seconds.append(time.perf_counter() - started)
    found = {
        "parameters": _parameters(model) if bridge else 0,
        "milliseconds": 1000 * median(seconds[1:]),
    }
    write_atomically(out, json.dumps(found) + "\n")
    return found


def _parameters(model: Path) -> int:
    """Of a bridge's own weights, and of adapters on its language model, which are merged and so counted in the last
    checkpoint."""
    adapters = sorted(model.parent.glob("stage-*/checkpoint-*/adapter/*.safetensors"))[-1:]
    count = 0
    for path in [*model.glob("*.safetensors"), *adapters]:
        with safe_open(path, framework="pt") as weights:
            names = weights.keys()
            count += sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
    return count
