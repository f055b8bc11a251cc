"""The right answers, written as models write them, score 100 per cent in every family and language; wrong ones do not.

Through the ordinary path, on the published data. Published layouts that are not at hand are tried on rows of our own.
"""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from langbridge.evaluate.run import evaluate
from langbridge.evaluate.runs import Run
from langbridge.evaluate.suites import SuiteTask, load_suites, suite_languages
from langbridge.serve.engine import Request
from langbridge.serve.replay import ReplayEngine

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the published data (../shared/data) is not here")

NATIVE_ZERO = {"bn": "০", "te": "౦", "th": "๐", "ja": "０", "zh": "０"}
PARTLY_HERE = {"sib200", "sib200_gen"}
"""Of which the data beside the project has 36 of 205 languages."""
WRITTEN = [
    "mgsm",
    "afrimgsm",
    "sib200_gen",
    "mgsm_en_cot",
    "mgsm_native_cot",
    "mgsm_direct",
    "gsm8k",
    "bbh",
    "xcopa_gen",
    "xcopa_gen_corrected",
]


def documents(tasks: list[SuiteTask]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one.language, doc["prompt"]): doc for one in tasks for doc in one.task.eval_docs}


def written(doc: dict[str, Any]) -> str:
    """A chain of thought with false candidates in it that ends on the right answer."""
    if "kind" in doc:  # BIG-Bench Hard
        if doc["kind"] == "choice":
            return f"(A) might do, and (B) too. So the answer is ({doc['expected']})."
        other = {"yes": "No", "no": "Yes", "valid": "invalid", "invalid": "valid"}[doc["expected"]]
        return f"At first sight {other}. But looking closely, the answer is {doc['expected']}."
    if "category" in doc["prompt"]:  # SIB-200
        return f"It could be travel or sports. The answer is {doc['expected']}."
    if "choices" in doc:  # XCOPA
        return f"The answer is {'AB'[doc['label']]}."
    number = f"{int(doc['expected']):,}"
    zero = NATIVE_ZERO.get(doc["language"])
    if zero is not None:
        number = "".join(chr(ord(zero) + int(sign)) if sign.isdigit() else sign for sign in number)
        return f"3 + 4 = 7\n{number}"
    return f"First there are 3, then 4 more, so 3 + 4 = 7 of 12. The answer is ${number}.00."


def run_with_gold(names: list[str], data: Path, out: Path, limit: int | None, shift: int = 0) -> Run:
    tasks = load_suites(names, data=data)
    golden = documents(tasks)
    order = {key: index for index, key in enumerate(golden)}
    keys = list(golden)

    def gold(request: Request) -> tuple[int, dict[str, Any]]:
        place = order[request.language, request.prompt]
        return place, golden[keys[(place + shift) % len(keys)]]

    def likelihood(request: Request, continuation: str) -> float:
        place, doc = gold(request)
        return 0.0 if continuation.strip() == golden[keys[place]]["choices"][doc["label"]] else -1.0

    engine = ReplayEngine(lambda request: written(gold(request)[1]), likelihood)
    run = evaluate(engine, tasks, out, limit=limit)
    assert run is not None
    return run


def accuracies(run: Run, task: str) -> dict[str, float]:
    return {language: found["accuracy"] for language, found in run.results["tasks"][task]["languages"].items()}


@needs_data
def test_the_first_gold_answers_are_right(tmp_path: Path) -> None:
    names = ["mgsm_en_cot", "bbh", "xcopa"]
    run = run_with_gold(names, DATA, tmp_path / "gold", limit=3)
    for name in names:
        assert accuracies(run, name) == dict.fromkeys(suite_languages(name), 1.0), name


@needs_data
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:--data")
@pytest.mark.parametrize("name", [*WRITTEN, "xcopa", "xcopa_corrected", "sib200"])
def test_every_gold_answer_is_right(name: str, tmp_path: Path) -> None:
    run = run_with_gold([name], DATA, tmp_path / "gold", limit=None)
    if name == "bbh":
        # causal_judgement asks two questions twice, with opposite gold answers: no text answers both.
        wrong = [one for one in run.samples("bbh") if not one.correct]
        assert len({one.prompt for one in wrong}) == len(wrong) == 2
        assert {one.extra["part"] for one in wrong} == {"causal_judgement"}
    else:
        found = accuracies(run, name)
        if name == "afrimgsm":  # one question of Twi's stands there twice, with the gold of another
            assert found.pop("twi") == 249 / 250
            found["twi"] = 1.0
        assert found == dict.fromkeys(found if name in PARTLY_HERE else suite_languages(name), 1.0)
        assert name not in PARTLY_HERE or len(found) == 36
    figures = run.results["tasks"][name]["languages"].values()
    assert all(one["unanswered"] == one["unscored"] == 0 for one in figures)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["mgsm", "bbh", "xcopa", "xcopa_gen"])
def test_answers_to_the_next_question_are_near_chance(name: str, tmp_path: Path) -> None:
    run = run_with_gold([name], DATA, tmp_path / "shuffled", limit=None, shift=1)
    for language, accuracy in accuracies(run, name).items():
        # 500 pairs of choices: chance is a half, and three standard errors of it are 0.067. Numbers seldom agree by
        # chance. BIG-Bench Hard mixes subtasks with two to eighteen choices.
        low, high = {"xcopa": (0.43, 0.57), "xcopa_gen": (0.43, 0.57), "bbh": (0.2, 0.5)}.get(name, (0.0, 0.08))
        assert low <= accuracy <= high, (name, language, accuracy)


def test_msvamp_svamp_and_bbh_bn_in_their_published_layouts(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for language in suite_languages("msvamp"):
        path = data / "msvamp" / (f"test_{language}.jsonl" if language != "th" else "replaced_th.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"m_query": f"{language} {n}?", "response": f"{n}.0"} for n in (8, 1250)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (data / "svamp").mkdir()
    rows = [{"ID": "chal-1", "Body": "There are 8 apples.", "Question": "How many?", "Answer": 8.0}]
    (data / "svamp" / "SVAMP.json").write_text(json.dumps(rows))
    (data / "bbh_bn").mkdir()
    from langbridge.evaluate.tasks.bbh.documents import SUBTASKS

    gold = {"choice": "(B)", "yes_no": "No", "validity": "invalid"}
    for part, kind in SUBTASKS.items():
        with (data / "bbh_bn" / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["input_en", "options_en", "target_en", "input_bn", "options_bn"])
            writer.writeheader()
            options = "Options:\n(A) x\n(B) y" if kind == "choice" else ""
            english = {"input_en": f"{part}, which?", "options_en": options, "target_en": gold[kind]}
            writer.writerow({**english, "input_bn": f"{part}, কোনটি?", "options_bn": options})
    names = ["msvamp", "svamp", "bbh_bn"]
    run = run_with_gold(names, data, tmp_path / "gold", limit=None)
    for name in names:
        assert accuracies(run, name) == dict.fromkeys(suite_languages(name), 1.0), name
    bengali = run.samples("bbh_bn", "bn")
    assert [one.id for one in bengali] == [one.id for one in run.samples("bbh_bn", "en")]
    assert "কোনটি?\nOptions:\n(A) x" in next(one for one in bengali if one.id == "snarks/0").prompt
    assert set(run.results["tasks"]["bbh_bn"]["languages"]["bn"]["parts"]) == set(SUBTASKS)
    assert run.samples("svamp")[0].prompt == "There are 8 apples. How many?"
