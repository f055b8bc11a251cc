"""Part e. Baselines: the language model alone, fine-tuned on all languages, and behind a translator."""

import re
from pathlib import Path

from langbridge.cli.studies.answers import Answers, Claim, gain, mean_of
from langbridge.cli.studies.drawing import draw_languages
from langbridge.cli.studies.lift import ALL, LOW, alone, base
from langbridge.cli.studies.page import Page
from langbridge.cli.studies.runs import PLAIN_TEMPLATE, Asked, Found, Run
from langbridge.cli.studies.sizes import Sizes
from langbridge.files import write_jsonl
from langbridge.languages import LANGUAGE_GROUPS

LETTER, TITLE = "e", "Baselines"
FINE_TUNING_RATE = 5e-4
MAX_NEW_TOKENS = 40
"""Of a translated sentence; whole problems of five events, seven sentences, have 58 on average."""


def multilingual(sizes: Sizes, seed: int) -> Run:
    """The language model fine-tuned on problems in all languages: multilingual supervision, as MathOctopus has it."""
    return Run(
        name=f"lm-only-{seed}",
        model="trained",
        seed=seed,
        data=f"all-{sizes.multilingual_examples}",
        examples=sizes.multilingual_examples,
        settings={
            "regime": "lm_only",
            "encoder": None,
            "template": PLAIN_TEMPLATE,
            "train.learning_rate": FINE_TUNING_RATE,
        },
        asked=(Asked(name="test", languages=ALL, limit=sizes.problems),),
    )


def translated(sizes: Sizes) -> Run:
    return Run(
        name="translate-then-solve",
        model="language_model",
        asked=(Asked(name="test", problems="english", languages=ALL, limit=sizes.problems),),
    )


def prepare(sizes: Sizes, out: Path, models: Path) -> None:
    """The held-out problems in English by the miniature's own translation model, as DIR/data/english/LANGUAGE.jsonl.

    It learned single sentences, so it is given them one by one: where a sentence ends it is told, in Thai too, which
    writes no full stops. English is left as it is.
    """
    from langbridge.evaluate.translating import Translator
    from langbridge.miniature import world
    from langbridge.miniature.dataset import held_out_rows, write_suite
    from langbridge.miniature.study import TRANSLATION, encoder_folders

    encoder_folders(models)
    folder = out / "data" / "english"
    translator = None
    for language in ALL:
        path = folder / f"{language}.jsonl"
        if path.is_file():
            continue
        translator = translator or Translator(str(models / TRANSLATION), batch_size=64)
        problems = list(world.problems("test", sizes.problems))
        told = [world.sentences(problem, language) for problem in problems]
        flat = [sentence for sentences in told for sentence in sentences]
        if language != "en":
            flat = [spaced(one) for one in translator.translate(flat, language, max_new_tokens=MAX_NEW_TOKENS)]
        english = iter(flat)
        rows = held_out_rows(language, sizes.problems)
        write_jsonl(
            path,
            (
                {**row, "question": " ".join(next(english) for _ in sentences), "original": row["question"]}
                for row, sentences in zip(rows, told, strict=True)
            ),
        )
    write_suite(folder)


def spaced(text: str) -> str:
    """The space before a number, which the encoder's tokenizer folds away: "Eva has28 hats." -> "Eva has 28 hats."."""
    return re.sub(r"(?<=[^\W\d])(?=\d)", " ", text)


def runs(sizes: Sizes, found: Found) -> list[Run]:
    named = [alone(sizes), translated(sizes)]
    for seed in sizes.seeds:
        named += [base(sizes, seed), multilingual(sizes, seed)]
    return named


def write(sizes: Sizes, found: Found, page: Page) -> list[Claim]:
    systems: dict[str, list[Answers]] = {
        "language model alone": [found.answers(alone(sizes).name)],
        "bridge": [found.answers(base(sizes, seed).name) for seed in sizes.seeds],
        "LM fine-tuned on all languages": [found.answers(multilingual(sizes, seed).name) for seed in sizes.seeds],
        "translate, then solve": [found.answers(translated(sizes).name)],
    }
    alone_, bridge, tuned, behind = systems.values()
    page.say(
        f"The fine-tuned language model saw {sizes.multilingual_examples} problems, a twelfth of them in each "
        f"language; the bridge's connector {sizes.examples}, all in English. The translator is the miniature's own, "
        "with the parallel text that the encoder learned from, sentence by sentence; the language model solves what it "
        "writes."
    )
    draw_languages(page.picture("baselines", "Accuracy by language of the bridge and its baselines"), ALL, systems)
    groups = {"English": ["en"], "high-resource": LANGUAGE_GROUPS["high"], "low-resource": LOW}
    page.table(
        ["accuracy, per cent", *groups],
        [[name, *(str(mean_of(one, codes)) for codes in groups.values())] for name, one in systems.items()],
    )
    return [
        Claim(LETTER, "Multilingual supervision is the ceiling: fine-tuning on all languages beats the bridge",
              "Low-resource average, fine-tuned over bridge", gain(tuned, bridge, LOW)),
        Claim(LETTER, "The bridge is ahead of translating first, on the same parallel text",
              "Low-resource average, bridge over translate-then-solve", gain(bridge, behind, LOW)),
        Claim(LETTER, "Translating first is ahead of the language model alone",
              "Low-resource average, translate-then-solve over the language model alone", gain(behind, alone_, LOW)),
    ]  # fmt: skip
