"""A server that speaks vLLM's protocol for prompt embeddings, strictly, around a causal model of Hugging Face's.

    python -m tests.serve.vllm_standin LANGUAGE_MODEL --port 8000

What vLLM 0.33 would read, it reads; what vLLM reads and need not be sent, it refuses: mixed prompts, tensors with more
storage than they show, prompts as text.
"""

import argparse
import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from transformers import AutoModelForCausalLM

MOST_BYTES = 32 << 20


class Refused(Exception):
    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


class Body(BaseModel):
    """The fields that are asked for; any other is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    prompt: list[int] | None = None
    prompt_embeds: str | None = None
    max_tokens: int = Field(ge=1)
    temperature: float = Field(ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1)
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool
    return_token_ids: bool
    return_tokens_as_token_ids: bool


@dataclass
class Standin:
    """fault: what goes wrong (`http 500`, `die`, `error`, `slow`). scale: what embeddings are multiplied by, and tokens
    are not. pause: seconds after each token. Counters tell what came of requests."""

    model: Any
    name: str = "tiny"
    source: str = "models/language_model"
    positions: int = 256
    key: str | None = None
    enabled: bool = True
    scale: float = 1.0
    fault: str = ""
    tokens_before_fault: int = 2
    pause: float = 0.0
    bodies: list[Body] = field(default_factory=list)
    written: int = 0
    aborted: int = 0
    running: int = 0
    most_running: int = 0

    def prompt(self, body: Body) -> torch.Tensor:
        """(1, seq, d_lm)"""
        if (body.prompt is None) == (body.prompt_embeds is None):
            raise Refused("exactly one of prompt and prompt_embeds must be given")
        table = self.model.get_input_embeddings()
        if body.prompt is not None:
            return table(torch.tensor([body.prompt]))
        if not self.enabled:
            raise Refused("You must set `--enable-prompt-embeds` to input `prompt_embeds`.")
        payload = base64.b64decode(body.prompt_embeds or "", validate=True)
        tensor = torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
        if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
            raise Refused("`prompt_embeds` is no dense tensor")
        if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise Refused(f"`prompt_embeds` has dtype {tensor.dtype}")
        if tensor.ndim != 2 or not len(tensor) or tensor.shape[1] != table.weight.shape[1]:
            raise Refused(f"`prompt_embeds` has shape {tuple(tensor.shape)}")
        if tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size():
            raise Refused("`prompt_embeds` brings more than it shows")
        return self.scale * tensor[None].to(table.weight.dtype)

    @torch.inference_mode()
    def step(self, state: dict[str, Any], body: Body) -> tuple[int, dict[int, float]]:
        """The next token, and the log-probabilities of the likeliest and of itself."""
        output = self.model(**state["inputs"], past_key_values=state.get("cache"), use_cache=True)
        logits = output.logits[0, -1].float()
        likeliest = logits.log_softmax(-1)
        scores = logits.clone()
        for id in set(state["ids"]):
            scores[id] = (
                scores[id] / body.repetition_penalty if scores[id] > 0 else scores[id] * body.repetition_penalty
            )
        if body.temperature == 0:
            token = int(scores.argmax())
        else:
            scores = scores / body.temperature
            if body.top_k > 0:
                scores[scores < scores.topk(min(body.top_k, len(scores))).values[-1]] = -torch.inf
            values, order = scores.softmax(-1).sort(descending=True)
            scores[order[(values.cumsum(0) - values) >= body.top_p]] = -torch.inf
            token = int(torch.multinomial(scores.softmax(-1), 1, generator=state["random"]))
        top = likeliest.topk(body.logprobs or 0)
        told = {token: float(likeliest[token])} | dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        state["ids"].append(token)
        state |= {"cache": output.past_key_values, "inputs": {"input_ids": torch.tensor([[token]])}}
        return token, told


def application(standin: Standin) -> FastAPI:
    app = FastAPI()
    config = standin.model.generation_config.eos_token_id
    eos = set(config if isinstance(config, list) else [config])
    turn = asyncio.Lock()

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        content = {"message": str(error), "type": "BadRequestError", "param": None, "code": error.status}
        return JSONResponse({"error": content}, error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return await refused(_, Refused(str(error.errors())))

    @app.middleware("http")
    async def door(request: Request, follow: Any) -> Any:
        if standin.key is not None and request.headers.get("authorization") != f"Bearer {standin.key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        if int(request.headers.get("content-length", 0)) > MOST_BYTES:
            return JSONResponse({"error": {"message": "too large", "code": 413}}, 413)
        return await follow(request)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        served = {"object": "model", "owned_by": "vllm", "max_model_len": standin.positions, "parent": None}
        adapter = {**served, "id": "adapter", "root": "adapter", "parent": standin.name, "max_model_len": None}
        return {"object": "list", "data": [{**served, "id": standin.name, "root": standin.source}, adapter]}

    @app.post("/v1/completions")
    async def completions(body: Body) -> StreamingResponse:
        if body.model != standin.name:
            raise Refused(f"The model `{body.model}` does not exist.", 404)
        if not (body.stream and body.return_token_ids and body.return_tokens_as_token_ids):
            raise Refused("this server streams token ids")
        if standin.fault.startswith("http "):
            raise Refused("EngineCore encountered an issue.", int(standin.fault.split()[1]))
        prompt = standin.prompt(body)
        if prompt.shape[1] + body.max_tokens > standin.positions:
            raise Refused(f"This model's maximum context length is {standin.positions} tokens.")
        standin.bodies.append(body)
        return StreamingResponse(answer(body, prompt), media_type="text/event-stream")

    async def answer(body: Body, prompt: torch.Tensor) -> AsyncIterator[str]:
        random = torch.Generator().manual_seed((body.seed or 0) % 2**63)
        state: dict[str, Any] = {"inputs": {"inputs_embeds": prompt}, "ids": [], "random": random}
        standin.running += 1
        standin.most_running = max(standin.most_running, standin.running)
        try:
            for place in range(body.max_tokens):
                if standin.fault and place == standin.tokens_before_fault:
                    if standin.fault == "die":
                        raise ConnectionResetError("killed by the test")
                    if standin.fault == "error":
                        yield f"data: {json.dumps({'error': {'message': 'out of memory', 'code': 500}})}\n\n"
                        yield "data: [DONE]\n\n"
                        return
                    await asyncio.sleep(3600 if standin.fault == "slow" else 0)
                async with turn:
                    token, told = await asyncio.to_thread(standin.step, state, body)
                standin.written += 1
                await asyncio.sleep(standin.pause)
                stopped = token in set(body.stop_token_ids) | (set() if body.ignore_eos else eos)
                finish = "stop" if stopped else "length" if place + 1 == body.max_tokens else None
                choice: dict[str, Any] = {"index": 0, "text": "", "finish_reason": finish, "token_ids": [token]}
                if body.logprobs is not None:
                    choice["logprobs"] = {
                        "tokens": [f"token_id:{token}"],
                        "token_logprobs": [told[token]],
                        "top_logprobs": [{f"token_id:{id}": value for id, value in told.items()}],
                        "text_offset": [0],
                    }
                yield f"data: {json.dumps({'id': 'cmpl', 'model': body.model, 'choices': [choice]})}\n\n"
                if finish:
                    break
            yield "data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            standin.aborted += 1
            raise
        finally:
            standin.running -= 1

    return app


class Served:
    """The application on a port of this machine, in a thread, as a context."""

    def __init__(self, standin: Standin, port: int = 0):
        config = uvicorn.Config(application(standin), host="127.0.0.1", port=port, log_level="critical", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        until = time.monotonic() + 20
        while not self.server.started:
            assert self.thread.is_alive(), "the stand-in does not start"
            assert time.monotonic() < until, "the stand-in takes too long to start"
            time.sleep(0.01)
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: Any) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(10)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("language_model", type=Path)
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(given.language_model, dtype="auto").eval()
    standin = Standin(model, given.language_model.name, str(given.language_model), 2048)
    uvicorn.run(application(standin), host="127.0.0.1", port=given.port, log_level="info")


if __name__ == "__main__":
    main()
