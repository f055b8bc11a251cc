"""`langbridge study`: the paper's claims in miniature, part by part, into one report.

Runs over the ordinary training, evaluation and analysis; what is finished stays finished, so a study that was stopped,
or another part of it, goes on where it was.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langbridge.errors import LangBridgeError

if TYPE_CHECKING:
    from langbridge.cli.studies.answers import Claim
    from langbridge.cli.studies.page import Page
    from langbridge.cli.studies.runs import Found, Place, Run
    from langbridge.cli.studies.sizes import Sizes

PARTS = {"a": "lift", "b": "examples", "c": "encoders", "d": "designs", "e": "baselines"}
"""Module of each part."""
NEEDS_MODELS = ("c", "e")


def study(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the runs and the report.")],
    quick: Annotated[bool, typer.Option("--quick", help="Fewer examples and problems: ten minutes.")] = False,
    parts: Annotated[
        str, typer.Option("--parts", metavar="A,B,...", help="a lift, b examples, c encoders, d designs, e baselines.")
    ] = "a,b,c",
    models: Annotated[
        Path, typer.Option("--models", metavar="DIR", help="What `miniature build --study` wrote, for c and e.")
    ] = Path("miniature-study"),
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Runs at once, one thread each; default: one a core.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the runs and how long they take, and stop.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the result.")] = False,
) -> None:
    """The paper's claims in miniature: many small runs, and a report that says what held. Resumable."""
    chosen = list(dict.fromkeys(letter.strip() for letter in parts.split(",") if letter.strip()))
    if not chosen or not set(chosen) <= PARTS.keys():
        raise LangBridgeError(f"--parts: got {parts!r}, expected letters of a to e with commas between them")
    _need_extras()
    from langbridge.cli.studies.sizes import FULL, QUICK
    from langbridge.miniature import parents

    parents.check()
    run_study(
        out,
        QUICK if quick else FULL,
        chosen,
        models=models,
        workers=workers or os.cpu_count() or 1,
        dry_run=dry_run,
        quiet=quiet,
    )


def run_study(
    out: Path, sizes: "Sizes", chosen: list[str], *, models: Path, workers: int, dry_run: bool = False,
    quiet: bool = False,
) -> "list[Claim]":  # fmt: skip
    """Make the runs of the chosen parts, write the report, print what held; its claims. `workers` 0: here, in turn."""
    from importlib import import_module

    from langbridge.cli.studies.runs import Found, Place
    from langbridge.cli.studies.working import carry_out_all, expected_seconds, outstanding

    if any(letter in NEEDS_MODELS for letter in chosen):
        from langbridge.miniature.study import encoder_folders

        encoder_folders(models)
    modules = {letter: import_module(f"langbridge.cli.studies.{PARTS[letter]}") for letter in chosen}
    place = Place(out, models)
    found = Found(place)
    _same_study(place, sizes, dry_run)
    started = time.monotonic()

    def note(line: str) -> None:
        if not quiet:
            print(f"[{time.monotonic() - started:4.0f} s] {line}", file=sys.stderr, flush=True)

    for letter, module in modules.items():

        def plan(module: Any = module) -> "list[Run]":
            return list(module.runs(sizes, found))

        left = outstanding(plan(), place)
        minutes = sum(map(expected_seconds, left)) / max(workers, 1) / 60
        budget = f"part {letter}, {module.TITLE}: {len(left)} runs known to be left, about {minutes:.0f} minutes"
        if dry_run:
            typer.echo(budget)
            for run in left:
                typer.echo(f"  {run.name}  {expected_seconds(run):.0f} s of one core")
            continue
        note(budget)
        if hasattr(module, "prepare"):
            module.prepare(sizes, out, models)
        made = carry_out_all(plan, place, workers=workers, note=note)
        note(f"part {letter}: {made.runs} runs in {made.seconds / 60:.1f} minutes")
    if dry_run:
        return []
    claims = write_report(out, sizes, modules, found)
    for claim in claims:
        typer.echo(f"{claim.part}  {claim.verdict:31}  {claim.difference.points:48}  {claim.text}")
    typer.echo(
        f"{out}: report.html, report.md, figures/, claims.json   {(time.monotonic() - started) / 60:.1f} minutes"
    )
    return claims


