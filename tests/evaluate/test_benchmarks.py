"""Rows from a folder or the hub by one setting, strictly read, and their origin."""

import hashlib
import json
from pathlib import Path

import pytest
from datasets import Dataset

from langbridge.errors import LangBridgeError
from langbridge.evaluate import benchmarks
from langbridge.evaluate.benchmarks import Benchmark, BenchmarkRows, HubPlace, read_rows, row_ids
from langbridge.evaluate.suites import load_suites, suite_files
from langbridge.evaluate.tasks.bbh.documents import SUBTASKS
from langbridge.evaluate.tasks.xcopa.documents import CONNECTORS, corrections

SOURCE = Benchmark("farm", ("farm_{language}", "*_{language}"), ("q", "a"), HubPlace("owner/farm", "{language}"))


def test_a_folder_that_holds_the_family_or_is_it(tmp_path: Path) -> None:
    (tmp_path / "farm").mkdir()
    path = tmp_path / "farm" / "farm_sw.jsonl"
    path.write_text('{"q": "x", "a": 1}\n')
    for folder in (tmp_path, tmp_path / "farm"):
        found = read_rows(SOURCE, folder, language="sw")
        assert found.rows == [(f"{path}, row 1", {"q": "x", "a": 1})]
        assert found.origin == {"file": "farm_sw.jsonl", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(LangBridgeError, match=r"found no farm_sw and no \*_sw \(jsonl, .* parquet, also compr"):
        read_rows(SOURCE, tmp_path, language="sw")
    with pytest.raises(LangBridgeError, match="no such folder"):
        read_rows(SOURCE, tmp_path / "none", language="sw")
    (tmp_path / "a_sw.jsonl").write_text('{"q": "x"}\n')
    with pytest.raises(LangBridgeError, match=r"a_sw\.jsonl, row 1: no field 'a'; the row has 'q'"):
        read_rows(SOURCE, tmp_path, language="sw")
    (tmp_path / "b_sw.jsonl").write_text("{}")
    with pytest.raises(LangBridgeError, match=r"expected one file \*_sw, found a_sw\.jsonl, b_sw\.jsonl"):
        read_rows(SOURCE, tmp_path, language="sw")


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """The last one would be asked in silence."""
    source = Benchmark(family="sums", patterns=("sums",), required=("question", "answer"))
    (tmp_path / "sums.csv").write_text("question,answer,question\na,1,b\n")
    with pytest.raises(LangBridgeError, match=r"sums\.csv: has 2 columns 'question'; rename"):
        read_rows(source, tmp_path)


def test_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(path: str, name: str | None, *, split: str) -> Dataset:
        asked.append((path, name, split))
        return Dataset.from_list([{"q": "x", "a": 1}])

    monkeypatch.setattr(benchmarks, "load_dataset", load)
    found = read_rows(SOURCE, "hub", language="sw")
    assert asked == [("owner/farm", "sw", "test")]
    assert found.rows == [("owner/farm, row 1", {"q": "x", "a": 1})]
    assert found.origin["dataset"] == "owner/farm"
    assert found.origin["hash"]
    nowhere = Benchmark("farm", ("farm_{language}",), ("q",))
    with pytest.raises(LangBridgeError, match="no source on the hub"):
        read_rows(nowhere, "hub", language="sw")

    def fails(*_: object, **__: object) -> Dataset:
        raise ConnectionError("no network")

    monkeypatch.setattr(benchmarks, "load_dataset", fails)
    with pytest.raises(LangBridgeError, match=r"could not be fetched from the hub \(no network\); --data DIR"):
        read_rows(SOURCE, None, language="sw")


def test_mgsm_from_the_hub_takes_english_chains_from_english(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        "train": {
            "en": {"question": "Question: 1 + 1?", "answer": "Step-by-Step Answer: It is 2.", "answer_number": 2},
            "sw": {"question": "Swali: 1 + 1?", "answer": "Jibu la Hatua kwa Hatua: Ni 2.", "answer_number": 2},
        },
        "test": {"sw": {"question": "2 + 2?", "answer": None, "answer_number": 4}},
    }
    monkeypatch.setattr(
        benchmarks, "load_dataset", lambda path, name, *, split: Dataset.from_list([rows[split][name]] * 8)
    )
    for suite, expected in (
        ("mgsm_en_cot", "Swali: 1 + 1?\nStep-by-Step Answer: It is 2."),
        ("mgsm_native_cot", "Swali: 1 + 1?\nJibu la Hatua kwa Hatua: Ni 2."),
        ("mgsm_direct", "Swali: 1 + 1?\nAnswer: 2"),
    ):
        (task,) = load_suites([suite], data="hub", languages=["sw"])
        text = task.task.fewshot_context(task.task.eval_docs[0], num_fewshot=8)
        assert text.split("\n\n")[:8] == [expected] * 8
        assert text.split("\n\n")[8].startswith("Swali: 2 + 2?\n")


def test_bad_gold_answers_are_named(tmp_path: Path) -> None:
    (tmp_path / "mgsm_en.jsonl").write_text('{"question": "x", "answer_number": "many"}\n')
    with pytest.raises(LangBridgeError, match=r"mgsm_en\.jsonl, row 1: expected a number as the answer, got 'many'"):
        load_suites(["mgsm"], data=tmp_path, languages=["en"])
    (tmp_path / "test.en.jsonl").write_text(
        json.dumps({"premise": "x.", "choice1": "a", "choice2": "b", "question": "why", "label": 0})
    )
    with pytest.raises(LangBridgeError, match=r"test\.en\.jsonl, row 1: expected a question of 'cause' or 'effect'"):
        load_suites(["xcopa"], data=tmp_path, languages=["en"])


MGSM = {"question": "1 + 1?", "answer_number": 2}
XCOPA = {"premise": "It rained.", "choice1": "A", "choice2": "B", "question": "effect", "label": 0, "idx": 0}
PROBLEM = {
    "task_id": "HumanEval/0",
    "prompt": "def f():\n",
    "canonical_solution": " pass",
    "test": "x",
    "entry_point": "f",
}


@pytest.mark.parametrize(
    ("suite", "language", "file", "row", "message"),
    [
        ("mgsm", "en", "mgsm_en.jsonl", {**MGSM, "question": None}, "field 'question': expected text, got nothing"),
        ("mgsm", "en", "mgsm_en.jsonl", {**MGSM, "question": " "}, "field 'question': the text is empty"),
        ("msvamp", "en", "test_en.jsonl", {"m_query": None, "response": 2}, "field 'm_query': expected text"),
        ("gsm8k", "en", "test.jsonl", {"question": 5, "answer": "#### 2"}, "field 'question': expected text, got int"),
        ("svamp", "en", "svamp.json", [{"Body": None, "Question": "?", "Answer": 2}], "field 'Body': expected text"),
        ("bbh", "en", "snarks.jsonl", {"input": "(A) x (B) y", "target": 1}, "field 'target': expected text, got int"),
        ("bbh_bn", "bn", "snarks.csv", "input_en,options_en,target_en,input_bn,options_bn\n1,2,(A)\n",
         "expected 5 columns as in the first line, got 3"),
        ("xcopa", "en", "test.en.jsonl", {**XCOPA, "choice2": ""}, "field 'choice2': the text is empty"),
        ("xcopa", "en", "test.en.jsonl", {**XCOPA, "label": 1.0}, "a label of 0 or 1, got 'effect' and 1.0"),
        ("humaneval", "en", "HumanEval.jsonl", {**PROBLEM, "prompt": None}, "field 'prompt': expected text"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_asked_are_named_as_they_are_read(
    tmp_path: Path, suite: str, language: str, file: str, row: object, message: str
) -> None:
    (tmp_path / file).write_text(row if isinstance(row, str) else json.dumps(row))
    for part in SUBTASKS if suite.startswith("bbh") else ():
        if not (tmp_path / file).name.startswith(part):
            (tmp_path / f"{part}{Path(file).suffix}").write_text((tmp_path / file).read_text())
    with pytest.raises(LangBridgeError, match=rf"{Path(file).suffix}, row [12].*{message}"):
        load_suites([suite], data=tmp_path, languages=[language])


def test_ids_are_places_where_there_are_none_and_never_twice_the_same() -> None:
    rows = BenchmarkRows([("f, row 1", {}), ("f, row 2", {"id": "x"}), ("f, row 3", {"id": 2})])
    assert row_ids(rows) == ["0", "x", "2"]
    with pytest.raises(LangBridgeError, match=r"f, row 2: the id '0' is that of f, row 1 too"):
        row_ids(BenchmarkRows([("f, row 1", {}), ("f, row 2", {"id": 0})]))


def test_a_premise_without_a_full_stop_keeps_its_end_in_the_corrected_suite(tmp_path: Path) -> None:
    for premise, published, corrected in (("ปลวกกินบ้าน", "ปลวกกินบ้า", "ปลวกกินบ้าน"), ("ฝนตก.", "ฝนตก", "ฝนตก")):
        (tmp_path / "test.th.jsonl").write_text(json.dumps({**XCOPA, "premise": premise}))
        for suite, text in (("xcopa", published), ("xcopa_corrected", corrected)):
            (one,) = load_suites([suite], data=tmp_path, languages=["th"])
            (doc,) = one.task.eval_docs
            assert doc["prompt"] == f"{text} {CONNECTORS['th'][doc['question'] == 'effect']}"


def test_suites_are_read_from_our_folder_alone() -> None:
    assert {"mgsm", "msvamp", "gsm8k", "svamp", "bbh", "bbh_bn", "xcopa", "xcopa_corrected"} <= set(suite_files())
    with pytest.raises(LangBridgeError, match="got 'mmlu', expected one of"):
        load_suites(["mmlu"])


def test_corrections_of_xcopa_are_those_that_its_readme_counts() -> None:
    wrong = corrections()
    counts = {language: (len(rows["test"]), len(rows["val"])) for language, rows in wrong.items()}
    assert counts == {"th": (250, 52), "tr": (51, 52), "sw": (37, 6), "id": (4, 5), "it": (4, 5)}


def test_corrected_rows_ask_as_the_english_ones_do() -> None:
    data = Path(__file__).parents[3] / "shared" / "data"
    if not data.is_dir():
        pytest.skip("the published data (../shared/data) is not here")
    asked = {}
    for suite in ("xcopa", "xcopa_corrected"):
        for one in load_suites([suite], data=data, languages=["en", "th", "sw"]):
            asked[suite, one.language] = [(doc["id"], doc["question"]) for doc in one.task.eval_docs]
    for language, count in (("th", 250), ("sw", 37)):
        assert asked["xcopa_corrected", language] == asked["xcopa", "en"]
        published = zip(asked["xcopa", language], asked["xcopa", "en"], strict=True)
        assert sum(ours != english for ours, english in published) == count
