"""Does a sign of English alone say when a training is to stop? DIR/stopping.md, from every checkpoint of trainings.

Signs are taken on the first half of the miniature's test problems, in English and in carelessly typed English; what
they are judged by, on the other half: the accuracy in low-resource languages.

DIR/PAIR/ARM/seed-N/answers-after/EXAMPLES     what a checkpoint answers
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from langbridge.files import write_atomically
from langbridge.markdown import table
from studies.family.arms import LOW, MINIATURE
from studies.family.costs import solve
from studies.miniature.answers import Answers, Estimate, gain, mean_of, only
from studies.miniature.runs import answers_in
from studies.real.reading import CARELESS, ENGLISH, Questions
from studies.real.report import CANDIDATES
from studies.real.runs import Note, Run, bridges_of, carry_out
from studies.real.shares import Languages, Measurement, rank_correlation

START = "closed"
"""The arm whose bridge a training begins with."""
END, BEST = "the end of the training", "the best one, which knows the outcome"
ABOUT = """\
Of every training each checkpoint, the closed form first. Signs: English alone, the first half of the test problems.
Accuracies: per cent of the other half, ± one standard error of problems and seeds. Chosen: the examples after which
each seed's training would have stopped. Correlation: Spearman's, of the sign and the accuracy in low-resource languages
over checkpoints, mean of the seeds."""


@dataclass(frozen=True)
class Checkpoint:
    """signs: more is better. answers: to the other problems."""

    signs: Mapping[str, float]
    answers: Answers

    @property
    def outcome(self) -> float:
        return mean_of([self.answers], LOW[MINIATURE]).value


Training = Mapping[int, Checkpoint]
"""By English examples, in order."""


def take(run: Run, questions: Questions, tests: Path, *, note: Note = print) -> Training:
    """A training's checkpoints, with what is missing of them measured. Raises `LangBridgeError`."""
    found: dict[int, Checkpoint] = {}
    for one in (replace(run, arm=START), run):
        carry_out(one, questions, (), checkpoints=True, note=note)
        for examples, bridge in sorted(bridges_of(one, True, note).items()):
            assert bridge is not None
            answers = one.folder / "answers-after" / str(examples)
            solved = solve(bridge, tests, answers, languages=[ENGLISH, *LOW[MINIATURE]])
            note(f"{one.arm} seed {one.seed}, {examples} examples: "
                 + "  ".join(f"{code} {100 * share:.0f}" for code, share in solved.items()))  # fmt: skip
            found[examples] = _checkpoint(
                {code: Measurement.read(one.measured(questions.count, examples, code)) for code in (ENGLISH, CARELESS)},
                answers_in(answers),
                questions.count // 2,
            )
    return found


def _checkpoint(measured: Languages, answers: Answers, half: int) -> Checkpoint:
    first = {code: one.first(half) for code, one in measured.items()}
    (others,) = only([answers], lambda problem, _: int(problem.rpartition("-")[2]) >= half)
    return Checkpoint({name: sign(first) for name, sign in CANDIDATES.items()}, others)


def write_stopping(out: Path, trainings: Mapping[str, Sequence[Training]]) -> Path:
    """Write the page of arms, each with its seeds' trainings, and return its place."""
    pages = ["# When to stop, asked in English", ABOUT]
    for arm, seeds in trainings.items():
        pages += [f"## `{arm}`", _curve(seeds), _choices(seeds)]
    if len(trainings) > 1:
        together = [seed for seeds in trainings.values() for seed in seeds]
        pages += ["## All of these", _choices(together)]
    write_atomically(out / "stopping.md", "\n\n".join(pages) + "\n")
    return out / "stopping.md"


def _curve(seeds: Sequence[Training]) -> str:
    rows = []
    for examples in seeds[0]:
        there = [seed[examples] for seed in seeds]
        signs = [f"{abs(fmean(one.signs[name] for one in there)):.3f}" for name in CANDIDATES]
        answers = [one.answers for one in there]
        solved = [str(mean_of(answers, group)) for group in ([ENGLISH], LOW[MINIATURE])]
        rows.append([str(examples), *signs, *solved])
    return table(["examples", *CANDIDATES, "solved, en", "solved, low-resource"], rows)


def _choices(seeds: Sequence[Training]) -> str:
    ends, best = [max(seed) for seed in seeds], [chosen_by(seed) for seed in seeds]
    ways = {
        **{name: [chosen_by(seed, name) for seed in seeds] for name in CANDIDATES},
        END: ends,
        "the start": [min(seed) for seed in seeds],
        BEST: best,
    }
    rows = []
    for name, chosen in ways.items():
        correlation = "–"
        if name in CANDIDATES:
            pairs = [[(one.signs[name], one.outcome) for one in seed.values()] for seed in seeds]
            correlation = f"{fmean(rank_correlation(*zip(*one, strict=True)) for one in pairs):.2f}"
        answers = _at(seeds, chosen)
        rows.append([
            name, ", ".join(map(str, chosen)), str(mean_of(answers, [ENGLISH])), str(mean_of(answers, LOW[MINIATURE])),
            _less(answers, _at(seeds, ends)), _less(answers, _at(seeds, best)), correlation,
        ])  # fmt: skip
    return table(
        ["chosen by", "after examples", "solved, en", "solved, low-resource", "less the end's", "less the best's",
         "correlation"], rows, texts=(1,),
    )  # fmt: skip


def chosen_by(training: Training, sign: str | None = None) -> int:
    """The examples of the checkpoint with the best sign, or outcome; the earliest of equal ones."""
    return max(training, key=lambda at: training[at].outcome if sign is None else training[at].signs[sign])


def _at(seeds: Sequence[Training], chosen: Sequence[int]) -> list[Answers]:
    return [seed[examples].answers for seed, examples in zip(seeds, chosen, strict=True)]


def _less(first: Sequence[Answers], second: Sequence[Answers]) -> str:
    if list(first) == list(second):
        return "–"
    found: Estimate = gain(first, second, LOW[MINIATURE], same_runs=True)
    low, high = found.interval
    return f"{100 * found.value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
