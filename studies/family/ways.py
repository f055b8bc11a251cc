"""The arm that trains nothing: a bridge with a route, which each question takes by the language model's loss of it.

Its measurements are those of the way that a question goes, from the files of the two arms that it chooses between.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.files import read_jsonl, write_atomically
from langbridge.serve.load import load_bridge
from langbridge.serve.routing import TEXT, Route, fit_route
from langbridge.serve.signals import Signals
from studies.real.reading import CARELESS, ENGLISH, Questions
from studies.real.runs import Note, Run, carry_out

ROUTE_FILE = "route.json"
PROMPTS = 200
"""English training questions that the threshold is fitted on."""
_BY_QUESTION = tuple(f"{kind}{key}" for kind in ("", "number_") for key in ("own", "other", "tokens"))


def carry_out_route(run: Run, questions: Questions, languages: Sequence[str], *, note: Note = print) -> Path:
    """Fit the route, and take from both arms what is measured. Returns the bridge. Raises `LangBridgeError` where
    they are not measured."""
    languages = list(dict.fromkeys([ENGLISH, CARELESS, *languages]))
    assert run.way.of is not None
    text, bridged = (replace(run, arm=arm) for arm in run.way.of)
    folder = carry_out(bridged, questions, languages, note=note)
    assert folder is not None
    missing = [code for code in languages if not run.measured(questions.count, run.examples, code).is_file()]
    path = run.folder / ROUTE_FILE
    if not missing and path.is_file():
        return folder
    model, processor = load_bridge(folder)
    if not path.is_file():
        rows = islice(read_jsonl(run.data / "gsm8k" / "train.jsonl"), PROMPTS)
        route = fit_route(model, processor, [row["question"] for _, row in rows])
        route.save(path)
    route, signals = Route.load(path), Signals(model, processor)
    for code in missing:
        ways = route.ways(questions[code], signals)
        found = {way: _measured(one, questions, code) for way, one in zip(run.way.of, (text, bridged), strict=True)}
        merged = {
            **found[run.way.of[1]],
            **{key: [found[run.way.of[way != TEXT]][key][row] for row, way in enumerate(ways)] for key in _BY_QUESTION},
            "as_text": ways.count(TEXT),
        }
        write_atomically(run.measured(questions.count, run.examples, code), json.dumps(merged) + "\n")
        note(f"{run.pair} {run.arm} seed {run.seed}, {code}: {ways.count(TEXT)} of {len(ways)} as text")
    return folder


def _measured(run: Run, questions: Questions, code: str) -> dict[str, Any]:
    """Of the text any seed's: nothing in it is drawn."""
    path = run.measured(questions.count, run.examples if run.way.bridge else 0, code)
    if not run.way.bridge:
        path = next(iter(sorted(run.folder.parent.glob(f"seed-*/{path.relative_to(run.folder)}"))), path)
    if not path.is_file():
        raise LangBridgeError(f"{path}: is missing; measure arm {run.arm} first")
    return dict(json.loads(path.read_text(encoding="utf-8")))
