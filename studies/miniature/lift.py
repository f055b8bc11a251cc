"""Part a. Does the bridge lift low-resource languages, and what does it do to those the language model knows?

The paper saw the latter fall, and guessed at three causes: soft prompts are not the language model's own embeddings;
prompts and answers have other lengths than in pre-training; one set of hyper-parameters served all pairs. Each guess is
a variant here. English, which the connector was trained on, and the other known languages, which it has to transfer to,
are told apart throughout.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from langbridge.miniature import parents
from studies.miniature.answers import Answers, Claim, Found, NotCompared, gain, mean_of, only
from studies.miniature.data import events_of, tokens_of
from studies.miniature.drawing import draw_languages, draw_lengths
from studies.miniature.page import Page
from studies.miniature.runs import Asked, Run, Study, tested, training, validated
from studies.miniature.sizes import BATCH, HIGH, LOW, Sizes

TITLE = "Languages lifted, languages lowered"
SHORT, LONG = 3, 5
"""Events of the shortest and of the longest problems of the miniature's world."""
KNOWN = 0.5
"""A language model knows a language if it solves at least this share of its problems without a bridge."""
KNOWN_HERE = ("en", "es", "fr", "de")
"""Those that the miniature's learned; alterations of the soft prompts are asked of them alone."""
SOURCES = {"shorter": "events4-plain", "longer": "events4-timed"}
TARGETS = {"shorter": "events4-timed", "longer": "events5-plain"}
"""Training files whose sources differ in length and whose targets do not, and the other way round."""
KINDS = tuple(dict.fromkeys((*SOURCES.values(), *TARGETS.values())))
RATE, SCHEDULE = 3e-4, "cosine"
"""The demo's."""


def alone(sizes: Sizes) -> Run:
    return Run(name="lm-alone", model="language_model", asked=(tested(sizes),))


def base(sizes: Sizes, penalty: float, seed: int) -> Run:
    """The bridge as the demo trains it but for the penalty; other parts compare with it."""
    asked: list[Asked] = [tested(sizes)]
    if penalty == sizes.penalties[0]:
        known = replace(tested(sizes), languages=KNOWN_HERE)
        asked += [replace(known, name=how, altered=how) for how in ("snapped", "snapped-cosine")]
        asked.append(replace(known, name="moved", languages=("en",), altered="moved"))
    return training(f"bridge-{penalty:g}", seed, "en", sizes.examples, *asked, **{"ridge.penalty": penalty})


def untrained(sizes: Sizes, seed: int) -> Run:
    return Run(name=f"ridge-untrained-{seed}", model="started", start="recipe", seed=seed, data=f"en-{sizes.examples}",
               asked=(tested(sizes),))  # fmt: skip


def mixed(sizes: Sizes, seed: int) -> Run:
    """Soft prompts that are convex mixes of the language model's embeddings, in training too."""
    connector = {"kind": "mixture", "language_model": str(parents.LANGUAGE_MODEL)}
    return training("mixture", seed, "en", sizes.examples, tested(sizes), connector=connector)


def of_length(sizes: Sizes, kind: str, seed: int) -> Run:
    """As many tokens, sources and targets together, as an ordinary run has."""
    tokens = sizes.examples * sum(tokens_of("en"))
    examples = BATCH * round(tokens / sum(tokens_of(kind)) / BATCH)
    return training(kind, seed, kind, examples, tested(sizes))


def tuned(sizes: Sizes, rate: float, schedule: str, seed: int) -> Run:
    settings = {"train.learning_rate": rate, "train.lr_scheduler_type": schedule}
    return training(f"tuned-{rate:g}-{schedule}", seed, "en", sizes.examples, tested(sizes), **settings)


