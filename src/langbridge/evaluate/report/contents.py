"""The content of a report, for all formats: runs, scores by language and group, differences, published rows.

Everything is read from the folders of evaluations (`runs.py`).
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.evaluate.code.pass_at_k import pass_at_k
from langbridge.evaluate.report.statements import state
from langbridge.evaluate.report.statistics import Interval, Values, average, bootstrap, differences, languages_of
from langbridge.evaluate.runs import Run, Sample
from langbridge.evaluate.scores import Score
from langbridge.languages import chosen_languages, group_of
from langbridge.settings import read_yaml

GROUPS = ("high", "low")
PASS_AT = (10, 100)
"""pass@k that is reported beside pass@1 where every problem has that many samples."""
MEASURES = {
    "accuracy_reference": "accuracy by the reference's looser rule",
    "accuracy_boxed": "accuracy of answers in a box alone",
    "accuracy_norm": "accuracy by log-probability a character",
}
"""Words for further measures of the same answers, by their names in samples."""


@dataclass(frozen=True)
class Groups:
    """Which languages are high- and which low-resource."""

    source: str
    by_language: Mapping[str, str] | None = None

    def of(self, language: str) -> str:
        if self.by_language is None:
            return group_of(language)
        if language not in self.by_language:
            raise LangBridgeError(f"--groups: {self.source} names no group for {language!r}")
        return self.by_language[language]

    @classmethod
    def default(cls) -> "Groups":
        return cls(
            "share of Llama 2's pre-training data (arXiv 2307.09288, Table 10), low: strictly under 0.1 per cent"
        )

    @classmethod
    def read(cls, path: Path) -> "Groups":
        """A YAML file of `high: [en, ...]`, `low: [sw, ...]`, and if wished `source: text`."""
        found = read_yaml(path)
        lists = {name: found.get(name) for name in GROUPS} if isinstance(found, dict) else {}
        if not lists or set(found) - {*GROUPS, "source"} or not all(isinstance(one, list) for one in lists.values()):
            raise LangBridgeError(f"--groups: {path}: expected lists of languages as high: [...] and low: [...]")
        # YAML reads a bare `no`, Norwegian, as false.
        named = [("no" if code is False else str(code), name) for name in GROUPS for code in found[name]]
        by_language = dict(named)
        if len(by_language) != len(named):
            raise LangBridgeError(f"--groups: {path}: a language is named twice")
        return cls(str(found.get("source", path.name)), by_language)


@dataclass(frozen=True)
class Cell:
    """A score in per cent. published: from a source, without an error."""

    score: Score | None = None
    published: float | None = None
    own_languages: bool = False
    """Of a published average: its source does not give its languages one by one, which may be others."""
    interval: Interval | None = None


@dataclass(frozen=True)
class Row:
    """One line of a table; cells by language, and by `high`, `low` and `all` for averages."""

    name: str
    cells: Mapping[str, Cell]
    kind: str
    """`ours`, `published` or `difference`."""
    source: str | None = None


@dataclass(frozen=True)
class Table:
    """One measure of one task."""

    task: str
    measure: str
    languages: Mapping[str, list[str]]
    """By group, in the order of the columns."""
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Languages of a group, then its average; the average of all last, where there are both groups."""
        columns = [column for group in GROUPS for column in self.columns_of(group)]
        return [*columns, "all"] if all(self.languages[group] for group in GROUPS) else columns

    def columns_of(self, group: str) -> list[str]:
        """A group's languages, and their average unless it would say the same again."""
        codes = self.languages[group]
        return [*codes, group] if len(codes) > 1 else list(codes)


@dataclass(frozen=True)
class Report:
    tables: list[Table]
    statements: list[tuple[str, list[tuple[str, str]]]]
    """How each run was made: (name, [(what, value)])."""
    groups: str
    left_out: list[str] = field(default_factory=list)
    """Tasks without a scored answer in the languages of the report."""


def name_runs(arguments: Sequence[str]) -> list[Run]:
    """Runs from `FOLDER` or `NAME=FOLDER`; the name is the folder's unless given, and no two are alike."""
    named: list[Run] = []
    for argument in arguments:
        name, equals, folder = argument.partition("=")
        if not equals or Path(argument).exists():
            name, folder = "", argument
        named.append(Run.read(folder, name))
    names = [one.name for one in named]
    for name in names:
        if names.count(name) > 1:
            raise LangBridgeError(f"two runs are called {name!r}; name them as in NAME=FOLDER")
    return named


