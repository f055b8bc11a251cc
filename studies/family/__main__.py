"""What the successors of LangBridge add, at equal English examples and at equal seconds. Resumable.

python -m studies.family run --out DIR --pair miniature --arms all --seeds 0,1,2
python -m studies.family run --out DIR --pair smollm2 --models DIR --data DIR --arms bridge,layerwise
python -m studies.family pace --out DIR --pair miniature
python -m studies.family stop --out DIR --arms bridge,noise --seeds 0,1,2
python -m studies.family report --out DIR
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from langbridge.errors import LangBridgeError
from studies.family.arms import KNOWN, LOW, MINIATURE, PAIRS, ROUTE, SMOLLM2, design
from studies.family.costs import cost, solve
from studies.family.data import write_data
from studies.family.pace import measure_pace
from studies.family.report import write_report
from studies.family.stopping import take, write_stopping
from studies.family.ways import ROUTE_FILE, carry_out_route
from studies.real.arms import Design
from studies.real.reading import Questions
from studies.real.runs import Run, carry_out

EXAMPLES = {MINIATURE: 6400, SMOLLM2: 256}
QUESTIONS = {MINIATURE: 100, SMOLLM2: 32}
TIMED = {MINIATURE: 320, SMOLLM2: 32}
"""Examples of a training that is timed."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="studies.family", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train what is missing of arms, and measure what is missing")
    pace = commands.add_parser("pace", help="time the arms' trainings, on a machine that does nothing else")
    report = commands.add_parser("report", help="write report.md from whatever is there")
    stop = commands.add_parser("stop", help="write stopping.md: which checkpoint of the miniature's trainings signs "
                                            "of English choose")  # fmt: skip
    for command in (run, pace, report, stop):
        command.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of the study")
    names = ", ".join(f"{name} ({arm.says})" for name, arm in design(MINIATURE).arms.items())
    for command in (run, pace):
        command.add_argument("--pair", choices=PAIRS, required=True, help="encoder and language model")
        command.add_argument("--arms", default="all", metavar="NAME,...", help=f"{names}; default: all")
        command.add_argument("--models", type=Path, metavar="DIR", default=Path(), help="of a real pair: its models")
        command.add_argument("--data", type=Path, metavar="DIR", help="of a real pair: with gsm8k/, mgsm/ and ntrex/")
        command.add_argument("--threads", type=int, default=2, metavar="N", help="of the CPU; default: 2")
    stop.add_argument("--arms", default="bridge", metavar="NAME,...", help="that are trained; default: %(default)s")
    stop.add_argument("--threads", type=int, default=2, metavar="N", help="of the CPU; default: 2")
    stop.set_defaults(pair=MINIATURE, data=None, models=Path())
    for command in (run, stop):
        command.add_argument("--seeds", default="0", metavar="N,...", help="of start, sample and order; default: 0")
        command.add_argument("--examples", type=int, metavar="N", help=f"English examples; default: {EXAMPLES}")
        command.add_argument("--questions", type=int, metavar="N", help=f"of each language; default: {QUESTIONS}")
    run.add_argument("--checkpoints", action="store_true", help="measure every checkpoint, and not only the last")
    pace.add_argument("--examples", type=int, metavar="N", help=f"of each training; default: {TIMED}")
    given = parser.parse_args(arguments)
    try:
        if given.command == "report":
            print(write_report(given.out))
            return
        torch.set_num_threads(given.threads)
        {"pace": _pace, "run": _run, "stop": _stop}[given.command](given)
    except LangBridgeError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _asked(given: argparse.Namespace) -> tuple[Design, list[str], Path]:
    """The design, the arms that are asked for, and the folder of their data, which is written."""
    pair, ways = given.pair, design(given.pair)
    arms = list(ways.arms) if given.arms == "all" else given.arms.split(",")
    if wrong := [name for name in arms if name not in ways.arms]:
        raise LangBridgeError(f"--arms: got {', '.join(wrong)}, expected some of {', '.join(ways.arms)}, or all")
    data = write_data(pair, given.data, given.out)
    if given.arms == "all" and not (data / ways.arms["ceiling"].data).is_file():
        arms.remove("ceiling")  # nobody has translated the questions
    return ways, arms, data


def _pace(given: argparse.Namespace) -> None:
    ways, arms, data = _asked(given)
    examples = given.examples or TIMED[given.pair]
    run = Run(given.out, given.models, data, given.pair, arms[0], examples=examples, design=ways)
    print(measure_pace(run, arms, note=_note))


def _stop(given: argparse.Namespace) -> None:
    ways, arms, data = _asked(given)
    questions = Questions(data, given.questions or QUESTIONS[given.pair])
    found = {}
    for arm in arms:
        if not ways.arms[arm].trained or ways.arms[arm].stages is not None:
            raise LangBridgeError(f"--arms: {arm} keeps no checkpoints of one training")
        runs = [Run(given.out, given.models, data, given.pair, arm, int(seed), given.examples or EXAMPLES[given.pair],
                    design=ways) for seed in given.seeds.split(",")]  # fmt: skip
        found[arm] = [take(one, questions, data / "test", note=_note) for one in runs]
    print(write_stopping(given.out, found))


def _run(given: argparse.Namespace) -> None:
    pair, (ways, arms, data) = given.pair, _asked(given)
    languages = [*KNOWN[pair], *LOW[pair]]
    questions = Questions(data, given.questions or QUESTIONS[pair])
    seeds = given.seeds.split(",")
    for seed in seeds:
        for arm in arms:
            if seed != seeds[0] and not ways.arms[arm].bridge:
                continue  # nothing in it is drawn
            run = Run(
                given.out, given.models, data, pair, arm, int(seed), given.examples or EXAMPLES[pair], design=ways
            )
            bridge: Path | None
            if arm == ROUTE:
                bridge = carry_out_route(run, questions, languages, note=_note)
            else:
                bridge = carry_out(run, questions, languages, checkpoints=given.checkpoints, note=_note)
            asked: dict[str, Any] = {"template": run.way.asked_in if bridge else run.recipe.template}
            if arm == ROUTE:
                asked["route"] = run.folder / ROUTE_FILE
            model = bridge or Path(run.recipe.language_model)
            found = cost(model, questions, run.folder / "costs.json", bridge=bridge is not None, **asked)
            _note(f"{pair} {arm} seed {seed}: {found['parameters']:,} parameters, {found['milliseconds']:.0f} ms")
            if pair == MINIATURE:
                solved = solve(model, data / "test", run.folder / "answers", **asked)
                _note("  ".join(f"{code} {100 * share:.0f}" for code, share in solved.items()))


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
