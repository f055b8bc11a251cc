"""The whole analysis on a tiny bridge, and its command line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.analyze import representations
from langbridge.analyze.alignment import standardised
from langbridge.analyze.corpus import Corpus
from langbridge.analyze.representations import analyze_representations, measure_stage
from langbridge.errors import LangBridgeError

FILES = {f"{name}.{kind}" for name in ("curves", "pca", "pca_input") for kind in ("png", "svg")}
FILES |= {"numbers.json", "report.md"}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Twelve sentences, said the same in a second language and in capitals in a third."""
    english = tuple(f"Tom has {i} {'red ' * (i % 3)}apples" for i in range(12))
    capitals = tuple(text.upper() for text in english)
    return Corpus(("en", "de", "te"), tuple(map(str, range(12))), (english, english, capitals), incomplete=2)


def test_everything_is_written_and_says_what_is_so(bridge_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    model = LangBridgeModel.from_pretrained(bridge_folder)
    processor = LangBridgeProcessor.from_pretrained(bridge_folder)
    numbers = analyze_representations(
        model, processor, corpus, tmp_path, pca_fit="lm", keep_states=True, source={"bridge": "mine"}
    )
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"states"}
    assert json.loads((tmp_path / "numbers.json").read_text()) == numbers
    assert numbers["groups"] == {"high": ["de"], "low": ["te"], "all": ["de", "te"]}
    assert [(stage["model"], stage["layer"]) for stage in numbers["stages"]] == [
        *(("bridge", layer) for layer in (-1, 0, 1, 2)),
        *(("lm", layer) for layer in (0, 1, 2)),
    ]
    for stage in numbers["stages"]:
        # Equal texts have equal states, whatever the model.
        assert stage["retrieval"]["de"]["to_pivot"] == {"value": 1.0, "stderr": 0.0}
        assert stage["cosine"]["de"]["parallel"]["value"] == pytest.approx(1.0)
        assert stage["cka"]["de"]["value"] == pytest.approx(1.0)
        assert stage["cka"]["te"]["value"] < 0.999
        assert sum(share["value"] for share in stage["variance"].values()) == pytest.approx(1.0)
        assert stage["probe"]["chance"] == pytest.approx(1 / 3)
    kept = np.load(tmp_path / "states" / "bridge_soft_prompts.npy")
    assert kept.shape == (12, 3, 48)
    axes = json.loads((tmp_path / "states" / "axes.json").read_text())
    assert axes == {"sentences": list(corpus.ids), "languages": list(corpus.languages)}
    groups = numbers["groups"]
    assert numbers["stages"][1]["cka"] == measure_stage(standardised(kept), corpus.languages, "en", groups)["cka"]
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "- bridge: `mine`" in page
    assert "2 sentences were left out because a language lacks them" in page
    assert "fitted on the language model alone and applied to the bridge" in page
    assert page.count("| bridge: soft prompts |") == 2
    assert "| te | low | " in page


