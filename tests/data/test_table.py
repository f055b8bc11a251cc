"""Tables: on disk once, read by position, and small in memory."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from langbridge.data import BatchRow, Data, Example, RowTable, open_data
from langbridge.data.settings import Source
from langbridge.errors import LangBridgeError
from langbridge.files import BadRow, write_jsonl


def rows(count: int) -> list[dict[str, str]]:
    return [{"query": f"question {i}", "response": f"answer {i}" + "!" * (i % 7)} for i in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "rows.jsonl", rows(2500))  # more than two of the batches that a table is written in
    return tmp_path / "rows.jsonl"


def opened(path: Path, **settings: Any) -> RowTable:
    return open_data(Data(path=str(path), **settings), regime="labelled", seed=0)


def test_rows_by_position(path: Path) -> None:
    table = opened(path)
    expected = [Example(row["query"], row["response"]) for row in rows(2500)]
    assert len(table) == 2500
    assert list(table) == expected
    assert table[-1] == expected[-1]
    assert table[5:9] == expected[5:9]
    assert table.__getitems__([2400, 0, 2400]) == [expected[2400], expected[0], expected[2400]]
    assert table[1700].origin == f"{path}:1701"
    assert table.lengths.tolist() == [len(e.prompt) + len(e.target) for e in expected]
    assert table.lengths.dtype == "int32"
    for wrong in (2500, -2501):
        with pytest.raises(IndexError):
            table[wrong]


def test_a_row_carries_the_step_that_it_is_drawn_for(path: Path) -> None:
    table = opened(path)
    assert table[3].step is None
    assert table[BatchRow(3, step=8)].step == 8
    assert table[BatchRow(3, step=8)] == table[3], "the tag is no part of what the example is"
    sampler = [[BatchRow(2 * step, step), BatchRow(2 * step + 1, step)] for step in range(4)]
    for workers in (0, 2):  # workers get their rows through a pipe
        loader = DataLoader(table, batch_sampler=sampler, num_workers=workers, collate_fn=list)
        assert [[row.step for row in batch] for batch in loader] == [[step, step] for step in range(4)]


def test_a_second_run_finds_the_table_and_a_changed_file_makes_another(path: Path, cache: Path) -> None:
    def tables() -> set[Path]:
        return set((cache / "langbridge").glob("*/rows.arrow"))

    opened(path)
    (made,) = tables()
    before = made.stat().st_mtime_ns
    assert len(opened(path)) == 2500
    assert len(opened(path, on_bad_row="skip")) == 2500
    assert tables() == {made}
    assert made.stat().st_mtime_ns == before
    opened(path, input="response", output="query")
    assert len(tables()) == 2, "other columns, another table"
    write_jsonl(path, rows(3))
    assert len(opened(path)) == 3
    assert len(tables()) == 3


def test_the_same_texts_have_the_same_content_wherever_they_lie(path: Path) -> None:
    there, other = path.parent / "there.jsonl", path.parent / "other.jsonl"
    there.write_bytes(path.read_bytes())
    write_jsonl(other, [{"query": "a", "response": "bc"}])
    assert opened(there).content == opened(path).content != opened(other).content
    content = opened(other).content
    write_jsonl(other, [{"query": "ab", "response": "c"}])
    assert opened(other).content != content, "the same characters, another prompt"

    def mixed(*paths: Path) -> str:
        data = Data(sources=tuple(Source(path=str(one)) for one in paths))
        return open_data(data, regime="labelled", seed=0).content

    assert mixed(path, other) == mixed(there, other) != mixed(other, path)


def test_skipped_rows_are_remembered_with_the_table(path: Path) -> None:
    with path.open("a") as file:
        file.write("{\n")
    first, second = opened(path, on_bad_row="skip"), opened(path, on_bad_row="skip")
    assert len(first.skipped) == len(second.skipped) == 1
    assert second.skipped.first == first.skipped.first
    with pytest.raises(LangBridgeError, match=r"rows\.jsonl, row 2501: broken JSON"):
        opened(path)


def test_a_failure_leaves_no_half_table(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pyarrow, "OSFile", full)
        with pytest.raises(LangBridgeError, match=r"cannot be written \(No space left on device\).*HF_DATASETS_CACHE"):
            opened(path)
    assert not [name for name in os.listdir(cache / "langbridge") if not name.endswith(".lock")]
    # What a killed process left behind is in nobody's way.
    opened(path)
    (made,) = (cache / "langbridge").glob("*/")
    made.rename(made.parent / f".{made.name}.part")
    assert len(opened(path)) == 2500


def test_the_caller_may_choose_the_folder(path: Path, tmp_path: Path, cache: Path) -> None:
    table = open_data(Data(path=str(path)), regime="labelled", seed=0, cache_dir=tmp_path / "mine")
    assert len(table) == 2500
    assert list((tmp_path / "mine" / "langbridge").glob("*/rows.arrow"))
    assert not (cache / "langbridge").exists()


def test_tables_travel_to_workers_without_their_texts(path: Path) -> None:
    raw = pickle.dumps(opened(path))
    assert len(raw) < 20_000
    assert pickle.loads(raw)[7] == opened(path)[7]


class Judge:
    """Refuses what it is told to."""

    identity = None

    def __init__(self, reason: str, *refused: int, accepts_all: bool = False) -> None:
        self.reason, self.refused, self.accepts_all = reason, refused, accepts_all

    def misfits(self, examples: list[Example]) -> list[BadRow | None]:
        assert not self.accepts_all
        return [BadRow(row.origin, self.reason) if int(row.prompt[9:]) in self.refused else None for row in examples]


def test_a_judge_leaves_out_what_it_cannot_use(path: Path) -> None:
    table = opened(path).fitting(Judge("target cut whole", 0, 1, 2000), "skip")
    assert len(table) == 2497
    assert [row.prompt for row in table[:2]] == ["question 2", "question 3"]
    assert table[-1].prompt == "question 2499"
    assert table.lengths.tolist() == [len(row.prompt) + len(row.target) for row in table]
    assert table.skipped.counts == {"target cut whole": 3}
    assert table.skipped.first[-1] == f"{path}:2001"
    with pytest.raises(BadRow, match=r"rows\.jsonl:1"):
        opened(path).fitting(Judge("target cut whole", 0), "error")
    assert len(opened(path).fitting(Judge("too short to split", 0), "error")) == 2499, "no mistake, so no error"
    assert len(opened(path).fitting(Judge("", accepts_all=True), "error")) == 2500
    with pytest.raises(LangBridgeError, match="none of the 2500 rows can be used; the first: "):
        opened(path).fitting(Judge("too short to split", *range(2500)), "error")


MEASURE = """
import json, sys, threading, time
import datasets, numpy, torch
from langbridge.data import Data, open_data

