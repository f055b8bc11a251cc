"""Minutes of load on a running `langbridge serve`, with clients that are slow, that vanish and that mean no good.

    langbridge serve BRIDGE --port 8000 --dtype float32 --queue 16 &
    python benchmarks/soak.py --pid $! --data PROMPTS.jsonl --field question --minutes 30

First every prompt is asked alone. Then honest clients ask as fast as they are answered, and each answer is compared
with the one alone (in single precision, in which an answer does not depend on what is computed beside it). Slow readers
take a stream bit by bit, others go in the middle of it, and hostile ones send rubbish, bodies without end and half
requests. A row a minute: answers, those that differ, those that never came, refusals for want of room, hostile requests
that were not refused as such, seconds of an answer, and the server's resident memory.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from langbridge.data.readers import read_rows


@dataclass
class Soak:
    """One run. counts: since the last row of the table."""

    url: str
    prompts: list[str]
    new_tokens: int
    wanted: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    over: bool = False
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    problems: list[str] = field(default_factory=list)

    def body(self, prompt: str, stream: bool = False) -> dict[str, Any]:
        return {
            "model": self.model, "prompt": prompt, "temperature": 0, "max_tokens": self.new_tokens, "stream": stream
        }  # fmt: skip

    async def begin(self, client: httpx.AsyncClient) -> None:
        self.model = (await client.get("/v1/models")).json()["data"][0]["id"]
        for prompt in self.prompts:
            answer = await client.post("/v1/completions", json=self.body(prompt))
            answer.raise_for_status()
            self.wanted[prompt] = answer.json()["choices"][0]["text"]

    def problem(self, kind: str, what: object) -> None:
        self.counts[kind] += 1
        if len(self.problems) < 20:
            self.problems.append(f"{kind}: {what!r}"[:300])

    # Honest ones

    async def asking(self, client: httpx.AsyncClient, stream: bool, pause: float = 0.0) -> None:
        """Ask on and on. pause: seconds between one event of a stream and the next."""
        while not self.over:
            prompt, start = self.draw.choice(self.prompts), time.perf_counter()
            try:
                status, text, after = await (self.streamed if stream else self.whole)(client, prompt, pause)
            except (httpx.HTTPError, ValueError, KeyError) as error:
                self.problem("lost", error)
                continue
            if status == 429:
                self.counts["no_room"] += 1
                await asyncio.sleep(min(after, 5))
            elif status != 200:
                self.problem("lost", (status, text))
            elif text != self.wanted[prompt]:
                self.problem("differ", (prompt, text, self.wanted[prompt]))
            else:
                self.counts["answers"] += 1
                if not pause:
                    self.seconds.append(time.perf_counter() - start)

    async def whole(self, client: httpx.AsyncClient, prompt: str, _: float) -> tuple[int, str, float]:
        answer = await client.post("/v1/completions", json=self.body(prompt))
        if answer.status_code != 200:
            return answer.status_code, answer.text, float(answer.headers.get("retry-after", 1))
        return 200, answer.json()["choices"][0]["text"], 0.0

    async def streamed(self, client: httpx.AsyncClient, prompt: str, pause: float) -> tuple[int, str, float]:
        text, done = "", False
        async with client.stream("POST", "/v1/completions", json=self.body(prompt, True)) as answer:
            if answer.status_code != 200:
                said = await answer.aread()
                return answer.status_code, said.decode(), float(answer.headers.get("retry-after", 1))
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    done = True
                elif line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    text += "".join(choice["text"] for choice in event["choices"])
                    await asyncio.sleep(pause)
        if not done:
            raise ValueError(f"a stream that ends before its end, after {text!r}")
        return 200, text, 0.0

    # Others

    async def vanishing(self, client: httpx.AsyncClient) -> None:
        """Go before the answer comes, or in the middle of it."""
        while not self.over:
            stream = self.draw.random() < 0.5
            body, wait = self.body(self.draw.choice(self.prompts), stream), self.draw.uniform(0.01, 1.0)
            try:
                async with asyncio.timeout(wait), client.stream("POST", "/v1/completions", json=body) as answer:
                    async for _ in answer.aiter_raw():
                        pass
            except (TimeoutError, httpx.HTTPError):
                pass
            self.counts["vanished"] += 1

    async def hostile(self, client: httpx.AsyncClient) -> None:
        """What should be refused, and is counted where it is not."""
        texts = self.body("x")
        while not self.over:
            kind = self.draw.randrange(8)
            bodies: list[Any] = [
                b"\xff\xfe{", b"[" * 50_000, {}, texts | {"prompt": 7}, texts | {"max_tokens": -1},
                texts | {"temperature": "hot"}, texts | {"prompt": "long " * 150_000}, b"x" * 5_000_000
            ]  # fmt: skip
            body = bodies[kind]
            sent = {"content": body} if isinstance(body, bytes) else {"json": body}
            try:
                answer = await client.post("/v1/completions", **sent)
                if not 400 <= answer.status_code < 500 or "Traceback" in answer.text:
                    self.problem("not_refused", (kind, answer.status_code, answer.text))
                self.counts["hostile"] += 1
            except httpx.HTTPError:
                self.counts["hostile"] += 1  # the server may shut the door on a body that is too long
            await asyncio.sleep(0.2)

    async def half_open(self) -> None:
        """Begin a request and never end it."""
        address = httpx.URL(self.url)
        while not self.over:
            _, writer = await asyncio.open_connection(address.host, address.port)
            head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            writer.write((head + self.draw.choice(["", "Content-Length: 1000\r\n\r\n{", "\x00\r\n\r\n"])).encode())
            try:
                await writer.drain()
                await asyncio.sleep(self.draw.uniform(0, 10))
                writer.close()
                await writer.wait_closed()
            except OSError:
                pass
            self.counts["half_open"] += 1

    def row(self, minute: float, pid: int | None) -> dict[str, Any]:
        seconds, counts = sorted(self.seconds) or [0.0], self.counts
        self.seconds, self.counts = [], Counter()
        names = ("answers", "differ", "lost", "no_room", "vanished", "hostile", "not_refused", "half_open")
        return {
            "minute": round(minute, 1), **{name: counts[name] for name in names},
            "median_s": round(statistics.median(seconds), 2), "p95_s": round(seconds[int(len(seconds) * 0.95)], 2),
            "rss_mib": resident(pid),
        }  # fmt: skip


def resident(pid: int | None) -> int | None:
    """A process's resident memory in MiB."""
    if pid is None:
        return None
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024