def make_report(
    runs: Sequence[Run],
    *,
    compare: tuple[str, str] | None = None,
    published: bool = False,
    groups: Groups | None = None,
    languages: Sequence[str] | None = None,
) -> Report:
    """The report of runs.

    compare: names of two runs whose difference, first minus second, is added to the tasks that both have. published:
    with rows of the literature. languages: only these, by code or English name, so that averages are over the same
    languages as somebody else's.
    """
    groups = groups or Groups.default()
    known = {code for one in runs for task in one.tasks for code in one.languages(task)}
    if strange := [text for text in languages or () if not chosen_languages(sorted(known), [text])]:
        raise LangBridgeError(
            f"--languages: got {', '.join(strange)}, which no run has; expected some of {', '.join(sorted(known))}"
        )
    pair = None if compare is None else (_named(runs, compare[0]), _named(runs, compare[1]))
    tables, left_out = [], []
    for task in dict.fromkeys(task for one in runs for task in one.tasks):
        having = [one for one in runs if task in one.tasks]
        found = _tables(task, having, pair, published, groups, languages)
        tables += found
        left_out += [] if found else [task]
    if not tables:
        raise LangBridgeError("nothing to report: none of the runs has a score in these languages")
    if pair is not None and not any(row.kind == "difference" for table in tables for row in table.rows):
        raise LangBridgeError(f"--compare: {pair[0].name} and {pair[1].name} have no scored question in common")
    return Report(tables, [(one.name, state(one)) for one in runs], groups.source, left_out)


