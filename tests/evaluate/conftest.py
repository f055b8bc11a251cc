"""Askers that stand for a model where only what surrounds it is tested."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from lm_eval.api.model import LM

from langbridge.evaluate.asking import GENERATE, Asker, Request


class OneProcess(LM):
    """The harness's model of an asker that needs none."""

    def generate_until(self, requests: Any) -> Any:
        raise AssertionError("asked through the asker")

    loglikelihood = loglikelihood_rolling = generate_until  # type: ignore[assignment]


class ScriptedAsker(Asker):
    """Answers as a function of the request says, and keeps count of what it was asked."""

    def __init__(self, says: Callable[[Request], Any], name: str = "scripted", batch_size: int = 64):
        self.says, self.name, self.batch_size, self.lm = says, name, batch_size, OneProcess()
        self.asked: list[Request] = []

    def settings(self) -> dict[str, Any]:
        return {"kind": "scripted", "model": self.name}

    def shown(self, request: Request) -> str:
        return request.shots + request.text

    def length(self, request: Request) -> int:
        return len(request.text)

    def answer(self, batch: Sequence[Request]) -> list[dict[str, Any]]:
        self.asked += batch
        found = []
        for request in batch:
            if request.kind == GENERATE:
                found.append({"text": self.says(request), "cut_off": False, "prompt_cut": False})
            else:
                found.append({"loglikelihood": self.says(request), "greedy": False, "prompt_cut": False})
        return found


@pytest.fixture
def scripted() -> type[ScriptedAsker]:
    return ScriptedAsker