async def run(arguments: argparse.Namespace, prompts: list[str]) -> dict[str, Any]:
    soak, rows = Soak(arguments.url, prompts, arguments.new_tokens), []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=arguments.url, timeout=600, limits=limits) as client:
        await soak.begin(client)
        distinct = len(set(soak.wanted.values()))
        print(f"{len(prompts)} prompts asked alone, {distinct} different answers", flush=True)
        each = range(arguments.clients)
        tasks = [asyncio.create_task(soak.asking(client, stream=number % 2 == 0)) for number in each]
        tasks += [asyncio.create_task(soak.asking(client, True, pause=0.3)) for _ in range(arguments.slow)]
        tasks += [asyncio.create_task(soak.vanishing(client)) for _ in range(arguments.vanishing)]
        tasks += [asyncio.create_task(soak.hostile(client)) for _ in range(arguments.hostile)]
        tasks += [asyncio.create_task(soak.half_open()) for _ in range(arguments.hostile)]
        start = time.perf_counter()
        while time.perf_counter() - start < 60 * arguments.minutes:
            await asyncio.sleep(min(60, 60 * arguments.minutes))
            rows.append(soak.row((time.perf_counter() - start) / 60, arguments.pid))
            print(json.dumps(rows[-1]), flush=True)
        soak.over = True
        await asyncio.gather(*tasks)  # what was begun is waited for: none may be lost
        rows.append(soak.row((time.perf_counter() - start) / 60, arguments.pid))
        for prompt in prompts[:4]:
            if (await soak.whole(client, prompt, 0))[1] != soak.wanted[prompt]:
                soak.problem("differ", prompt)
        measures = (await client.get("/metrics")).text.splitlines()
    sums = {name: sum(row[name] for row in rows) for name in ("answers", "differ", "lost", "no_room", "not_refused")}
    left = [line for line in measures if line.startswith(("langbridge_waiting", "langbridge_running"))]
    return {"sums": sums, "left_in_the_server": left, "problems": soak.problems, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--pid", type=int, help="of the server, to read its memory")
    parser.add_argument("--data", required=True, help="a file of prompts, as training reads it")
    parser.add_argument("--field", default="prompt")
    parser.add_argument("--prompts", type=int, default=60, help="so many different ones")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=48, help="honest ones, half of them streaming")
    parser.add_argument("--slow", type=int, default=4)
    parser.add_argument("--vanishing", type=int, default=4)
    parser.add_argument("--hostile", type=int, default=2)
    arguments = parser.parse_args()
    rows = [row for _, row in islice(read_rows(arguments.data), 50 * arguments.prompts) if isinstance(row, dict)]
    prompts = list(dict.fromkeys(str(row[arguments.field]) for row in rows))
    chosen = random.Random(0).sample(prompts, min(arguments.prompts, len(prompts)))
    print(json.dumps(asyncio.run(run(arguments, chosen)), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
