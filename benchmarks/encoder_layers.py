"""What reading several of the encoder's layers costs: an update and peak memory, against the last layer alone.

    python benchmarks/encoder_layers.py --data FILE --input question --output answer --encoder FOLDER
                                        --language-model FOLDER [--batches 6] [--batch-size 8] [--out FILE]

One pair of models, one bridge a connector: the last layer, four side by side, a mean of all with learned weights, each
as `linear` and as `mlp`. All take the same batches in turns in one process for the time (forward and backward; median).
For memory each has a process of its own, which runs the longest batch. The last line is one JSON document.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from langbridge.data import Example, LabelledCollator
from langbridge.files import read_jsonl, write_atomically
from langbridge.model import LangBridgeModel, build_bridge

LAYERS: dict[str, dict[str, Any]] = {
    "last": {},
    "four": {"encoder_layers": [6, 8, 10, 12]},
    "mixed": {"mix_layers": True},
}
ARMS: dict[str, dict[str, Any]] = {
    f"{kind} {name}": {"kind": kind, **layers} for kind in ("linear", "mlp") for name, layers in LAYERS.items()
}


def bridge(options: argparse.Namespace, arm: str) -> tuple[LangBridgeModel, Any]:
    model, processor = build_bridge(
        options.encoder, options.language_model, connector=ARMS[arm], template="chat", dtype=torch.bfloat16
    )
    return model.train(), processor


def batches(options: argparse.Namespace, processor: Any) -> list[dict[str, torch.Tensor]]:
    count = options.batches * options.batch_size
    rows = [row for _, row in zip(range(count), read_jsonl(options.data), strict=False)]
    examples = [Example(row[options.input], row[options.output], f"row {place}") for place, (_, row) in enumerate(rows)]
    examples.sort(key=lambda one: len(one.prompt) + len(one.target))
    collate = LabelledCollator(processor, max_encoder_length=384, max_length=768)
    size = options.batch_size
    return [collate(examples[first : first + size]) for first in range(0, count, size)]


def step(model: LangBridgeModel, batch: dict[str, torch.Tensor]) -> float:
    started = time.perf_counter()
    loss = model(**batch, return_logits=False).loss
    assert loss is not None, "there are labels"
    loss.backward()
    model.zero_grad()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--data", "--input", "--output", "--encoder", "--language-model"):
        parser.add_argument(name, required=True)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--memory-of", choices=ARMS, help="print this arm's peak memory alone")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.memory_of:
        model, processor = bridge(options, options.memory_of)
        step(model, batches(options, processor)[-1])
        # Not getrusage, in which a child begins with the peak of whoever started it.
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        print(int(peak.split()[1]) / 2**20)
        return
    built = {arm: bridge(options, arm) for arm in ARMS}
    data = batches(options, next(iter(built.values()))[1])
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for model, _ in built.values():
        step(model, data[0])  # warm
    for batch in data:
        for arm, (model, _) in built.items():
            seconds[arm].append(step(model, batch))
    del built
    found = {}
    for arm in ARMS:
        command = [sys.executable, *sys.argv, "--memory-of", arm]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[arm] = {"seconds": statistics.median(seconds[arm]), "peak_gib": float(output.split()[-1])}
    for arm, one in found.items():
        base = found[f"{arm.split()[0]} last"]
        one["time_ratio"] = statistics.median(
            mine / other for mine, other in zip(seconds[arm], seconds[f"{arm.split()[0]} last"], strict=True)
        )
        one["memory_ratio"] = one["peak_gib"] / base["peak_gib"]
        print(f"{arm:14s} {one['seconds']:.2f} s ({one['time_ratio']:.2f})  {one['peak_gib']:.2f} GiB "
              f"({one['memory_ratio']:.2f})", flush=True)  # fmt: skip
    text = json.dumps({"command": " ".join(sys.argv), "arms": found})
    if options.out:
        write_atomically(options.out, text + "\n")
    print(text)


if __name__ == "__main__":
    main()
