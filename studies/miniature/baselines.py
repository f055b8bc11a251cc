"""Part e. Baselines: the language model alone, fine-tuned on all languages, and behind a translator."""

import re

from langbridge.evaluate.translating import Translator
from langbridge.files import write_jsonl
from langbridge.miniature import world
from langbridge.miniature.dataset import held_out_rows, write_suite
from studies.miniature.answers import Claim, by_group, gain
from studies.miniature.drawing import draw_languages
from studies.miniature.lift import alone, base
from studies.miniature.models import TRANSLATION
from studies.miniature.page import Page
from studies.miniature.runs import PLAIN_TEMPLATE, Asked, Run, Study, tested, training
from studies.miniature.sizes import ALL, LOW, Sizes

TITLE = "Baselines"
FINE_TUNING_RATE = 5e-4
MAX_NEW_TOKENS = 40
"""Of a translated sentence; whole problems of five events, seven sentences, have 58 on average."""


def multilingual(sizes: Sizes, seed: int) -> Run:
    """The language model fine-tuned on problems in all languages: multilingual supervision, as MathOctopus has it."""
    settings = {"regime": "lm_only", "encoder": None, "template": PLAIN_TEMPLATE,
                "train.learning_rate": FINE_TUNING_RATE}  # fmt: skip
    return training("lm-only", seed, "all", sizes.multilingual_examples, tested(sizes), **settings)


def translated(sizes: Sizes) -> Run:
    asked = Asked(name="test", problems="english", limit=sizes.problems)
    return Run(name="translate-then-solve", model="language_model", asked=(asked,))


def prepare(study: Study) -> None:
    """The held-out problems in English by the miniature's own translation model, as DIR/data/english/LANGUAGE.jsonl.

    It learned single sentences, so it is given them one by one: where a sentence ends it is told, in Thai too, which
    writes no full stops. English is left as it is.
    """
    folder, count = study.out / "data" / "english", study.sizes.problems
    missing = [language for language in ALL if not (folder / f"{language}.jsonl").is_file()]
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
    by_seed = [make(sizes, seed) for seed in sizes.seeds for make in (base, multilingual)]
    return [alone(sizes), translated(sizes), *by_seed]


def write(study: Study, page: Page) -> list[Claim]:
    sizes = study.sizes
    lm, bridge, tuned = [study.answers(alone(sizes))], study.by_seed(base), study.by_seed(multilingual)
    behind = [study.answers(translated(sizes))]
    systems = {
        "language model alone": lm,
        "bridge": bridge,
        "LM fine-tuned on all languages": tuned,
        "translate, then solve": behind,
    }
    page.say(
        f"The fine-tuned language model saw {sizes.multilingual_examples} problems, a twelfth of them in each "
        f"language; the bridge's connector {sizes.examples}, all in English. The translator is the miniature's own, "
        "with the parallel text that the encoder learned from, sentence by sentence; the language model solves what it "
        "writes."
    )
    draw_languages(page.picture("baselines", "Accuracy by language of the bridge and its baselines"), systems)
    page.table(*by_group(systems))
    return [
        Claim("Multilingual supervision is the ceiling: fine-tuning on all languages beats the bridge",
              "Low-resource average, fine-tuned over bridge", gain(tuned, bridge, LOW)),
        Claim("The bridge is ahead of translating first, on the same parallel text",
              "Low-resource average, bridge over translate-then-solve", gain(bridge, behind, LOW)),
        Claim("Translating first is ahead of the language model alone",
              "Low-resource average, translate-then-solve over the language model alone", gain(behind, lm, LOW)),
    ]  # fmt: skip
