"""One of several processes of an evaluation; `test_distributed.py` starts them with torchrun."""

import sys
from pathlib import Path

from langbridge.evaluate.models import load_asker
from langbridge.evaluate.run import evaluate
from langbridge.evaluate.suites import load_suites

if __name__ == "__main__":
    model, suite, out = sys.argv[1:]
    asker, about = load_asker(model, batch_size=2, device="cpu", template="{prompt}")
    run = evaluate(asker, load_suites([suite], generation={"max_gen_toks": 6}), Path(out), about=about)
    assert (run is None) == (asker.lm.rank > 0), "the first process writes"
    if asker.lm.world_size > 1:
        import torch

        torch.distributed.destroy_process_group()