def marks_of(samples: Sequence[Sample], measure: str = "accuracy") -> dict[tuple[str, str], list[float]]:
    """By (question, language), which were scored, the marks of its samples. measure: or another one that they have."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for sample in samples:
        mark = sample.correct if measure == "accuracy" else sample.extra.get(measure)
        if mark is not None:
            # What is the same question in every language: its id, within its part of the task.
            part = sample.extra.get("part")
            name = sample.id if part is None else f"{part}/{sample.id}"
            found[name, sample.language].append(float(mark))
    return found


def values_of(samples: Sequence[Sample], measure: str = "accuracy") -> dict[tuple[str, str], float]:
    """Of every question that was scored, the mean over its samples."""
    return {key: sum(marks) / len(marks) for key, marks in marks_of(samples, measure).items()}


@cache
def published_rows() -> tuple[dict[str, Any], ...]:
    """Rows of the literature, with their sources."""
    found = json.loads(files("langbridge.evaluate.report").joinpath("published.json").read_text(encoding="utf-8"))
    return tuple({**row, "suites": found["suites"][row["task"]]} for row in found["rows"])


def _tables(
    task: str,
    runs: Sequence[Run],
    pair: tuple[Run, Run] | None,
    published: bool,
    groups: Groups,
    languages: Sequence[str] | None,
) -> list[Table]:
    samples = {}
    for one in runs:
        chosen = chosen_languages(one.languages(task), languages)
        samples[one.name] = [sample for sample in one.samples(task) if sample.language in chosen]
    seen = languages_of(key for rows in samples.values() for key in values_of(rows))
    if not seen:
        return []
    columns = {group: [code for code in seen if groups.of(code) == group] for group in GROUPS}
    notes = [note for one in runs for note in _notes(one, task, samples[one.name])]
    more = {key for rows in samples.values() for row in rows for key in row.extra if key.startswith("accuracy_")}
    tables = []
    for measure in ("accuracy", *sorted(more)):
        values = {name: values_of(rows, measure) for name, rows in samples.items()}
        # Published figures are by a reference's own rule or by the plain one, as far as is recorded.
        rows, about = _compared(task, values, columns, pair, published and measure != "accuracy_norm")
        # Notes on the answers belong to the first table only.
        about = [*notes, *about] if measure == "accuracy" else about
        tables.append(Table(task, MEASURES.get(measure, measure), columns, rows, about))
    return tables + _pass_tables(task, samples, columns)


def _compared(
    task: str,
    values: Mapping[str, Values],
    columns: Mapping[str, list[str]],
    pair: tuple[Run, Run] | None,
    published: bool,
) -> tuple[list[Row], list[str]]:
    """The rows of one measure, and notes on those that are differences or published."""
    rows = [Row(name, _cells(found, columns), "ours") for name, found in values.items() if found]
    notes = []
    if pair is not None and all(one.name in values for one in pair):
        both = differences(values[pair[0].name], values[pair[1].name])
        if both:
            rows.append(Row(f"{pair[0].name} − {pair[1].name}", _cells(both, columns, interval=True), "difference"))
            notes += _pairing_notes(task, pair, values)
    if published and (found := _published(task, columns)):
        rows += found
        notes.append(
            "Published rows are their sources' figures, to one digit; their prompts, decoding and extraction are their "
            "authors'. Their averages are over the languages of the columns, and empty where a source lacks one of "
            "them; with * they are the source's own, over languages that it does not give one by one."
        )
    return rows, notes


def _cells(values: Values, columns: Mapping[str, list[str]], *, interval: bool = False) -> dict[str, Cell]:
    """A cell for each language that has values, and averages over those of a group and of both."""
    by_language: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for (question, language), value in values.items():
        by_language[language][question, language] = value
    over = {code: [code] for codes in columns.values() for code in codes}
    over |= columns
    over["all"] = [code for codes in columns.values() for code in codes]
    cells = {}
    for name, codes in over.items():
        # An average over fewer languages than the column's would only look comparable.
        if codes and by_language.keys() >= set(codes):
            # A benchmark of two hundred languages would else be walked through for each of them.
            own = by_language[codes[0]] if len(codes) == 1 else values
            cells[name] = Cell(average(own, codes), interval=bootstrap(own, codes) if interval else None)
    return cells


def _pass_tables(task: str, samples: Mapping[str, Sequence[Sample]], columns: Mapping[str, list[str]]) -> list[Table]:
    marks = {name: marks_of(answers) for name, answers in samples.items()}
    tables = []
    for k in PASS_AT:
        rows = []
        for name, found in marks.items():
            if found and min(map(len, found.values())) >= k:
                estimates = {key: pass_at_k([(len(own), int(sum(own)))], k).mean for key, own in found.items()}
                rows.append(Row(name, _cells(estimates, columns), "ours"))
        if rows:
            tables.append(Table(task, f"pass@{k}", columns, rows))
    return tables


def _published(task: str, columns: Mapping[str, list[str]]) -> list[Row]:
    shown = [code for codes in columns.values() for code in codes]
    rows = []
    for row in published_rows():
        if task not in row["suites"]:
            continue
        given = row.get("languages", {})
        cells = {code: Cell(published=value) for code, value in given.items() if code in shown}
        for name, codes in {**columns, "all": shown}.items():
            if cell := _published_average(given, row["averages"].get(name), name, codes):
                cells[name] = cell
        source = row["source"] + (" (secondary)" if row.get("secondary") else "")
        rows.append(Row(row["system"], cells, "published", f"{source}; trained on: {row['trained_on']}"))
    return rows


def _published_average(given: Mapping[str, float], stated: float | None, group: str, codes: list[str]) -> Cell | None:
    """Over a column's languages. given: a source's figures by language; stated: its own average of the group."""
    if not given:
        return None if stated is None else Cell(published=stated, own_languages=True)
    theirs = {code for code in given if group in ("all", group_of(code))}
    if stated is not None and theirs == set(codes):
        return Cell(published=stated)  # the source's, which rounded once
    if codes and given.keys() >= set(codes):
        return Cell(published=sum(given[code] for code in codes) / len(codes))
    return None


def _notes(run: Run, task: str, samples: Sequence[Sample]) -> list[str]:
    """Problems with a run's answers, counted by language."""
    notes = []
    for what, has_it in (
        ("could not be scored and are left out", lambda s: s.correct is None),
        ("had no answer in the output and count as wrong", lambda s: s.correct is not None and s.extracted is None),
        ("answers were cut off by the limit of new tokens", lambda s: bool(s.extra.get("cut_off"))),
        ("prompts were too long and lost their beginning", lambda s: bool(s.extra.get("prompt_cut"))),
    ):
        by_language: dict[str, int] = defaultdict(int)
        for sample in samples:
            by_language[sample.language] += bool(has_it(sample))
        if any(by_language.values()):
            each = ", ".join(f"{code} {count}" for code, count in by_language.items() if count)
            notes.append(f"{run.name}: {sum(by_language.values())} of {len(samples)} {what} ({each}).")
    return notes


def _pairing_notes(task: str, pair: tuple[Run, Run], values: Mapping[str, Values]) -> list[str]:
    first, second = (set(values[one.name]) for one in pair)
    notes = []
    if lone := len(first ^ second):
        notes.append(f"Difference: {len(first & second)} answers in pairs; {lone} that only one run has are left out.")
    data = [
        {code: found["data"] for code, found in one.results["tasks"][task]["languages"].items() if "data" in found}
        for one in pair
    ]
    differ = [code for code in data[0] if code in data[1] and data[0][code] != data[1][code]]
    if differ:
        notes.append(f"Difference: the two runs read different files in {', '.join(differ)}; paired by question id.")
    return notes


def _named(runs: Sequence[Run], wanted: str) -> Run:
    for one in runs:
        if one.name == wanted or Path(wanted).resolve() == one.folder.resolve():
            return one
    raise LangBridgeError(f"--compare: no run {wanted!r}; there are {', '.join(one.name for one in runs)}")
