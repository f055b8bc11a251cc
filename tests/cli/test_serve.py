"""`langbridge serve`: from a folder to a service, and its end."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest
from transformers import AutoModelForCausalLM

from langbridge.cli.serve import _names, _warn_of_everybody
from langbridge.serve.engine import Decoding
from langbridge.serve.load import load_engine
from tests.serve.vllm_standin import Served, Standin


@contextmanager
def started(*arguments: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own: and where it listens."""
    command = [sys.executable, "-m", "langbridge.cli", "serve", *map(str, arguments), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        try:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if found := re.search(r"serving .* at (http://\S+)", line):
                    yield process, found[1]
                    break
            else:
                pytest.fail("".join(said))
        finally:
            process.kill()


def test_it_answers_and_ends_at_a_signal(chat_bridge_folder: Path, base_folders: tuple[Path, Path]) -> None:
    asked: list = [{"role": "user", "content": "Tom has 3 apples."}]
    options = ("--name", "mine", "--beside", base_folders[1], "--max-new-tokens", 20)
    with started(chat_bridge_folder, *options, LANGBRIDGE_API_KEYS="a-key-for-the-test") as (process, url):
        http = httpx.Client(trust_env=False)
        with http, openai.OpenAI(base_url=f"{url}/v1", api_key="a-key-for-the-test", http_client=http) as client:
            assert [model.id for model in client.models.list()] == ["mine", "language_model"]
            found = client.chat.completions.create(model="mine", messages=asked, max_tokens=8)
            usage = found.usage
            assert usage is not None
            assert 0 < usage.completion_tokens <= 8
            assert usage.prompt_tokens > getattr(usage.prompt_tokens_details, "encoder_tokens", 0) > 0
            chunks = client.chat.completions.create(model="mine", messages=asked, max_tokens=8, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert text == found.choices[0].message.content
            turns = [*asked, {"role": "assistant", "content": "So?"}, *asked]
            client.chat.completions.create(model="mine", messages=turns, logprobs=True, max_tokens=2)
            with pytest.raises(openai.BadRequestError, match="this server writes at most 20"):
                client.completions.create(model="mine", prompt="2+2?", max_tokens=21)
            with pytest.raises(openai.BadRequestError, match=r"max_tokens|shorten"):
                client.completions.create(model="mine", prompt="2+2? " * 300)
            plain = client.completions.create(model="language_model", prompt="2+2?", max_tokens=4, n=2, seed=1)
            assert len(plain.choices) == 2
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0, said
        assert "SIGTERM: no new requests" in said
        assert "Traceback" not in said


def test_the_language_model_may_run_in_a_vllm_server(bridge_folder: Path, base_folders: tuple[Path, Path]) -> None:
    standin = Standin(AutoModelForCausalLM.from_pretrained(base_folders[1]).eval(), key="its-key")
    (local,) = load_engine(bridge_folder, device="cpu").answers(["2+2?"], Decoding(8))
    with Served(standin) as there:
        options = ("--engine", "vllm", "--url", there, "--device", "cpu", "--beside", base_folders[1])
        with (
            started(bridge_folder, *options, VLLM_API_KEY="its-key") as (_, url),
            httpx.Client(trust_env=False) as http,
            openai.OpenAI(base_url=f"{url}/v1", api_key="none", http_client=http) as client,
        ):
            here, plain = (model.id for model in client.models.list())
            found = client.completions.create(model=here, prompt="2+2?", max_tokens=8, temperature=0)
            assert found.choices[0].text == local.text
            before = len(standin.bodies)
            client.completions.create(model=plain, prompt="2+2?", max_tokens=2)
            assert len(standin.bodies) == before, "the model beside it runs here"
            standin.fault = "http 500"
            with pytest.raises(openai.InternalServerError, match="EngineCore encountered an issue"):
                client.with_options(max_retries=0).completions.create(model=here, prompt="2+2?", max_tokens=8)


def test_vllm_needs_its_address(command, bridge_folder: Path) -> None:
    for options in (("--engine", "vllm"), ("--url", "http://127.0.0.1:8001")):
        code, _, said = command("serve", bridge_folder, *options)
        assert (code, said) == (2, "langbridge: --engine vllm and --url: the one needs the other\n")


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.1", "::"])
def test_it_warns_of_a_server_for_everybody(address: str) -> None:
    with pytest.warns(UserWarning, match=f"whoever reaches {address} may ask; give keys"):
        _warn_of_everybody(address, [])
    _warn_of_everybody(address, ["a-key-of-one-client"])


def test_loopback_is_for_those_on_this_machine() -> None:
    for address in ("127.0.0.1", "::1"):
        _warn_of_everybody(address, [])


def test_what_is_wrong_is_said_before_a_model_is_loaded(command, tmp_path, bridge_folder, monkeypatch) -> None:
    code, _, err = command("serve", tmp_path / "nothing")
    assert (code, "no such folder" in err) == (2, True)
    code, _, err = command("serve", bridge_folder, "--beside", tmp_path)
    assert (code, "no config.json in it" in err) == (2, True)
    code, _, err = command("serve", bridge_folder, "--api-key-file", tmp_path / "keys")
    assert (code, "--api-key-file" in err) == (2, True)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "fastapi" else found(name, *a))
    code, _, err = command("serve", bridge_folder)
    assert (code, err) == (2, "langbridge: serve: its packages are not installed; pip install 'langbridge[serve]'\n")


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    assert _names([tmp_path / "a", tmp_path / "b"], None) == ["a", "b"]
    assert _names([tmp_path / "a", tmp_path / "b" / "a"], None) == ["a", "a-beside"]
    assert _names([tmp_path / "a"], "mine") == ["mine"]
