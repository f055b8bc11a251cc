"""What a frozen language model reads of a bridge to a real multilingual encoder. Resumable, one command an arm.

python -m studies.real run --models DIR --data DIR --out DIR --pair smollm2 --arm labelled --examples 512
python -m studies.real missing --models DIR --data DIR --out DIR --pair smollm2
python -m studies.real report --out DIR
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from langbridge.errors import LangBridgeError
from studies.real.arms import ARMS, ENCODER, PAIRS
from studies.real.missing import carry_out_missing
from studies.real.reading import Questions
from studies.real.report import write_report
from studies.real.runs import Run, carry_out
from studies.real.shares import PRIMARY


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="studies.real", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train what is missing of an arm, and measure what is missing")
    missing = commands.add_parser("missing", help="of the closed form, measure what the words that do not arrive from "
                                                  "other languages are worth in English")  # fmt: skip
    report = commands.add_parser("report", help="write report.md and its figure from whatever is there")
    for command in (run, missing, report):
        command.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of the study")
    folders = ", ".join([ENCODER, *(pair.language_model for pair in PAIRS.values())])
    arms = "; ".join(f"{name}: {arm.says}" for name, arm in ARMS.items())
    for command in (run, missing):
        command.add_argument("--models", type=Path, metavar="DIR", required=True, help=f"folder with {folders}")
        command.add_argument("--data", type=Path, metavar="DIR", required=True, help="folder with gsm8k/ and mgsm/")
        command.add_argument("--pair", choices=PAIRS, required=True, help="the language model")
        command.add_argument("--seed", type=int, default=0, metavar="N",
                         help="of start, sample and order; default: 0")  # fmt: skip
        command.add_argument("--questions", type=int, default=32, metavar="N",
                         help="of MGSM, the first; default: 32")  # fmt: skip
        command.add_argument("--languages", default=",".join(PRIMARY), metavar="XX,YY",
                         help="beside English and careless English; default: %(default)s")  # fmt: skip
        command.add_argument("--set", nargs="+", default=[], action="extend", metavar="KEY=VALUE", dest="settings",
                         help="settings instead of the base recipe's and of the arm's own")  # fmt: skip
        command.add_argument("--threads", type=int, default=2, metavar="N", help="of the CPU; default: 2")
    run.add_argument("--arm", choices=ARMS, required=True, help=arms)
    run.add_argument("--examples", type=int, default=512, metavar="N",
                     help="English examples; more than before goes on from there; default: 512")  # fmt: skip
    missing.set_defaults(arm="closed", examples=0)
    run.add_argument("--checkpoints", action="store_true", help="measure every checkpoint, and not only the last")
    given = parser.parse_args(arguments)
    try:
        if given.command == "report":
            print(write_report(given.out))
            return
        torch.set_num_threads(given.threads)
        questions = Questions(given.data, given.questions)
        one = Run(given.out, given.models, given.data, given.pair, given.arm, given.seed, given.examples,
                  tuple(given.settings))  # fmt: skip
        languages = [code.strip() for code in given.languages.split(",") if code.strip()]
        if given.command == "missing":
            print(carry_out_missing(one, questions, languages, note=_note))
            return
        carry_out(one, questions, languages, checkpoints=given.checkpoints, note=_note)
    except LangBridgeError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
