"""The report: DIR/report.md, of whatever is measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from langbridge.errors import LangBridgeError
from langbridge.evaluate.runs import RESULTS
from langbridge.files import write_atomically
from langbridge.markdown import table
from studies.family.arms import KNOWN, LOW, PAIRS, design
from studies.family.pace import Pace
from studies.miniature.answers import Answers, gain, mean_of
from studies.miniature.runs import answers_in
from studies.miniature.sizes import ALL
from studies.real.reading import ENGLISH
from studies.real.report import Found
from studies.real.shares import Estimate, Languages, Shares, holm

Measured = Mapping[int, Mapping[str, Languages]]
"""An arm's bridges by examples and seed."""
REFERENCE = "bridge"
ABOUT = """\
Gain: what the right question is worth against another one, in nats a token of the English solution. Loss: behind the
right question, in nats a token. Share: a language's gain over that of English. Brackets: 95 per cent of resamples of
questions, and of seeds where there are several; differences are paired by question and seed. Accuracy: per cent of the
miniature's test problems, of the longest training, ± one standard error of problems and seeds. Parameters: trained.
Seconds: of a training, by what `pace` measured of all side by side. Milliseconds: a question of 48 tokens, alone;
compare both within a pair."""


def write_report(out: Path) -> Path:
    """Write the report and return its place. Raises `LangBridgeError` where nothing is measured."""
    pages = ["# The family at equal cost", ABOUT]
    for pair in PAIRS:
        for questions in sorted({path.name for path in out.glob(f"{pair}/*/seed-*/measured/*")}, key=int):
            pages += _pair(out, pair, Found(out, pair, questions))
    if len(pages) == 2:
        raise LangBridgeError(f"{out}: holds no measurement; `python -m studies.family run` makes them")
    path = out / "report.md"
    write_atomically(path, "\n\n".join(pages) + "\n")
    return path


def _pair(out: Path, pair: str, found: Found) -> list[str]:
    arms, needed = design(pair).arms, [ENGLISH, *KNOWN[pair], *LOW[pair]]
    whole = {arm: there for arm in arms if (there := found.whole(arm, needed))}
    if not whole:
        return []
    pages = [f"## {pair}, {found.questions} questions a language", "### Read after equal English examples"]
    last = {arm: max(there) for arm, there in whole.items()}
    pace = Pace(out / pair, arms)
    pages += [_readings(pair, found, last, whole, pace), *_solved(out, pair)]
    if REFERENCE in whole and (budget := pace.seconds(REFERENCE, last[REFERENCE])) is not None:
        within = {}
        for arm, there in whole.items():
            timed = [(examples, pace.seconds(arm, examples)) for examples in there]
            if fitting := [examples for examples, seconds in timed if seconds is not None and seconds <= 1.1 * budget]:
                within[arm] = max(fitting)
        pages += [
            f"### Read within the bridge's {budget:.0f} seconds, and a tenth more",
            _readings(pair, found, within, whole, pace),
        ]
    missing = [f"{arm}: not there ({way.says})" for arm, way in arms.items() if arm not in whole]
    return [*pages, "\n".join(f"- {line}" for line in missing)] if missing else pages


def _readings(pair: str, found: Found, chosen: Mapping[str, int], whole: Mapping[str, Measured], pace: Pace) -> str:
    """What is read after so many examples of each arm."""
    less = _differences(pair, chosen, whole)
    corrected = holm({arm: one.p for arm, one in less.items()}, planned=len(design(pair).arms) - 1)
    rows = []
    for arm, examples in chosen.items():
        seeds = whole[arm][examples]
        shares, seconds = Shares([*seeds.values()]), pace.seconds(arm, examples)
        costs = [json.loads(path.read_text()) for path in (found.out / pair / arm).glob("seed-*/costs.json")]
        rows.append([
            arm, str(len(seeds)), str(examples), "–" if seconds is None else f"{seconds:.0f}",
            str(shares.gain(LOW[pair])), str(less.get(arm, "–")), _p(corrected.get(arm)),
            str(shares.share(LOW[pair]) or "–"), str(shares.gain([ENGLISH])),
            f"{fmean(one[ENGLISH].mean('own') for one in seeds.values()):.3f}",
            f"{costs[0]['parameters']:,}" if costs else "–",
            f"{fmean(one['milliseconds'] for one in costs):.0f}" if costs else "–",
        ])  # fmt: skip
    return table(
        ["arm", "seeds", "examples", "seconds", "gain, low", "less the bridge's", "p (Holm)", "share", "gain, en",
         "loss, en", "parameters", "ms"],
        rows,
    )  # fmt: skip


def _differences(pair: str, chosen: Mapping[str, int], whole: Mapping[str, Measured]) -> dict[str, Estimate]:
    """By how much the gain in low-resource languages is above the reference's, of the seeds that both have."""
    found: dict[str, Estimate] = {}
    if REFERENCE not in chosen:
        return found
    reference = whole[REFERENCE][chosen[REFERENCE]]
    for arm, examples in chosen.items():
        seeds = whole[arm][examples]
        if arm != REFERENCE and (common := [seed for seed in seeds if seed in reference]):
            own, other = (Shares([side[seed] for seed in common]).gain(LOW[pair]) for side in (seeds, reference))
            found[arm] = own.minus(other)
    return found


def _solved(out: Path, pair: str) -> list[str]:
    """What is solved at the end of each arm's training: by group, against the reference, and by language."""
    answers = {arm: found for arm in design(pair).arms if (found := _answers(out / pair / arm))}
    if not answers:
        return []
    reference = answers.get(REFERENCE, [])
    less = {
        # Of as many seeds they are the same ones.
        arm: gain(seeds, reference, LOW[pair], same_runs=len(seeds) == len(reference))
        for arm, seeds in answers.items()
        if reference and arm != REFERENCE
    }
    corrected = holm({arm: one.p for arm, one in less.items()}, planned=len(design(pair).arms) - 1)
    groups = ([ENGLISH], KNOWN[pair], LOW[pair])
    by_group = [
        [arm, str(len(seeds)), *(str(mean_of(seeds, group)) for group in groups),
         less[arm].points if arm in less else "–", _p(corrected.get(arm))]
        for arm, seeds in answers.items()
    ]  # fmt: skip
    codes = sorted({code for seeds in answers.values() for _, code in seeds[0]}, key=[*map(str, ALL)].index)
    by_language = [
        [arm, *(f"{100 * mean_of(seeds, [code]).value:.1f}" for code in codes)] for arm, seeds in answers.items()
    ]
    return [
        "### Solved at the end, per cent",
        table(["arm", "seeds", "en", ", ".join(KNOWN[pair]), "low", "low, less the bridge's", "p (Holm)"], by_group),
        table(["arm", *codes], by_language),
    ]


def _answers(arm: Path) -> list[Answers]:
    """Of every seed that is asked."""
    return [answers_in(results.parent) for results in sorted(arm.glob(f"seed-*/answers/{RESULTS}"))]


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