def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))

peak, running = 0, True
def watch():
    global peak
    while running:
        peak = max(peak, anonymous())
        time.sleep(0.005)
thread = threading.Thread(target=watch)
thread.start()
table = open_data(Data(path=sys.argv[1]), regime="labelled", seed=0, cache_dir=sys.argv[2])
order = numpy.random.default_rng(0).permutation(len(table))[:20000]
characters = int(table.lengths.sum())
batches = (table.__getitems__(order[first : first + 32].tolist()) for first in range(0, len(order), 32))
seen = sum(len(row.target) for batch in batches for row in batch)
in_order = sum(1 for _ in table)
streamed = sum(1 for _ in open_data(Data(path=sys.argv[1], streaming=True), regime="labelled", seed=0))
running = False
thread.join()
print(json.dumps({"rows": len(table), "peak": peak, "in_order": in_order, "streamed": streamed, "seen": seen}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """Peak of what the process holds itself; pages of mapped files are the system's to drop and are not counted."""
    peaks = {}
    for count in (10_000, 1_000_000):
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            for row in range(count):
                file.write(json.dumps({"query": f"{row} " + "how many " * 20, "response": f"{row} " * 15}) + "\n")
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path), str(tmp_path / "cache")],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["rows"] == found["in_order"] == found["streamed"] == count
        peaks[count] = found["peak"] / 1024
        print(f"{count:>9} rows of {path.stat().st_size / 2**20:.0f} MiB: peak {peaks[count]:.0f} MiB")
    # 4 bytes a row for the lengths, twice while they are gathered, are 8 MiB; the texts are over 300.
    assert peaks[1_000_000] < peaks[10_000] + 32, peaks