def trials(sizes: Sizes) -> dict[tuple[float, str], Run]:
    """Settings on trial, the demo's own first: asked English validation problems alone."""
    grid = sorted(((rate, way) for way in sizes.schedules for rate in sizes.rates), key=(RATE, SCHEDULE).__ne__)
    runs = {setting: tuned(sizes, *setting, sizes.seeds[0]) for setting in grid}
    return {key: replace(run, name=f"try-{run.name}", asked=(validated(sizes),)) for key, run in runs.items()}


def runs(study: Study) -> list[Run]:
    sizes = study.sizes
    grid = trials(sizes)
    named = [alone(sizes), *grid.values()]
    for seed in sizes.seeds:
        named += [base(sizes, penalty, seed) for penalty in sizes.penalties]
        named += [untrained(sizes, seed), mixed(sizes, seed)]
        named += [of_length(sizes, kind, seed) for kind in KINDS]
    if study.has(list(grid.values())) and (best := study.best(grid)) not in (None, (RATE, SCHEDULE)):
        named += [tuned(sizes, *best, seed) for seed in sizes.seeds]
    return named


def write(study: Study, page: Page) -> list[Claim]:
    sizes = study.sizes
    lm = [study.answers(alone(sizes))]
    bridges = {penalty: study.by_seed(base, penalty) for penalty in sizes.penalties}
    bridge = bridges[sizes.penalties[0]]
    known = [code for code in KNOWN_HERE if mean_of(lm, [code]).value >= KNOWN]
    groups: dict[str, Sequence[str]] = {
        "English": ["en"],
        f"known besides ({', '.join(known[1:])})": known[1:],
        "high-resource": HIGH,
        "low-resource": LOW,
    }
    groups = {name: codes for name, codes in groups.items() if codes}
    page.say(
        f"A language counts as known here where the language model alone solves at least {KNOWN:.0%} of its problems: "
        f"{', '.join(known) or 'none'}. The connector was trained on English: what it costs there is one thing, what "
        "is lost on the way to the others another. Low-resource, by share of Llama 2's pre-training data: "
        f"{', '.join(LOW)}."
    )
    named = {f"bridge, penalty {penalty:g}": seeds for penalty, seeds in bridges.items()}
    draw_languages(
        page.picture("languages", "Accuracy by language: the language model alone and the bridge"),
        {"language model alone": lm, **named},
    )
    page.table(
        ["accuracy, per cent", "LM alone", *(x for name in named for x in (name, "difference"))],
        [
            [name, str(mean_of(lm, codes)),
             *(x for one in named.values() for x in (str(mean_of(one, codes)), gain(one, lm, codes).signed))]
            for name, codes in groups.items()
        ],
    )  # fmt: skip
    claims = []
    for penalty, seeds in bridges.items():
        at = f"penalty {penalty:g}"
        claims.append(Claim(f"The bridge lifts low-resource languages ({at})", "Low-resource average over the language "
                            "model alone", gain(seeds, lm, LOW), primary=seeds is bridge))  # fmt: skip
        claims += [
            Claim(f"The bridge lowers {name} ({at})", "The language model alone over the bridge",
                  gain(lm, seeds, groups[name]))
            for name in list(groups)[:2] if known
        ]  # fmt: skip
    if "en" not in known:
        return claims
    return claims + _guesses(study, page, bridge, lm, dict(list(groups.items())[: min(2, len(known))]))


