"""The languages of a model's answers, and **accidental translation**: answers in another language than expected.

Reads the samples of an evaluation, or any JSONL whose rows have `language` (the question's) and `output`. Into a folder
go `numbers.json`, `report.md`, `answers.jsonl` (every row with the language found) and a picture a task.
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from langbridge.analyze.figures import draw_answers
from langbridge.analyze.language_id import Identified, LanguageIdentifier
from langbridge.analyze.scripts import LANGUAGES, LATIN, NO_SCRIPT
from langbridge.errors import LangBridgeError
from langbridge.files import read_jsonl, text_field, write_atomically, write_jsonl
from langbridge.languages import group_of, two_letter
from langbridge.markdown import table

FORMAT = 1
SAME = "same"
"""Expected: the language of the question."""
UNCLEAR = "unclear"
_SCRIPT = " script"
"""The suffix of results of which only the script is known."""
_LISTED = 3
"""Accidental translations of each task and language that the page shows; the file has them all."""


@dataclass(frozen=True)
class Answer:
    """One answer, the language that was expected of it, and the one that was found: None where it is unclear.

    id: of the question; of a row without one, its place. found: a code, or `Arabic script` where the language is
    unclear but the expected one has another script.
    """

    task: str
    language: str
    id: str
    output: str
    expected: str
    found: str | None
    probability: float

    @property
    def accidental(self) -> bool | None:
        return None if self.found is None else self.found != self.expected


@dataclass(frozen=True)
class Answers:
    """The written answers in order, and what was left out.

    unknown: languages of the questions that py3langid does not know. choices: samples left out by task, where the model
    chose among given texts. without_id: answers by task that lack their question's id.
    """

    answers: list[Answer]
    unknown: list[str]
    choices: dict[str, int]
    without_id: dict[str, int]


def read_answers(run: str | Path, *, expected: str = "en", field: str = "output") -> Answers:
    """Every written answer of a run's folder (its samples_TASK.jsonl) or of a JSONL file.

    expected: a language code, or `same` for the language of each question.
    field: where a row has the model's answer.
    Raises `LangBridgeError`.
    """
    path = Path(run).expanduser()
    choices = Counter[str]()
    without_id = Counter[str]()
    rows = list(_rows(path, field, choices, without_id))
    if not rows:
        raise LangBridgeError(
            f"{path}: no answer in it was written by the model, expected a task whose answers are generated. "
            + _left_out(choices)
        )
    questions = list(dict.fromkeys(row["language"] for row in rows))
    identify = LanguageIdentifier(questions, needed=questions if expected == SAME else [expected])
    answers = []
    for row in rows:
        seen = identify(row["output"])
        wanted = two_letter(row["language"] if expected == SAME else expected)
        answers.append(Answer(**row, expected=wanted, found=_found(seen, wanted), probability=seen.probability))
    unknown = [code for code in questions if two_letter(code) in identify.unknown]
    return Answers(answers, unknown, dict(choices), dict(without_id))


def _found(seen: Identified, expected: str) -> str | None:
    """The language, or its script where the expected language has another. Latin names occur in any language."""
    if seen.language is not None or seen.script in (NO_SCRIPT, LATIN) or expected in LANGUAGES.get(seen.script, ()):
        return seen.language
    return seen.script + _SCRIPT


def _left_out(choices: Mapping[str, int]) -> str:
    tasks = ", ".join(f"{task} ({count})" for task, count in choices.items())
    return f"Left out: {tasks}, where the model chooses among the benchmark's own answers and writes none."


def _rows(path: Path, field: str, choices: Counter[str], without_id: Counter[str]) -> Iterable[dict[str, str]]:
    if path.is_dir():
        files = sorted(path.glob("samples_*.jsonl"))
        if not files:
            raise LangBridgeError(
                f"{path}: no samples_TASK.jsonl in it, so it is not the folder of an evaluation; "
                "a JSONL file with language and output will do too"
            )
    elif path.is_file():
        files = [path]
    else:
        raise LangBridgeError(f"{path}: no such file or folder")
    for file in files:
        for number, row in read_jsonl(file):
            where = f"{file}, row {number}"
            task = str(row.get("task") or file.stem.removeprefix("samples_"))
            if "loglikelihoods" in row:  # the output is the likeliest of the benchmark's texts
                choices[task] += 1
                continue
            if not isinstance(row.get(field), str):  # an empty answer is an answer
                text_field(row, field, where)
            if row.get("id") is None:
                without_id[task] += 1
                row["id"] = f"{file.name}, row {number}"
            language = text_field(row, "language", where)
            group_of(language, f"{where}, field 'language'")
            yield {"task": task, "language": language, "id": str(row["id"]), "output": row[field]}


def measure(answers: Sequence[Answer]) -> dict[str, Any]:
    """By task: counts of found languages by language of the question, and the rate of accidental translation.

    A rate is over the answers whose language is clear. In one language its error is that of a share; over several
    languages it is clustered by question, because one question in many languages is not many samples.
    `of_all` bounds the share among all answers, unclear ones included.
    """
    tasks: dict[str, Any] = {}
    for task, rows in _grouped(answers, lambda answer: answer.task).items():
        by_language = _grouped(rows, lambda answer: answer.language)
        groups = {group: [c for c in by_language if group_of(c) == group] for group in ("high", "low")}
        tasks[task] = {
            "languages": {
                code: {
                    "expected": some[0].expected,
                    **_share(some),
                    "found": dict(Counter(answer.found or UNCLEAR for answer in some).most_common()),
                }
                for code, some in by_language.items()
            },
            "groups": {
                group: _group([answer for code in codes for answer in by_language[code]])
                for group, codes in {**groups, "all": list(by_language)}.items()
                if codes
            },
        }
    return tasks


def _group(answers: Sequence[Answer]) -> dict[str, Any]:
    """Several languages together; those without a clear answer are not in the mean, but in the bounds."""
    clear = {answer.language for answer in answers if answer.found is not None}
    languages = [code for code in dict.fromkeys(answer.language for answer in answers) if code in clear]
    return {**_share(answers), "languages_in_the_mean": languages}


def _share(answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "n": len(answers),
        "unclear": sum(answer.found is None for answer in answers),
        "accidental": _rate(answers),
        "of_all": _of_all(answers),
    }


def _rate(answers: Sequence[Answer]) -> dict[str, float | None] | None:
    """The mean over languages of the share of accidental translations among clear answers, clustered by question.

    The error is that of a ratio (Cochran 1977, section 2.11) in each language, summed over a question's languages.
    """
    clear = [answer for answer in answers if answer.found is not None]
    if not clear:
        return None
    by_language = _grouped(clear, lambda answer: answer.language)
    rates = {code: sum(bool(a.accidental) for a in some) / len(some) for code, some in by_language.items()}
    deviations: dict[str, float] = defaultdict(float)
    for code, some in by_language.items():
        for answer in some:
            deviations[answer.id] += (bool(answer.accidental) - rates[code]) / len(some) / len(by_language)
    n = len(deviations)
    error = math.sqrt(sum(value**2 for value in deviations.values()) * n / (n - 1)) if n > 1 else None
    return {"value": sum(rates.values()) / len(rates), "stderr": error}


def _of_all(answers: Sequence[Answer]) -> list[float]:
    """The mean over languages of the share among all answers: if no unclear one is accidental, and if each is."""
    by_language = _grouped(answers, lambda answer: answer.language).values()
    least = [sum(a.accidental is True for a in some) / len(some) for some in by_language]
    most = [sum(a.accidental is not False for a in some) / len(some) for some in by_language]
    return [sum(least) / len(least), sum(most) / len(most)]


def analyze_outputs(run: str | Path, out: str | Path, *, expected: str = "en", field: str = "output") -> dict[str, Any]:
    """Write the whole analysis into `out` and return what `numbers.json` holds. Arguments as of `read_answers`."""
    out = Path(out).expanduser()
    if out.exists() and not out.is_dir():
        raise LangBridgeError(f"--out: {out} is a file, expected a folder")
    read = read_answers(run, expected=expected, field=field)
    tasks = measure(read.answers)
    numbers = {
        "format": FORMAT,
        "run": str(run),
        "expected": expected,
        "field": field,
        "unknown_to_the_library": read.unknown,
        "choices_left_out": read.choices,
        "without_id": read.without_id,
        "tasks": tasks,
    }
    out.mkdir(parents=True, exist_ok=True)
    names = _file_names(tasks)
    for task, found in tasks.items():
        _draw(task, found, out / names[task])
    write_jsonl(out / "answers.jsonl", ({**asdict(a), "accidental": a.accidental} for a in read.answers))
    write_atomically(out / "report.md", report(numbers, read.answers))
    write_atomically(out / "numbers.json", json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    return numbers


def report(numbers: Mapping[str, Any], answers: Sequence[Answer]) -> str:
    """The numbers as a page of Markdown, with samples."""
    expected = "the language of the question" if numbers["expected"] == SAME else f"`{numbers['expected']}`"
    clustered = sum(numbers["without_id"].values()) < len(answers)
    lines = [
        "# Language of the answers",
        "",
        f"Of `{numbers['run']}`; expected: {expected}. Numbers, formulas and code are left out before a language is "
        "told (by py3langid); where few words are left, or no language is likely enough, the answer is unclear. "
        "Accidental translation: the share of clear answers in another language than expected, per cent, ± one "
        f"standard error{' (over several languages clustered by question)' if clustered else ''}. Of all answers: the "
        "share if no unclear answer is accidental, to the share if each is. Short answers are unclear more often in "
        "some languages than in others, so where many are unclear, read the bounds.",
        "",
    ]
    lines += [line for note in notes(numbers) for line in (note, "")]
    if numbers["unknown_to_the_library"]:
        lines += [f"py3langid does not know: {', '.join(numbers['unknown_to_the_library'])}.", ""]
    names = _file_names(numbers["tasks"])
    for task, found in numbers["tasks"].items():
        lines += [f"## {task}", "", f"![Languages of the answers]({names[task]}.png)", ""]
        rows = []
        for code, row in found["languages"].items():
            seen = ", ".join(f"{name} {count}" for name, count in row["found"].items() if name != UNCLEAR)
            rows.append([code, *_cells(row), seen])
        for group, row in found["groups"].items():
            name = "all" if group == "all" else f"{group}-resource"
            rows.append([f"**{name}**", *_cells(row), mean_of(row)])
        headings = ["language", "answers", "unclear", "accidental translation", "of all answers", "found"]
        lines += [table(headings, rows, texts=(5,)), ""]
        wrong = [a for a in answers if a.task == task and a.accidental]
        for code, some in _grouped(wrong, lambda answer: answer.language).items():
            lines.append(f"{code}: {len(some)} accidental, the first {min(_LISTED, len(some))}")
            lines.append("")
            for answer in some[:_LISTED]:
                lines.append(f"- `{answer.id}` in `{answer.found}`: {_quoted(answer.output)}")
            lines.append("")
    lines += ["All answers with their languages are in `answers.jsonl`.", ""]
    return "\n".join(lines)


def notes(numbers: Mapping[str, Any]) -> list[str]:
    """Caveats: what was left out, and which answers were taken as independent."""
    said = [_left_out(numbers["choices_left_out"])] if numbers["choices_left_out"] else []
    said += [
        f"{task}: {count} answers have no `id` and are taken as independent, also where they are of one question "
        "in several languages; the errors over languages may then be too small."
        for task, count in numbers["without_id"].items()
    ]
    return said


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [str(row["n"]), unclear(row), percent(row["accidental"]), of_all(row)]


def unclear(row: Mapping[str, Any]) -> str:
    """How many answers of a language or a group are unclear, and their share."""
    return f"{row['unclear']} ({100 * row['unclear'] / row['n']:.1f} %)"


def of_all(row: Mapping[str, Any]) -> str:
    """The bounds of the share among all answers, in per cent."""
    return " to ".join(f"{100 * bound:.1f}" for bound in row["of_all"])


def mean_of(row: Mapping[str, Any]) -> str:
    """What the rate of a group is the mean of."""
    count = len(row["languages_in_the_mean"])
    return f"mean of {count} language{'' if count == 1 else 's'}"


def percent(found: Mapping[str, Any] | None) -> str:
    """A share in per cent with its error."""
    if found is None:
        return "-"
    error = "" if found["stderr"] is None else f" ± {100 * found['stderr']:.1f}"
    return f"{100 * found['value']:.1f}{error}"


def _draw(task: str, found: Mapping[str, Any], path: Path) -> None:
    rows = sorted(found["languages"], key=lambda code: group_of(code) != "high")
    counts = Counter[str]()
    for code in rows:
        counts.update(found["languages"][code]["found"])
    expected = {code: found["languages"][code]["expected"] for code in rows}
    names = [name for name, _ in counts.most_common() if name != UNCLEAR]
    codes = [name for name in names if not name.endswith(_SCRIPT)]  # a script's name is too wide for a column
    columns = list(dict.fromkeys([*expected.values(), *codes]))[:12]
    rest = [name for name in names if name not in columns]
    columns += (["other"] if rest else []) + [UNCLEAR]
    shares = np.zeros((len(rows), len(columns)))
    for i, code in enumerate(rows):
        row = found["languages"][code]
        for name, count in row["found"].items():
            shares[i, columns.index("other" if name in rest else name)] += count / row["n"]
    draw_answers(shares, rows, columns, expected, task, path)


def _quoted(text: str, longest: int = 160) -> str:
    text = re.sub(r"\s+", " ", text).strip().replace("`", "'")
    return f"`{text[:longest]}{'…' if len(text) > longest else ''}`"


def _file_names(tasks: Iterable[str]) -> dict[str, str]:
    """File names of the tasks' pictures without suffix, distinct on case-insensitive disks too."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for task in tasks:
        plain = name = "answers_" + re.sub(r"[^\w.-]", "_", task)
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.casefold())
        names[task] = name
    return names


def _grouped(answers: Iterable[Answer], key: Any) -> dict[str, list[Answer]]:
    found: dict[str, list[Answer]] = {}
    for answer in answers:
        found.setdefault(key(answer), []).append(answer)
    return found
