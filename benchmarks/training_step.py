"""Our training step against a straightforward one: examples a second, and peak memory.

    python benchmarks/training_step.py --data FILE [--batches 8] [--batch-size 16] [--positions-per-pass N]
                                       [--rounds 2] [--out FILE]

Both steps train the same bridge (about 100 million parameters, vocabulary 32,000, random weights, only the connector is
trained) on the same rows of FILE (JSON lines with `query` and `response`) and divide the loss by the same number of
target tokens; their gradients are compared.

straightforward   random batches, padded to their longest row; logits at every position
ours              batches of like length; logits at target positions only, and in pieces; with
                  --positions-per-pass (a recipe's `train.positions_per_pass`) long batches in several passes

Ours are the first batches that our sampler draws from the whole FILE, as a run has them; the other step has the same
rows in random batches.

With models of your own it is our step in one precision of the frozen models against another, same rows, same batches:

    python benchmarks/training_step.py --data FILE --input question --output answer --encoder FOLDER
                                       --language-model FOLDER [--dtypes float32 bfloat16] [--template chat]

The two take turns in one process for the time, batch by batch; each has a process of its own for the memory, where it
runs the batch that needs most. Besides seconds by the clock there are CPU seconds, which other programs
on the machine do not touch. Tokens come from a byte-pair tokenizer learned from FILE itself. The last line is one
JSON document.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, MT5Config, MT5EncoderModel, PreTrainedTokenizerFast

from langbridge.data import Example, LabelledCollator
from langbridge.files import read_jsonl, write_atomically
from langbridge.model import LangBridgeModel, LangBridgeProcessor, build_bridge
from langbridge.train.microbatches import in_passes, passes_needed
from langbridge.train.sampler import LengthGrouped

VOCABULARY = 32_000
SEED = 42
Batch = dict[str, torch.Tensor]


def read(options: argparse.Namespace) -> list[Example]:
    path = options.data
    return [
        Example(prompt=row[options.input], target=row[options.output], origin=f"{path}:{number}")
        for number, row in read_jsonl(path)
    ]


def learn_tokenizer(examples: list[Example]) -> PreTrainedTokenizerFast:
    """Byte-level pairs of the text itself, so that lengths are real; the rest of the vocabulary is never used."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    raw.train_from_iterator((text for row in examples for text in (row.prompt, row.target)), trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def build(tokenizer: PreTrainedTokenizerFast) -> tuple[LangBridgeModel, LangBridgeProcessor]:
    torch.manual_seed(SEED)
    encoder = MT5EncoderModel(
        MT5Config(vocab_size=VOCABULARY, d_model=512, d_kv=64, d_ff=1024, num_layers=8, num_heads=8, dropout_rate=0.0)
    )
    language_model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=512, intermediate_size=1376, num_hidden_layers=8,
            num_attention_heads=8, bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False,
        )
    )  # fmt: skip
    placeholder = VOCABULARY - 1  # no text holds the last token of the vocabulary
    model = LangBridgeModel.from_bases(encoder, language_model, soft_prompt_token_id=placeholder, new_token_ids=[])
    processor = LangBridgeProcessor(tokenizer, tokenizer, soft_prompt_token_id=placeholder)
    return model.train(), processor


def straightforward(model: LangBridgeModel, batch: Batch, targets: int) -> torch.Tensor:
    """Logits at every position, and what is not a target left out of the loss."""
    batch = dict(batch)
    labels = batch.pop("labels")
    logits = model(**batch, use_cache=False).logits.float()
    shifted, wanted = logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1)
    return nn.functional.cross_entropy(shifted, wanted, ignore_index=-100, reduction="sum") / targets


def ours(model: LangBridgeModel, batch: Batch, targets: int) -> torch.Tensor:
    return model(**batch, num_items_in_batch=targets, return_logits=False).loss


STEPS: dict[str, Callable[[LangBridgeModel, Batch, int], torch.Tensor]] = {
    "straightforward": straightforward,
    "ours": ours,
}


def batches_of(examples: list[Example], size: int, count: int, collate: LabelledCollator) -> dict[str, list[Batch]]:
    """The first `count` batches of a run, and the same rows in random batches."""
    # As in a run: lengths are counted in characters.
    sampler = LengthGrouped([len(row.prompt) + len(row.target) for row in examples], size, SEED)
    grouped = [[int(row) for row in batch] for batch, _ in zip(sampler, range(count), strict=False)]
    order = [row for batch in grouped for row in batch]
    random.Random(SEED).shuffle(order)
    mixed = [order[first : first + size] for first in range(0, len(order), size)]
    return {
        kind: [collate([examples[row] for row in batch]) for batch in found]
        for kind, found in (("straightforward", mixed), ("ours", grouped))
    }


