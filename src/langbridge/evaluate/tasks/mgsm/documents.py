"""MGSM's documents: the question alone, or after eight worked examples in its language.

The prefixes of question and answer ("Swali:", "Jibu la Hatua kwa Hatua:") are the published exemplars' own.
"""

import ast
import re
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.evaluate.benchmarks import (
    Benchmark,
    BenchmarkRows,
    HubPlace,
    NoSuchFile,
    dataset,
    origin_of_file,
    read_rows,
    row_ids,
)
from langbridge.evaluate.tasks.word_problems import number_text

TEST = Benchmark(
    "mgsm",
    ("mgsm_{language}", "mgsm_{Name}"),
    ("question", "answer_number"),
    HubPlace("juletxara/mgsm", "{language}"),
    texts=("question",),
    aliases={"query": "question", "response": "answer_number"},  # as in MathOctopus's copy
    header=("question", "answer_number"),
)
EXEMPLARS = Benchmark(
    "mgsm",
    ("exemplars_{language}",),
    ("question", "answer", "answer_number"),
    HubPlace("juletxara/mgsm", "{language}", "train"),
    texts=("question", "answer"),
)
MODES = ("zero_shot", "en_cot", "native_cot", "direct")
ENGLISH_ANSWER, DIRECT_ANSWER = "Step-by-Step Answer:", "Answer:"

_PREFIX = re.compile(r"^\s*([^:：\n]{1,40}[:：])\s*")


def load(
    language: str, mode: str = "zero_shot", data: Any = None, frame: str | None = None, shots_data: Any = None, **_: Any
) -> dict[str, Any]:
    """The splits `test` and, with examples, `shots`.

    frame: the language of prefixes and examples, where it is not the question's (a translated question is English).
    shots_data: where the examples are, where it is not with the questions.
    """
    if mode not in MODES:
        raise LangBridgeError(f"mgsm: mode: got {mode!r}, expected one of {', '.join(MODES)}")
    found = read_rows(TEST, data, language=language)
    around = _Frame(frame or language, mode, shots_data or data) if mode != "zero_shot" else None
    documents = []
    for name, (where, row) in zip(row_ids(found), found.rows, strict=True):
        expected = number_text(row["answer_number"], where)
        question = row["question"].strip()
        documents.append(
            {
                "id": name,
                "language": language,
                "prompt": question if around is None else around.prompt(question),
                "expected": expected,
                "target": expected,
            }
        )
    splits = {"test": dataset(documents, found.origin)}
    if around is not None:
        splits["shots"] = dataset(around.shots, around.origin)
    return splits


class _Frame:
    """The context of a question: its prefix, the opening of its answer, and the worked examples."""

    def __init__(self, language: str, mode: str, data: Any):
        native = _exemplars(data, language)
        rows = [row for _, row in native.rows]
        self.origin = native.origin
        self.question = _prefix(rows[0]["question"], language)
        if mode == "native_cot":
            self.answer = _prefix(rows[0]["answer"], language)
            targets = [_without_prefix(row["answer"]) for row in rows]
        elif mode == "direct":
            self.answer = DIRECT_ANSWER
            targets = [number_text(row["answer_number"], where) for where, row in native.rows]
        else:
            self.answer = ENGLISH_ANSWER
            # The published exemplars have no English chain in each language: it is English's own at the same place.
            has_english = all("answer_en" in row for row in rows)
            chains = rows if has_english else [row for _, row in _exemplars(data, "en").rows]
            targets = [_without_prefix(row.get("answer_en") or row["answer"]) for row in chains]
        self.shots = [
            {"prompt": self.prompt(_without_prefix(row["question"])), "target": target}
            for row, target in zip(rows, targets, strict=True)
        ]

    def prompt(self, question: str) -> str:
        space = "" if self.question.endswith("：") else " "
        return f"{self.question}{space}{question}\n{self.answer}"


def _exemplars(data: str | Path | None, language: str) -> BenchmarkRows:
    """The worked examples: rows in a file a language or on the hub, or else those of the publisher's `exemplars.py`."""
    try:
        return read_rows(EXEMPLARS, data, language=language)
    except NoSuchFile as error:
        folder = Path(str(data)).expanduser()
        path = next((path for place in (folder / "mgsm", folder) if (path := place / "exemplars.py").is_file()), None)
        if path is None:
            raise NoSuchFile(f"{error}; nor an exemplars.py") from None
    try:
        assigned = {
            node.targets[0].id: node.value
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        # Read as literals: nothing of the file is run.
        worked = ast.literal_eval(assigned["MGSM_EXEMPLARS"])[language]
        numbers = ast.literal_eval(assigned["EXEMPLAR_NUMBER_ANSWERS"])
        rows = [
            {"question": one["q"], "answer": one["a"], "answer_number": number}
            for one, number in zip(worked.values(), numbers, strict=True)
        ]
    except (ValueError, SyntaxError, LookupError, TypeError, AttributeError) as error:
        raise LangBridgeError(
            f"{path}: expected the dictionary MGSM_EXEMPLARS with {language!r} in it, of examples' 'q' and 'a', and "
            f"the list EXEMPLAR_NUMBER_ANSWERS: {type(error).__name__}: {error}"
        ) from error
    return BenchmarkRows(
        [(f"{path}, {language} {place}", row) for place, row in enumerate(rows, 1)], origin_of_file(path)
    )


def _prefix(text: str, language: str) -> str:
    match = _PREFIX.match(text)
    if match is None:
        raise LangBridgeError(f"mgsm: exemplars_{language}: expected a prefix such as 'Question:', got {text[:40]!r}")
    return match[1]


def _without_prefix(text: str) -> str:
    return _PREFIX.sub("", text, count=1).strip()
