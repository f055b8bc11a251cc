"""Accidental translation: rates and their errors, and what is written of them."""

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langbridge.analyze.outputs import Answer, analyze_outputs, measure, read_answers
from langbridge.cli.main import app
from langbridge.errors import LangBridgeError

EN = "The answer is 41, because Tom sold the other apples."
DE = "Die Antwort ist 41, weil Tom die anderen Äpfel verkauft hat."
SW = "Jibu ni 41, kwa sababu Tom aliuza matufaa mengine yote."


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(task: str = "mgsm") -> list[dict]:
    outputs = {"en": [EN, EN, EN, EN], "de": [EN, DE, DE, "41"], "sw": [SW, EN, "", EN]}
    return [
        {"task": task, "language": code, "id": f"q{i}", "output": text}
        for code, texts in outputs.items()
        for i, text in enumerate(texts)
    ]


def test_rates_count_clear_answers(tmp_path: Path) -> None:
    read = read_answers(write(tmp_path / "samples_mgsm.jsonl", rows()))
    assert (read.unknown, read.choices, read.without_id) == ([], {}, {})
    found = measure(read.answers)["mgsm"]
    german = found["languages"]["de"]
    assert (german["n"], german["unclear"], german["found"]) == (4, 1, {"de": 2, "en": 1, "unclear": 1})
    assert german["accidental"]["value"] == pytest.approx(2 / 3)
    assert found["languages"]["sw"]["accidental"]["value"] == pytest.approx(1 / 3)
    assert found["languages"]["en"]["accidental"] == {"value": 0.0, "stderr": 0.0}
    assert found["groups"]["low"]["accidental"] == found["languages"]["sw"]["accidental"]
    assert found["groups"]["all"]["accidental"]["value"] == pytest.approx((0 + 2 / 3 + 1 / 3) / 3)
    assert found["groups"]["high"]["languages_in_the_mean"] == ["en", "de"]


def answer(language: str, number: int, wrong: bool | None) -> Answer:
    found = None if wrong is None else "de" if wrong else "en"
    return Answer("t", language, str(number), "", "en", found, 1.0)


def test_the_error_of_one_language_is_that_of_a_share() -> None:
    wrong = [True] * 3 + [False] * 7
    found = measure([answer("te", i, w) for i, w in enumerate(wrong)])["t"]["languages"]["te"]["accidental"]
    assert found["value"] == pytest.approx(0.3)
    assert found["stderr"] == pytest.approx(math.sqrt(0.3 * 0.7 / 9))


def test_the_same_question_in_many_languages_is_one_sample() -> None:
    wrong = [True] * 3 + [False] * 7
    one = measure([answer("te", i, w) for i, w in enumerate(wrong)])["t"]["groups"]["all"]["accidental"]
    copies = [answer(code, i, w) for code in ("te", "sw", "bn") for i, w in enumerate(wrong)]
    assert measure(copies)["t"]["groups"]["all"]["accidental"] == pytest.approx(one)


def test_a_language_without_a_clear_answer_is_not_in_the_mean() -> None:
    found = measure([answer("te", i, None) for i in range(4)] + [answer("sw", i, False) for i in range(4)])["t"]
    assert found["languages"]["te"]["accidental"] is None
    assert found["groups"]["low"]["languages_in_the_mean"] == ["sw"]
    assert found["groups"]["low"]["unclear"] == 4
    alone = measure([answer("te", 0, True)])["t"]["languages"]["te"]["accidental"]
    assert alone == {"value": 1.0, "stderr": None}, "one answer has no error"


def test_the_bounds_are_over_all_answers() -> None:
    answers = [answer("te", i, w) for i, w in enumerate([True, True, False, None])]
    answers += [answer("sw", i, w) for i, w in enumerate([False, False])] + [answer("bn", 0, None)]
    found = measure(answers)["t"]
    assert found["languages"]["te"]["of_all"] == [0.5, 0.75]
    assert found["languages"]["bn"]["of_all"] == [0.0, 1.0]
    low = found["groups"]["low"]
    assert low["of_all"] == pytest.approx([0.5 / 3, 1.75 / 3]), "every language is in them, clear or not"
    assert low["of_all"][0] <= low["accidental"]["value"] <= low["of_all"][1]
    assert (low["n"], low["unclear"]) == (7, 2)


