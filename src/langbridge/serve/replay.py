"""An engine that answers with what is given to it: answers of before, or those of a function. For tests of what stands
around a model, and for scoring anew without one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.files import read_jsonl
from langbridge.serve.engine import GREEDY, Answer, Decoding, Engine, Likelihood, Request


class ReplayEngine(Engine):
    """answers: by prompt, as it is shown, or a function of the request. scores: the log-probability of a continuation,
    a function of request and continuation. `asked` keeps what was asked, in its order.
    """

    def __init__(
        self,
        answers: Mapping[str, str] | Callable[[Request], str],
        scores: Callable[[Request, str], float] | None = None,
        *,
        name: str = "replay",
        chats: bool = False,
    ):
        self._answers, self._scores, self.name, self.chats = answers, scores, name, chats
        self.asked: list[tuple[Request, Decoding | str]] = []

    @classmethod
    def recorded(cls, *files: str | Path) -> "ReplayEngine":
        """The answers of rows with `prompt` and `output`: an evaluation's samples, or what `generate --out` wrote."""
        rows = [row for file in files for _, row in read_jsonl(Path(file))]
        return cls({row["prompt"]: row["output"] for row in rows}, name=" ".join(map(str, files)))

    @property
    def identity(self) -> dict[str, Any]:
        return {"kind": "replay", "model": self.name}

    def shown(self, request: Request) -> str:
        return request.shots + request.prompt + request.prefix

    def generate(self, requests: Sequence[Request], decoding: Decoding = GREEDY) -> Iterator[tuple[int, Answer]]:
        for place, request in enumerate(requests):
            self.asked.append((request, decoding))
            text = self._text(request)
            yield place, Answer(text, len(text.split(" ")))

    def score(self, requests: Sequence[Request], continuations: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        if self._scores is None:
            raise LangBridgeError(f"{self.name}: has answers and no likelihoods")
        for place, (request, continuation) in enumerate(zip(requests, continuations, strict=True)):
            self.asked.append((request, continuation))
            yield place, Likelihood(self._scores(request, continuation), False)

    def _text(self, request: Request) -> str:
        if callable(self._answers):
            return self._answers(request)
        shown = self.shown(request)
        if shown not in self._answers:
            raise LangBridgeError(f"{self.name}: has no answer to the prompt {shown!r}")
        return self._answers[shown]
