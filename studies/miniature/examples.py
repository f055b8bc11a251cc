"""Part b. How much English is enough? One run for each start and seed, at a constant rate, read off its checkpoints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from langbridge.analyze.figures import COLOURS, figure
from studies.miniature.answers import Answers, Claim, Estimate, gain, mean_of
from studies.miniature.drawing import from_zero
from studies.miniature.page import Page
from studies.miniature.runs import Asked, Run, Study
from studies.miniature.sizes import BATCH, LOW, READING_ROWS, Sizes

TITLE = "How much English is enough"
LANGUAGES = ("en", *LOW)
READS = 0.05
"""Nats a target token: a reading score below it counts as not reading, as in training."""
NEAR = 0.05
"""A checkpoint is as good as the last one if the 95 per cent interval of what is left to gain ends below this share."""


def start(sizes: Sizes, init: str, seed: int) -> Run:
    """The connector before the first step."""
    return Run(
        name=f"curve-{init}-start-{seed}",
        model="started",
        seed=seed,
        data=f"en-{sizes.curve[init][0]}",
        settings={"init": init},
        asked=(Asked(name="test", languages=LANGUAGES, limit=sizes.curve_problems),),
    )


def curve(sizes: Sizes, init: str, seed: int) -> Run:
    examples, every = sizes.curve[init]
    return Run(
        name=f"curve-{init}-{seed}",
        seed=seed,
        data=f"en-{examples}",
        examples=examples,
        settings={
            "init": init,
            "train.learning_rate": rate_of(sizes, init),
            "train.lr_scheduler_type": "constant",
            "train.save_strategy": "steps",
            "train.save_steps": every // BATCH,
            "train.save_total_limit": None,
            "train.reading_score_steps": every // BATCH,
            "train.reading_score_rows": READING_ROWS,
        },
        held_out=True,
        asked=tuple(
            Asked(name=f"at-{seen}", languages=LANGUAGES, limit=sizes.curve_problems, checkpoint=seen // BATCH)
            for seen in places(sizes, init)
        ),
    )


def rate_of(sizes: Sizes, init: str) -> float:
    return 3e-4 if init == "ridge" else sizes.random_rate


def places(sizes: Sizes, init: str) -> list[int]:
    """After how many examples there is a checkpoint."""
    examples, every = sizes.curve[init]
    return list(range(every, examples + 1, every))


def runs(study: Study) -> list[Run]:
    sizes = study.sizes
    return [make(sizes, init, seed) for init in sizes.curve for seed in sizes.seeds for make in (start, curve)]


def write(study: Study, page: Page) -> list[Claim]:
    sizes = study.sizes
    curves = {init: Curve(study, init) for init in sizes.curve}
    page.say(
        "One run for each start and seed at a constant learning rate "
        f"({', '.join(f'{init} {rate_of(sizes, init):g}' for init in curves)}), asked at its checkpoints. The reading "
        "score is what another row's soft prompts cost, in nats a target token: near 0 the prompt is not read. "
        f"Accuracy on {sizes.curve_problems} problems in each language."
    )
    draw_examples(page.picture("examples", "Accuracy and reading score against English examples"), curves)
    page.table(
        ["start", "examples", "English", "low-resource", "reading score"],
        [
            [init, str(seen), str(mean_of(seeds, ["en"])), str(mean_of(seeds, LOW)), f"{fmean(one.reading[seen]):.3f}"]
            for init, one in curves.items() for seen, seeds in one.answers.items()
        ],
    )  # fmt: skip
    page.points([line for one in curves.values() for line in one.said()])
    ridge, chance = curves["ridge"].answers, curves["random"].answers
    both = max(seen for seen in ridge if seen in chance)
    claims = [
        Claim("With the same number of examples the ridge start is ahead of the random start",
              f"Low-resource average after {both} examples, ridge over random", gain(ridge[both], chance[both], LOW))
    ]  # fmt: skip
    for init, one in curves.items():
        last = max(one.answers)
        middle = min(one.answers, key=lambda seen: abs(seen - last / 2))
        claims.append(
            Claim(f"From the {init} start, the second half of the examples still helps low-resource languages",
                  f"Low-resource average after {last} over after {middle} examples",
                  gain(one.answers[last], one.answers[middle], LOW, same_runs=True))
        )  # fmt: skip
    return claims


class Curve:
    """What one start gave: by examples seen, the answers and reading scores of each seed."""

    def __init__(self, study: Study, init: str) -> None:
        sizes, self.init = study.sizes, init
        self.answers: dict[int, list[Answers]] = {0: study.by_seed(start, init)}
        for seen in places(sizes, init):
            self.answers[seen] = study.by_seed(curve, init, asked=f"at-{seen}")
        logs = [
            {entry["step"] * BATCH: entry["reading_score"] for entry in study.log(curve(sizes, init, seed))
             if "reading_score" in entry}
            for seed in sizes.seeds
        ]  # fmt: skip
        self.reading = {seen: [log[seen] for log in logs] for seen in self.answers}

    def accuracy(self, languages: Sequence[str]) -> dict[int, Estimate]:
        return {seen: mean_of(seeds, languages) for seen, seeds in self.answers.items()}

    def said(self) -> list[str]:
        """Plateau, transition and saturation in words."""
        reads = next((seen for seen, scores in self.reading.items() if fmean(scores) >= READS), None)
        if reads is None:
            begins = f"at no checkpoint up to {max(self.reading)} examples: all of the run is plateau."
        elif reads == 0:
            begins = "before the first step."
        else:
            begins = f"from the checkpoint at {reads} examples on; before, plateau."
        lines = [f"{self.init}: the prompt is read (reading score of at least {READS}) {begins}"]
        near = f"{100 * NEAR:.0f} points"
        for what, languages in (("English", ["en"]), ("the low-resource average", LOW)):
            scores = self.accuracy(languages)
            last = scores[max(scores)]
            if last.value == 0:
                lines.append(
                    f"{self.init}: {what} is {last} at the last checkpoint: no transition within these examples."
                )
                continue
            half = next(seen for seen, score in scores.items() if score.value >= last.value / 2)
            level = self.saturated(languages)
            ends = (
                f"no earlier checkpoint is surely within {near} of the last: no saturation shown."
                if level is None
                else f"from {level} on the last checkpoint is surely less than {near} ahead: saturation."
            )
            lines.append(f"{self.init}: {what} reaches half of its last value ({last}) by {half} examples; {ends}")
        return lines

    def saturated(self, languages: Sequence[str]) -> int | None:
        """The examples from which on the last checkpoint is surely less than `NEAR` ahead; None where only it is."""
        *earlier, last = self.answers
        level = None
        for seen in reversed(earlier):
            ahead = gain(self.answers[last], self.answers[seen], languages, same_runs=True)
            if not ahead.interval[1] < NEAR:
                break
            level = seen
        return level


_STYLE: dict[str, dict[str, Any]] = {
    "ridge": {"linestyle": "-", "marker": "o"},
    "random": {"linestyle": (0, (3, 2)), "marker": "s", "markerfacecolor": "white"},
}


def draw_examples(path: Path, curves: Mapping[str, Curve]) -> None:
    """Accuracy (English and low-resource) and reading score against the examples seen."""
    panels = (("English", ["en"], COLOURS["high"]), ("low-resource languages", LOW, COLOURS["low"]))
    with figure(path, ncols=3, figsize=(7.1, 2.5), layout="constrained") as (drawn, axes):
        for ax, (title, languages, colour) in zip(axes, panels, strict=False):
            for init, one in curves.items():
                scores = one.accuracy(languages)
                ax.errorbar(
                    list(scores), [100 * score.value for score in scores.values()],
                    [100 * score.stderr for score in scores.values()],
                    color=colour, markersize=3.5, elinewidth=0.7, **_STYLE[init],
                )  # fmt: skip
            ax.set_title(title)
            ax.set_ylabel("accuracy, per cent")
            from_zero(ax)
        for init, one in curves.items():
            axes[2].plot(list(one.reading), [fmean(found) for found in one.reading.values()],
                         color="black", markersize=3.5, label=f"{init} start", **_STYLE[init])  # fmt: skip
            for seen, found in one.reading.items():
                axes[2].plot([seen] * len(found), found, linestyle="none", marker=".", markersize=2.5, color="#777777")
        axes[2].set_title("reading score")
        axes[2].set_ylabel("nats a target token")
        for ax in axes:
            ax.set_xlabel("English examples")
            ax.locator_params(axis="x", nbins=4)
        drawn.legend(*axes[2].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
