"""Part e. Baselines: the language model alone, behind a translator, and a bridge trained on all languages."""

import itertools
import re
from concurrent.futures import Executor
from dataclasses import replace

from langbridge.evaluate.translating import Translator
from langbridge.files import write_jsonl
from langbridge.miniature import world
from langbridge.miniature.dataset import held_out_rows, write_suite
from studies.miniature.answers import Claim, gain, mean_of
from studies.miniature.drawing import draw_languages
from studies.miniature.lift import alone, base
from studies.miniature.models import TRANSLATION
from studies.miniature.page import Page
from studies.miniature.runs import Asked, Run, Study, tested, training
from studies.miniature.sizes import ALL, HIGH, LOW, Sizes

TITLE = "Baselines"
MAX_NEW_TOKENS = 40
"""Of a translated sentence; whole problems of five events, seven sentences, have 58 on average."""


TRANSLATED_PROBLEM = 0.15
"""Seconds of one core, about."""


def multilingual(sizes: Sizes, penalty: float, seed: int) -> Run:
    """As many problems, a twelfth of them in each language, from the same start, which is of English alone: the ceiling
    of what training data in the languages could do for this connector."""
    english = f"en-{sizes.examples}"
    settings = {"ridge.penalty": penalty}
    run = training(f"all-languages-{penalty:g}", seed, "all", sizes.examples, tested(sizes), **settings)
    return replace(run, start="recipe", start_data=english)


def translated(sizes: Sizes) -> Run:
    asked = Asked(name="test", problems="english", limit=sizes.problems)
    return Run(name="translate-then-solve", model="language_model", asked=(asked,))


def unprepared(study: Study) -> float:
    """Seconds of one core that `prepare` takes, about."""
    return TRANSLATED_PROBLEM * study.sizes.problems * len(_missing(study))


def _missing(study: Study) -> list[str]:
    return [language for language in ALL if not (study.out / "data" / "english" / f"{language}.jsonl").is_file()]


def prepare(study: Study, _: Executor) -> None:
    """The held-out problems in English by the miniature's own translation model, as DIR/data/english/LANGUAGE.jsonl.

    It learned single sentences, so it is given them one by one: where a sentence ends it is told, in Thai too, which
    writes no full stops. English is left as it is.
    """
    folder, count = study.out / "data" / "english", study.sizes.problems
    missing = _missing(study)
    translator = Translator(str(study.models / TRANSLATION), batch_size=64) if missing else None
    for language in missing:
        told = [world.sentences(problem, language) for problem in world.problems("test", count)]
        flat = [sentence for sentences in told for sentence in sentences]
        if language != "en":
            assert translator is not None
            flat = [spaced(one) for one in translator.translate(flat, language, max_new_tokens=MAX_NEW_TOKENS)]
        english = iter(flat)
        rows = zip(held_out_rows(language, count), told, strict=True)
        write_jsonl(
            folder / f"{language}.jsonl",
            (
                {**row, "question": " ".join(next(english) for _ in sentences), "original": row["question"]}
                for row, sentences in rows
            ),
        )
    write_suite(folder)


def spaced(text: str) -> str:
    """The space before a number, which the encoder's tokenizer folds away: "Eva has28 hats." -> "Eva has 28 hats."."""
    return re.sub(r"(?<=[^\W\d])(?=\d)", " ", text)


def runs(study: Study) -> list[Run]:
    sizes = study.sizes
    grid = itertools.product((base, multilingual), sizes.penalties, sizes.seeds)
    return [alone(sizes), translated(sizes), *(make(sizes, penalty, seed) for make, penalty, seed in grid)]


def write(study: Study, page: Page) -> list[Claim]:
    sizes = study.sizes
    lm, behind = [study.answers(alone(sizes))], [study.answers(translated(sizes))]
    bridges = {penalty: study.by_seed(base, penalty) for penalty in sizes.penalties}
    ceilings = {penalty: study.by_seed(multilingual, penalty) for penalty in sizes.penalties}
    systems = {"language model alone": lm, "translate, then solve": behind}
    systems |= {f"bridge, English, penalty {penalty:g}": seeds for penalty, seeds in bridges.items()}
    systems |= {f"bridge, all languages, penalty {penalty:g}": seeds for penalty, seeds in ceilings.items()}
    page.say(
        f"Either bridge's connector saw {sizes.examples} problems and has the same start, of English alone: all in "
        "English, or a twelfth in each language. The translator is the miniature's own, with the parallel text that "
        "the encoder learned from, sentence by sentence; the language model solves what it writes."
    )
    first = sizes.penalties[0]
    drawn = {"language model alone": lm, "bridge, English": bridges[first], "bridge, all languages": ceilings[first],
             "translate, then solve": behind}  # fmt: skip
    draw_languages(page.picture("baselines", "Accuracy by language of the bridge and its baselines"), drawn)
    page.table(
        ["accuracy, per cent", *ALL, "high-resource", "low-resource"],
        [
            [name, *(str(mean_of(seeds, codes)) for codes in (*([code] for code in ALL), HIGH, LOW))]
            for name, seeds in systems.items()
        ],
    )
    claims = [Claim("Translating first is ahead of the language model alone",
                    "Low-resource average, translate-then-solve over the language model alone",
                    gain(behind, lm, LOW))]  # fmt: skip
    for penalty in sizes.penalties:
        at = f"(penalty {penalty:g})"
        claims += [
            Claim(f"The bridge is ahead of translating first, on the same parallel text {at}",
                  "Low-resource average, bridge over translate-then-solve", gain(bridges[penalty], behind, LOW),
                  primary=penalty == first),
            Claim(f"Trained on all languages the bridge does better {at}",
                  "Low-resource average, all languages over English", gain(ceilings[penalty], bridges[penalty], LOW)),
        ]  # fmt: skip
    return claims
