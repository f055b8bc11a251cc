"""A service of models: what is answered over HTTP, to many at once, is what the engine of commands answers alone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from langbridge.serve.engine import Decoding, Request
from langbridge.serve.load import load_engine, load_live

QUESTIONS = ["Tom has 3 apples.", "2+2?", "Ana matufaa mangapi?", "She sells 4 of them; how many are left?", "రెట", "a"]


@pytest.mark.parametrize("folder", ["bridge_folder", "chat_bridge_folder"])
def test_many_at_once_are_answered_as_alone(serve, request, folder: str) -> None:
    place: Path = request.getfixturevalue(folder)
    alone = load_engine(place).answers([Request(one) for one in QUESTIONS], Decoding(24))
    running = serve(load_live(place, slots=3))

    def ask(question: str, stream: bool) -> tuple[str, int, int]:
        with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
            asked: Any = {"model": "bridge", "messages": [{"role": "user", "content": question}], "max_tokens": 24}
            if not stream:
                whole = client.chat.completions.create(**asked)
                return str(whole.choices[0].message.content), whole.usage.completion_tokens, whole.usage.prompt_tokens
            options = {"include_usage": True}
            chunks = list(client.chat.completions.create(**asked, stream=True, stream_options=options))
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
            return text, chunks[-1].usage.completion_tokens, chunks[-1].usage.prompt_tokens

    with ThreadPoolExecutor(6) as pool:
        for stream in (False, True):
            found = list(pool.map(ask, QUESTIONS, [stream] * len(QUESTIONS)))
            assert found == [(one.text, one.tokens, one.prompt_tokens) for one in alone]


def test_drawn_answers_are_the_same_for_the_same_seed(serve, bridge_folder: Path) -> None:
    running = serve(load_live(bridge_folder))
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:

        def draw(**options: Any) -> list[str]:
            asked = {"model": "bridge", "prompt": QUESTIONS[0], "max_tokens": 12, "temperature": 1.5} | options
            return [choice.text for choice in client.completions.create(**asked).choices]

        several = draw(n=3, seed=1)
        assert several == draw(n=3, seed=1)
        assert len(set(several)) == 3
        assert draw(seed=1) == several[:1]
        assert draw(seed=2) != several[:1]
        assert draw() != draw()
