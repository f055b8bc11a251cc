"""Benchmarks as their publishers' repositories have them, on a few rows of our own in each layout."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from langbridge.errors import LangBridgeError
from langbridge.evaluate.suites import load_suites
from langbridge.evaluate.tasks.mmath.documents import grader as formula_grader
from langbridge.evaluate.tasks.sib200.documents import TOPICS, choice_grader, topic_grader
from langbridge.evaluate.tasks.xcsqa.documents import grader as csqa_grader
from langbridge.evaluate.tasks.xnli.documents import grader as nli_grader

DATA = Path(__file__).parents[3] / "shared" / "data"
PROBLEM = {
    "task_id": "HumanEval/0",
    "prompt": 'def f():\n    """One."""\n',
    "canonical_solution": "    return 1\n",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
    "entry_point": "f",
}
XCOPA = {"premise": "It rained.", "choice1": "A", "choice2": "B", "question": "effect", "label": 0, "idx": 0}


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def documents(suite: str, data: Path, languages: list[str] | None = None) -> list[dict[str, Any]]:
    return [dict(doc) for one in load_suites([suite], data=data, languages=languages) for doc in one.task.eval_docs]


JSON_LINE = b'{"question": "Ana \\"maembe\\" 4.", "answer_number": 7}\n'


@pytest.mark.parametrize(
    ("suite", "file", "content"),
    [
        ("mgsm", "mgsm/mgsm_sw.tsv", 'Ana "maembe" 4.\t7\nMagari 300?\t1,200\n'),
        ("mgsm", "mgsm_Swahili.json", '{"query": "Ana \\"maembe\\" 4.", "response": "7"}\n'),
        ("mgsm", "mgsm_sw.jsonl.gz", gzip.compress(JSON_LINE, mtime=0)),
        ("msvamp", "test_Swahili.json", '{"query": "en", "m_query": "Ana \\"maembe\\" 4.", "response": "7.0"}\n'),
        ("afrimgsm", "IrokoBench/afrimgsm/swa/test.tsv", 'question\tanswer\n"Ana ""maembe"" 4."\t7\n"a\nb"\t2\n'),
    ],
)  # fmt: skip
def test_word_problems(tmp_path: Path, suite: str, file: str, content: str | bytes) -> None:
    write(tmp_path / file, content)
    first = documents(suite, tmp_path, ["sw"])[0]
    assert (first["prompt"], first["expected"]) == ('Ana "maembe" 4.', "7")


def test_mgsm_s_examples_are_read_from_its_python_file_without_running_it(tmp_path: Path) -> None:
    write(tmp_path / "mgsm_sw.tsv", "2 + 2?\t4\n")
    with pytest.raises(LangBridgeError, match=r"no exemplars_sw .* nor an exemplars\.py"):
        load_suites(["mgsm_direct"], data=tmp_path, languages=["sw"])
    write(
        tmp_path / "exemplars.py",
        '"""Prompts."""\nraise SystemExit\nEXEMPLAR_NUMBER_ANSWERS = [2]\nMGSM_EXEMPLARS = {\n'
        '    "en": {"1": {"q": "Question: 1 + "\n "1?", "a": "Step-by-Step Answer: It is 2."}},\n'
        '    "sw": {"1": {"q": "Swali: 1 + 1?", "a": "Jibu la Hatua kwa Hatua: Ni 2."}},\n}\n',
    )
    for suite, expected in (
        ("mgsm_direct", "Swali: 1 + 1?\nAnswer: 2"),
        ("mgsm_native_cot", "Swali: 1 + 1?\nJibu la Hatua kwa Hatua: Ni 2."),
        ("mgsm_en_cot", "Swali: 1 + 1?\nStep-by-Step Answer: It is 2."),
    ):
        (one,) = load_suites([suite], data=tmp_path, languages=["sw"])
        assert one.task.fewshot_context(one.task.eval_docs[0], num_fewshot=1).startswith(f"{expected}\n\nSwali: 2 + 2?")
    write(tmp_path / "exemplars.py", "MGSM_EXEMPLARS = made()\n")
    with pytest.raises(LangBridgeError, match=r"exemplars\.py: expected the dictionary MGSM_EXEMPLARS"):
        load_suites(["mgsm_direct"], data=tmp_path, languages=["sw"])


def test_big_bench_hard_and_its_bengali_files(tmp_path: Path) -> None:
    rows = {"canary": "-", "examples": [{"input": "Did it?\nOptions:\n- Yes\n- No", "target": "Yes"}]}
    write(tmp_path / "bbh" / "causal_judgement.json", json.dumps(rows, indent=2))
    with pytest.warns(UserWarning, match="of bbh there is no date_understanding, .* and 3 more"):
        (doc,) = documents("bbh", tmp_path)
    assert doc["expected"] == "yes"
    path = tmp_path / "data" / "BBH-Bengali" / "logical_deductions_five-en-bn.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        columns = ["input_en", "options_en", "target_en", "input_bn", "options_bn"]
        csv.writer(file).writerows([columns, ["Which?", "(A) x\n(B) y", "(B)", "কোনটি?", "(A) x\n(B) y"]])
    with pytest.warns(UserWarning, match="of bbh_bn there is no"):
        (doc,) = documents("bbh_bn", tmp_path / "data", ["bn"])
    assert doc["id"] == "logical_deduction_five_objects/0"
    assert "কোনটি?\n(A) x" in doc["prompt"]


def test_the_clone_of_xcopa(tmp_path: Path) -> None:
    write(tmp_path / "data" / "sw" / "test.sw.jsonl", json.dumps(XCOPA))
    assert documents("xcopa", tmp_path, ["sw"])[0]["choices"] == ["a", "b"]


def test_humaneval_and_its_translations(tmp_path: Path) -> None:
    write(tmp_path / "human-eval" / "data" / "HumanEval.jsonl.gz", gzip.compress(json.dumps(PROBLEM).encode()))
    write(tmp_path / "data" / "humaneval" / "humaneval_swahili_anon.json", json.dumps(PROBLEM))
    assert documents("humaneval", tmp_path / "human-eval")[0]["id"] == "HumanEval/0"
    assert documents("humaneval_mt_anon", tmp_path / "data", ["sw"])[0]["language"] == "sw"


def test_sib200(tmp_path: Path) -> None:
    rows = "index_id\tcategory\ttext\n7\tscience/technology\tAtomi.\n2\ttravel\tBasi.\n"
    write(tmp_path / "data" / "annotated" / "swh_Latn" / "test.tsv", rows)
    (choice, _), (written, _) = (documents(suite, tmp_path, ["sw"]) for suite in ("sib200", "sib200_gen"))
    for doc in (choice, written):
        assert (doc["id"], doc["language"], doc["expected"], doc["label"]) == ("7", "swh_Latn", TOPICS[0], 0)
    likely = [(-float(place), False) for place in range(7)]
    assert choice_grader.grade(choice, likely).extracted == choice["expected"] == TOPICS[0]
    assert written["prompt"].endswith("'Atomi.' belong to?\nAnswer with the category only.")
    for output, correct in (
        ("science/technology", True), ("Not travel: Science and technology.", True), ("It is about technology", True),
        ("The answer is travel, not technology.", False), ("nothing", False),
    ):  # fmt: skip
        assert topic_grader.grade(written, [output]).correct is correct, output
    write(tmp_path / "data" / "annotated" / "swh_Latn" / "test.tsv", rows.replace("travel", "food"))
    with pytest.raises(LangBridgeError, match=r"test\.tsv, row 3: expected one of science.*got the category 'food'"):
        documents("sib200", tmp_path, ["sw"])


def test_what_a_folder_lacks_is_left_out_unless_it_was_asked_for(tmp_path: Path) -> None:
    for code in ("zho_Hans", "swh_Latn"):
        write(tmp_path / code / "test.tsv", "index_id\tcategory\ttext\n7\ttravel\tBasi.\n")
    with pytest.warns(UserWarning, match="of sib200 there is no eng_Latn, ace_Arab, .* and 193 more"):
        assert [one.language for one in load_suites(["sib200"], data=tmp_path)] == ["swh_Latn", "zho_Hans"]
    with pytest.warns(UserWarning, match="no zho_Hant; the rest"):
        assert [one.language for one in load_suites(["sib200"], data=tmp_path, languages=["zh"])] == ["zho_Hans"]
    with pytest.raises(LangBridgeError, match="found no tel_Telu/test"):
        load_suites(["sib200"], data=tmp_path, languages=["sw", "te"])


def test_mmath(tmp_path: Path) -> None:
    golds = ["204", "$\\frac{3}{4}$", "$8\\sqrt{5} - 16$", "$(-\\infty,-1)\\cup(6,+\\infty)$", "-50"]
    rows = [{"question": f" Q{n}?", "answer": gold, "data_source": "CNMO", "lang": "th", "gid": 45 + n}
            for n, gold in enumerate(golds)]  # fmt: skip
    write(tmp_path / "mmath" / "th.json", json.dumps(rows, indent=4))
    found = documents("mmath", tmp_path, ["th"])
    assert [doc["id"] for doc in found] == ["45", "46", "47", "48", "49"]
    assert [doc["prompt"] for doc in found] == ["Q0?", "Q1?", "Q2?", "Q3?", "Q4?"]
    right = [
        ["So 12 and 204.", "It is \\$204.", "\\boxed{204} minutes", "ดังนั้น ๒๐๔", "$$x = 204$$"],
        ["0.75", "thus \\frac{6}{8}", "$$x=\\dfrac{3}{4}$$"],
        ["The least is \\(8(\\sqrt5-2)\\)."], ["$x \\in (-\\infty, -1) \\cup (6, \\infty)$"], ["\\[-50\\]"],
    ]  # fmt: skip
    for doc, outputs in zip(found, right, strict=True):
        for output in [doc["expected"], *outputs]:
            assert formula_grader.grade(doc, [output]).correct, (doc["expected"], output)
        for output in ("", "It is 7.", "\\boxed{7}, not 204", "no number"):
            assert not formula_grader.grade(doc, [output]).correct, (doc["expected"], output)
    # The first was cut off, and its last formula happens to be right.
    for doc, output, boxed in (
        (found[0], "So $203 + 1 = 204$ and then $204$", 0), (found[0], "so $204$ and \\boxed{20", 0),
        (found[0], "\\boxed{204}", 1), (found[0], "\\boxed{ 204 \\text{ cm}}, not $7$", 1),
        (found[0], "\\boxed{\\$204}", 1),
        (found[0], "\\boxed{\\textbf{204}}", 1), (found[0], "\\boxed{7}, not 204", 0), (found[0], "", 0),
        (found[0], "\\boxed{7} is wrong: \\boxed{204}", 1), (found[1], "\\boxed{\\dfrac{3}{4}}", 1),
        (found[1], "\\boxed{\\frac34}", 1), (found[2], "\\boxed{8\\left(\\sqrt{5} - \\frac{4}{2}\\right)}", 1),
        (found[3], "\\boxed{\\left(-\\infty, -1\\right) \\cup \\left(6, +\\infty\\right)}", 1),
        (found[1] | {"language": "fr"}, "\\boxed{0,75}", 1), (found[1] | {"language": "es"}, "\\boxed{0{,}75}", 1),
        (found[1], "\\boxed{0,75}", 0), (found[0] | {"language": "vi", "expected": "10080"}, "\\boxed{10.080}", 1),
        (found[0] | {"language": "fr", "expected": "10080"}, "\\boxed{10\\,080}", 1),
    ):  # fmt: skip
        assert formula_grader.grade(doc, [output]).extra == {"accuracy_boxed": boxed}, output
    rows[1]["answer"] = "none"
    write(tmp_path / "mmath" / "th.json", json.dumps(rows))
    with pytest.raises(LangBridgeError, match=r"th\.json, row 2, field 'answer': expected a number or a formula"):
        documents("mmath", tmp_path, ["th"])


@pytest.mark.skipif(not DATA.is_dir(), reason="the published data (../shared/data) is not here")
def test_every_published_row_of_afrimgsm() -> None:
    tasks = load_suites(["afrimgsm"], data=DATA)
    golds = {one.language: [doc["expected"] for doc in one.task.eval_docs] for one in tasks}
    assert len(golds) == 18
    assert all(len(found) == 250 for found in golds.values())


NLI = 'premise,hypothesis,label\n"Mvua, kubwa.",Hakuna mvua.,contradiction\nMvua.,Mvua.,entailment\n'


@pytest.mark.parametrize("place", ["swa", "africanli/swa", "IrokoBench/africanli/swa"])
def test_afrixnli(place: str, tmp_path: Path) -> None:
    write(tmp_path / place / "test.csv", NLI)
    first, second = documents("afrixnli", tmp_path, ["sw"])
    assert (first["id"], first["language"], first["expected"]) == ("0", "swa", "contradiction")
    assert first["prompt"].startswith("Premise: Mvua, kubwa.\nHypothesis: Hakuna mvua.\nDoes the premise entail")
    for output, correct in (
        ("entailment", True), ("The premise entails it.", True), ("Not neutral: the answer is entailment.", True),
        ("Entailment. Nothing neutral, nor a contradiction.", True), ("**Entailment**\n\nNo contradiction.", True),
        ("entailment (not neutral)", True), ("Entailment or contradiction? Contradiction.", False),
        ("It contradicts the premise.", False), ("The answer is neutral, no entailment.", False), ("yes", False),
        ("This is an entailment, not a contradiction.", True),
        ("Answer: there is no contradiction, so entailment", True),
    ):  # fmt: skip
        assert nli_grader.grade(second, [output]).correct is correct, output
    for output in (
        "The answer is not entailment, it is neutral.", "The relationship is neutral because it's not a contradiction.",
        "The premise neither entails nor contradicts the hypothesis.", "Neither.",
    ):  # fmt: skip
        assert nli_grader.grade(second, [output]).extracted == "neutral", output
    write(tmp_path / place / "test.csv", NLI.replace("contradiction", "2").replace("entailment", "0"))
    assert [doc["expected"] for doc in documents("afrixnli", tmp_path, ["sw"])] == ["contradiction", "entailment"]
    write(tmp_path / place / "test.csv", NLI.replace("contradiction", "unrelated"))
    with pytest.raises(LangBridgeError, match=r"test\.csv, row 2: expected a label of entail.*got 'unrelated'"):
        documents("afrixnli", tmp_path, ["sw"])


def test_xnli_in_one_file_and_in_one_a_language(tmp_path: Path) -> None:
    head = "language\tgold_label\tsentence1\tsentence2\tpromptID\tpairID\tgenre\n"
    rows = 'en\tneutral\tHe said "no.\tHe left.\t1\t7\tx\nsw\tneutral\tAlisema "hapana.\tAliondoka.\t1\t7\tx\n'
    write(tmp_path / "one" / "XNLI-1.0" / "xnli.test.tsv", head + rows)
    (doc,) = documents("xnli", tmp_path / "one", ["sw"])
    assert (doc["id"], doc["expected"]) == ("7", "neutral")
    assert 'Premise: Alisema "hapana.\nHypothesis: Aliondoka.\n' in doc["prompt"]
    write(tmp_path / "hub" / "sw" / "test-00000.jsonl", '{"premise": "a", "hypothesis": "b", "label": 2}\n')
    (doc,) = documents("xnli", tmp_path / "hub", ["sw"])
    assert (doc["id"], doc["expected"]) == ("0", "contradiction")
    write(tmp_path / "one" / "XNLI-1.0" / "xnli.test.tsv", head + rows + rows.splitlines()[1])
    with pytest.raises(LangBridgeError, match=r"row 4: the id '7' is that of .*row 3 too"):
        documents("xnli", tmp_path / "one", ["sw"])
    write(tmp_path / "one" / "XNLI-1.0" / "xnli.test.tsv", head + rows.replace("sw\t", "de\t"))
    with pytest.raises(LangBridgeError, match="has no rows with the language 'sw'"):
        documents("xnli", tmp_path / "one", ["sw"])


CSQA = {
    "id": "9f", "lang": "sw", "answerKey": "B",
    "question": {"stem": "Paka?", "choices": [{"label": one, "text": f"mnyama {one}"} for one in "ABCDE"]},
}  # fmt: skip


def test_xcsqa(tmp_path: Path) -> None:
    write(tmp_path / "X-CSQA" / "sw" / "dev.jsonl", json.dumps(CSQA))
    write(tmp_path / "X-CSQA" / "jap" / "dev.jsonl", json.dumps(CSQA))
    (doc,) = documents("xcsqa", tmp_path, ["sw"])
    assert (doc["id"], doc["expected"]) == ("9f", "B")
    assert doc["prompt"].startswith("Paka?\n(A) mnyama A\n(B) mnyama B\n")
    (japanese,) = documents("xcsqa", tmp_path, ["ja"])
    assert japanese["language"] == "ja"
    by_lists = {"label": list("ABCDE"), "text": [f"mnyama {one}" for one in "ABCDE"]}
    on_the_hub = {**CSQA, "question": {"stem": "Paka?", "choices": by_lists}}
    write(tmp_path / "hub" / "sw" / "dev.jsonl", json.dumps(on_the_hub))
    assert documents("xcsqa", tmp_path / "hub", ["sw"])[0]["prompt"] == doc["prompt"]
    for output, correct in (
        ("B", True), ("(B)", True), ("(A) is not it. The answer is B.", True), ("mnyama B", True), ("(A)", False),
        ("B. For (A) it is too small", True),
        ("mnyama C", False), ("", False),
    ):  # fmt: skip
        assert csqa_grader.grade(doc, [output]).correct is correct, output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answerKey": "F"}, "expected an answerKey of A, B, C, D, E, got 'F'"),
        ({"question": "Paka?"}, "field 'question': expected a stem and choices, got 'Paka"),
        (
            {"question": {"stem": "a", "choices": [{"label": "B", "text": "b"}]}},
            "expected choices A, B and so on, got B",
        ),
    ],
)
def test_a_question_that_is_none_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / "sw" / "dev.jsonl", json.dumps({**CSQA, **change}))
    with pytest.raises(LangBridgeError, match=rf"dev\.jsonl, row 1.*{message}"):
        documents("xcsqa", tmp_path, ["sw"])
