"""Part a. Does the bridge lift low-resource languages, and what does it do to those the language model knows?

The paper saw the latter fall, and guessed at three causes: soft prompts are not the language model's own embeddings;
prompts and answers have other lengths than in pre-training; one set of hyper-parameters served all pairs. Each guess is
a variant here.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from studies.miniature.answers import Answers, Claim, gain, gain_over, mean_of, only
from studies.miniature.data import events_of
from studies.miniature.drawing import draw_languages, draw_lengths
from studies.miniature.page import Page
from studies.miniature.runs import Run, Study, tested, training, validated
from studies.miniature.sizes import ALL, HIGH, LOW, Sizes

TITLE = "Languages lifted, languages lowered"
SHORT, LONG = 3, 5
"""Events of the shortest and of the longest problems of the miniature's world."""
KNOWN = 0.5
"""A language model knows a language if it solves at least this share of its problems without a bridge."""
DEMO_RATE = 3e-4


def alone(sizes: Sizes) -> Run:
    return Run(name="lm-alone", model="language_model", asked=(tested(sizes),))


def base(sizes: Sizes, seed: int) -> Run:
    """The bridge as the demo trains it; other parts compare with it."""
    test = tested(sizes)
    return training("bridge", seed, "en", sizes.examples, test, replace(test, name="snapped", snapped=True))


def untrained(sizes: Sizes, seed: int) -> Run:
    return Run(name=f"ridge-untrained-{seed}", model="started", seed=seed, data=f"en-{sizes.examples}",
               asked=(tested(sizes),))  # fmt: skip


def of_length(sizes: Sizes, events: int, seed: int) -> Run:
    return training(f"events-{events}", seed, f"events{events}", sizes.examples, tested(sizes))


def tried(sizes: Sizes, rate: float, times: int, seed: int) -> Run:
    """A setting on trial: asked English validation problems alone."""
    examples = sizes.examples * times
    return training(f"rate-{rate:g}-examples-{examples}", seed, "en", examples, validated(sizes),
                    **{"train.learning_rate": rate})  # fmt: skip


def chosen(sizes: Sizes, rate: float, times: int, seed: int) -> Run:
    run = tried(sizes, rate, times, seed)
    return replace(run, name=f"tuned-{run.name}", asked=(tested(sizes),))


def trials(sizes: Sizes) -> dict[tuple[float, int], Run]:
    """By rate and length, the cheaper ones first."""
    grid = [(rate, times) for times in sorted({1, sizes.longer}) for rate in sizes.rates]
    return {setting: tried(sizes, *setting, sizes.seeds[0]) for setting in grid}


def best(study: Study) -> tuple[float, int]:
    """The setting with the most English validation problems solved; of equals the cheaper one."""
    grid = trials(study.sizes)
    return list(grid)[study.most_solved(list(grid.values()))]


def runs(study: Study) -> list[Run]:
    sizes = study.sizes
    grid = list(trials(sizes).values())
    named = [alone(sizes), *grid]
    for seed in sizes.seeds:
        named += [base(sizes, seed), untrained(sizes, seed)]
        named += [of_length(sizes, events, seed) for events in (SHORT, LONG)]
    if study.has(grid):
        named += [chosen(sizes, *best(study), seed) for seed in sizes.seeds]
    return named


