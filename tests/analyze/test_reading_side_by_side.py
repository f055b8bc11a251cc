"""Reading scores of several bridges on the same rows."""

import json
from pathlib import Path

import pytest

from langbridge import LangBridgeModel, LangBridgeProcessor
from langbridge.analyze.reading import side_by_side
from langbridge.errors import LangBridgeError
from langbridge.model.reading import ReadingScore

ROWS = [("What is 2 + 2?", "It is 4."), ("a b", "b a"), ("say bb and a", "bb"), ("c", "c c c"), ("What is 31?", "31")]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"question": a, "answer": b}) + "\n" for a, b in ROWS), encoding="utf-8")
    return path


def test_bridges_stand_side_by_side_on_the_same_rows(command, bridge_folder: Path, rows: Path, tmp_path: Path) -> None:
    model = LangBridgeModel.from_pretrained(bridge_folder)
    processor = LangBridgeProcessor.from_pretrained(bridge_folder)
    model.connector.linear.weight.data.zero_()  # it says the same of every prompt
    deaf = tmp_path / "deaf"
    model.save_pretrained(deaf)
    processor.save_pretrained(deaf)
    code, out, _ = command("analyze", "reading", bridge_folder, deaf, bridge_folder, "--data", rows,
                             "--input", "question", "--output", "answer", "--batch-size", 2)  # fmt: skip
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"5 rows of {rows}, nats a token of the answers"
    found = {cells[0]: cells[1:] for cells in (line.strip("| ").split(" | ") for line in lines[4:])}
    assert [*found] == [str(bridge_folder), str(deaf)], "a folder that is named twice is read once"
    assert found[str(deaf)][0] == "0.000 ± 0.000"
    assert sorted(cells[2] == "the best" for cells in found.values()) == [False, True]


def test_what_cannot_be_scored_is_refused(
    command, bridge_folder: Path, base_folders: tuple[Path, Path], rows: Path, tmp_path: Path
) -> None:
    one = tmp_path / "one.jsonl"
    one.write_text('{"input": "a", "output": "b"}\n', encoding="utf-8")
    code, _, err = command("analyze", "reading", bridge_folder, "--data", one)
    assert code == 2
    assert f"{one}: got 1 rows, expected at least 2" in err
    code, _, err = command("analyze", "reading", bridge_folder, base_folders[1], "--data", rows)
    assert code == 2
    assert f"checkpoint: '{base_folders[1]}' is a 'llama' model, not a bridge" in err
    code, _, err = command("analyze", "reading", bridge_folder, "--data", rows, "--input", "question")
    assert code == 2
    assert f"{rows}, row 1: no field 'output'; the row has 'question', 'answer'" in err


def test_the_one_that_reads_best_is_named_and_the_others_held_against_it() -> None:
    low = ReadingScore.of(own=[1.0, 1.0], other=[2.0, 2.0], tokens=[2, 2])
    high = ReadingScore.of(own=[1.0, 1.0], other=[3.0, 4.0], tokens=[2, 2])
    assert side_by_side({"start": low, "end": high}).splitlines()[2:] == [
        "| start | 0.500 ± 0.000 | 0.500 | -0.750 ± 0.250 |",
        "| end | 1.250 ± 0.250 | 0.500 | the best |",
    ]
    longer = ReadingScore.of(own=[1.0, 1.0], other=[3.0, 4.0], tokens=[2, 3])
    with pytest.raises(LangBridgeError, match="end cuts the answers into other tokens than start"):
        side_by_side({"start": low, "end": longer})