class Race:
    """The two steps taking turns on one model, each with gradients and clocks of its own."""

    def __init__(self, model: LangBridgeModel, targets: int, limit: int | None) -> None:
        self.model, self.targets, self.limit = model, targets, limit
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.gradients = {kind: {name: torch.zeros_like(p) for name, p in self.trained.items()} for kind in STEPS}
        self.losses, self.seconds, self.cpu_seconds = (dict.fromkeys(STEPS, 0.0) for _ in range(3))

    def step(self, kind: str, batch: Batch) -> None:
        clock, cpu = time.perf_counter(), time.process_time()
        passes = 1 if self.limit is None or kind != "ours" else passes_needed(batch, self.limit)
        for part in in_passes(batch, passes):
            loss = STEPS[kind](self.model, part, self.targets)
            loss.backward()
            self.losses[kind] += float(loss.detach())
        self.seconds[kind] += time.perf_counter() - clock
        self.cpu_seconds[kind] += time.process_time() - cpu
        for name, parameter in self.trained.items():
            assert parameter.grad is not None
            self.gradients[kind][name] += parameter.grad
        self.model.zero_grad(set_to_none=True)

    def difference(self) -> float:
        """The greatest difference of a parameter's two gradients, relative to its norm."""
        pairs = [(self.gradients["ours"][name], g) for name, g in self.gradients["straightforward"].items()]
        return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def peak_memory(kind: str, options: argparse.Namespace, tokenizer: Path) -> float:
    """GiB that a process has taken at most, from its start to the end of one step."""
    command = [sys.executable, __file__, "--memory-of", kind, "--data", options.data, "--tokenizer", tokenizer]
    command += ["--batches", options.batches, "--batch-size", options.batch_size, "--threads", options.threads]
    command += [] if options.positions_per_pass is None else ["--positions-per-pass", options.positions_per_pass]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout) / 2**20


def race_precisions(options: argparse.Namespace) -> None:
    """Our step on a pair of model folders, its frozen models in one precision and another, taking turns."""
    examples, folders = read(options), (options.encoder, options.language_model)

    def build_in(dtype: str) -> tuple[LangBridgeModel, list[Batch]]:
        torch.manual_seed(SEED)  # of the connector
        model, processor = build_bridge(*folders, template=options.template, dtype=getattr(torch, dtype))
        collate = LabelledCollator(processor, max_encoder_length=384, max_length=768)
        return model.train(), batches_of(examples, options.batch_size, options.batches, collate)["ours"]

    if options.memory_of:
        model, batches = build_in(options.memory_of)
        heaviest = max(batches, key=lambda batch: batch["input_ids"].numel())
        Race(model, 1, options.positions_per_pass).step("ours", heaviest)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of"]
    memory = {
        dtype: int(subprocess.run([*command, dtype], stdout=subprocess.PIPE, text=True, check=True).stdout) / 2**20
        for dtype in options.dtypes
    }
    races = {}
    for dtype in options.dtypes:
        model, batches = build_in(dtype)
        Race(model, 1, options.positions_per_pass).step("ours", batches[0])  # the first pass pays for later ones
        races[dtype] = Race(model, sum(int((b["labels"] != -100).sum()) for b in batches), options.positions_per_pass)
    for number, batch in enumerate(batches):
        for dtype in options.dtypes if number % 2 else reversed(options.dtypes):
            races[dtype].step("ours", batch)
    rows, tokens = (sum(int(count(b)) for b in batches) for count in (lambda b: len(b["labels"]),
                                                                      lambda b: b["attention_mask"].sum()))  # fmt: skip
    found = {
        dtype: {
            "examples_per_second": rows / race.seconds["ours"],
            "tokens_per_second": tokens / race.seconds["ours"],
            "cpu_seconds": race.cpu_seconds["ours"],
            "peak_gib": memory[dtype],
            "loss": race.losses["ours"],
        }
        for dtype, race in races.items()
    }
    for dtype, figures in found.items():
        speed = f"{figures['examples_per_second']:6.2f} examples/s {figures['tokens_per_second']:7.0f} tokens/s"
        took = f"{figures['cpu_seconds']:7.1f} CPU seconds  {figures['peak_gib']:5.2f} GiB"
        print(f"{dtype:<12}{speed}  {took}")
    document = {"models": [folder.name for folder in folders], "rows": rows, "tokens": tokens,
                "threads": options.threads, "batch_size": options.batch_size, "found": found}  # fmt: skip
    print(json.dumps(document))