def write(study: Study, page: Page) -> list[Claim]:
    sizes = study.sizes
    lm, bridge = [study.answers(alone(sizes))], study.by_seed(base)
    known = [code for code in ALL if mean_of(lm, [code]).value >= KNOWN]
    setting = best(study)
    snapped = study.by_seed(base, asked="snapped")
    short, long = study.by_seed(of_length, SHORT), study.by_seed(of_length, LONG)
    tuned = study.by_seed(chosen, *setting)
    page.say(
        f"A language counts as known here where the language model alone solves at least {KNOWN:.0%} of its problems: "
        f"{', '.join(known) or 'none'}. Low-resource, by share of Llama 2's pre-training data: {', '.join(LOW)}."
    )
    draw_languages(
        page.picture("languages", "Accuracy by language: the language model alone and the bridge"),
        {"language model alone": lm, "bridge": bridge},
    )
    groups = {f"known to the LM ({', '.join(known)})": known, "high-resource": HIGH, "low-resource": LOW}
    page.table(
        ["accuracy, per cent", "LM alone", "bridge", "difference"],
        [
            [name, str(mean_of(lm, codes)), str(mean_of(bridge, codes)), gain(bridge, lm, codes).signed]
            for name, codes in groups.items() if codes
        ],
    )  # fmt: skip
    lifts = Claim("The bridge lifts low-resource languages", "Low-resource average over the language model alone",
                  gain(bridge, lm, LOW))  # fmt: skip
    if not known:
        return [lifts]
    page.heading("The guesses at why known languages fall", 3)
    variants = {
        "bridge (ridge start, trained)": bridge,
        "ridge map, untrained": study.by_seed(untrained),
        "bridge, soft prompts snapped": snapped,
        f"trained on {SHORT} events only": short,
        f"trained on {LONG} events only": long,
        f"re-tuned: rate {setting[0]:g}, {setting[1] * sizes.examples} examples": tuned,
    }
    page.table(
        ["accuracy, per cent", "known languages", "over the bridge", "low-resource"],
        [
            [name, str(mean_of(seeds, known)), "" if seeds is bridge else gain(seeds, bridge, known).signed,
             str(mean_of(seeds, LOW))]
            for name, seeds in variants.items()
        ],
    )  # fmt: skip
    drop = {n: gain(of_events(bridge, n), of_events(lm, n), known) for n in range(SHORT, LONG + 1)}
    page.table(
        ["events in the problem", "LM alone", "bridge", "bridge less LM alone"],
        [
            [str(n), *(str(mean_of(of_events(one, n), known)) for one in (lm, bridge)), less.signed]
            for n, less in drop.items()
        ],
    )
    lines = {"language model alone": lm, "bridge": bridge, f"trained on {SHORT} events": short,
             f"trained on {LONG} events": long}  # fmt: skip
    draw_lengths(
        page.picture("lengths", "Accuracy in known languages by the number of events in a problem"),
        [str(n) for n in drop],
        {name: [mean_of(of_events(seeds, n), known) for n in drop] for name, seeds in lines.items()},
        "events in the problem",
    )
    page.say(
        "Snapped: after training every soft prompt but the learned end vector is replaced by the language model's "
        "nearest embedding. That loses what lies between embeddings, and nothing was trained for it: a loss says "
        "that the bridge uses more than the nearest embeddings hold, not that the guess is wrong."
    )
    solved = (
        f"rate {rate:g}, {run.examples} examples: {mean_of([study.answers(run, 'validation')], ['en'])}"
        for (rate, _), run in trials(sizes).items()
    )
    page.say(f"Trials of guess 3, solved English validation problems: {'; '.join(solved)}.")
    return [
        lifts,
        Claim("The bridge lowers languages that the language model knows",
              "Known languages, the language model alone over the bridge", gain(lm, bridge, known)),
        Claim("Guess 1, soft prompts are not the language model's own embeddings: each replaced by the "
              "nearest of them, after training, gives accuracy back", "Known languages, snapped over not snapped",
              gain(snapped, bridge, known, same_runs=True)),
        Claim("Guess 2, lengths differ: the bridge costs more on long prompts than on short ones",
              f"Drop at {LONG} events less the drop at {SHORT}",
              gain_over(bridge, lm, known, (_has(SHORT), _has(LONG)))),
        Claim("Guess 2, in training: a bridge that saw only the longest prompts does better on them",
              f"Known languages, problems of {LONG} events, over the bridge that saw all lengths",
              gain(of_events(long, LONG), of_events(bridge, LONG), known)),
        Claim("Guess 3, hyper-parameters: what English validation problems choose "
              f"({_changed(sizes, *setting)}) gives accuracy back",
              "Known languages, re-tuned over the bridge", gain(tuned, bridge, known)),
    ]  # fmt: skip


def _changed(sizes: Sizes, rate: float, times: int) -> str:
    """A setting in words, beside the demo's."""
    told = f"rate {rate:g}" + (", as before" if rate == DEMO_RATE else f" instead of {DEMO_RATE:g}")
    if times == 1:
        return f"{told}; as many English problems"
    return f"{told}; {times * sizes.examples} English problems instead of {sizes.examples}"


def _has(events: int) -> Callable[[str], bool]:
    return lambda problem: events_of(problem) == events


def of_events(seeds: Sequence[Answers], events: int) -> list[Answers]:
    """The answers to problems of so many events."""
    return only(seeds, lambda problem, _: events_of(problem) == events)
