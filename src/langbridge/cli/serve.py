"""`langbridge serve`: a model as a service over HTTP."""

import importlib.util
import ipaddress
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from langbridge.cli.bridge import RouteFile, model_folder
from langbridge.errors import LangBridgeError

if TYPE_CHECKING:
    from langbridge.serve.live import LiveEngine


def serve(
    folder: Annotated[Path, typer.Argument(help="The folder of a bridge or of a causal language model.")],
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; other than loopback, use API keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8000,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The model's name in requests; default: its folder's.")
    ] = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            "--beside", metavar="FOLDER", help="A second model, such as the plain language model, to compare."
        ),
    ] = None,
    route: RouteFile = None,
    engine: Annotated[
        Literal["local", "vllm"],
        typer.Option("--engine", help="Where the language model runs: in this process, or in a vLLM server."),
    ] = "local",
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="The vLLM server's address; its key, if any, is in VLLM_API_KEY."),
    ] = None,
    slots: Annotated[int, typer.Option("--slots", min=1, help="Answers written at a time.")] = 32,
    queue: Annotated[
        int, typer.Option("--queue", min=1, help="Requests that may wait; more are refused with 429.")
    ] = 256,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")] = 512,
    max_prompt_characters: Annotated[
        int, typer.Option("--max-prompt-characters", min=1, help="Longest prompt or conversation.")
    ] = 32_000,
    max_body_bytes: Annotated[
        int, typer.Option("--max-body-bytes", min=1, help="Longest body of a request.")
    ] = 1_000_000,
    max_answers: Annotated[int, typer.Option("--max-answers", min=1, help="Of one request: prompts times n.")] = 16,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Longest time of a request, the queue included."),
    ] = 300,
    drain_seconds: Annotated[
        float, typer.Option("--drain-seconds", min=0, help="For requests that are being answered when the server ends.")
    ] = 30,
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", metavar="FILE", help="API keys, one a line, besides LANGBRIDGE_API_KEYS."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", metavar="ORIGIN", help="A site whose pages may ask from a browser; repeatable."),
    ] = None,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Write prompts and answers into the log.")] = False,
    dtype: Annotated[str, typer.Option("--dtype", help="Precision of the models.")] = "auto",
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps; default: the best there is.")
    ] = None,
) -> None:
    """Serve a model over HTTP, as OpenAI's API does, with a page to try it.

    SIGTERM and Ctrl-C end it when the requests that it has begun are answered.
    """
    if (engine == "vllm") != (url is not None):
        raise LangBridgeError("--engine vllm and --url: the one needs the other")
    if url is not None and route is not None:
        raise LangBridgeError("--route: needs the language model in this process, not in a vLLM server")
    if max_answers > queue:
        raise LangBridgeError(f"--max-answers: got {max_answers}, more than may wait (--queue {queue})")
    folders = [model_folder(one) for one in (folder, beside) if one is not None]
    if any(
        importlib.util.find_spec(package) is None for package in ("fastapi", "uvicorn", "prometheus_client", "httpx")
    ):
        raise LangBridgeError("serve: its packages are not installed; pip install 'langbridge[serve]'")
    from langbridge.serve.http.app import Service
    from langbridge.serve.http.keys import read_keys
    from langbridge.serve.http.limits import Limits
    from langbridge.serve.http.server import bound, run

    keys = read_keys(api_key_file)
    listening = bound(host, port)
    _warn_of_everybody(listening.getsockname()[0], keys)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("langbridge").setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of every connection that does not speak HTTP

    options: dict[str, Any] = {
        "slots": slots,
        "queue": queue,
        "max_new_tokens": max_new_tokens,
        "dtype": dtype,
        "device": device,
    }

    def load(one: Path) -> "LiveEngine":
        if url is not None and one is folders[0]:
            from langbridge.serve.vllm import load_vllm

            return load_vllm(one, url, api_key=os.environ.get("VLLM_API_KEY"), **options)
        from langbridge.serve.load import load_live

        return load_live(one, **options, route=route if one is folders[0] else None)

    limits = Limits(max_prompt_characters, max_body_bytes, max_new_tokens, max_answers, timeout, drain_seconds)
    engines = dict(zip(_names(folders, name), map(load, folders), strict=True))
    service = Service(engines, limits, keys=keys, allowed_origins=allow_origin or (), log_prompts=log_prompts)
    run(service, listening)


def _names(folders: list[Path], name: str | None) -> list[str]:
    """By which requests call the models."""
    names = [name or folders[0].resolve().name, *(folder.resolve().name for folder in folders[1:])]
    return names if len(set(names)) == len(names) else [names[0], f"{names[1]}-beside"]


def _warn_of_everybody(address: str, keys: list[str]) -> None:
    if not keys and not ipaddress.ip_address(address).is_loopback:
        message = f"--host: whoever reaches {address} may ask; give keys (LANGBRIDGE_API_KEYS or --api-key-file)"
        warnings.warn(message, stacklevel=2)
