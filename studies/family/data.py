"""The files of a pair, below DIR/data/PAIR, in the layout that `studies.real` reads.

gsm8k/train.jsonl, gsm8k/test.jsonl   English questions and solutions
mgsm/mgsm_XX.jsonl                    the test questions by language
all.jsonl                             as many training questions, each in one of all languages (of the miniature)
bitext.jsonl                          sentences of other languages with their English
test/                                 the same test questions with their numbers, as a suite (of the miniature)
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

from langbridge.errors import LangBridgeError
from langbridge.files import read_jsonl, text_field, write_jsonl
from langbridge.miniature import world
from langbridge.miniature.dataset import held_out_rows, write_suite
from langbridge.miniature.grammar import LANGUAGES
from studies.family.arms import LOW, MINIATURE

TRAINING, TESTS = 12800, 100
"""Problems of the miniature's files, the most that a run may ask for."""


def write_data(pair: str, given: Path | None, out: Path) -> Path:
    """Write what is missing, and return the folder. given: of a real pair, the folder with gsm8k/, mgsm/, ntrex/."""
    folder = out / "data" / pair
    if (folder / "bitext.jsonl").is_file():  # the last
        return folder
    if pair == MINIATURE:
        _miniature(folder)
    elif given is None:
        raise LangBridgeError(f"--data: missing; {pair} needs a folder with gsm8k/, mgsm/ and ntrex/")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("gsm8k", "mgsm"):
            if not (given / name).is_dir():
                raise LangBridgeError(f"--data {given}: has no {name}/; expected gsm8k/, mgsm/ and ntrex/")
            if not (folder / name).is_symlink():
                (folder / name).symlink_to((given / name).resolve())
        write_jsonl(folder / "bitext.jsonl", _sentences(given / "ntrex", LOW[pair]))
    return folder


def _miniature(folder: Path) -> None:
    def rows(split: str, count: int) -> Iterator[dict[str, str]]:
        for problem in world.problems(split, count):
            yield {"question": world.render(problem, "en"), "answer": world.solution(problem)}

    write_jsonl(folder / "gsm8k" / "train.jsonl", rows("train", TRAINING))
    write_jsonl(folder / "gsm8k" / "test.jsonl", rows("test", TESTS))
    for language in LANGUAGES:
        tests = held_out_rows(language, TESTS)
        write_jsonl(folder / "mgsm" / f"mgsm_{language}.jsonl", tests)
        write_jsonl(folder / "test" / f"{language}.jsonl", tests)
    write_suite(folder / "test")
    turns = zip(world.problems("train", TRAINING), itertools.cycle(LANGUAGES), strict=False)
    write_jsonl(
        folder / "all.jsonl",
        ({"question": world.render(one, code), "answer": world.solution(one)} for one, code in turns),
    )
    # Other problems than those of the task, and every language in turn.
    turns = zip(world.problems("train", TRAINING, TRAINING), itertools.cycle(LANGUAGES[1:]), strict=False)
    write_jsonl(
        folder / "bitext.jsonl",
        ({"question": world.render(one, code), "answer": world.render(one, "en")} for one, code in turns),
    )


def _sentences(folder: Path, languages: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The sentences of every language in turn, each with its English."""
    texts = {}
    for code in ("en", *languages):
        path = folder / f"ntrex_{code}.jsonl"
        texts[code] = [text_field(row, "text", f"{path}, row {number}") for number, row in read_jsonl(path)]
    for number, english in enumerate(texts["en"]):
        code = languages[number % len(languages)]
        yield {"question": texts[code][number], "answer": english}
