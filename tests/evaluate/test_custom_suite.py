"""Suites of one's own: what they take, and what they say of what they do not."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from langbridge.errors import LangBridgeError
from langbridge.evaluate.code import find_sandbox
from langbridge.evaluate.run import evaluate
from langbridge.evaluate.suites import SuiteTask, load_suites
from langbridge.serve.replay import ReplayEngine

FOUR_LINES = "suite: own\nfiles: '{files}'\nquestion: {question}\nanswer: {answer}\n"


def tasks(
    folder: Path,
    files: Mapping[str, str],
    pattern: str,
    more: str = "",
    *,
    question: str = "q",
    answer: str = "a",
    languages: list[str] | None = None,
) -> dict[str, SuiteTask]:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    text = FOUR_LINES.format(files=pattern, question=json.dumps(question), answer=answer)
    (folder / "own.yaml").write_text(text + more)
    return {one.language: one for one in load_suites([str(folder / "own.yaml")], languages=languages)}


def docs(one: SuiteTask) -> list[dict[str, Any]]:
    return [dict(doc) for doc in one.task.eval_docs]


@pytest.mark.parametrize(
    ("name", "content", "more"),
    [
        ("sw.jsonl", '{"q": "x", "a": 7}\n', ""),
        ("sw.json", '{"q": "x", "a": 7}\n{"q": "y", "a": 8}\n', ""),
        ("sw.json", '[{"q": "x", "a": "7.0"}]', ""),
        ("sw.json", '{"licence": "-", "examples": [{"q": "x", "a": 7}]}', "rows: examples\n"),
        ("sw.csv", "q,a\nx,$7$\n", ""),
        ("sw.tsv", "q\ta\nx\t2 + 5 = 7 #### 7\n", ""),
        ("sw.tsv", "x\t7\n", "header: [q, a]\n"),
    ],
)
def test_rows_are_read_as_in_training(tmp_path: Path, name: str, content: str, more: str) -> None:
    found = tasks(tmp_path, {name: content}, f"*.{name.split('.')[1]}", more)
    first = docs(found["sw"])[0]
    assert (first["prompt"], first["expected"]) == ("x", "7")


def test_a_letter_is_one_of_those_that_the_question_lists(tmp_path: Path) -> None:
    row = json.dumps({"q": "Which?\n(A) a bank\n(B) a river", "a": "B"})
    one = tasks(tmp_path, {"sw.jsonl": row}, "*.jsonl", "kind: choice\n")["sw"]
    grade = one.task.config.process_results.grade
    assert grade(docs(one)[0], ["Answer: I think it is B"]).correct
    assert not grade(docs(one)[0], ["Answer: A"]).correct
    assert grade(docs(one)[0], ["B\n\nFor (A) it is too wide"]).correct


def test_a_template_over_fields(tmp_path: Path) -> None:
    row = json.dumps({"passage": "Ana 3.", "text": "Ngapi?", "a": 3})
    found = tasks(tmp_path, {"sw.jsonl": row}, "*.jsonl", question="{passage}\n{text}")
    assert docs(found["sw"])[0]["prompt"] == "Ana 3.\nNgapi?"
    with pytest.raises(LangBridgeError, match=r"sw\.jsonl, row 1: no field 'story'; the row has 'passage'"):
        tasks(tmp_path, {}, "*.jsonl", question="{story}\n{text}")
    with pytest.raises(LangBridgeError, match=r"own\.yaml: question: '\{text' is no template"):
        tasks(tmp_path, {}, "*.jsonl", question="{text")


def test_languages_are_told_by_folders_codes_and_names(tmp_path: Path) -> None:
    names = ("swa", "yo", "Hausa", "tel_Telu", ".cache")
    files = {f"{name}/test.{name}.csv": "q,a\nx,7\n" for name in names} | {"ig/test.sw.csv": "q,a\nx,7\n"}
    assert list(tasks(tmp_path, files, "*/test.*.csv")) == ["ha", "swa", "tel_Telu", "yo"]
    assert list(tasks(tmp_path, {}, "*/test.*.csv", languages=["Swahili", "te"])) == ["swa", "tel_Telu"]
    with pytest.raises(LangBridgeError, match="--languages: own has ha, swa, tel_Telu, yo; got zu"):
        tasks(tmp_path, {}, "*/test.*.csv", languages=["zu"])
    with pytest.raises(LangBridgeError, match=r"both .*Swahili\.csv and .*sw\.csv are of 'sw'"):
        tasks(tmp_path, {"Swahili.csv": "", "sw.csv": ""}, "*.csv")


def test_only_the_languages_that_are_asked_for_are_opened(tmp_path: Path) -> None:
    files = {"th.json": '[{"q": "x", "a": "3"}]', "ar.json": "broken", "results.json": "{}"}
    assert list(tasks(tmp_path, files, "*.json", languages=["th"])) == ["th"]
    with pytest.raises(LangBridgeError, match=r"results\.json: expected a language in the place of \*"):
        tasks(tmp_path, {}, "*.json")
    (tmp_path / "results.json").unlink()
    with pytest.raises(LangBridgeError, match=r"ar\.json, row 1: broken JSON"):
        tasks(tmp_path, {}, "*.json")


def test_bad_golds_are_named_or_skipped_and_counted(tmp_path: Path) -> None:
    rows = [{"q": "x", "a": "3"}, {"q": "y", "a": "\\sqrt{2}"}, {"q": "z", "a": None}, {"q": "w", "a": "9"}]
    files = {"sw.json": json.dumps(rows)}
    with pytest.raises(LangBridgeError, match=r"sw\.json, row 2: expected a number as the answer, got '.*sqrt"):
        tasks(tmp_path, files, "*.json")
    with pytest.warns(UserWarning, match=r"2 of 4 rows skipped; the first: .*sw\.json, row 2"):
        found = tasks(tmp_path, {}, "*.json", "on_bad_gold: skip\n")["sw"]
    # A question keeps its place, by which it is joined to the same question in other languages.
    assert [(doc["id"], doc["expected"]) for doc in docs(found)] == [("0", "3"), ("3", "9")]
    assert found.origin["skipped"] == 2
    with pytest.raises(LangBridgeError, match=r"sw\.json: no row is left"):
        tasks(tmp_path, {"sw.json": '[{"q": "x", "a": "many"}]'}, "*.json", "on_bad_gold: skip\n")


def test_questions_are_known_by_a_field_of_the_user_s(tmp_path: Path) -> None:
    files = {"sw.tsv": "index_id\tq\ta\n7\tx\t1\n"}
    assert docs(tasks(tmp_path, files, "*.tsv", "id: index_id\n")["sw"])[0]["id"] == "7"
    with pytest.raises(LangBridgeError, match=r"row 2: no field 'number'"):
        tasks(tmp_path, {}, "*.tsv", "id: number\n")


def test_exact_answers_are_those_of_the_language_s_own_file(tmp_path: Path) -> None:
    files = {"sw.csv": "q,a\nx,safari\ny,michezo\n", "en.csv": "q,a\nx,travel\ny,sports\n"}
    found = tasks(tmp_path, files, "*.csv", "kind: exact\n")
    says = {"sw": "Si michezo; ni safari.", "en": "Not safari: sports"}
    run = evaluate(ReplayEngine(lambda request: says[request.language]), list(found.values()), tmp_path / "out")
    assert run is not None
    assert [one.extracted for one in run.samples("own")] == ["sports"] * 2 + ["safari"] * 2


PROGRAM = {
    "prompt": 'def half(n):\n    """Half."""\n    return n / 2\n\n\ndef double(n):\n    """ Mara mbili ya n. """',
    "canonical_solution": "    return n * 2\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}


def test_programs_without_names_of_their_functions_are_run(tmp_path: Path) -> None:
    try:
        find_sandbox()
    except LangBridgeError as error:
        pytest.skip(str(error))
    code = "kind: code\n"
    files = {"m-swh_Latn.json": json.dumps([PROGRAM, {**PROGRAM, "prompt": "def double(n):"}])}
    found = tasks(tmp_path, files, "m-*.json", code, question="prompt", answer="canonical_solution")

    def says(request) -> str:
        return "    return n * 2\n" if "half" in request.prompt else "    return n\n"

    run = evaluate(ReplayEngine(says), list(found.values()), tmp_path / "out")
    assert run is not None
    assert [(one.id, one.language, one.correct) for one in run.samples("own")] == [
        ("0", "swh_Latn", 1),
        ("1", "swh_Latn", 0),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "Double n."}, "no function is begun in the prompt"),
        ({"test": "assert double(2) == 4"}, r"field 'test': expected a function check\(candidate\)"),
        ({"test": None}, "field 'test': expected text, got nothing"),
    ],
)
def test_programs_that_could_not_be_run_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    files = {"m-sw.json": json.dumps([{**PROGRAM, **change}])}
    with pytest.raises(LangBridgeError, match=rf"m-sw\.json, row 1.*{message}"):
        tasks(tmp_path, files, "m-*.json", "kind: code\n", question="prompt", answer="canonical_solution")


@pytest.mark.parametrize(
    ("pattern", "more", "message"),
    [
        ("sw.csv", "", r"own\.yaml: files: expected a name in .* with \* for the language, .*, got 'sw\.csv'"),
        ("**/sw.csv", "", "expected a name in"),
        ("*.csv", "kind: programs\n", "kind: expected 'number', 'exact', 'choice' or 'code', got 'programs'"),
        ("*.csv", "on_bad_gold: drop\n", "on_bad_gold: expected 'error' or 'skip', got 'drop'"),
        ("*.csv", "header: q\n", "header: expected a list, got 'q'"),
        ("*.csv", "colour: red\n", "colour: unknown key; known here: suite, files, question, answer, kind"),
        ("*.csv", "kind: choice\n", r"sw\.csv, row 2, field 'a': expected an answer of kind choice, got '7'"),
    ],
)
def test_what_is_not_taken_is_refused(tmp_path: Path, pattern: str, more: str, message: str) -> None:
    with pytest.raises(LangBridgeError, match=message):
        tasks(tmp_path, {"sw.csv": "q,a\nx,7\n"}, pattern, more)
