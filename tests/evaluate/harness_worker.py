"""One of several processes of an evaluation; `test_distributed.py` starts them with torchrun."""

import sys
from pathlib import Path

import torch

from langbridge.evaluate.harness import place_among_processes
from langbridge.evaluate.run import evaluate
from langbridge.evaluate.suites import load_suites
from langbridge.serve.load import load_engine

if __name__ == "__main__":
    model, suite, out = sys.argv[1:]
    engine = load_engine(model, batch_size=2, device="cpu", template="{prompt}")
    run = evaluate(engine, load_suites([suite], generation={"max_gen_toks": 6}), Path(out))
    rank, count = place_among_processes()
    assert (run is None) == (rank > 0), "the first process writes"
    if count > 1:
        torch.distributed.destroy_process_group()
