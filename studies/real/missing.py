"""Are the words that do not arrive what a language's gain lacks? English is asked the same way: each question without
those of its content words that did not arrive from another language, and with another question's in their place.

A word has arrived where the soft prompts of the question in that language have it among their three nearest rows
(`nearest.py`); it is told of the closed form alone, since training leads soft prompts away from rows. What of the
distance between English and the language English loses with the words is what they account for.

DIR/PAIR/ARM/seed-N/measured/QUESTIONS/EXAMPLES/en-without-XX.json, en-instead-XX.json     one measurement each
"""

import json
import random
import re
from collections.abc import Mapping, Sequence

import numpy as np

from langbridge.files import write_atomically
from langbridge.markdown import table
from studies.real.nearest import NearestRows, content_words, said_by
from studies.real.reading import ENGLISH, INSTEAD, WITHOUT, Questions, Reader, measure
from studies.real.runs import Note, Run, carry_out
from studies.real.shares import Estimate, Languages, Measurement, Shares

_WORD = re.compile(r"[A-Za-z]+")


class Altered(Questions):
    """Questions with some languages made of others."""

    def __init__(self, questions: Questions, made: Mapping[str, list[str]]) -> None:
        super().__init__(questions.data, questions.count)
        self.made = made

    def __getitem__(self, language: str) -> list[str]:
        return self.made[language] if language in self.made else super().__getitem__(language)


def carry_out_missing(run: Run, questions: Questions, languages: Sequence[str], *, note: Note = print) -> str:
    """Measure of an untrained arm what is missing, and return a table of what the words account for."""
    bridge = carry_out(run, questions, languages, note=note)
    assert bridge is not None
    path = {code: run.measured(questions.count, 0, code) for code in (ENGLISH, *languages)}
    path |= {kind.format(code): run.measured(questions.count, 0, kind.format(code))
             for code in languages for kind in (WITHOUT, INSTEAD)}  # fmt: skip
    if missing := [name for name, one in path.items() if not one.is_file()]:
        reader = Reader.of_bridge(bridge, run.recipe)
        assert reader.nearest is not None
        made: dict[str, list[str]] = {}
        for code in languages:
            made |= spoilt(reader.nearest, questions, code)
        for name in missing:
            found = measure(reader, Altered(questions, made), name)
            write_atomically(path[name], json.dumps(found) + "\n")
            note(f"{run.pair} {run.arm} seed {run.seed}, {name}  ({found['seconds']:.0f} s)")
    return accounted({name: Measurement.read(one) for name, one in path.items()}, languages)


def spoilt(rows: NearestRows, questions: Questions, code: str) -> dict[str, list[str]]:
    """English without the words that do not arrive from a language, and with others instead of them."""
    english, without, instead = questions[ENGLISH], [], []
    lost = []
    for question, same in zip(questions[code], english, strict=True):
        lost.append((content_words(same) & rows.words) - said_by(rows.near(question)))
    for number, (text, words) in enumerate(zip(english, lost, strict=True)):
        # Not the next question's, which is what a question is held against.
        others = sorted((content_words(english[(number + 2) % len(english)]) & rows.words) - words) or ["thing"]
        rng = random.Random(number)
        without.append(" ".join(_replaced(text, dict.fromkeys(words, "")).split()))
        instead.append(_replaced(text, {word: rng.choice(others) for word in sorted(words)}))
    return {WITHOUT.format(code): without, INSTEAD.format(code): instead}


def _replaced(text: str, by: Mapping[str, str]) -> str:
    return _WORD.sub(lambda found: by.get(found[0].lower(), found[0]), text)


def accounted(measured: Languages, languages: Sequence[str]) -> str:
    """A row a language, and their mean: gains in nats, and the part of the distance to English that words account
    for."""
    shares = Shares([measured])
    english = shares.gain([ENGLISH])
    rows = []
    for name, codes in (*((code, [code]) for code in languages), ("mean", list(languages))):
        own, without, instead = (
            shares.gain([kind.format(code) for code in codes]) for kind in ("{}", WITHOUT, INSTEAD)
        )
        parts = [_part(english, one, own) for one in (without, instead)]
        rows.append([name, str(english), str(without), str(instead), str(own), *map(str, parts)])
    return table(
        ["words of", "English", "without them", "others instead", "the language itself", "accounted for: without",
         "others instead"], rows,
    )  # fmt: skip


def _part(english: Estimate, altered: Estimate, own: Estimate) -> Estimate:
    with np.errstate(divide="ignore", invalid="ignore"):
        return Estimate((english.draws - altered.draws) / (english.draws - own.draws))
