"""From run folders to tables in every format, and what a report must say and must not."""

import base64
import csv
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from langbridge.errors import LangBridgeError
from langbridge.evaluate import runs
from langbridge.evaluate.report import Groups, as_markdown, make_report, name_runs, write_report
from langbridge.evaluate.report.contents import published_rows
from langbridge.evaluate.report.examples import show_samples
from langbridge.evaluate.report.formats import as_csv, as_latex
from langbridge.evaluate.report.statements import _base, _model
from langbridge.evaluate.runs import Run, Sample

MODEL = {
    "name": "models/bridge",
    "kind": "bridge",
    "revision": None,
    "bases": {
        "encoder": {"id": "google/mt5-xl", "revision": "abc123"},
        "language_model": {"id": "lm", "revision": None},
    },
    "template": "Q: {prompt}\nA:",
    "dtype": "float32",
    "shots_in": "encoder",
}
CODE = {"langbridge": "0.1.0", "revision": "0123abcd", "torch": "2.13.0"}


def sample(task: str, language: str, id: str, correct: int | None, **more: Any) -> Sample:
    extracted = None if correct is None else str(correct)
    return Sample(task, language, id, f"prompt {id}", "1", f"output {id}", extracted, correct, more)


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a run's folder as an evaluation does."""

    def make(name: str, samples: dict[str, list[Sample]], sha256: str = "5e5e", **results: Any) -> Path:
        folder = tmp_path / name
        runs.begin(folder, {"name": name})
        tasks = {
            task: {
                "version": "1.0",
                "shots": 0,
                "generation": {"until": ["</s>"], "do_sample": False, "max_gen_toks": 256},
                "repeats": 1,
                "example_prompt": "Q: 1 + 1?\nA:",
                "languages": {
                    code: {"data": {task: {"file": f"{task}_{code}.jsonl", "sha256": sha256}}}
                    for code in dict.fromkeys(one.language for one in rows)
                },
            }
            for task, rows in samples.items()
        }
        runs.finish(folder, {"model": MODEL, "code": CODE, "limit": None, "tasks": tasks, **results}, samples)
        return folder

    return make


def mgsm(marks: dict[str, str]) -> dict[str, list[Sample]]:
    """`{"sw": "10?"}`: the first question right, the second wrong, the third not scored."""
    meaning = {"1": 1, "0": 0, "?": None}
    return {
        "mgsm": [
            sample("mgsm", code, str(index), meaning[mark])
            for code, text in marks.items()
            for index, mark in enumerate(text)
        ]
    }


FIRST = {"en": "1111", "te": "1100", "sw": "1010"}
SECOND = {"en": "1110", "te": "0000", "sw": "1000"}


def cells(report: Any, row: int, table: int = 0) -> dict[str, float]:
    found = report.tables[table].rows[row].cells
    return {name: cell.score.mean if cell.score else cell.published for name, cell in found.items()}


# --- what a report contains


def test_languages_are_columns_in_groups_with_averages(make: Make) -> None:
    report = make_report(name_runs([str(make("first", mgsm(FIRST)))]))
    (table,) = report.tables
    assert table.columns == ["en", "te", "sw", "low", "all"]
    assert cells(report, 0) == pytest.approx({"en": 1, "high": 1, "te": 0.5, "sw": 0.5, "low": 0.5, "all": 2 / 3})
    assert table.rows[0].cells["all"].score.n == 4


