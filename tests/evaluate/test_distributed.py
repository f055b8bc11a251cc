"""Two processes share the questions and write what one writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from langbridge.evaluate.runs import Run

WORKER = Path(__file__).with_name("harness_worker.py")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bridge", "plain"])
def test_two_processes_find_what_one_finds(kind: str, bridge_folder: Path, base_folders, tmp_path: Path) -> None:
    model = bridge_folder if kind == "bridge" else base_folders[1]
    for language, count in (("en", 5), ("sw", 4)):  # an odd number: the processes get unequal shares
        rows = [{"q": f"{language} {index} + {index}?", "a": 2 * index} for index in range(count)]
        (tmp_path / f"sum_{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = tmp_path / "sum.yaml"
    suite.write_text("suite: sum\nfiles: sum_*.jsonl\nquestion: q\nanswer: a\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    arguments = [str(WORKER), str(model), str(suite)]
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for start, out in (([], "one"), (together, "two")):
        done = subprocess.run(
            [sys.executable, *start, *arguments, str(tmp_path / out)], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
    one, two = Run.read(tmp_path / "one"), Run.read(tmp_path / "two")
    assert two.samples("sum") == one.samples("sum")
    assert two.results["tasks"] == one.results["tasks"]
    assert len(list((tmp_path / "two").glob("responses_*_*.jsonl"))) == 2, "each process keeps its own answers"
