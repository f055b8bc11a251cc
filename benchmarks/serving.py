"""How many requests a second are answered as they come, against `generate` with one at a time.

    python benchmarks/serving.py BRIDGE [BRIDGE ...] --data PROMPTS.jsonl --field question --threads 2

Some clients at a time ask an engine that answers them together (`load_live`), each its next prompt as soon as it has
its last answer. The other side answers prompts one after the other (`load_engine` with batches of one), as a service
around `generate` does. Both choose their precision as the product does, and the sides take turns within one run, so
that a busy machine slows both: a ratio is that of a measurement to the mean of the one-at-a-time ones right before and
after it.
"""

import argparse
import itertools
import json
import random
import statistics
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from langbridge.data.readers import read_rows
from langbridge.serve.continuous import ContinuousEngine
from langbridge.serve.engine import Answer, Decoding, Request
from langbridge.serve.hf import HFEngine
from langbridge.serve.live import Piece
from langbridge.serve.load import load_engine, load_live


def one_at_a_time(engine: HFEngine, prompts: list[str], decoding: Decoding) -> dict[str, float]:
    start, spent, answers = time.perf_counter(), time.process_time(), []
    for prompt in prompts:
        answers += engine.answers([prompt], decoding)
    seconds = time.perf_counter() - start
    tokens = sum(one.tokens for one in answers)
    return {
        "requests": len(prompts) / seconds, "tokens": tokens / seconds, "cpu": (time.process_time() - spent) / tokens
    }  # fmt: skip


def together(engine: ContinuousEngine, prompts: list[str], decoding: Decoding, clients: int) -> dict[str, float]:
    """Requests and tokens a second, and the seconds to the first token and to the last of each."""
    left, lock = iter(prompts), threading.Lock()
    firsts: list[float] = []
    lasts: list[float] = []
    tokens: list[int] = []

    def client() -> None:
        while True:
            with lock:
                prompt = next(left, None)
            if prompt is None:
                return
            news: SimpleQueue[Piece | Answer | BaseException] = SimpleQueue()
            begin, first = time.perf_counter(), None
            engine.submit(Request(prompt), decoding, tell=news.put)
            while isinstance(found := news.get(), Piece):
                first = first or time.perf_counter() - begin
            if isinstance(found, BaseException):
                raise found
            lasts.append(time.perf_counter() - begin)
            firsts.append(first or lasts[-1])
            tokens.append(found.tokens)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start, spent = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    return {
        "requests": len(prompts) / seconds,
        "tokens": sum(tokens) / seconds,
        "cpu": (time.process_time() - spent) / sum(tokens),
        "first_token": statistics.median(firsts),
        "first_token_95": statistics.quantiles(firsts, n=20)[-1],
        "answer": statistics.median(lasts),
    }


def compared(folder: Path, prompts: list[str], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each number of clients."""
    decoding = Decoding(arguments.new_tokens)
    alone = load_engine(folder, batch_size=1, dtype=arguments.dtype)
    live = load_live(folder, slots=arguments.slots, dtype=arguments.dtype)
    endless = itertools.cycle(prompts)

    def some(count: int) -> list[str]:
        return list(itertools.islice(endless, count))

    for engine in (lambda: one_at_a_time(alone, some(1), decoding), lambda: together(live, some(4), decoding, 4)):
        engine()  # first use sets things up
    rows = []
    for clients in arguments.clients:
        before, after, measured = [], [], []
        for _ in range(arguments.rounds):
            before.append(one_at_a_time(alone, some(arguments.alone), decoding))
            count = max(arguments.requests, 2 * clients)
            measured.append(together(live, some(count), decoding, clients))
            after.append(one_at_a_time(alone, some(arguments.alone), decoding))
        mean = {name: statistics.mean(one[name] for one in measured) for name in measured[0]}
        one = {name: statistics.mean(one[name] for one in before + after) for name in before[0]}
        rows.append(
            {
                "model": str(folder), "clients": clients, "slots": arguments.slots,
                "precision": {"alone": str(alone._writer.dtype), "together": str(live._batch.writer.dtype)},
                "requests_a_second": round(mean["requests"], 2), "tokens_a_second": round(mean["tokens"], 1),
                "alone_requests_a_second": round(one["requests"], 2), "alone_tokens_a_second": round(one["tokens"], 1),
                "times": round(mean["tokens"] / one["tokens"], 2),
                "cpu_ms_a_token": round(1000 * mean["cpu"], 2), "alone_cpu_ms_a_token": round(1000 * one["cpu"], 2),
                "cpu_times": round(one["cpu"] / mean["cpu"], 2),
                "first_token_ms": round(1000 * mean["first_token"]),
                "first_token_95_ms": round(1000 * mean["first_token_95"]),
                "answer_ms": round(1000 * mean["answer"]),
            }
        )  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    live.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="bridges, or plain causal language models")
    parser.add_argument("--data", required=True, help="a file of prompts, as training reads it")
    parser.add_argument("--field", default="prompt")
    parser.add_argument("--clients", type=lambda text: list(map(int, text.split(","))), default=[1, 4, 16, 64])
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--requests", type=int, default=32, help="at least so many in a measurement")
    parser.add_argument("--alone", type=int, default=4, help="prompts in a measurement one at a time")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [row for _, row in itertools.islice(read_rows(arguments.data), 500) if isinstance(row, dict)]
    prompts = [str(row[arguments.field]) for row in rows]
    random.Random(0).shuffle(prompts)
    found = [one for folder in arguments.folders for one in compared(folder, prompts, arguments)]
    print(json.dumps({"threads": arguments.threads, "new_tokens": arguments.new_tokens, "rows": found}, indent=1))


if __name__ == "__main__":
    main()