@pytest.mark.slow  # every figure, twice
def test_kept_states_replace_kept_states_and_nothing_else(
    bridge_folder: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LangBridgeModel.from_pretrained(bridge_folder)
    processor = LangBridgeProcessor.from_pretrained(bridge_folder)
    states = tmp_path / "states"
    analyze_representations(model, processor, corpus, tmp_path, keep_states=True)
    first = {path.name for path in states.iterdir()}
    (states / "lm_layer_31.npy").write_bytes(b"of a deeper model")
    fewer = Corpus(corpus.languages[:2], corpus.ids, corpus.texts[:2])
    analyze_representations(model, processor, fewer, tmp_path, keep_states=True)
    assert {path.name for path in states.iterdir()} == first
    assert np.load(states / "lm_layer_2.npy").shape[:2] == (12, 2)
    assert json.loads((states / "axes.json").read_text())["languages"] == ["en", "de"]

    (states / "new_york.csv").write_text("mine")
    monkeypatch.setattr(representations, "pool_states", lambda *_, **__: pytest.fail("said too late"))
    with pytest.raises(LangBridgeError, match=r"--keep-states: .*states holds 'new_york.csv'.*choose another --out"):
        analyze_representations(model, processor, corpus, tmp_path, keep_states=True)
    assert {path.name for path in states.iterdir()} == first | {"new_york.csv"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "states").write_text("mine")
    with pytest.raises(LangBridgeError, match="is a file, expected a folder of kept states"):
        analyze_representations(model, processor, corpus, tmp_path / "other", keep_states=True)


def test_what_fails_leaves_no_states_behind(
    bridge_folder: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LangBridgeModel.from_pretrained(bridge_folder)
    processor = LangBridgeProcessor.from_pretrained(bridge_folder)

    def fail(*_, **__) -> None:
        assert any(tmp_path.iterdir()), "whether it can be written to is known before anything is read"
        raise LangBridgeError("a text is empty")

    monkeypatch.setattr(representations, "pool_states", fail)
    with pytest.raises(LangBridgeError, match="a text is empty"):
        analyze_representations(model, processor, corpus, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_cannot_work_is_said_before_anything_is_read(
    bridge_folder: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LangBridgeModel.from_pretrained(bridge_folder)
    processor = LangBridgeProcessor.from_pretrained(bridge_folder)
    monkeypatch.setattr(representations, "pool_states", lambda *_, **__: pytest.fail("said too late"))
    (tmp_path / "file").write_text("")
    with pytest.raises(LangBridgeError, match=r"--out: cannot write into .*file/out: Not a directory"):
        analyze_representations(model, processor, corpus, tmp_path / "file" / "out")
    strange = Corpus(("en", "de", "telugu"), corpus.ids, corpus.texts)
    with pytest.raises(LangBridgeError, match="expected a code such as 'sw' or 'zh-Hant', got 'telugu'"):
        analyze_representations(model, processor, strange, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(LangBridgeError, match="needs scikit-learn: install it"):
        analyze_representations(model, processor, corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow  # every figure, twice
def test_the_same_again_is_the_same_to_the_byte(bridge_folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    model = LangBridgeModel.from_pretrained(bridge_folder)
    processor = LangBridgeProcessor.from_pretrained(bridge_folder)
    for name in ("a", "b"):
        analyze_representations(model, processor, corpus, tmp_path / name)
    for file in sorted(FILES):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_the_command(command, bridge_folder: Path, tmp_path: Path) -> None:
    rows = [
        {"id": i, "lang": code, "text": f"{word} {i}"} for code, word in (("sw", "a b"), ("en", "c")) for i in range(12)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["analyze", "representations", bridge_folder, "--corpus", tmp_path / "rows.jsonl"]
    code, out, err = command(*arguments, "--out", tmp_path / "out", "--layer", 1, "--limit", 11)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines[:-1]] == ["bridge", "bridge", "bridge", "lm", "lm"]
    assert "retrieval to en" in lines[0]
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    numbers = json.loads((tmp_path / "out" / "numbers.json").read_text())
    assert (numbers["sentences"], numbers["pca"]["layer"], numbers["pivot"]) == (11, 1, "en")
    for extra, message in [
        (("--pivot", "te"), "--pivot: got 'te', expected one of sw, en"),
        (("--layer", 3), "--layer: got 3, expected 1 to 2"),
        (("--pca-fit", "x"), "--pca-fit: got 'x'"),
        (("--languages", "sw,te"), "no 'te'"),
        (("--field", "x"), "rows.jsonl, row 1"),
    ]:
        code, out, err = command(*arguments, "--out", tmp_path / "bad", *extra)
        assert (code, out) == (2, ""), extra
        assert message in err
        assert len(err.splitlines()) == 1
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"id": 12, "lang": "german", "text": "d"}\n')
    code, out, err = command(*arguments, "--out", tmp_path / "bad")
    assert (code, out) == (2, "")
    assert "rows.jsonl, row 25, language: expected a code such as 'sw' or 'zh-Hant', got 'german'" in err
    assert not (tmp_path / "bad").exists()


def test_soft_prompts_on_the_command_line(command, bridge_folder: Path) -> None:
    code, out, err = command("analyze", "soft-prompts", bridge_folder, "2+2?", "--top", 2)
    assert (code, err) == (0, "")
    assert "  2  " in out
    assert "scripts of the vocabulary" in out
    found = json.loads(command("analyze", "soft-prompts", bridge_folder, "2+2?", "--json")[1])
    assert len(found["soft_prompts"][0]["nearest"]) == 5
    assert found["soft_prompts"][-1]["source"] == "[end]"


def test_outputs_on_the_command_line(command, tmp_path: Path) -> None:
    rows = [{"language": "te", "output": "The answer is forty one, of course."}] * 3
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = command("analyze", "outputs", tmp_path / "rows.jsonl", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "te          0.0 ± 0.0   of all     0.0 to 0.0   unclear 0 (0.0 %)" in out
    code, _, err = command("analyze", "outputs", tmp_path, "--out", tmp_path / "out")
    assert code == 2
    assert "samples_TASK.jsonl" in err


def test_a_corpus_without_english_has_its_first_language_as_pivot(
    bridge_folder: Path, corpus: Corpus, tmp_path: Path
) -> None:
    renamed = Corpus(("sw", "de", "te"), corpus.ids, corpus.texts)
    model = LangBridgeModel.from_pretrained(bridge_folder)
    processor = LangBridgeProcessor.from_pretrained(bridge_folder)
    assert analyze_representations(model, processor, renamed, tmp_path)["pivot"] == "sw"
    (tmp_path / "file").write_text("")
    with pytest.raises(LangBridgeError, match=r"--out: cannot write into .*file: File exists"):
        analyze_representations(model, processor, renamed, tmp_path / "file")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_hidden_states(bridge_folder: Path, tmp_path: Path) -> None:
    """Eight times the sentences: 2,800 more texts of about 220 tokens, whose states at all stages would be 0.8 GB."""
    peaks = []
    for count in (50, 400):
        rows = [
            {"id": i, "lang": code, "text": f"{code} {i} " + "a b c d " * 25}
            for code in ("de", "en", "es", "fr", "it", "nl", "pl", "sv")
            for i in range(count)
        ]
        path = tmp_path / f"{count}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "import resource, sys\n"
                "from langbridge.cli.main import run\n"
                "try:\n    run(sys.argv[1:])\n"
                "finally:\n    print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)",
                *map(str, ("analyze", "representations", bridge_folder, "--corpus", path, "--limit", count)),
                *("--out", str(tmp_path / f"out{count}")),
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split("PEAK")[1]) / 1024)
    # MiB. What may grow: mean vectors at two stages (400 x 8 x 48 float64: 1.2 MB each), the texts, kernels of CKA.
    assert peaks[1] - peaks[0] < 120, peaks