def test_groups_can_be_edited(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "groups.yaml"
    path.write_text("high: [te, no]\nlow: [en, sw]\nsource: a wish\n")
    groups = Groups.read(path)
    assert groups.of("no") == "high", "which YAML reads as false"
    report = make_report(name_runs([str(make("first", mgsm(FIRST)))]), groups=groups)
    assert report.tables[0].columns == ["te", "en", "sw", "low", "all"]
    assert "a wish" in as_markdown(report)
    with pytest.raises(LangBridgeError, match="names no group for 'fr'"):
        groups.of("fr")
    for text in ("high: [en]\n", "- en\n", "high: [en]\nlow: [en]\n", "high: en\nlow: [sw]\n", "high: [\n"):
        path.write_text(text)
        with pytest.raises(LangBridgeError, match=r"--groups|broken YAML"):
            Groups.read(path)


def test_what_could_not_be_scored_is_left_out_and_counted(make: Make) -> None:
    found = {"mgsm": [*mgsm({"en": "11", "sw": "1?0?"})["mgsm"], sample("mgsm", "sw", "9", 0, cut_off=True)]}
    report = make_report(name_runs([str(make("first", found))]))
    assert cells(report, 0)["sw"] == pytest.approx(1 / 3)
    assert report.tables[0].rows[0].cells["sw"].score.n == 3
    assert report.tables[0].notes == [
        "first: 2 of 7 could not be scored and are left out (sw 2).",
        "first: 1 of 7 answers were cut off by the limit of new tokens (sw 1).",
    ]


def test_a_run_without_all_languages_has_no_average_that_looks_comparable(make: Make) -> None:
    folders = [make("first", mgsm(FIRST)), make("second", mgsm({"en": "1111", "te": "1111"}))]
    report = make_report(name_runs([str(folder) for folder in folders]))
    assert set(cells(report, 1)) == {"en", "high", "te"}
    same = make_report(name_runs([str(folder) for folder in folders]), languages=["en", "te"])
    assert cells(same, 1) == {"en": 1.0, "high": 1.0, "te": 1.0, "low": 1.0, "all": 1.0}


def test_parts_of_a_task_with_the_same_ids_are_different_questions(make: Make) -> None:
    found = [sample("bbh", "en", "0", 1, part="snarks"), sample("bbh", "en", "0", 0, part="navigate")]
    report = make_report(name_runs([str(make("first", {"bbh": found}))]))
    assert report.tables[0].rows[0].cells["en"].score.n == 2


def test_several_samples_of_a_problem_give_pass_at_k(make: Make) -> None:
    rows = [sample("humaneval", "en", name, int(place < right), repeat=place)
            for name, right in (("a", 5), ("b", 0)) for place in range(10)]  # fmt: skip
    report = make_report(name_runs([str(make("first", {"humaneval": rows}))]))
    assert [table.measure for table in report.tables] == ["accuracy", "pass@10"]
    assert cells(report, 0)["en"] == 0.25
    assert report.tables[0].rows[0].cells["en"].score.n == 2, "problems, not samples"
    assert cells(report, 0, table=1)["en"] == 0.5


# --- comparing


def test_a_difference_is_first_minus_second_with_an_interval(make: Make) -> None:
    named = name_runs([f"ours={make('first', mgsm(FIRST))}", f"base={make('second', mgsm(SECOND))}"])
    report = make_report(named, compare=("ours", "base"))
    row = report.tables[0].rows[2]
    assert (row.name, row.kind) == ("ours − base", "difference")
    assert cells(report, 2) == pytest.approx(
        {"en": 0.25, "high": 0.25, "te": 0.5, "sw": 0.25, "low": 0.375, "all": 1 / 3}
    )
    bounds = row.cells["all"].interval
    assert bounds.low <= 1 / 3 <= bounds.high
    backwards = make_report(named, compare=("base", "ours"))
    assert cells(backwards, 2)["te"] == -0.5
    assert "−50.0" in as_markdown(backwards)


def test_a_difference_says_what_it_left_out_and_when_the_data_differ(make: Make) -> None:
    second = make("second", mgsm({"en": "111", "te": "11?0", "sw": "1010"}), sha256="other")
    named = name_runs([str(make("first", mgsm(FIRST))), str(second)])
    notes = make_report(named, compare=("first", str(second))).tables[0].notes
    assert "Difference: 10 answers in pairs; 2 that only one run has are left out." in notes
    assert "Difference: the two runs read different files in en, te, sw; paired by question id." in notes


def test_runs_that_cannot_be_compared(make: Make) -> None:
    first, other = make("first", mgsm(FIRST)), make("other", {"xcopa": [sample("xcopa", "it", "0", 1)]})
    named = name_runs([str(first), str(other)])
    with pytest.raises(LangBridgeError, match="--compare: no run 'third'; there are first, other"):
        make_report(named, compare=("first", "third"))
    with pytest.raises(LangBridgeError, match="no scored question in common"):
        make_report(named, compare=("first", "other"))


def test_runs_have_names_of_their_own(make: Make, tmp_path: Path) -> None:
    first = make("first", mgsm(FIRST))
    assert [one.name for one in name_runs([str(first), f"again={first}"])] == ["first", "again"]
    with pytest.raises(LangBridgeError, match="two runs are called 'first'"):
        name_runs([str(first), str(first)])
    with pytest.raises(LangBridgeError, match=r"no results\.json in it"):
        name_runs([str(tmp_path)])


# --- published rows


def test_published_rows_are_marked_with_their_source(make: Make) -> None:
    named = name_runs([str(make("first", {**mgsm(FIRST), "svamp": [sample("svamp", "en", "0", 1)]}))])
    assert {row.kind for row in make_report(named).tables[0].rows} == {"ours"}
    mgsm_table, svamp = make_report(named, published=True).tables
    published = [row for row in mgsm_table.rows if row.kind == "published"]
    assert published
    assert all(row.source for row in published)
    assert {row.kind for row in svamp.rows} == {"ours"}, "nothing is published of this family"
    official = next(row for row in published if "official checkpoint" in row.name)
    assert official.cells["sw"].published == 43.2
    assert "te" not in official.cells, "what a source does not give is left empty"
    assert "fr" not in official.cells, "a language that no run of ours has"
    text = as_markdown(make_report(named, published=True))
    assert "official checkpoint) (published) | 63.2 |" in text
    assert "LayAlign, arXiv 2502.11405v1, Table 2" in text


def test_published_rows_stand_only_beside_suites_that_ask_as_they_do(make: Make) -> None:
    suites = ("mgsm", "mgsm_direct", "mgsm_en_cot", "xcopa", "xcopa_gen", "xcopa_corrected", "msvamp")
    named = name_runs([str(make("first", {name: [sample(name, "sw", "0", 1)] for name in suites}))])
    beside = [table.task for table in make_report(named, published=True).tables
              if any(row.kind == "published" for row in table.rows)]  # fmt: skip
    assert beside == ["mgsm", "xcopa", "msvamp"]


@pytest.mark.parametrize("form", [as_markdown, as_latex, as_csv])
def test_another_measure_of_the_same_answers_has_its_own_table(make: Make, form: Any) -> None:
    def run(name: str, loose: str) -> str:
        rows = [sample("mgsm", "sw", str(i), int(i == 0), accuracy_reference=float(mark), cut_off=True)
                for i, mark in enumerate(loose)]  # fmt: skip
        return str(make(name, {"mgsm": rows}))

    named = name_runs([run("first", "1110"), run("second", "1100")])
    made = make_report(named, compare=("first", "second"), published=True)
    strict, loose = made.tables
    assert (strict.measure, loose.measure) == ("accuracy", "accuracy by the reference's looser rule")
    assert cells(made, 0)["sw"] == 0.25
    assert [cells(made, row, table=1)["sw"] for row in range(3)] == [0.75, 0.5, 0.25]
    assert [row.name for row in loose.rows] == [row.name for row in strict.rows], "published ones beside both"
    assert not any("cut off" in note for note in loose.notes), "said once"
    assert "looser rule" in form(made)


def test_a_language_that_no_run_has_is_named(make: Make) -> None:
    named = name_runs([str(make("first", mgsm(FIRST)))])
    with pytest.raises(
        LangBridgeError, match=r"--languages: got xx, fr, which no run has; expected some of en, sw, te"
    ):
        make_report(named, languages=["sw", "xx", "fr"])


def test_a_language_is_chosen_in_whatever_code_a_task_has_it(make: Make) -> None:
    codes = {"mgsm": ("en", "sw"), "afrimgsm": ("swa",), "sib200": ("swh_Latn",), "xcopa": ("it",)}
    rows = {name: [sample(name, code, "0", 1) for code in own] for name, own in codes.items()}
    folder = str(make("first", rows))
    for wanted in (["sw"], ["Swahili"]):
        report = make_report(name_runs([folder]), languages=wanted)
        assert [(table.task, table.columns) for table in report.tables] == [
            ("mgsm", ["sw"]), ("afrimgsm", ["swa"]), ("sib200", ["swh_Latn"]),
        ]  # fmt: skip
        for form in (as_markdown, as_latex):
            assert "Left out, having no scored answer in the languages shown: xcopa." in form(report)
        shown = show_samples(Run.read(folder), wanted[0])
        assert [f"{code}: right, 1 of 1" in shown for code in ("sw", "swa", "swh_Latn", "it")] == [1, 1, 1, 0]
        assert shown.endswith(f"no answers in {wanted[0]!r}: xcopa")
    assert "Left out" not in as_markdown(make_report(name_runs([folder])))
    with pytest.raises(LangBridgeError, match="no task 'bbh'"):
        show_samples(Run.read(folder), "sw", task="bbh")


def test_published_averages_are_over_the_languages_of_their_columns(make: Make) -> None:
    def averages(*codes: str, languages: list[str] | None = None) -> dict[str, tuple[float, bool] | None]:
        rows = {"mgsm": [sample("mgsm", code, "0", 1) for code in codes]}
        named = name_runs([str(make("-".join([*codes, *(languages or [])]), rows))])
        (table,) = make_report(named, published=True, languages=languages).tables
        found = [(row.name, row.cells.get("all")) for row in table.rows if row.kind == "published"]
        return {name: cell and (round(cell.published, 2), cell.own_languages) for name, cell in found}

    ten = ("en", "es", "fr", "de", "ru", "zh", "ja", "th", "sw", "bn")
    few = averages(*ten, languages=["en", "sw"])
    # (68.8 + 6.8) / 2 by the model's card, whose row is the last of this name; its ten give 38.32.
    assert few["MetaMath-7B"] == (37.8, False)
    assert few["MathOctopus 7B xRFT-P"] == (41.9, True), "its languages are not given one by one"
    all_ten = averages(*ten)
    assert all_ten["LangBridge, MetaMath-LB-9B (official checkpoint)"] == (50.2, False), "as the source states it"
    assert all_ten["MindMerger (11 languages)"] == (58.08, False), "over ten of its eleven"
    assert averages(*ten, "te")["MetaMath-7B"] is None, "which lacks Telugu"
    text = as_markdown(make_report(name_runs([str(make("one", mgsm(FIRST)))]), published=True))
    assert "| 41.9* |" in text
    assert r"with \* they are the source's own" in text


def test_published_averages_are_those_of_their_own_languages() -> None:
    """Guards against slips of the pen: sources round to one digit, of means over up to eleven languages."""
    checked = 0
    for row in published_rows():
        assert {"task", "system", "source", "trained_on", "averages"} <= set(row), row
        for group, stated in row["averages"].items():
            own = [v for c, v in row.get("languages", {}).items() if group == "all" or Groups.default().of(c) == group]
            if own:
                assert sum(own) / len(own) == pytest.approx(stated, abs=0.06), (row["system"], row["task"], group)
                checked += 1
    assert checked >= 15


# --- formats


@pytest.fixture
def report(make: Make) -> Any:
    hostile = name_runs([f"<b>a|b</b> & 50%_x={make('first', mgsm(FIRST))}", f"base={make('second', mgsm(SECOND))}"])
    return make_report(hostile, compare=("<b>a|b</b> & 50%_x", "base"), published=True)


def test_markdown_tables_are_whole(report: Any) -> None:
    text = as_markdown(report, {"mgsm": "bars_mgsm.png"})
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {len(report.tables[0].columns) + 3}
    assert "<b>" not in text.replace("\\<b>", "")
    assert "![Accuracy by language, mgsm](bars_mgsm.png)" in text


def test_latex_is_balanced_and_escaped(report: Any) -> None:
    text = as_latex(report)
    assert text.count("{") == text.count("}")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    columns = len(report.tables[0].columns)
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {columns + 1}
    assert rf"\begin{{tabular}}{{l{'r' * (columns + 1)}}}" in text
    assert r"<b>a|b</b> \& 50\%\_x & 100.0" in body
    assert "−" not in body
    assert all(line.startswith("%") for line in text[text.rindex(r"\end{table}") :].splitlines()[1:] if line)


def test_csv_reads_back(report: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(report))))
    ours = next(r for r in rows if r["kind"] == "ours" and r["column"] == "te")
    assert (float(ours["mean"]), int(ours["questions"]), ours["group"]) == (0.5, 4, "low")
    paired = next(r for r in rows if r["kind"] == "difference" and r["column"] == "all")
    assert float(paired["low_95"]) <= float(paired["mean"]) <= float(paired["high_95"])
    theirs = next(r for r in rows if r["kind"] == "published" and r["column"] == "sw")
    assert theirs["stderr"] == theirs["questions"] == ""
    assert theirs["source"]


