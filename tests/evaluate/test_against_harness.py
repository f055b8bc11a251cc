"""The harness's own tasks and ours, given the same outputs: the same scores, or a difference that is written down."""

import csv
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from langbridge.evaluate.suites import load_suites, quiet_harness

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the published data (../shared/data) is not here")
THEIRS = Path(lm_eval.tasks.__file__).parent


def their_task(path: str, documents: list[dict[str, Any]], split: str = "test") -> Any:
    """A task of the harness over the same documents instead of the hub's."""
    from datasets import Dataset

    config = load_yaml(THEIRS / path)
    for key in (
        "dataset_path",
        "dataset_name",
        "training_split",
        "validation_split",
        "tag",
        "fewshot_config",
        "fewshot_split",
    ):
        config.pop(key, None)
    config |= {
        "task": "theirs",
        "test_split": split,
        "num_fewshot": 0,
        "custom_dataset": lambda **_: {split: Dataset.from_list(documents)},
    }
    with quiet_harness():
        return TaskManager(include_defaults=False).load([config])["tasks"]["theirs"]


def scores(task: Any, doc: dict[str, Any], output: str) -> dict[str, dict[str, float]]:
    """What the harness's filters and metrics make of one output, by filter."""
    instance = Instance("generate_until", doc, ("", {}), 0, ("theirs", 0, 1))
    instance.resps = [output]
    task._instances = [instance]
    task.apply_filters()
    return {name: task.process_results(doc, [instance.filtered_resps[name]]) for name in instance.filtered_resps}


@pytest.mark.parametrize("language", ["en", "sw", "bn"])
def test_mgsm_with_english_chains(language: str) -> None:
    (ours,) = load_suites(["mgsm_en_cot"], data=DATA, languages=[language])
    docs = list(ours.task.eval_docs)[:20]
    rows = [{"question": "", "answer": None, "answer_number": int(doc["expected"])} for doc in docs]
    theirs = their_task(f"mgsm/en_cot/mgsm_en_cot_{language}.yaml", rows)
    grader = ours.task.config.process_results
    differ = []
    for doc, row in zip(docs, rows, strict=True):
        gold = int(doc["expected"])
        for output in (
            f"3 + 4 = 7. The answer is {gold}.",
            f"3 + 4 = 7. The answer is {gold + 1}.",
            f"The answer is {gold:,}.",
            f"So he has {gold}",
            f"The answer is {gold}. That leaves 2 of them.",
            f"The answer is ${gold}.",
        ):
            found = scores(theirs, row, output)
            ok = grader(doc, [output])["accuracy"]
            strict, loose = (found[name]["exact_match"] for name in ("strict-match", "flexible-extract"))
            if ok != max(strict, loose):
                differ.append((output, ok, strict, loose))
    assert differ == [], "of outputs like these one of the harness's two rules is ours"


def test_mgsm_prompts_are_the_harness_s_own() -> None:
    for language in ("en", "sw", "de", "te"):
        (ours,) = load_suites(["mgsm_en_cot"], data=DATA, languages=[language])
        doc = ours.task.eval_docs[0]
        question = doc["prompt"].split(" ", 1)[1].rsplit("\n", 1)[0]
        row = {"question": question, "answer": None, "answer_number": 18}
        theirs = their_task(f"mgsm/en_cot/mgsm_en_cot_{language}.yaml", [row])
        assert theirs.doc_to_text(row) == doc["prompt"], language


@pytest.mark.parametrize("language", ["et", "sw", "zh", "th"])
def test_xcopa_asks_and_scores_as_the_harness_does(language: str) -> None:
    (ours,) = load_suites(["xcopa"], data=DATA, languages=[language])
    path = DATA / f"xcopa/{language}/test.{language}.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:50]]
    theirs = their_task(f"xcopa/default_{language}.yaml", rows)
    for place, (doc, row) in enumerate(zip(ours.task.eval_docs, rows, strict=False)):
        assert (doc["prompt"], doc["choices"]) == (theirs.doc_to_text(row), theirs.doc_to_choice(row))
        results = [(-float(place % 7), False), (-float((3 * place) % 5), True)]
        if results[0][0] == results[1][0]:
            continue  # a tie of two probabilities means nothing
        assert ours.task.process_results(doc, results)["accuracy"] == theirs.process_results(row, results)["acc"]
    requests = [task.construct_requests(doc=doc, ctx=text, metadata=("t", 0, 1)) for task, doc, text in (
        (ours.task, ours.task.eval_docs[0], "ctx"), (theirs, rows[0], "ctx"),
    )]  # fmt: skip
    assert [one.args for one in requests[0]] == [one.args for one in requests[1]]


def test_sib200_asks_as_the_harness_does() -> None:
    (ours,) = load_suites(["sib200"], data=DATA, languages=["amh_Ethi"])
    docs = list(ours.task.eval_docs)[:20]
    with (DATA / "sib200/amh_Ethi/test.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))[:20]
    theirs = their_task("afrobench/sib/prompt_1/sib_amh.yaml", rows)
    for doc, row in zip(docs, rows, strict=True):
        assert doc["prompt"] == theirs.doc_to_text(row)
        requests = [task.construct_requests(doc=one, ctx="ctx", metadata=("t", 0, 1)) for task, one in (
            (ours.task, doc), (theirs, row),
        )]  # fmt: skip
        assert [one.args for one in requests[0]] == [one.args for one in requests[1]]


@pytest.mark.parametrize("part", ["snarks", "navigate", "formal_fallacies", "date_understanding", "causal_judgement"])
def test_bbh(part: str) -> None:
    tasks = [one for one in load_suites(["bbh"], data=DATA) if one.part == part]
    ours = tasks[0].task
    docs = list(ours.eval_docs)[:20]
    rows = [{"input": doc["prompt"], "target": doc["target"]} for doc in docs]
    sys.path.insert(0, str(THEIRS / "bbh" / "cot_zeroshot"))
    try:
        theirs = their_task(f"bbh/cot_zeroshot/{part}.yaml", rows)
    finally:
        sys.path.pop(0)
    wrong = {"(A)": "(B)", "(B)": "(A)", "Yes": "No", "No": "Yes", "valid": "invalid", "invalid": "valid"}
    for doc, row in zip(docs, rows, strict=True):
        for answer in (row["target"], wrong.get(row["target"], "(A)")):
            output = f" We look at each in turn. So the answer is {answer}"
            loose = scores(theirs, row, output)["flexible-extract"]["exact_match"]
            assert ours.process_results(doc, [output])["accuracy"] == loose, (output, doc["expected"])


def test_the_harness_is_the_pinned_one() -> None:
    assert importlib.util.find_spec("lm_eval") is not None
    from importlib.metadata import version

    pinned = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8")
    assert f"\nlm_eval=={version('lm-eval')}\n" in pinned


def test_the_harness_s_tables_have_their_headings() -> None:
    from lm_eval.utils import make_table

    first = make_table({"results": {}, "versions": {}, "n-shot": {}, "higher_is_better": {}}).strip().splitlines()[0]
    assert first.startswith("|Tasks"), "its own requirement lets pip choose a pytablewriter without headings"
