"""Part f. What the miniature's parents are made of, taken out: noise on the language model's embeddings, carelessly
written English, the encoder's lexical loss.

All eight combinations, with parents trained anew for each of some seeds, for fewer steps than the shipped ones. Scored
on validation problems: nothing is chosen by them, and the test problems are not spent on parents that nobody ships.
"""

import itertools
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from transformers import MT5EncoderModel

from langbridge.miniature.build import BuildRecipe, encoder_tokenizer, language_model_tokenizer
from langbridge.miniature.language_model import LanguageModelRecipe, train_language_model
from langbridge.miniature.translation import TranslationRecipe, train_translation
from studies.miniature.answers import Answers, Claim, mean_of
from studies.miniature.lift import RATE
from studies.miniature.models import ABLATION, save_halved
from studies.miniature.page import Page
from studies.miniature.runs import Run, Study, training, validated
from studies.miniature.sizes import LOW, Sizes

TITLE = "What the parents are made of"
FACTORS = ("noise on embeddings", "careless English", "lexical loss")
HAVE = tuple(itertools.product((True, False), (True, False), (True, False)))
SECONDS = {"encoder": 0.35, "language_model": 0.6}
"""A step of each training takes, on one core, about."""


@dataclass(frozen=True)
class Parents:
    """One combination: which of the factors are there, and the seed of the trainings."""

    noise: bool
    careless: bool
    lexical: bool
    seed: int

    def encoder(self, sizes: Sizes) -> str:
        """Its folder below the study's models; studies of other sizes have others."""
        kind = "lexical" if self.lexical else "translation"
        return f"{ABLATION}/encoder-{kind}-{self.seed}-{sizes.encoder_steps}"

    def language_model(self, sizes: Sizes) -> str:
        kind = f"{'noise' if self.noise else 'clean'}-{'careless' if self.careless else 'tidy'}"
        return f"{ABLATION}/lm-{kind}-{self.seed}-{sizes.language_model_steps}"

    def recipe(self, sizes: Sizes) -> BuildRecipe:
        """The shipped parents', but for what is taken out and the number of steps."""
        lm, encoder = (
            LanguageModelRecipe(steps=sizes.language_model_steps),
            TranslationRecipe(steps=sizes.encoder_steps),
        )
        return BuildRecipe(
            seed=self.seed,
            language_model=replace(lm, noise=lm.noise * self.noise, haste=lm.haste * self.careless),
            translation=replace(encoder, lexical=encoder.lexical * self.lexical),
        )


def combinations(sizes: Sizes) -> list[Parents]:
    return [Parents(*have, seed) for have in HAVE for seed in sizes.parent_seeds]


def _jobs(study: Study) -> dict[str, tuple[str, Parents]]:
    """What is to be built, by folder below the models: each parent once, with one of its combinations."""
    jobs: dict[str, tuple[str, Parents]] = {}
    sizes = study.sizes
    for one in combinations(sizes):
        jobs |= {one.encoder(sizes): ("encoder", one), one.language_model(sizes): ("language_model", one)}
    return {folder: job for folder, job in jobs.items() if not (study.models / folder).is_dir()}


def unprepared(study: Study) -> float:
    """Seconds of one core that `prepare` takes, about."""
    steps = {"encoder": study.sizes.encoder_steps, "language_model": study.sizes.language_model_steps}
    return sum(SECONDS[kind] * steps[kind] for kind, _ in _jobs(study).values())


def prepare(study: Study, pool: Executor) -> None:
    """Train the parents that are missing, side by side; one that was stopped goes on."""
    futures = [
        pool.submit(build, kind, one.recipe(study.sizes), study.models / folder)
        for folder, (kind, one) in _jobs(study).items()
    ]
    for future in futures:
        future.result()


def build(kind: str, recipe: BuildRecipe, out: Path) -> None:
    """Train one parent, and write it whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    state, log = out.with_suffix(".pt"), partial(_log, out.with_suffix(".log"))
    model: torch.nn.Module
    if kind == "encoder":
        tokenizer = encoder_tokenizer(recipe)
        whole = train_translation(tokenizer, recipe.translation, seed=recipe.seed, state=state, log=log)
        model = MT5EncoderModel(whole.config)
        model.load_state_dict(whole.state_dict(), strict=False)
    else:
        tokenizer = language_model_tokenizer(recipe)
        model = train_language_model(tokenizer, recipe.language_model, seed=recipe.seed, state=state, log=log)
    part = out.with_name(f".{out.name}")
    save_halved(model, tokenizer, part)
    part.rename(out)


def _log(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def bridge(sizes: Sizes, parents: Parents) -> Run:
    have = "-".join(
        name for name, there in zip(("noise", "careless", "lexical"), _factors(parents), strict=True) if there
    )
    run = training(
        f"parents-{have or 'none'}", parents.seed, "en", sizes.parent_examples, validated(sizes, ("en", *LOW))
    )
    return replace(
        run, seed=sizes.seeds[0], encoder=parents.encoder(sizes), language_model=parents.language_model(sizes)
    )


def _factors(parents: Parents) -> tuple[bool, bool, bool]:
    return parents.noise, parents.careless, parents.lexical


def runs(study: Study) -> list[Run]:
    return [bridge(study.sizes, one) for one in combinations(study.sizes)]


def write(study: Study, page: Page) -> list[Claim]:
    sizes = study.sizes
    found = {one: study.answers(bridge(sizes, one), "validation") for one in combinations(sizes)}
    page.say(
        f"Parents trained anew, {sizes.encoder_steps} and {sizes.language_model_steps} steps (the shipped ones: 2,200 "
        f"and 3,000), with {len(sizes.parent_seeds)} seeds; a bridge on each pair, {sizes.parent_examples} English "
        f"examples at {RATE:g}, one seed of the connector. {sizes.validation} validation problems in each language. "
        "Without the lexical loss whole problems are translated instead."
    )
    groups = {"English": ["en"], "low-resource": LOW}
    page.table(
        [*FACTORS, *(f"{name}, parents' seed {seed}" for name in groups for seed in sizes.parent_seeds)],
        [
            [*("yes" if there else "no" for there in have),
             *(str(mean_of([found[Parents(*have, seed)]], codes))
               for codes in groups.values() for seed in sizes.parent_seeds)]
            for have in HAVE
        ],
    )  # fmt: skip
    page.table(
        ["with it over without", *(f"{name}, points: mean (least to most)" for name in groups)],
        [
            [factor, *(_effect(found, place, codes) for codes in groups.values())]
            for place, factor in enumerate(FACTORS)
        ],
    )
    page.say(
        f"An effect is over all {4 * len(sizes.parent_seeds)} pairs of parents that differ in it alone; pairs share "
        "parents, so they are no sample to take an interval of."
    )
    return []


def _effect(found: dict[Parents, Answers], place: int, languages: Sequence[str]) -> str:
    differences = []
    for one, answers in found.items():
        if _factors(one)[place]:
            without = replace(one, **{("noise", "careless", "lexical")[place]: False})
            differences.append(100 * (mean_of([answers], languages).value - mean_of([found[without]], languages).value))
    return f"{fmean(differences):+.1f} ({min(differences):+.1f} to {max(differences):+.1f})"
