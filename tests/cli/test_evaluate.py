"""`langbridge evaluate` and `langbridge lm-eval`, as typed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    for language in ("en", "sw"):
        rows = [{"q": f"{index} + {index}?", "a": 2 * index} for index in range(3)]
        (tmp_path / f"sum_{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "sum.yaml"
    path.write_text("suite: sum\nfiles: sum_*.jsonl\nquestion: q\nanswer: a\nmax_new_tokens: 6\n")
    return path


def test_evaluate_prints_and_writes_and_goes_on(command, bridge_folder: Path, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("evaluate", bridge_folder, "--suite", suite, "--out", out, "--quiet")
    code, printed, _ = command(*arguments)
    assert code == 0
    assert printed.startswith("sum, per cent\n     en ")
    assert "(n=3" in printed
    assert printed.endswith(f"{out}: results.json, samples_sum.jsonl\n")
    assert {path.name for path in out.iterdir()} >= {"run.json", "results.json", "samples_sum.jsonl"}
    assert command(*arguments)[:2] == (0, printed)
    code, _, error = command(*arguments, "--max-new-tokens", 3)
    assert code == 2
    assert "max_gen_toks was 6 and is 3" in error
    assert error.count("\n") == 1, "one line"


def test_the_same_command_for_a_plain_model(command, base_folders, suite: Path, tmp_path: Path) -> None:
    arguments = (
        "--suite",
        suite,
        "--out",
        tmp_path / "run",
        "--template",
        "Q: {prompt}",
        "--languages",
        "sw",
        "--limit",
        2,
    )
    assert command("evaluate", base_folders[1], *arguments)[0] == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "samples_sum.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == ["Q: 0 + 0?", "Q: 1 + 1?"]


def test_mistakes_are_one_line(command, bridge_folder: Path, suite: Path, tmp_path: Path) -> None:
    for arguments, message in [
        ((bridge_folder, "--suite", "mmlu"), "--suite: got 'mmlu'"),
        ((bridge_folder, "--suite", ","), "expected names with commas"),
        ((bridge_folder, "--suite", suite, "--languages", "te"), "--languages: sum has en, sw; got te"),
        ((bridge_folder, "--suite", suite, "--shots-in", "both"), "shots_in: got 'both'"),
        ((bridge_folder, "--suite", suite, "--dtype", "int3"), "dtype: got 'int3'"),
        ((bridge_folder, "--suite", suite, "--translator", bridge_folder), "has no text to translate"),
        ((tmp_path / "none", "--suite", suite), "no such folder"),
    ]:
        code, printed, error = command("evaluate", *arguments, "--out", tmp_path / "run")
        assert (code, printed) == (2, ""), arguments
        assert message in error


@pytest.mark.filterwarnings("default:--data")
def test_what_the_data_lack_is_told_in_one_line(command, bridge_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "test_Swahili.json").write_text('{"m_query": "Ana 2. Ngapi?", "response": 2}\n')
    arguments = ("--suite", "msvamp", "--data", tmp_path, "--out", tmp_path / "run", "--max-new-tokens", 2, "--quiet")
    code, printed, error = command("evaluate", bridge_folder, *arguments)
    assert (code, error.count("\n")) == (0, 1)
    assert error.startswith(
        "langbridge: warning: --data: of msvamp there is no en, es, fr, de, ru, zh, ja, th, bn; the"
    )
    assert printed.startswith("msvamp, per cent\n     sw ")


def test_bad_data_leave_no_run_behind(command, bridge_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "test_sw.jsonl").write_text('{"m_query": null, "response": 2}\n')
    arguments = ("--suite", "msvamp", "--languages", "sw", "--data", tmp_path, "--out", tmp_path / "run")
    code, _, error = command("evaluate", bridge_folder, *arguments)
    assert (code, error.count("\n")) == (2, 1)
    assert "test_sw.jsonl, row 1, field 'm_query': expected text" in error
    assert not (tmp_path / "run").exists()


def test_the_folder_of_translations_stands_beside_where_the_run_is(command, tmp_path: Path, monkeypatch) -> None:
    from langbridge.evaluate import translating

    asked = []
    monkeypatch.setattr(translating, "Translator", lambda *_, **__: None)
    monkeypatch.setattr(translating, "translate_family", lambda *arguments, **_: asked.append(arguments[4]))
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert command("evaluate", "x", "--suite", "mgsm", "--out", ".", "--translator", "y", "--quiet")[0] == 2
    assert asked == [tmp_path / "run-english"]
    code, _, error = command("evaluate", "x", "--suite", "mgsm,xcopa", "--out", ".", "--languages", "sw,xx",
                             "--translator", "y")  # fmt: skip
    assert (code, len(asked)) == (2, 1), "nothing is translated before all languages are known"
    assert "; got xx" in error


def test_tasks_that_the_harness_does_not_know_are_one_line(command, monkeypatch) -> None:
    import lm_eval.__main__

    def unknown(message: str):
        def cli_evaluate() -> None:
            raise ValueError(message)

        return cli_evaluate

    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(lm_eval.__main__, "cli_evaluate", unknown("Tasks not found: lb_mgsm_en"))
    code, printed, error = command("lm-eval", "--model", "langbridge", "--tasks", "lb_mgsm_en")
    assert (code, printed, error.count("\n")) == (2, "", 1)
    assert "--tasks: the harness knows no lb_mgsm_en;" in error
    code, _, error = command("lm-eval", "--model", "langbridge", "--tasks", "lb_humaneval")
    assert code == 2
    assert "lb_humaneval: programs are run after" in error

    monkeypatch.setattr(lm_eval.__main__, "cli_evaluate", unknown("a fault of the harness"))
    with pytest.raises(ValueError, match="a fault of the harness"):
        command("lm-eval", "--model", "langbridge", "--tasks", "lb_mgsm")


@pytest.mark.slow
def test_a_misspelt_task_of_the_harness_is_one_line() -> None:
    """Slow because the harness first reads all of its own tasks."""
    done = subprocess.run(
        [sys.executable, "-m", "langbridge.cli", "lm-eval", "--model", "langbridge", "--model_args", "pretrained=x",
         "--tasks", "lb_mgsm_en"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "the harness knows no lb_mgsm_en" in done.stderr


@pytest.mark.slow
def test_the_harness_s_own_command_line_knows_our_model(bridge_folder: Path, tmp_path: Path) -> None:
    """Slow because the harness first reads all of its own tasks."""
    (tmp_path / "mgsm_sw.jsonl").write_text('{"question": "1 + 1?", "answer_number": 2}\n')
    (tmp_path / "sum.yaml").write_text(
        "task: sum\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/mgsm_sw.jsonl}}}}\n"
        "output_type: generate_until\ntest_split: test\ndoc_to_text: question\ndoc_to_target: answer_number\n"
        "generation_kwargs: {until: [x], max_gen_toks: 4}\n"
        "metric_list:\n  - {metric: exact_match, aggregation: mean, higher_is_better: true}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "langbridge.cli", "lm-eval", "--model", "langbridge", "--model_args",
         f"pretrained={bridge_folder}", "--tasks", str(tmp_path / "sum.yaml")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "exact_match" in done.stdout
