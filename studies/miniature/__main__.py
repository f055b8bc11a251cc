"""The paper's claims in miniature: many small runs, and a report that says what held. Resumable.

    python -m studies.miniature [--quick] [--parts a,b,...] --out DIR

Runs over the ordinary training, evaluation and analysis. What is finished stays finished: a study that was stopped, or
another part of it, goes on where it was.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from langbridge.errors import LangBridgeError
from langbridge.files import write_atomically
from langbridge.miniature import parents
from studies.miniature import ablation, baselines, designs, encoders, examples, lift
from studies.miniature.data import write_problems
from studies.miniature.models import RECORD, encoder_folders
from studies.miniature.report import write_report
from studies.miniature.runs import Study
from studies.miniature.sizes import FULL, QUICK
from studies.miniature.working import carry_out_all, expected_seconds, outstanding, workers

PARTS = {"a": lift, "b": examples, "c": encoders, "d": designs, "e": baselines, "f": ablation}
PREPARED = (baselines, ablation)
"""Parts with something to make before their runs."""
NEED_MODELS = {"c", "e"}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="studies.miniature", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder for the runs and the report")
    parser.add_argument("--quick", action="store_true", help="fewer examples and problems: half an hour")
    parser.add_argument("--parts", default=",".join(PARTS), metavar="A,...",
                        help="a lift, b examples, c encoders, d frozen, e baselines, f parents")  # fmt: skip
    parser.add_argument("--models", type=Path, default=Path("miniature-study"), metavar="DIR",
                        help="what studies.miniature.models wrote, for c and e; default: miniature-study")  # fmt: skip
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="runs at once, one thread each; default: one a core")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the runs and how long they take, and stop")
    parser.add_argument("--quiet", action="store_true", help="only the result")
    given = parser.parse_args(arguments)
    chosen = list(dict.fromkeys(letter.strip() for letter in given.parts.split(",")))
    if not set(chosen) <= PARTS.keys():
        parser.error(f"--parts: got {given.parts!r}, expected letters of a to f with commas between them")
    if given.workers < 1:
        parser.error(f"--workers: got {given.workers}, expected at least 1")
    study = Study(given.out, given.models, QUICK if given.quick else FULL)
    try:
        parents.check()
        run_study(study, chosen, count=given.workers, dry_run=given.dry_run, quiet=given.quiet)
    except LangBridgeError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def run_study(study: Study, chosen: Sequence[str], *, count: int, dry_run: bool = False, quiet: bool = False) -> None:
    """Make the runs of the chosen parts, `count` at once, write the report, and print what held."""
    if NEED_MODELS & set(chosen):
        encoder_folders(study.models)
    check_same(study, dry_run)
    started = time.monotonic()

    def note(line: str) -> None:
        if not quiet:
            print(f"[{time.monotonic() - started:4.0f} s] {line}", file=sys.stderr, flush=True)

    parts = {letter: PARTS[letter] for letter in chosen}
    pool = workers(count)
    try:
        for letter, part in parts.items():
            left = outstanding(part.runs(study), study)
            before = part.unprepared(study) if part in PREPARED else 0.0
            minutes = (sum(map(expected_seconds, left)) + before) / count / 60
            budget = f"part {letter}, {part.TITLE}: {len(left)} runs known to be left, about {minutes:.0f} minutes"
            if dry_run:
                print(budget, *(f"  {run.name}  {expected_seconds(run):.0f} s of one core" for run in left), sep="\n")
                continue
            note(budget)
            if part in PREPARED:
                part.prepare(study, pool)
            note(f"part {letter}: {carry_out_all(partial(part.runs, study), study, pool, note)} runs made")
    finally:
        pool.shutdown(cancel_futures=True)
    if dry_run:
        return
    for letter, claim in write_report(study, parts):
        print(f"{letter}  {claim.verdict:31}  {claim.found.points:48}  {claim.text}")
    print(f"{study.out}: report.md, figures/   {(time.monotonic() - started) / 60:.1f} minutes")


def check_same(study: Study, dry_run: bool = False) -> None:
    """A folder holds one study: of these sizes and these models."""
    built = study.models / RECORD
    about = {
        "sizes": json.loads(json.dumps(asdict(study.sizes))),
        "parents": (parents.FOLDER / parents.CHECKSUMS).read_text(encoding="utf-8").splitlines(),
        "models": json.loads(built.read_text(encoding="utf-8")) if built.is_file() else None,
    }
    path = study.out / "study.json"
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        # Models may come later: parts a, b and d do without.
        about["models"] = about["models"] or before["models"]
        before["models"] = before["models"] or about["models"]
        if other := [key for key in about if before[key] != about[key]]:
            raise LangBridgeError(f"{study.out}: holds a study with other {', '.join(other)}; give another --out")
    elif study.out.exists() and (not study.out.is_dir() or any(study.out.iterdir())):
        raise LangBridgeError(f"{study.out}: is not empty and holds no study; give another --out")
    if not dry_run:
        write_atomically(path, json.dumps(about, indent=1) + "\n")
        write_problems(study.out, study.sizes)


if __name__ == "__main__":
    main()
