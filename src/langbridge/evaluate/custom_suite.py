"""A user's own suite: one file of rows per language, and four lines of YAML.

    suite: farm
    files: farm_*.jsonl      # in the YAML's folder; * is the language
    question: text           # the field with the prompt, or a template over fields: "{passage}\\n{question}"
    answer: number           # the field with the right answer

and, unless the answer is a number, `kind`: `exact` (one of the answers that occur in the file), `choice` (the letter of
an option that the question lists as "(A) ...") or `code` (a Python function that passes the row's tests).
"""

import glob
import re
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from langbridge.data.columns import Columns
from langbridge.data.settings import Text
from langbridge.errors import LangBridgeError
from langbridge.evaluate.answers import choice_letter, word_choice
from langbridge.evaluate.benchmarks import dataset, row_ids, rows_of_file
from langbridge.evaluate.graders import WrittenAnswer
from langbridge.evaluate.tasks.humaneval.documents import SCORER, program_document
from langbridge.evaluate.tasks.humaneval.documents import grader as program_grader
from langbridge.evaluate.tasks.humaneval.problems import STOPS
from langbridge.evaluate.tasks.word_problems import grader as number_grader
from langbridge.evaluate.tasks.word_problems import number_text
from langbridge.files import BadRow
from langbridge.languages import language_code
from langbridge.settings import Settings, read_yaml