def positions(batches: list[Batch]) -> int:
    return sum(batch["input_ids"].numel() for batch in batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--positions-per-pass", type=int)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    parser.add_argument("--input", default="query")
    parser.add_argument("--output", default="response")
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--language-model", type=Path)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--template", default="{prompt}")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--tokenizer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    if options.encoder is not None:
        race_precisions(options)
        return
    examples = read(options)
    with tempfile.TemporaryDirectory() as folder:
        # Learned once, and not where memory is measured: it takes more of it than the steps.
        place = options.tokenizer or Path(folder)
        if options.tokenizer is None:
            learn_tokenizer(examples).save_pretrained(place)
        model, processor = build(PreTrainedTokenizerFast.from_pretrained(place))
        collate = LabelledCollator(processor, max_encoder_length=1024, max_length=1152)
        batches = batches_of(examples, options.batch_size, options.batches, collate)
        rows = sum(len(batch["labels"]) for batch in batches["ours"])
        targets = {kind: sum(int((b["labels"] != -100).sum()) for b in found) for kind, found in batches.items()}
        assert len(set(targets.values())) == 1, "both steps have the same rows, so the same targets"
        count = targets["ours"]
        if options.memory_of:
            heaviest = max(batches[options.memory_of], key=lambda batch: batch["input_ids"].numel())
            Race(model, count, options.positions_per_pass).step(options.memory_of, heaviest)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB on Linux
            return
        memory = {kind: peak_memory(kind, options, place) for kind in STEPS}

    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{parameters / 1e6:.1f} million parameters, {rows} rows, {count:,} target tokens, batches of "
        f"{options.batch_size}, {options.threads} threads",
        flush=True,
    )
    warm = Race(model, count, options.positions_per_pass)
    for kind in STEPS:
        warm.step(kind, batches[kind][0])  # the first pass pays for what later ones reuse
    rounds = []
    for number in range(options.rounds):
        race = Race(model, count, options.positions_per_pass)
        for pair in zip(*batches.values(), strict=True):
            for kind, batch in zip(batches, pair, strict=True):
                race.step(kind, batch)
        rounds.append(race)
        rates = ", ".join(f"{kind} {rows / race.seconds[kind]:.2f} examples/s" for kind in STEPS)
        print(f"round {number + 1}: {rates}", flush=True)
    difference = max(race.difference() for race in rounds)
    seconds = {kind: statistics.median(race.seconds[kind] for race in rounds) for kind in STEPS}
    cpu_seconds = {kind: statistics.median(race.cpu_seconds[kind] for race in rounds) for kind in STEPS}
    speed = {kind: rows / took for kind, took in seconds.items()}
    result = {
        "rows": rows,
        "batch_size": options.batch_size,
        "positions_per_pass": options.positions_per_pass,
        "threads": options.threads,
        "parameters": parameters,
        "targets": count,
        "examples_per_second": speed,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "positions": {kind: positions(found) for kind, found in batches.items()},
        "peak_gib": memory,
        "speed_ratio": speed["ours"] / speed["straightforward"],
        "cpu_ratio": cpu_seconds["straightforward"] / cpu_seconds["ours"],
        "memory_ratio": memory["ours"] / memory["straightforward"],
        "gradient_difference": difference,
        "losses": rounds[-1].losses,
    }
    for kind in STEPS:
        print(f"{kind:<16}{speed[kind]:8.2f} examples/s  {memory[kind]:6.2f} GiB at peak  "
              f"{result['positions'][kind]:,} positions, padding included")  # fmt: skip
    print(f"ours / straightforward: {result['speed_ratio']:.2f} times the examples a second (wanted: at least 1.8), "
          f"{result['memory_ratio']:.2f} times the peak memory (wanted: at most 0.6)")  # fmt: skip
    print(f"by CPU seconds: {result['cpu_ratio']:.2f} times")
    print(f"gradients differ by {difference:.1e} of their norm (wanted: at most 1e-4)")
    document = json.dumps(result)
    if options.out:
        write_atomically(options.out, document + "\n")
    print(document)
    assert difference <= 1e-4, "the two steps do not compute the same"


if __name__ == "__main__":
    main()
