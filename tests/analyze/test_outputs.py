"""Accidental translation: rates and their errors, and what is written of them."""

import json
import math
from pathlib import Path

import pytest

from langbridge.analyze.outputs import Answer, analyze_outputs, measure, read_answers
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
    answers, unknown = read_answers(write(tmp_path / "samples_mgsm.jsonl", rows()))
    assert unknown == []
    found = measure(answers)["mgsm"]
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
    assert "| de | 4 | 1 | 66.7 ± 33.3 | de 2, en 1 |" in page
    assert f"- `q1` in `de`: `{DE}`" in page
    assert "![Languages of the answers](answers_bbh_x.png)" in page


def test_expected_may_be_another_language_or_the_question_s(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{**row, "text": row["output"]} for row in rows()])
    same = measure(read_answers(path, expected="same", field="text")[0])["mgsm"]["languages"]
    assert same["en"]["accidental"]["value"] == 0.0
    assert same["de"]["accidental"]["value"] == pytest.approx(1 / 3)
    german = measure(read_answers(path, expected="deu")[0])["mgsm"]["languages"]
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
