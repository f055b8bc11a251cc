"""Part b. How much English is enough? One run for each start and seed, at a constant rate, read off its checkpoints."""

from statistics import fmean

from langbridge.cli.studies.answers import Answers, Claim, Estimate, gain, mean_of
from langbridge.cli.studies.drawing import draw_examples
from langbridge.cli.studies.lift import LOW
from langbridge.cli.studies.page import Page
from langbridge.cli.studies.runs import Asked, Found, Run
from langbridge.cli.studies.sizes import BATCH, Sizes

LETTER, TITLE = "b", "How much English is enough"
LANGUAGES = ("en", *LOW)
READS = 0.05
"""Nats a target token: a reading score below it counts as not reading, as in training."""
NEAR = 0.05
"""A checkpoint is as good as the last one if the 95 per cent interval of what is left to gain ends below this share."""


def start(sizes: Sizes, init: str, seed: int) -> Run:
    """The connector before the first step."""
    every = sizes.curve[init][0]
    return Run(
        name=f"curve-{init}-start-{seed}",
        model="started",
        seed=seed,
        data=f"en-{every}",
        settings={"init": init},
        asked=(Asked(name="test", languages=LANGUAGES, limit=sizes.curve_problems),),
    )


def curve(sizes: Sizes, init: str, seed: int) -> Run:
    examples, every = sizes.curve[init]
    return Run(
        name=f"curve-{init}-{seed}",
        model="trained",
        seed=seed,
        data=f"en-{examples}",
        examples=examples,
        settings={
            "init": init,
            "train.learning_rate": 3e-4 if init == "ridge" else sizes.random_rate,
            "train.lr_scheduler_type": "constant",
            "train.save_strategy": "steps",
            "train.save_steps": every // BATCH,
            "train.save_total_limit": None,
            "train.reading_score_steps": every // BATCH,
        },
        held_out=True,
        asked=tuple(
            Asked(name=f"at-{seen}", languages=LANGUAGES, limit=sizes.curve_problems, checkpoint=seen // BATCH)
            for seen in places(sizes, init)
        ),
    )


def places(sizes: Sizes, init: str) -> list[int]:
    """After how many examples there is a checkpoint."""
    examples, every = sizes.curve[init]
    return list(range(every, examples + 1, every))


def runs(sizes: Sizes, found: Found) -> list[Run]:
    return [make(sizes, init, seed) for init in sizes.curve for seed in sizes.seeds for make in (start, curve)]


def write(sizes: Sizes, found: Found, page: Page) -> list[Claim]:
    curves = {init: Curve(sizes, init, found) for init in sizes.curve}
    page.say(
        "One run for each start and seed at a constant learning rate "
        f"({', '.join(f'{init} {one.rate:g}' for init, one in curves.items())}), asked at its checkpoints. The reading "
        "score is what another row's soft prompts cost, in nats a target token: near 0 the prompt is not read. "
        f"Accuracy on {sizes.curve_problems} problems in each language."
    )
    draw_examples(page.picture("examples", "Accuracy and reading score against English examples"), curves)
    page.table(
        ["start", "examples", "English", "low-resource", "reading score"],
        [
            [init, str(seen), str(mean_of(one.answers[seen], ["en"])), str(mean_of(one.answers[seen], LOW)),
             f"{fmean(one.reading[seen]):.3f}"]
            for init, one in curves.items() for seen in one.answers
        ],
    )  # fmt: skip
    page.points([line for one in curves.values() for line in one.said()])
    claims = []
    if {"ridge", "random"} <= set(curves):
        ridge, chance = curves["ridge"], curves["random"]
        both = [seen for seen in ridge.answers if seen in chance.answers and seen > 0]
        if both:
            claims.append(
                Claim(LETTER, "With the same number of examples the ridge start is ahead of the random start",
                      f"Low-resource average after {both[-1]} examples, ridge over random",
                      gain(ridge.answers[both[-1]], chance.answers[both[-1]], LOW))
            )  # fmt: skip
    for init, one in curves.items():
        middle, last = one.middle, max(one.answers)
        claims.append(
            Claim(LETTER, f"From the {init} start, the second half of the examples still helps low-resource languages",
                  f"Low-resource average after {last} over after {middle} examples",
                  gain(one.answers[last], one.answers[middle], LOW, same_runs=True))
        )  # fmt: skip
    return claims


class Curve:
    """What one start gave: by examples seen, the answers and reading scores of each seed."""

    def __init__(self, sizes: Sizes, init: str, found: Found) -> None:
        self.init = init
        self.rate = curve(sizes, init, sizes.seeds[0]).settings["train.learning_rate"]
        self.answers: dict[int, list[Answers]] = {
            0: [found.answers(start(sizes, init, seed).name) for seed in sizes.seeds]
        }
        names = [curve(sizes, init, seed).name for seed in sizes.seeds]
        for seen in places(sizes, init):
            self.answers[seen] = [found.answers(name, f"at-{seen}") for name in names]
        logs = [{e["step"] * BATCH: e["reading_score"] for e in found.log(n) if "reading_score" in e} for n in names]
        self.reading = {seen: [log[seen] for log in logs] for seen in self.answers}

    @property
    def middle(self) -> int:
        """The checkpoint nearest to half of the examples."""
        return min(self.answers, key=lambda seen: abs(seen - max(self.answers) / 2))

    def accuracy(self, languages: tuple[str, ...]) -> dict[int, Estimate]:
        return {seen: mean_of(seeds, languages) for seen, seeds in self.answers.items()}

    def said(self) -> list[str]:
        """Plateau, transition and saturation in words."""
        reads = next((seen for seen in self.reading if fmean(self.reading[seen]) >= READS), None)
        lines = [
            f"{self.init}: the prompt is read (reading score of at least {READS}) "
            + (
                f"at no checkpoint up to {max(self.reading)} examples: all of the run is plateau."
                if reads is None
                else "before the first step." if reads == 0
                else f"from the checkpoint at {reads} examples on; before, plateau."
            )
        ]  # fmt: skip
        for what, languages in (("English", ("en",)), ("the low-resource average", LOW)):
            scores = self.accuracy(languages)
            last = scores[max(scores)]
            if last.value == 0:
                lines.append(
                    f"{self.init}: {what} is {last} at the last checkpoint: no transition within these examples."
                )
                continue
            half = next(seen for seen, score in scores.items() if score.value >= last.value / 2)
            level, near = self.saturated(languages), f"{100 * NEAR:.0f} points"
            lines.append(
                f"{self.init}: {what} reaches half of its last value ({last}) by {half} examples; "
                + (
                    f"no earlier checkpoint is surely within {near} of the last: no saturation shown."
                    if level is None
                    else f"from {level} on the last checkpoint is surely less than {near} ahead: saturation."
                )
            )
        return lines

    def saturated(self, languages: tuple[str, ...]) -> int | None:
        """The examples from which on the last checkpoint is surely less than `NEAR` ahead; None where only it is."""
        *earlier, last = self.answers
        level = None
        for seen in reversed(earlier):
            ahead = gain(self.answers[last], self.answers[seen], languages, same_runs=True)
            if not ahead.interval[1] < NEAR:
                break
            level = seen
        return level