def choices(task: str = "xcopa") -> list[dict]:
    """Of a multiple-choice task the output is the benchmark's own text, in the language of the question."""
    texts = {"sw": "Mti ulianguka", "id": "Pohon itu tumbang"}
    return [
        {"task": task, "language": code, "id": "q0", "output": text, "loglikelihoods": [-1.0, -2.0]}
        for code, text in texts.items()
    ]


def test_choices_of_the_benchmark_are_no_answers(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    write(run / "samples_xcopa.jsonl", choices())
    only = CliRunner().invoke(app, ["analyze", "outputs", str(run), "--out", str(out)])
    assert only.exit_code == 2
    assert "Left out: xcopa (2), where the model chooses among the benchmark's own answers" in only.stderr
    assert not out.exists()
    write(run / "samples_mgsm.jsonl", rows())
    both = CliRunner().invoke(app, ["analyze", "outputs", str(run), "--out", str(out)])
    assert both.exit_code == 0
    numbers = json.loads((out / "numbers.json").read_text())
    assert list(numbers["tasks"]) == ["mgsm"]
    assert numbers["choices_left_out"] == {"xcopa": 2}
    said = "Left out: xcopa (2), where the model chooses among the benchmark's own answers and writes none."
    assert said in both.stdout
    assert said in (out / "report.md").read_text(encoding="utf-8")
    assert "66.7 ± 33.3   of all   50.0 to 75.0   unclear 1 (25.0 %)\n" in both.stdout
    assert "unclear 2 (16.7 %), mean of 3 languages" in both.stdout, "beside the groups too"


def test_rows_without_an_id_are_taken_as_independent(tmp_path: Path) -> None:
    named, nameless = [{**row, "id": "q0"} for row in choices()], choices()
    for row in (*named, *nameless):
        del row["loglikelihoods"]
    for row in nameless:
        del row["id"]
    read = read_answers(write(tmp_path / "a.jsonl", named + nameless))
    assert read.without_id == {"xcopa": 2}
    assert [one.id for one in read.answers] == ["q0", "q0", "a.jsonl, row 3", "a.jsonl, row 4"]
    analyze_outputs(write(tmp_path / "b.jsonl", nameless), tmp_path / "out")
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "clustered by question" not in page
    assert "xcopa: 2 answers have no `id` and are taken as independent" in page
    analyze_outputs(write(tmp_path / "c.jsonl", named + nameless), tmp_path / "out")
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "clustered by question" in page
    assert "taken as independent" in page


def test_a_script_that_the_expected_language_has_not_is_no_unclear_answer(tmp_path: Path) -> None:
    texts = {
        "hi": "उत्तर इकतालीस है क्योंकि टॉम ने सेब बेचे",
        "chr": "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ᏣᎳᎩ",
        "kk": "сол кездегі",
        "ru": "Да 41",
        "names": "Sara Sara Sara",
    }
    path = write(tmp_path / "a.jsonl", [{"language": "sw", "id": code, "output": text} for code, text in texts.items()])
    found = {one.id: (one.found, one.accidental) for one in read_answers(path).answers}
    assert found == {
        "hi": ("hi", True),
        "chr": ("Cherokee script", True),
        "kk": ("Cyrillic script", True),
        "ru": (None, None),
        "names": (None, None),
    }
    russian = {one.id: one.accidental for one in read_answers(path, expected="ru").answers}
    assert russian == {"hi": True, "chr": True, "kk": None, "ru": None, "names": None}


def test_languages_known_by_script_alone_share_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("langbridge.analyze.outputs.draw_answers", lambda *of: drawn.append(of[:3]))
    texts = (EN, DE, "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ᏣᎳᎩ", "сол кездегі")
    analyze_outputs(write(tmp_path / "a.jsonl", [{"language": "sw", "output": text} for text in texts]), tmp_path)
    shares, _, columns = drawn[0]
    assert columns == ["en", "de", "other", "unclear"]
    assert shares.tolist() == [[0.25, 0.25, 0.5, 0.0]]


def test_every_task_has_a_picture_of_its_own(tmp_path: Path) -> None:
    tasks = ("a/b", "a_b", "a_b_2", "A_B")
    path = write(tmp_path / "a.jsonl", [row for task in tasks for row in rows(task)[:4]])
    analyze_outputs(path, tmp_path / "out")
    names = ("a_b", "a_b_2", "a_b_2_2", "A_B_3")
    assert {p.stem for p in (tmp_path / "out").glob("*.png")} == {f"answers_{name}" for name in names}
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    for task, name in zip(tasks, names, strict=True):
        assert f"## {task}\n\n![Languages of the answers](answers_{name}.png)" in page


def test_a_run_s_folder_becomes_a_page_with_samples(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    write(run / "samples_mgsm.jsonl", rows())
    write(run / "samples_bbh_x.jsonl", rows("bbh/x"))
    write(run / "responses.jsonl", [{"anything": 1}])
    numbers = analyze_outputs(run, out)
    assert list(numbers["tasks"]) == ["bbh/x", "mgsm"]
    names = {"report.md", "numbers.json", "answers.jsonl"}
    names |= {f"answers_{task}.{kind}" for task in ("mgsm", "bbh_x") for kind in ("png", "svg")}
    assert {path.name for path in out.iterdir()} == names
    assert json.loads((out / "numbers.json").read_text()) == numbers
    listed = [json.loads(line) for line in (out / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["found"] for row in listed[4:8]] == ["en", "de", "de", None]
    assert [row["accidental"] for row in listed[4:8]] == [False, True, True, None]
    page = (out / "report.md").read_text(encoding="utf-8")
    assert "| de | 4 | 1 (25.0 %) | 66.7 ± 33.3 | 50.0 to 75.0 | de 2, en 1 |" in page
    assert "| **low-resource** | 4 | 1 (25.0 %) | 33.3 ± 33.3 | 25.0 to 50.0 | mean of 1 language |" in page
    assert "clustered by question" in page
    assert f"- `q1` in `de`: `{DE}`" in page
    assert "![Languages of the answers](answers_bbh_x.png)" in page


def test_expected_may_be_another_language_or_the_question_s(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{**row, "text": row["output"]} for row in rows()])
    same = measure(read_answers(path, expected="same", field="text").answers)["mgsm"]["languages"]
    assert same["en"]["accidental"]["value"] == 0.0
    assert same["de"]["accidental"]["value"] == pytest.approx(1 / 3)
    german = measure(read_answers(path, expected="deu").answers)["mgsm"]["languages"]
    assert german["en"]["accidental"]["value"] == 1.0


def test_wrong_input_is_named(tmp_path: Path) -> None:
    def says(path: Path, *words: str, **options) -> None:
        with pytest.raises(LangBridgeError) as error:
            analyze_outputs(path, tmp_path / "out", **options)
        for word in words:
            assert word in str(error.value)

    says(tmp_path / "nothing", "no such file or folder")
    (tmp_path / "empty").mkdir()
    says(tmp_path / "empty", "samples_TASK.jsonl")
    good = write(tmp_path / "good.jsonl", rows())
    says(good, "row 1", "'answer'", field="answer")
    says(good, "'qq'", "does not know", expected="qq")
    says(write(tmp_path / "a.jsonl", [{"output": EN}]), "a.jsonl, row 1", "'language'")
    says(write(tmp_path / "b.jsonl", [{"output": 5, "language": "en"}]), "b.jsonl, row 1", "'output'", "int")
    says(write(tmp_path / "c.jsonl", [{"output": EN, "language": "!"}]), "c.jsonl, row 1", "'!'")
    assert not (tmp_path / "out").exists(), "nothing was written"
