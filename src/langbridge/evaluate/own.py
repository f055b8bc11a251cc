"""A user's own task family: a JSONL file a language and four lines of YAML.

    suite: farm
    files: farm_*.jsonl      # beside the YAML; what * stands for is the language
    question: text           # the field with the prompt
    answer: number           # the field with the right answer

and where the answer is no number, `kind: exact` (one of the answers that occur in the files) or `kind: choice` (the
letter of an option, which the question names as "(A) ...").
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from langbridge.errors import LangBridgeError
from langbridge.evaluate.answers import choice_letter, word_choice
from langbridge.evaluate.judging import Judge, Verdict
from langbridge.evaluate.sources import Source, dataset, read_rows, row_ids
from langbridge.evaluate.tasks.word_problems import judge as number_judge
from langbridge.evaluate.tasks.word_problems import number_text
from langbridge.languages import group_of

_KEYS = {"suite", "files", "question", "answer", "kind", "max_new_tokens", "stop", "version"}
_LETTERS = [chr(code) for code in range(ord("A"), ord("Z") + 1)]


class WordJudge(Judge):
    """The last of all possible answers that the text names, stated ones first."""

    def __init__(self, possible: Sequence[str]):
        self.possible = {answer: answer.lower() for answer in possible}

    def verdict(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Verdict:
        (output,) = results
        found = word_choice(output, self.possible)
        return Verdict(output, found, found == doc["expected"].lower())


class LetterJudge(Judge):
    def verdict(self, doc: Mapping[str, Any], results: Sequence[Any]) -> Verdict:
        (output,) = results
        found = choice_letter(output, _LETTERS)
        return Verdict(output, found, found == doc["expected"])


def own_suite(path: Path) -> tuple[str, dict[str, Any]]:
    """The name of the suite that a YAML file describes, and its group of tasks for the harness."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LangBridgeError(f"--suite: {path}: {error}") from error
    if not isinstance(found, dict) or not {"suite", "files", "question", "answer"} <= set(found):
        raise LangBridgeError(f"--suite: {path}: expected the keys suite, files, question and answer, got {found!r}")
    if unknown := set(found) - _KEYS:
        raise LangBridgeError(f"--suite: {path}: unknown key {', '.join(sorted(map(str, unknown)))}")
    kind = found.get("kind", "number")
    if kind not in ("number", "exact", "choice"):
        raise LangBridgeError(f"--suite: {path}, kind: got {kind!r}, expected number, exact or choice")
    name, pattern = str(found["suite"]), str(found["files"])
    if not name.replace("_", "").replace("-", "").isalnum():
        raise LangBridgeError(f"--suite: {path}, suite: got {name!r}, expected letters, digits, '-' and '_'")
    if pattern.count("*") != 1 or "*" not in Path(pattern).name:
        raise LangBridgeError(f"--suite: {path}, files: got {pattern!r}, expected a name with one * for the language")
    if Path(pattern).is_absolute():
        raise LangBridgeError(f"--suite: {path}, files: got {pattern!r}, expected a name beside the YAML file")
    generation = _generation(found, path)
    before, after = Path(pattern).name.split("*")
    files = sorted(path.parent.glob(pattern))
    if not files:
        raise LangBridgeError(f"--suite: {path}, files: {path.parent / pattern} matches no file")
    items = []
    for file in files:
        language = file.name[len(before) : len(file.name) - len(after)]
        try:
            group_of(language)
        except LangBridgeError as error:
            raise LangBridgeError(
                f"--suite: {path}, files: {file.name}: expected a language code such as 'sw' or 'zh-Hant' in the place "
                f"of *, got {language!r}"
            ) from error
        question = str(found["question"])
        source = Source(name, (file.name,), (question, str(found["answer"])), texts=(question,))
        documents, possible = _documents(found, kind, source, file.parent, language)
        judges = {"number": number_judge, "choice": LetterJudge(), "exact": WordJudge(possible)}
        items.append(
            {
                "task": f"own_{name}_{language}",
                "metadata": {"version": found.get("version", 1.0), "language": language},
                "custom_dataset": _Given(documents),
                "process_results": judges[kind],
            }
        )
    return name, {
        "group": f"own_{name}",
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": "prompt",
        "doc_to_target": "target",
        "generation_kwargs": generation,
        "metric_list": [{"metric": "accuracy", "aggregation": "mean", "higher_is_better": True}],
        "task": items,
    }


def _generation(found: Mapping[str, Any], path: Path) -> dict[str, Any]:
    stop, most = found.get("stop", ["</s>", "<|im_end|>"]), found.get("max_new_tokens", 256)
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
        raise LangBridgeError(f"--suite: {path}, stop: expected a text or a list of texts, got {stop!r}")
    if type(most) is not int or most < 1:
        raise LangBridgeError(f"--suite: {path}, max_new_tokens: expected a number of at least 1, got {most!r}")
    return {"until": stops, "do_sample": False, "max_gen_toks": most}


class _Given:
    """Documents that are read already, as the harness asks for them."""

    def __init__(self, documents: Any):
        self.documents = documents

    def __call__(self, **_: Any) -> dict[str, Any]:
        return {"test": self.documents}


def _documents(
    found: Mapping[str, Any], kind: str, source: Source, folder: Path, language: str
) -> tuple[Any, list[str]]:
    rows = read_rows(source, folder)
    question, answer = str(found["question"]), str(found["answer"])
    documents = []
    for name, (where, row) in zip(row_ids(rows), rows.rows, strict=True):
        text = str(row[answer]).strip()
        expected = (
            number_text(text, where) if kind == "number" else text.strip("() ").upper() if kind == "choice" else text
        )
        if not expected or (kind == "choice" and expected not in _LETTERS):
            raise LangBridgeError(f"{where}, field {answer!r}: expected an answer of kind {kind}, got {row[answer]!r}")
        documents.append(
            {
                "id": name,
                "language": language,
                "prompt": row[question],
                "expected": expected,
                "target": expected,
            }
        )
    return dataset(documents, rows.origin), sorted({one["expected"] for one in documents})