def _guesses(
    study: Study, page: Page, bridge: list[Answers], lm: list[Answers], known: dict[str, Sequence[str]]
) -> list[Claim]:
    sizes, grid = study.sizes, trials(study.sizes)
    setting = study.best(grid)
    moved = study.by_seed(base, sizes.penalties[0], asked="moved")
    lengths = {kind: study.by_seed(of_length, kind) for kind in KINDS}
    mixture = study.by_seed(mixed)
    variants: dict[str, tuple[list[Answers], bool]] = {
        "bridge": (bridge, True),
        "its start, untrained": (study.by_seed(untrained), True),
        "trained as convex mixes of embeddings": (mixture, True),
        "bridge, snapped to the nearest by distance": (study.by_seed(base, sizes.penalties[0], asked="snapped"), False),
        "bridge, snapped to the nearest by angle": (
            study.by_seed(base, sizes.penalties[0], asked="snapped-cosine"), False),
        **{f"trained on {kind} ({of_length(sizes, kind, 0).examples} examples)": (seeds, True)
           for kind, seeds in lengths.items()},
    }  # fmt: skip
    other = setting is not None and setting != (RATE, SCHEDULE)
    searched = study.by_seed(tuned, *setting) if setting is not None and other else bridge
    if setting is not None and other:
        variants[f"tuned: rate {setting[0]:g}, {setting[1]}"] = (searched, True)
    page.heading("The guesses at why known languages fall", 3)
    page.table(
        ["accuracy, per cent", *known, "low-resource"],
        [
            [name, *(str(mean_of(seeds, codes)) for codes in known.values()), str(mean_of(seeds, LOW)) if low else ""]
            for name, (seeds, low) in variants.items()
        ],
    )
    page.say(
        f"Guess 1. The language model alone, its embeddings moved as far as soft prompts lie from the nearest of them: "
        f"English {mean_of(moved, ['en'])}. (It was trained with noise on its embeddings.) Convex mixes say what a "
        "connector does that never leaves the embeddings' span; snapping throws away what was learned, and is here to "
        "say how much lies between embeddings."
    )
    page.table(
        ["guess 2: trained on", "encoder tokens", "target tokens"],
        [[kind, *(f"{number:.1f}" for number in tokens_of(kind))] for kind in ("en", *lengths)],
    )
    page.say(
        "These trainings differ in what they cover too: the problems asked have three to five events, most of which "
        "say when. So a difference here may be of length or of coverage, and is no verdict on the guess by itself."
    )
    events = range(SHORT, LONG + 1)
    draw_lengths(
        page.picture("lengths", "Accuracy in known languages by the number of events in a problem"),
        [str(n) for n in events],
        {name: [mean_of(of_events(seeds, n), [c for codes in known.values() for c in codes]) for n in events]
         for name, seeds in {"language model alone": lm, "bridge": bridge,
                             **{kind: lengths[kind] for kind in TARGETS.values()}}.items()},
        "events in the problem",
    )  # fmt: skip
    solved = (f"rate {rate:g}, {way}: {mean_of([study.answers(run, 'validation')], ['en'])}"
              for (rate, way), run in grid.items())  # fmt: skip
    page.say(f"Guess 3, solved English validation problems, the same examples throughout: {'; '.join(solved)}.")
    claims = [Claim("Guess 1: embeddings of its own, moved as far as soft prompts lie from them, cost the language "
                    "model English", "English, not moved over moved", gain(lm, moved, ["en"]))]  # fmt: skip
    found: dict[str, Any] = {
        "Guess 1: a connector trained as convex mixes of embeddings does better": (mixture, bridge),
        "Guess 2: longer sources in training, which say when (targets alike, tokens equal), do better":
            (lengths[SOURCES["longer"]], lengths[SOURCES["shorter"]]),
        "Guess 2: longer targets in training, of five events without times (sources alike, tokens equal), do better":
            (lengths[TARGETS["longer"]], lengths[TARGETS["shorter"]]),
        "Guess 3: rate and schedule that English validation problems choose do better": (searched, bridge),
    }  # fmt: skip
    for text, (first, second) in found.items():
        for name, codes in known.items():
            one: Found = gain(first, second, codes)
            if first is second:
                one = NotCompared("the search chose the demo's own" if setting else "all trials are at the floor")
            claims.append(Claim(f"{text}, {name}", "The one over the other", one))
    return claims


def of_events(seeds: Sequence[Answers], events: int) -> list[Answers]:
    """The answers to problems of so many events."""
    return only(seeds, lambda problem, _: events_of(problem) == events)
