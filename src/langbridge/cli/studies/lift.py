"""Part a. Does the bridge lift low-resource languages, and what does it do to those the language model knows?

The paper saw the latter fall, and guessed at three causes: soft prompts are not the language model's own embeddings;
prompts and answers have other lengths than in pre-training; one set of hyper-parameters served all pairs. Each guess is
a variant here.
"""

from collections.abc import Sequence

from langbridge.cli.studies.answers import Answers, Claim, Estimate, gain, mean_of, only
from langbridge.cli.studies.drawing import draw_languages, draw_lengths
from langbridge.cli.studies.page import Page
from langbridge.cli.studies.runs import Asked, Found, Run
from langbridge.cli.studies.sizes import Sizes
from langbridge.cli.studies.written import events_of
from langbridge.languages import LANGUAGE_GROUPS

LETTER, TITLE = "a", "Languages lifted, languages lowered"
ALL = (*LANGUAGE_GROUPS["high"], *LANGUAGE_GROUPS["low"])
LOW = LANGUAGE_GROUPS["low"]
SHORT, LONG = 3, 5
"""Events of the shortest and of the longest problems of the miniature's world."""
KNOWN = 0.5
"""A language model knows a language if it solves at least this share of its problems without a bridge."""
DEMO_RATE = 3e-4


def alone(sizes: Sizes) -> Run:
    return Run(name="lm-alone", model="language_model", asked=(_test(sizes),))


def base(sizes: Sizes, seed: int) -> Run:
    """The bridge as the demo trains it; other parts compare with it."""
    return Run(
        name=f"bridge-{seed}",
        model="trained",
        seed=seed,
        data=f"en-{sizes.examples}",
        examples=sizes.examples,
        asked=(_test(sizes), Asked(name="snapped", languages=ALL, limit=sizes.problems, snapped=True)),
    )


def untrained(sizes: Sizes, seed: int) -> Run:
    return Run(
        name=f"ridge-untrained-{seed}",
        model="started",
        seed=seed,
        data=f"en-{sizes.examples}",
        asked=(_test(sizes),),
    )


def of_length(sizes: Sizes, events: int, seed: int) -> Run:
    return Run(
        name=f"events-{events}-{seed}",
        model="trained",
        seed=seed,
        data=f"events{events}-{sizes.examples}",
        examples=sizes.examples,
        asked=(_test(sizes),),
    )


def tried(sizes: Sizes, rate: float, times: int, seed: int) -> Run:
    """A setting on trial: asked English validation problems alone."""
    examples = sizes.examples * times
    return Run(
        name=f"rate-{rate:g}-examples-{examples}-{seed}",
        model="trained",
        seed=seed,
        data=f"en-{examples}",
        examples=examples,
        settings={"train.learning_rate": rate},
        asked=(Asked(name="validation", problems="validation", languages=("en",), limit=sizes.validation),),
    )


def chosen(sizes: Sizes, rate: float, times: int, seed: int) -> Run:
    run = tried(sizes, rate, times, seed)
    return Run(**{**vars(run), "name": f"tuned-{run.name}", "asked": (_test(sizes),)})


def grid(sizes: Sizes) -> list[tuple[float, int]]:
    return [(rate, times) for times in sorted({1, sizes.longer}) for rate in sizes.rates]


def best(sizes: Sizes, found: Found) -> tuple[float, int]:
    """The setting with the most English validation problems solved; of equals the cheaper one."""
    runs = {setting: tried(sizes, *setting, sizes.seeds[0]) for setting in grid(sizes)}
    score = {setting: sum(found.answers(run.name, "validation").values()) for setting, run in runs.items()}
    return max(grid(sizes), key=lambda setting: (score[setting], -setting[1]))


def runs(sizes: Sizes, found: Found) -> list[Run]:
    trials = [tried(sizes, *setting, sizes.seeds[0]) for setting in grid(sizes)]
    named = [alone(sizes), *trials]
    for seed in sizes.seeds:
        named += [base(sizes, seed), untrained(sizes, seed)]
        named += [of_length(sizes, events, seed) for events in (SHORT, LONG)]
    if found.has(trials):
        named += [chosen(sizes, *best(sizes, found), seed) for seed in sizes.seeds]
    return named