def _same_study(place: "Place", sizes: "Sizes", dry_run: bool) -> None:
    """A folder holds one study: of these sizes and these models."""
    from dataclasses import asdict

    from langbridge.cli.studies.written import write_problems
    from langbridge.files import write_atomically
    from langbridge.miniature import parents
    from langbridge.miniature.study import RECORD

    built = place.models / RECORD
    about = {
        "sizes": json.loads(json.dumps(asdict(sizes))),
        "parents": (parents.FOLDER / parents.CHECKSUMS).read_text(encoding="utf-8").splitlines(),
        "models": json.loads(built.read_text(encoding="utf-8")) if built.is_file() else None,
    }
    path = place.out / "study.json"
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        # Models may come later: parts a, b and d do without.
        other = [key for key in about if before[key] != about[key] and (key != "models" or None not in (
            before[key], about[key]))]  # fmt: skip
        if other:
            raise LangBridgeError(f"{place.out}: holds a study with other {', '.join(other)}; give another --out")
        about["models"] = about["models"] or before["models"]
    elif place.out.exists() and (not place.out.is_dir() or any(place.out.iterdir())):
        raise LangBridgeError(f"{place.out}: is not empty and holds no study; give another --out")
    if not dry_run:
        write_atomically(path, json.dumps(about, indent=1) + "\n")
        write_problems(place.out, sizes)


def write_report(out: Path, sizes: "Sizes", modules: dict[str, Any], found: "Found") -> "list[Claim]":
    """`out`/report.md, report.html and claims.json of parts whose runs are finished."""
    from langbridge.cli.studies.page import Page
    from langbridge.cli.studies.working import outstanding
    from langbridge.files import write_atomically

    body = Page(out)
    claims: list[Claim] = []
    for letter, module in modules.items():
        runs = module.runs(sizes, found)
        assert not outstanding(runs, found.place), "all are finished by now"
        body.heading(f"{letter}. {module.TITLE}")
        own = module.write(sizes, found, body)
        body.heading("What held", 3)
        body.points([claim.said() for claim in own])
        spent = sum(found.core_seconds(run) for run in runs)
        body.say(f"{len(runs)} runs, {spent / 60:.0f} minutes of one core in all; runs may be shared between parts.")
        claims += own
    page = Page(out)
    _open_page(page, sizes, claims)
    page.blocks += body.blocks
    page.write()
    rows = [
        {"part": c.part, "claim": c.text, "verdict": c.verdict, "measured": c.measured, "difference":
         c.difference.value, "stderr": c.difference.stderr, "interval": c.difference.interval}
        for c in claims
    ]  # fmt: skip
    write_atomically(out / "claims.json", json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return claims


def _open_page(page: "Page", sizes: "Sizes", claims: "list[Claim]") -> None:
    import torch

    import langbridge

    page.heading("The paper's claims in miniature", 1)
    page.say(
        "LangBridge (Yoon et al., ACL 2024, arXiv 2401.10695) on the miniature: word problems of one small world in 12 "
        "languages, a language model of 1.4 million parameters that learned English and a little Spanish, German and "
        "French, and an encoder of 1.6 million that saw parallel text. What holds here need not hold for a model a "
        "thousand times larger, and what does not hold here may hold there."
    )
    page.say(
        f"{len(sizes.seeds)} seeds of the connector (its start, the order of the examples); the parents and the "
        f"examples are the same in all runs. {sizes.problems} held-out problems in each language, answered greedily. "
        "Numbers are ± one standard error, over problems (a problem in all languages is one) and seeds together; "
        "intervals are Student's. With three seeds they are wide; an error of 0.0 says only that "
        "all answers were alike. No claim is corrected for the number of claims."
    )
    page.table(
        ["part", "claim", "in miniature", "difference, points", "95% interval"],
        [
            [claim.part, claim.text, f"**{claim.verdict}**", f"{100 * claim.difference.value:+.1f}",
             " to ".join(f"{100 * end:+.1f}" for end in claim.difference.interval)]
            for claim in claims
        ],
        texts=(1, 2),
    )  # fmt: skip
    page.say(
        "A claim *holds* where the interval of the difference that decides it is above zero, does *not hold* where it "
        "is below, and is *not shown* where it has zero in it: then these runs cannot tell.",
        f"langbridge {langbridge.__version__}, torch {torch.__version__}, {os.cpu_count()} cores.",
    )


def _need_extras() -> None:
    import importlib.util

    for package, extra in (("lm_eval", "evaluate"), ("sklearn", "analyze")):
        if importlib.util.find_spec(package) is None:
            raise LangBridgeError(f"the study needs {package}: pip install 'langbridge[{extra}]'")