class Page(HTMLParser):
    """Texts, what is referred to, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_one_whole_file_that_loads_nothing(report: Any, tmp_path: Path) -> None:
    written = write_report(report, tmp_path / "out")
    assert sorted(path.name for path in written) == [
        "bars_mgsm.png", "report.csv", "report.html", "report.md", "report.tex",
    ]  # fmt: skip
    page = Page()
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page.feed(text)
    page.close()
    assert page.open == []
    (picture,) = page.links
    kind, _, data = picture.partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == (tmp_path / "out" / "bars_mgsm.png").read_bytes()
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert "<b>a|b</b> & 50%_x" in page.text
    assert "url(" not in text
    assert "<script" not in text


@pytest.mark.parametrize("form", [as_markdown, as_latex])
def test_every_report_states_how_it_came_about(report: Any, form: Any) -> None:
    text = form(report).replace("\\", "")
    for said in (
        "models/bridge", "google/mt5-xl, revision abc123", "lm, revision not recorded", "Q: {prompt}", "0123abcd",
        "mgsm_sw.jsonl", "sha256 5e5e", "greedy", "max_gen_toks 256", "Q: 1 + 1?", "dtype float32",
    ):  # fmt: skip
        assert said in text, said


def test_a_folder_is_not_asked_for_a_revision() -> None:
    assert _model({"name": "/models/lm", "kind": "causal", "model": "0123"}) == (
        "/models/lm (causal, a local folder, fingerprint 0123)"
    )
    assert _model({"name": "org/lm", "kind": "causal", "revision": "abc"}) == "org/lm (causal, revision abc)"
    assert _base({"id": "/models/encoder"}) == "/models/encoder, a local folder"


def test_one_group_and_one_question_make_a_report_too(make: Make, tmp_path: Path) -> None:
    made = make_report(name_runs([str(make("one", mgsm({"sw": "1"})))]))
    assert made.tables[0].columns == ["sw"]
    assert "| 100.0 |" in as_markdown(made), "all are right, so the spread is none and says nothing"
    assert len(write_report(made, tmp_path / "out")) == 5
    with pytest.raises(LangBridgeError, match="nothing to report"):
        make_report(name_runs([str(make("none", mgsm({"sw": "??"})))]))


# --- answers to read, and the command


def test_right_wrong_and_unscored_answers_are_shown(make: Make) -> None:
    found = [
        Sample("humaneval", "sw", "a", "def f():\n", "check", "return 1\nx", "the program", 1, {"reason": "passed"}),
        Sample("humaneval", "sw", "b", "def g():\n", "check", "return 2", None, 0, {"reason": "AssertionError"}),
        Sample("humaneval", "sw", "c", "def h():\n", "check", "return 3", "p", None, {}),
    ]
    folder = make("first", {"humaneval": found})
    text = show_samples(Run.read(folder), "sw")
    right, wrong, unscored = (text.index(f"{word}, 1 of 3") for word in ("right", "wrong", "could not be scored"))
    assert right < text.index("id: a") < wrong < text.index("id: b") < unscored < text.index("id: c")
    assert "    | return 1\n    | x" in text
    assert "extracted: nothing" in text
    assert "reason: AssertionError" in text
    with pytest.raises(LangBridgeError, match=r"no answers in 'fr'; .* has sw"):
        show_samples(Run.read(folder), "fr")


def test_the_command(make: Make, tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    first, second = str(make("first", mgsm(FIRST))), str(make("second", mgsm(SECOND)))
    code, out, _ = command("report", first, second, "--compare", "first", "second", "--languages", "en,sw")
    assert code == 0
    assert "| first − second |" in out
    assert "| te |" not in out
    code, out, _ = command("report", first, "--out", str(tmp_path / "made"))
    assert (code, (tmp_path / "made" / "report.html").is_file()) == (0, True)
    assert "report.md, report.tex, report.csv, report.html, bars_mgsm.png" in out
    code, out, _ = command("report", first, "--samples", "sw", "--number", "1")
    assert code == 0
    assert out.count("id: ") == 2
    of_reports = (["--out", "made"], ["--compare", "a", "b"], ["--published"], ["--languages", "sw"], ["--groups", "g"])
    for arguments in (
        [str(tmp_path / "nowhere")],
        [first, "--languages", "fr"],
        *([first, *more] for more in (["--task", "mgsm"], ["--number", "3"])),
        *([first, "--samples", "sw", *more] for more in of_reports),
    ):
        code, out, err = command("report", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), arguments
    results = json.loads((Path(first) / "results.json").read_text())
    assert results["tasks"]["mgsm"]["shots"] == 0