class CustomSuite(Settings):
    """What such a file says; docs/how-to/task-family.md has the keys."""

    suite: str
    files: str
    question: Text
    answer: str
    kind: Literal["number", "exact", "choice", "code"] = "number"
    id: str | None = None
    on_bad_gold: Literal["error", "skip"] = "error"
    header: tuple[str, ...] | None = Field(default=None, min_length=1)
    quoting: Literal["auto", "quoted", "plain"] = "auto"
    rows: str | None = None
    max_new_tokens: PositiveInt | None = None
    stop: tuple[str, ...] | None = None
    version: Any = 1.0

    @field_validator("stop", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.suite.replace("_", "").replace("-", "").isalnum():
            raise LangBridgeError(f"suite: expected letters, digits, '-' and '_', got {self.suite!r}")
        if "*" not in self.files or "**" in self.files or Path(self.files).is_absolute():
            raise LangBridgeError(
                "files: expected a name in the YAML's folder with * for the language, as in farm_*.jsonl or "
                f"*/test.tsv, got {self.files!r}"
            )
        return self

    @property
    def is_code(self) -> bool:
        return self.kind == "code"

    @property
    def generation(self) -> dict[str, Any]:
        """How the harness generates an answer."""
        stop = self.stop or ((*STOPS, "</s>") if self.is_code else ("</s>", "<|im_end|>"))
        most = self.max_new_tokens or (512 if self.is_code else 256)
        return {"until": list(stop), "do_sample": False, "max_gen_toks": most}


def own_suite(path: Path, *, everything: bool = True) -> tuple[str, dict[str, Any]]:
    """The name of the suite that a YAML file describes, and its group of tasks for the harness.

    Files of rows are opened when their tasks are made. everything: every file that `files` matches must belong to a
    language; otherwise the others are ignored.
    """
    found = read_yaml(path)
    try:
        suite = CustomSuite.read(found)
    except LangBridgeError as error:
        raise LangBridgeError(f"{path}: {error}") from None
    items = []
    for language, file in _files(path, suite.files, everything=everything).items():
        questions = _Questions(suite, file, language)
        graders = {
            "number": number_grader,
            "exact": WrittenAnswer(questions.named),
            "choice": WrittenAnswer(_letter),
            "code": program_grader,
        }
        items.append(
            {
                "task": f"own_{suite.suite}_{language}",
                "metadata": {
                    "version": suite.version,
                    "language": language,
                    **({"scorer": SCORER} if suite.is_code else {}),
                },
                "custom_dataset": questions,
                "process_results": graders[suite.kind],
            }
        )
    return suite.suite, {
        "group": f"own_{suite.suite}",
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": "prompt",
        "doc_to_target": "target",
        "generation_kwargs": suite.generation,
        "metric_list": [{"metric": "accuracy", "aggregation": "mean", "higher_is_better": True}],
        "task": items,
    }


def _files(path: Path, pattern: str, *, everything: bool) -> dict[str, Path]:
    """Files by language. Every `*` of the pattern is the language: `*/test.*.tsv`."""
    literal = pattern.split("*")
    language_in = re.compile(
        re.escape(literal[0]) + r"(?P<language>[^/]+)" + r"(?P=language)".join(re.escape(part) for part in literal[1:])
    )
    files: dict[str, Path] = {}
    for file in sorted(path.parent.glob("*".join(map(glob.escape, literal)))):
        match = language_in.fullmatch(file.relative_to(path.parent).as_posix())
        if match is None or match["language"].startswith(".") or not file.is_file():
            continue
        language = language_code(match["language"])
        if language is None:
            if not everything:
                continue
            raise LangBridgeError(
                f"{path}: files: {file.relative_to(path.parent)}: expected a language in the place of * (a "
                f"code such as 'sw', 'swa' or 'swh_Latn', or a name such as 'Swahili'), got {match['language']!r}; a "
                "narrower pattern leaves the file out, and so does --languages"
            )
        if language in files:
            raise LangBridgeError(f"{path}: files: both {files[language]} and {file} are of {language!r}")
        files[language] = file
    if not files:
        raise LangBridgeError(f"{path}: files: {path.parent / pattern} matches no file of a language")
    return files


def _letter(output: str, doc: Mapping[str, Any]) -> str | None:
    """One of the options' letters that the question lists: "I" opens many English sentences."""
    letters = sorted(set(re.findall(r"\(([A-Z])\)", doc["prompt"]))) or ascii_uppercase
    return choice_letter(output, letters, bare=True)


class _Questions:
    """The documents of one language, read when the harness asks for them."""

    def __init__(self, suite: CustomSuite, file: Path, language: str):
        self.suite, self.file, self.language = suite, file, language
        self.question = Columns(suite.question)

    def __call__(self, **_: Any) -> dict[str, Any]:
        rows, origin = self._read
        return {"test": dataset(rows, origin)}

    def named(self, output: str, doc: Mapping[str, Any]) -> str | None:
        """The last of the file's answers that a text names, stated ones first."""
        return word_choice(output, self._words)

    @cached_property
    def _words(self) -> dict[str, str]:
        return {row["expected"]: row["expected"].lower() for row in self._read[0]}

    @cached_property
    def _read(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        suite = self.suite
        found = rows_of_file(self.file, header=suite.header, quoting=suite.quoting, field=suite.rows)
        documents, skipped = [], list[BadRow]()
        for where, row in found.rows:
            for name in (suite.answer, *([suite.id] if suite.id else [])):
                if name not in row:
                    raise LangBridgeError(f"{where}: no field {name!r}; the row has {', '.join(map(repr, row))}")
        ids = row_ids(found, suite.id or ("task_id" if suite.is_code else "id"))
        for name, (where, row) in zip(ids, found.rows, strict=True):
            about = {"id": name, "language": self.language}
            prompt = self.question(row, where)
            try:
                documents.append({**about, **self._document(prompt, row, where)})
            except BadRow as error:
                if suite.on_bad_gold == "error":
                    raise
                skipped.append(error)
        if not documents:
            raise LangBridgeError(f"{self.file}: no row is left, since every gold is bad; the first: {skipped[0]}")
        if skipped:
            warnings.warn(f"{len(skipped)} of {len(found.rows)} rows skipped; the first: {skipped[0]}", stacklevel=2)
            found.origin["skipped"] = len(skipped)
        return documents, found.origin

    def _document(self, prompt: str, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Raises `BadRow` for a bad gold."""
        kind, gold = self.suite.kind, row[self.suite.answer]
        if kind == "code":
            return program_document({**row, "prompt": prompt, "canonical_solution": gold}, where)
        text = str(gold).strip()
        if kind == "number":
            expected = number_text(text, where)
        else:
            expected = text.strip("() ").upper() if kind == "choice" else text
        if not expected or gold is None or (kind == "choice" and expected not in tuple(ascii_uppercase)):
            raise BadRow(f"{where}, field {self.suite.answer!r}: expected an answer of kind {kind}, got {gold!r}")
        return {"prompt": prompt, "expected": expected, "target": expected}