def write(sizes: Sizes, found: Found, page: Page) -> list[Claim]:
    lm = [found.answers(alone(sizes).name)]
    bridge: Sequence[Answers] = [found.answers(base(sizes, seed).name) for seed in sizes.seeds]
    known = [code for code in ALL if mean_of(lm, [code]).value >= KNOWN]
    setting = best(sizes, found)
    variants: dict[str, Sequence[Answers]] = {
        "bridge (ridge start, trained)": bridge,
        "ridge map, untrained": [found.answers(untrained(sizes, seed).name) for seed in sizes.seeds],
        "bridge, soft prompts snapped": [found.answers(base(sizes, seed).name, "snapped") for seed in sizes.seeds],
        f"trained on {SHORT} events only": [found.answers(of_length(sizes, SHORT, s).name) for s in sizes.seeds],
        f"trained on {LONG} events only": [found.answers(of_length(sizes, LONG, s).name) for s in sizes.seeds],
        f"re-tuned: rate {setting[0]:g}, {setting[1] * sizes.examples} examples": [
            found.answers(chosen(sizes, *setting, seed).name) for seed in sizes.seeds
        ],
    }
    tuned = list(variants.values())[-1]
    page.say(
        f"A language counts as known here where the language model alone solves at least {KNOWN:.0%} of its problems: "
        f"{', '.join(known) or 'none'}. Low-resource, by share of Llama 2's pre-training data: {', '.join(LOW)}."
    )
    draw_languages(
        page.picture("languages", "Accuracy by language: the language model alone and the bridge"),
        ALL,
        {"language model alone": lm, "bridge": bridge},
    )
    page.table(
        ["accuracy, per cent", "LM alone", "bridge", "difference"],
        [
            [
                name,
                str(mean_of(lm, codes)),
                str(mean_of(bridge, codes)),
                f"{100 * (difference := gain(bridge, lm, codes)).value:+.1f} ± {100 * difference.stderr:.1f}",
            ]
            for name, codes in _groups(known)
        ],
    )
    claims = [
        Claim(LETTER, "The bridge lifts low-resource languages", "Low-resource average over the language model alone",
              gain(bridge, lm, LOW)),
    ]  # fmt: skip
    if known:
        page.heading("The guesses at why known languages fall", 3)
        page.table(
            ["accuracy, per cent", "known languages", "over the bridge", "low-resource"],
            [
                [name, str(mean_of(seeds, known)), "" if seeds is bridge else _signed(gain(seeds, bridge, known)),
                 str(mean_of(seeds, LOW))]
                for name, seeds in variants.items()
            ],
        )  # fmt: skip
        drop = {events: _drop(lm, bridge, known, events) for events in range(SHORT, LONG + 1)}
        page.table(
            ["events in the problem", "LM alone", "bridge", "bridge less LM alone"],
            [
                [str(events), *(str(mean_of(of_events(one, events), known)) for one in (lm, bridge)), _signed(less)]
                for events, less in drop.items()
            ],
        )  # fmt: skip
        draw_lengths(
            page.picture("lengths", "Accuracy in known languages by the number of events in a problem"),
            [str(events) for events in drop],
            {
                "language model alone": [mean_of(of_events(lm, n), known) for n in drop],
                "bridge": [mean_of(of_events(bridge, n), known) for n in drop],
                f"trained on {SHORT} events": [mean_of(of_events(list(variants.values())[3], n), known) for n in drop],
                f"trained on {LONG} events": [mean_of(of_events(list(variants.values())[4], n), known) for n in drop],
            },
            "events in the problem",
        )
        claims += [
            Claim(LETTER, "The bridge lowers languages that the language model knows",
                  "Known languages, the language model alone over the bridge", gain(lm, bridge, known)),
            Claim(LETTER, "Guess 1, soft prompts are not the language model's own embeddings: each replaced by the "
                  "nearest of them, after training, gives accuracy back", "Known languages, snapped over not snapped",
                  gain(variants["bridge, soft prompts snapped"], bridge, known, same_runs=True)),
            Claim(LETTER, "Guess 2, lengths differ: the bridge costs more on long prompts than on short ones",
                  f"Drop at {LONG} events less the drop at {SHORT}", _less(drop[SHORT], drop[LONG])),
            Claim(LETTER, "Guess 2, in training: a bridge that saw only the longest prompts does better on them",
                  f"Known languages, problems of {LONG} events, over the bridge that saw all lengths",
                  gain(of_events(list(variants.values())[4], LONG), of_events(bridge, LONG), known)),
            Claim(LETTER, "Guess 3, hyper-parameters: what English validation problems choose "
                  f"({_changed(sizes, setting)}) gives accuracy back",
                  "Known languages, re-tuned over the bridge", gain(tuned, bridge, known)),
        ]  # fmt: skip
        page.say(
            "Snapped: after training every soft prompt but the learned end vector is replaced by the language model's "
            "nearest embedding. That loses what lies between embeddings, and nothing was trained for it: a loss says "
            "that the bridge uses more than the nearest embeddings hold, not that the guess is wrong."
        )
        page.say(
            "Trials of guess 3, solved English validation problems: "
            + "; ".join(
                f"rate {rate:g}, {times * sizes.examples} examples: "
                f"{mean_of([found.answers(tried(sizes, rate, times, sizes.seeds[0]).name, 'validation')], ['en'])}"
                for rate, times in grid(sizes)
            )
            + "."
        )
    return claims


def _changed(sizes: Sizes, setting: tuple[float, int]) -> str:
    """A setting in words, beside the demo's."""
    rate, times = setting
    told = f"rate {rate:g}" + (", as before" if rate == DEMO_RATE else f" instead of {DEMO_RATE:g}")
    if times == 1:
        return f"{told}; as many English problems"
    return f"{told}; {times * sizes.examples} English problems instead of {sizes.examples}"


def _test(sizes: Sizes) -> Asked:
    return Asked(name="test", languages=ALL, limit=sizes.problems)


def _groups(known: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    rows: list[tuple[str, Sequence[str]]] = [("high-resource", LANGUAGE_GROUPS["high"]), ("low-resource", LOW)]
    if known:
        rows.insert(0, (f"known to the LM ({', '.join(known)})", known))
    return rows


def of_events(seeds: Sequence[Answers], events: int) -> list[Answers]:
    """The answers to problems of so many events."""
    return only(seeds, lambda problem, _: events_of(problem) == events)


def _drop(lm: Sequence[Answers], bridge: Sequence[Answers], known: Sequence[str], events: int) -> Estimate:
    return gain(of_events(bridge, events), of_events(lm, events), known)


def _less(first: Estimate, second: Estimate) -> Estimate:
    """First minus second, of different problems: their errors are taken as independent, though seeds are shared."""
    variances = (first.stderr**2, second.stderr**2)
    return Estimate(first.value - second.value, sum(variances) ** 0.5, min(first.freedom, second.freedom))


def _signed(difference: Estimate) -> str:
    return f"{100 * difference.value:+.1f} ± {100 * difference.stderr:.1f}"
