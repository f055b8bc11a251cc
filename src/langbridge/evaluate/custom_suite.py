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
from typing import Any, Literal, get_args

import yaml

from langbridge.data.columns import Columns
from langbridge.errors import LangBridgeError
from langbridge.evaluate.answers import choice_letter, word_choice
from langbridge.evaluate.benchmarks import BenchmarkRows, dataset, file_rows, origin_of_file, row_ids
from langbridge.evaluate.graders import WrittenAnswer
from langbridge.evaluate.tasks.humaneval.documents import SCORER, program_document
from langbridge.evaluate.tasks.humaneval.documents import grader as program_grader
from langbridge.evaluate.tasks.humaneval.problems import STOPS
from langbridge.evaluate.tasks.word_problems import grader as number_grader
from langbridge.evaluate.tasks.word_problems import number_text
from langbridge.files import BadRow
from langbridge.languages import language_code

Kind = Literal["number", "exact", "choice", "code"]

_NEEDED = ("suite", "files", "question", "answer")
_OPTIONAL = ("kind", "id", "on_bad_gold", "header", "quoting", "rows", "max_new_tokens", "stop", "version")
_LETTERS = [chr(code) for code in range(ord("A"), ord("Z") + 1)]


def own_suite(path: Path, *, everything: bool = True) -> tuple[str, dict[str, Any]]:
    """The name of the suite that a YAML file describes, and its group of tasks for the harness.

    Files of rows are opened when their tasks are made. everything: every file that `files` matches must belong to a
    language; otherwise the others are ignored.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LangBridgeError(f"--suite: {path}: {error}") from error
    if not isinstance(found, dict) or not set(_NEEDED) <= set(found):
        raise LangBridgeError(f"--suite: {path}: expected the keys suite, files, question and answer, got {found!r}")
    if unknown := set(found) - {*_NEEDED, *_OPTIONAL}:
        raise LangBridgeError(
            f"--suite: {path}: unknown key {', '.join(sorted(map(str, unknown)))}; expected "
            f"{', '.join(_NEEDED)} and, optional, {', '.join(_OPTIONAL)}"
        )
    _check(found, path)
    name, kind = str(found["suite"]), found.get("kind", "number")
    items = []
    for language, file in _files(path, str(found["files"]), everything=everything).items():
        questions = _Questions(found, file, language)
        graders = {"number": number_grader, "choice": _letter, "exact": questions.grader, "code": program_grader}
        items.append(
            {
                "task": f"own_{name}_{language}",
                "metadata": {
                    "version": found.get("version", 1.0),
                    "language": language,
                    **({"scorer": SCORER} if kind == "code" else {}),
                },
                "custom_dataset": questions,
                "process_results": graders[kind],
            }
        )
    return name, {
        "group": f"own_{name}",
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": "prompt",
        "doc_to_target": "target",
        "generation_kwargs": _generation(found, path),
        "metric_list": [{"metric": "accuracy", "aggregation": "mean", "higher_is_better": True}],
        "task": items,
    }


def _check(found: Mapping[str, Any], path: Path) -> None:
    name = str(found["suite"])
    if not name.replace("_", "").replace("-", "").isalnum():
        raise LangBridgeError(f"--suite: {path}, suite: got {name!r}, expected letters, digits, '-' and '_'")
    choices = {"kind": get_args(Kind), "on_bad_gold": ("error", "skip"), "quoting": ("auto", "quoted", "plain")}
    for key, possible in choices.items():
        if key in found and found[key] not in possible:
            raise LangBridgeError(
                f"--suite: {path}, {key}: got {found[key]!r}, expected {', '.join(possible[:-1])} or {possible[-1]}"
            )
    for key in ("question", "answer", "id", "rows"):
        if key in found and not (isinstance(found[key], str) and found[key]):
            raise LangBridgeError(f"--suite: {path}, {key}: expected the name of a field, got {found[key]!r}")
    header = found.get("header")
    if header is not None and not (isinstance(header, list) and header and all(isinstance(one, str) for one in header)):
        raise LangBridgeError(f"--suite: {path}, header: expected a list of names of columns, got {header!r}")
    try:
        Columns(found["question"])
    except LangBridgeError as error:
        raise LangBridgeError(f"--suite: {path}, question: {error}") from None


def _files(path: Path, pattern: str, *, everything: bool) -> dict[str, Path]:
    """Files by language. Every `*` of the pattern is the language: `*/test.*.tsv`."""
    if "*" not in pattern or "**" in pattern:
        raise LangBridgeError(
            f"--suite: {path}, files: got {pattern!r}, expected a name with * for the language, as in farm_*.jsonl or "
            "*/test.tsv"
        )
    if Path(pattern).is_absolute():
        raise LangBridgeError(f"--suite: {path}, files: got {pattern!r}, expected a name beside the YAML file")
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
                f"--suite: {path}, files: {file.relative_to(path.parent)}: expected a language in the place of * (a "
                f"code such as 'sw', 'swa' or 'swh_Latn', or a name such as 'Swahili'), got {match['language']!r}; a "
                "narrower pattern leaves the file out, and so does --languages"
            )
        if language in files:
            raise LangBridgeError(f"--suite: {path}, files: both {files[language]} and {file} are of {language!r}")
        files[language] = file
    if not files:
        raise LangBridgeError(f"--suite: {path}, files: {path.parent / pattern} matches no file of a language")
    return files


def _generation(found: Mapping[str, Any], path: Path) -> dict[str, Any]:
    is_code = found.get("kind") == "code"
    stop = found.get("stop", [*STOPS, "</s>"] if is_code else ["</s>", "<|im_end|>"])
    most = found.get("max_new_tokens", 512 if is_code else 256)
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
        raise LangBridgeError(f"--suite: {path}, stop: expected a text or a list of texts, got {stop!r}")
    if type(most) is not int or most < 1:
        raise LangBridgeError(f"--suite: {path}, max_new_tokens: expected a number of at least 1, got {most!r}")
    return {"until": stops, "do_sample": False, "max_gen_toks": most}


class _Questions:
    """The documents of one language, read when the harness asks for them."""

    def __init__(self, found: Mapping[str, Any], file: Path, language: str):
        self.file, self.language = file, language
        self.kind: Kind = found.get("kind", "number")
        self.question, self.answer = Columns(found["question"]), str(found["answer"])
        self.id = found.get("id", "task_id" if self.kind == "code" else "id")
        self.needs_id = "id" in found
        self.skips = found.get("on_bad_gold") == "skip"
        self.reading = {
            "header": found.get("header"),
            "quoting": found.get("quoting", "auto"),
            "field": found.get("rows"),
        }

    def __call__(self, **_: Any) -> dict[str, Any]:
        rows, origin = self._read
        return {"test": dataset(rows, origin)}

    @property
    def answers(self) -> list[str]:
        """The distinct right answers of the file."""
        return sorted({row["expected"] for row in self._read[0]})

    @cached_property
    def _words(self) -> dict[str, str]:
        return {answer: answer.lower() for answer in self.answers}

    @property
    def grader(self) -> WrittenAnswer:
        """The last of the file's answers that a text names, stated ones first."""
        return WrittenAnswer(lambda output, doc: word_choice(output, self._words))

    @cached_property
    def _read(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        found = BenchmarkRows(file_rows(self.file, **self.reading), origin_of_file(self.file))
        documents, skipped = [], list[BadRow]()
        for where, row in found.rows:
            for name in (self.answer, *([self.id] if self.needs_id else [])):
                if name not in row:
                    raise LangBridgeError(f"{where}: no field {name!r}; the row has {', '.join(map(repr, row))}")
        for name, (where, row) in zip(row_ids(found, self.id), found.rows, strict=True):
            about = {"id": name, "language": self.language}
            prompt = self.question(row, where)
            try:
                documents.append({**about, **self._document(prompt, row, where)})
            except BadRow as error:
                if not self.skips:
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
        if self.kind == "code":
            return program_document({**row, "prompt": prompt, "canonical_solution": row[self.answer]}, where)
        text = str(row[self.answer]).strip()
        if self.kind == "number":
            expected = number_text(text, where)
        else:
            expected = text.strip("() ").upper() if self.kind == "choice" else text
        if not expected or row[self.answer] is None or (self.kind == "choice" and expected not in _LETTERS):
            raise BadRow(
                f"{where}, field {self.answer!r}: expected an answer of kind {self.kind}, got {row[self.answer]!r}"
            )
        return {"prompt": prompt, "expected": expected, "target": expected}


_letter = WrittenAnswer(lambda output, doc: choice_letter(output, _LETTERS))
"""The letter of an option."""
