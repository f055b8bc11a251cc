"""The report of a study: DIR/report.md and DIR/share.png, from whatever measurements are there."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from langbridge.analyze.figures import figure
from langbridge.errors import LangBridgeError
from langbridge.files import write_atomically
from langbridge.markdown import table
from studies.real.arms import ARMS, COMPARED, FROM_CLOSED, PAIRS, REFERENCE
from studies.real.reading import ALTERED, CARELESS, ENGLISH
from studies.real.shares import (
    ALL,
    NUMBERS,
    PRIMARY,
    Estimate,
    Languages,
    Measurement,
    Shares,
    holm,
    rank_correlation,
)

FIGURE = "share"
MARKERS = "os^Dv<>pX*hPd"
READ = 0.1
"""Nats that English gains of a bridge whose reading share is drawn: of less, a share is a ratio of two noughts."""
NEEDED = (ENGLISH, *PRIMARY)
"""Without which there is no reading share."""
WANTED = (ENGLISH, CARELESS, *PRIMARY)
Last = Mapping[str, tuple[int, Mapping[str, Languages]]]
CANDIDATES: Mapping[str, Callable[[Languages], float]] = {
    "English reading score": lambda found: found[ENGLISH].gain(),
    "English loss on number tokens": lambda found: -found[ENGLISH].mean("own", NUMBERS),
    "reading score of careless English": lambda found: found[CARELESS].gain(),
    "its loss on number tokens": lambda found: -found[CARELESS].mean("own", NUMBERS),
}
"""What may say when to stop without a word of another language; more is better."""


ABOUT = (
    "Gain: what the right question is worth against another one, in nats a token of gold English solutions. Reading "
    f"share: a language's gain over English's, the mean of {', '.join(PRIMARY)}. Brackets: 95 per cent of "
    "resamples of questions, and of seeds where there are several. Seconds: from the beginning of the training's "
    "command, loading and closed form included, measurements not."
)

NEAREST = (
    "Per cent of digits whose nearest row is that number / of the content words of the English question, those among "
    "the three nearest rows."
)

CHOICES = (
    "The checkpoint that each would choose, what is lost of the reading share against the best, and the rank "
    "correlation with it over checkpoints:"
)


class Found:
    """The measurements of one pair and one number of questions: by arm, examples and seed, each by language."""

    def __init__(self, out: Path, pair: str, questions: str) -> None:
        self.out, self.pair, self.questions = out, pair, questions
        self.runs: dict[str, dict[int, dict[str, dict[str, Measurement]]]] = defaultdict(lambda: defaultdict(dict))
        for path in sorted((out / pair).glob(f"*/seed-*/measured/{questions}/*/*.json")):
            if path.stem.startswith(ALTERED):
                continue
            arm, seed, *_, examples, _ = path.relative_to(out / pair).parts
            self.runs[arm][int(examples)].setdefault(seed, {})[path.stem] = Measurement.read(path)

    def whole(self, arm: str, languages: Sequence[str] = NEEDED) -> dict[int, dict[str, dict[str, Measurement]]]:
        """By examples, in order, then seed: the bridges of an arm that are measured in all these languages."""
        found = {
            examples: {seed: found for seed, found in seeds.items() if found.keys() >= set(languages)}
            for examples, seeds in sorted(self.runs.get(arm, {}).items())
        }
        return {examples: seeds for examples, seeds in found.items() if seeds}

    def curve(self, arm: str, languages: Sequence[str] = NEEDED) -> dict[int, dict[str, dict[str, Measurement]]]:
        """As `whole`, with the closed form first where the arm begins with it."""
        own = self.whole(arm, languages)
        start = self.whole("closed", languages) if own and arm in FROM_CLOSED else {}
        return {**start, **own}

    def last(self, languages: Sequence[str] = NEEDED) -> Last:
        """By arm its longest training that is measured so: its examples, and the bridges by seed."""
        return {arm: [*there.items()][-1] for arm in ARMS if (there := self.whole(arm, languages))}

    def seconds(self, arm: str, examples: int) -> float | None:
        """Up to a bridge, the mean over seeds; None where it is not known of all."""
        spent: list[float] = []
        if arm in FROM_CLOSED and examples == 0:
            arm = "closed"
        for seed in self.runs[arm][examples]:
            path = self.out / self.pair / arm / seed / "clock.json"
            clock = json.loads(path.read_text(encoding="utf-8"))["seconds"] if path.is_file() else {}
            if str(examples) not in clock:
                return None
            spent.append(clock[str(examples)])
        return sum(spent) / len(spent)

    def missing(self) -> list[str]:
        lines = [f"{arm}: not there ({says.says})" for arm, says in ARMS.items() if arm not in self.runs]
        for arm, by_examples in self.runs.items():
            for examples, seeds in sorted(by_examples.items()):
                for seed, found in seeds.items():
                    if left := [code for code in WANTED if code not in found]:
                        lines.append(f"{arm}, {seed}, {examples} examples: not measured in {', '.join(left)}")
        return lines


def write_report(out: Path) -> Path:
    """Write the report and return its place. Raises `LangBridgeError` where nothing is measured."""
    places = {
        (path.parents[3].name, path.name) for path in out.glob("*/*/seed-*/measured/*") if any(path.glob("*/*.json"))
    }
    if not places:
        raise LangBridgeError(f"{out}: holds no measurement; `python -m studies.real run` makes them")
    studies = [Found(out, pair, questions) for pair, questions in sorted(places, key=lambda p: (p[0], int(p[1])))]
    pages = ["# What language models read of real bridges", ABOUT]
    for found in studies:
        pages += _study(found)
    _draw(out / FIGURE, [found for found in studies if any(found.whole(arm) for arm in ARMS)] or studies)
    pages.append(f"![Reading share against English examples and against seconds]({FIGURE}.png)")
    write_atomically(out / "report.md", "\n\n".join(pages) + "\n")
    return out / "report.md"


def _study(found: Found) -> list[str]:
    name = PAIRS[found.pair].language_model if found.pair in PAIRS else found.pair
    pages = [f"## {name}, {found.questions} questions"]
    if last := found.last():
        pages += [_summary(found, last), *_comparisons(found, last)]
    if there := found.last([ENGLISH]):
        pages += ["### By language", "Own question / another question (nats a token) / reading share."]
        pages.append(_by_language(there, _losses))
        pages += ["### Nearest rows", NEAREST, _by_language(there, _found_rows)]
    if curves := _candidates(found):
        pages += ["### When to stop, asked in English", *curves]
    if missing := found.missing():
        pages += ["### Missing", "\n".join(f"- {line}" for line in missing)]
    return pages


def _summary(found: Found, last: Last) -> str:
    rows = []
    for arm, (examples, seeds) in last.items():
        everything, numbers = (Shares([*seeds.values()], kind) for kind in (ALL, NUMBERS))
        seconds = found.seconds(arm, examples)
        rows.append([
            arm, str(len(seeds)), str(examples), "–" if seconds is None else f"{seconds:.0f}",
            _said(everything.share()), _said(numbers.share()), str(everything.gain()), str(everything.gain([ENGLISH])),
        ])  # fmt: skip
    return table(
        ["arm", "seeds", "English examples", "seconds", "**reading share**", "of number tokens", "gain, nats",
         "English gain, nats"], rows,
    )  # fmt: skip


def _comparisons(found: Found, last: Last) -> list[str]:
    """Every arm against the reference, after as many examples where that is measured; else after all of its."""
    if REFERENCE not in last:
        return []
    differences: dict[str, tuple[str, Estimate]] = {}
    for arm, (examples, seeds) in last.items():
        if arm != REFERENCE and ARMS[arm].bridge:
            there = found.whole(REFERENCE)
            against = examples if examples in there else last[REFERENCE][0]
            gains = [Shares([*bridges.values()]).gain() for bridges in (seeds, there[against])]
            differences[arm] = f"{examples} / {against}", gains[0].minus(gains[1])
    corrected = holm({arm: one.p for arm, (_, one) in differences.items() if arm in COMPARED}, len(COMPARED))
    rows = [
        [arm, examples, str(one), f"{one.p:.4f}", f"{corrected[arm]:.4f}" if arm in corrected else "not planned"]
        for arm, (examples, one) in differences.items()
    ]
    headings = ["arm", "examples, its / reference's", "difference of gains, nats", "p", f"Holm's, of {len(COMPARED)}"]
    return [f"### Against `{REFERENCE}`, question by question", table(headings, rows)] if rows else []


def _by_language(last: Last, cell: Callable[[Sequence[Languages], str], str]) -> str:
    """Means over the seeds that are measured in a language."""
    languages = {code for _, seeds in last.values() for one in seeds.values() for code in one}
    codes = [*WANTED, *sorted(languages - {*WANTED})]
    rows = []
    for arm, (_, seeds) in last.items():
        by_code = {code: [one for one in seeds.values() if code in one] for code in codes}
        rows.append([arm, *(cell(bridges, code) if bridges else "–" for code, bridges in by_code.items())])
    return table(["arm", *codes], rows)


def _losses(bridges: Sequence[Languages], code: str) -> str:
    own, other = (sum(one[code].mean(key) for one in bridges) / len(bridges) for key in ("own", "other"))
    share = Shares(bridges).share([code])
    return f"{own:.3f} / {other:.3f} / {'–' if share is None else format(share.value, '.2f')}"


def _found_rows(bridges: Sequence[Languages], code: str) -> str:
    parts = [[one[code].part(key) for one in bridges] for key in ("digits", "words")]
    return " / ".join(_percent(part) for part in parts)


def _candidates(found: Found) -> list[str]:
    """Every run with several measured checkpoints: a table of them, and one of what each candidate makes of them."""
    points, choices = [], []
    for arm in ARMS:
        curve = found.curve(arm, WANTED)
        for seed in sorted({seed for seeds in found.whole(arm, WANTED).values() for seed in seeds}):
            there = {examples: seeds[seed] for examples, seeds in curve.items() if seed in seeds}
            if len(there) < 2:
                continue
            shares = {examples: share for examples, one in there.items() if (share := Shares([one]).share())}
            for examples, one in there.items():
                signs = [f"{abs(candidate(one)):.3f}" for candidate in CANDIDATES.values()]
                gain = Shares([one]).gain().value
                points.append([arm, seed, str(examples), *signs, f"{gain:.3f}", _said(shares.get(examples))])
            if len(shares) < 2:
                continue
            best = max(shares, key=lambda examples: shares[examples].value)
            for name, candidate in CANDIDATES.items():
                signs_of = {examples: candidate(there[examples]) for examples in shares}
                chosen = max(signs_of, key=signs_of.__getitem__)
                correlation = rank_correlation([*signs_of.values()], [share.value for share in shares.values()])
                lost = shares[best].value - shares[chosen].value
                choices.append([arm, seed, name, str(chosen), str(best), f"{lost:.3f}", f"{correlation:.2f}"])
    pages = []
    if points:
        headings = ["arm", "seed", "examples", *CANDIDATES, "gain of the others", "reading share"]
        pages.append(table(headings, points, texts=(1,)))
    if choices:
        pages.append(CHOICES)
        headings = ["arm", "seed", "chosen by", "examples", "best", "share lost", "correlation"]
        pages.append(table(headings, choices, texts=(1, 2)))
    return pages


def _said(estimate: Estimate | None) -> str:
    return "English not read" if estimate is None else str(estimate)


def _percent(parts: list[float | None]) -> str:
    known = [part for part in parts if part is not None]
    return f"{100 * sum(known) / len(known):.0f}" if known else "–"


def _draw(path: Path, studies: list[Found]) -> None:
    """The gain of every arm against English examples, and the reading share of those that read English against examples
    and against seconds; a row of axes for each study."""
    with figure(path, nrows=len(studies), ncols=3, figsize=(8.4, 2.6 * len(studies)), squeeze=False,
                layout="constrained") as (_, axes):  # fmt: skip
        for row, found in zip(axes, studies, strict=True):
            for number, arm in enumerate(ARMS):
                style = {"marker": MARKERS[number % len(MARKERS)], "markersize": 3.5, "label": arm}
                style["color"] = f"C{number % 10}"
                bridges = {examples: Shares([*seeds.values()]) for examples, seeds in found.curve(arm).items()}
                gains = {examples: one.gain().value for examples, one in bridges.items()}
                if not ARMS[arm].bridge:
                    for value in gains.values():
                        row[0].axhline(value, color="black", linestyle=":", label=arm)
                elif gains:
                    row[0].plot([*gains], [*gains.values()], **style)
                read = {
                    examples: share.value for examples, one in bridges.items()
                    if ARMS[arm].bridge and one.gain([ENGLISH]).value >= READ and (share := one.share()) is not None
                }  # fmt: skip
                if read:
                    row[1].plot([*read], [*read.values()], **style)
                timed = {examples: found.seconds(arm, examples) for examples in read}
                if known := [examples for examples, seconds in timed.items() if seconds is not None]:
                    row[2].plot([timed[one] for one in known], [read[one] for one in known], **style)
            row[0].set_title(f"{found.pair}, {found.questions} questions", loc="left")
            row[0].set_ylim(bottom=0)
            row[0].set_ylabel(f"gain, nats, {' '.join(PRIMARY)}")
            row[1].set_ylabel("reading share")
            row[0].set_xlabel("English examples")
            row[1].set_xlabel("English examples")
            row[2].set_xlabel("seconds to the checkpoint")
            row[2].sharey(row[1])
            if row[0].get_legend_handles_labels()[0]:
                row[2].legend(
                    *row[0].get_legend_handles_labels(), frameon=False, fontsize=5.5, ncols=2, loc="lower right"
                )
