"""Between the harness and a model: every request in the model's own form, in batches, and each answer kept.

A `Recorder` is the harness's model. It leaves the answering to an asker, of which there are two: a bridge, and any
model that the harness itself can load.
"""

import abc
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from langbridge.errors import LangBridgeError
from langbridge.evaluate.harness import LangBridgeLM, Prompt, generation_settings
from langbridge.evaluate.responses import Responses
from langbridge.evaluate.suites import SuiteTask
from langbridge.model.sequence import CHAT
from langbridge.serve.batching import in_batches
from langbridge.serve.engine import fingerprint
from langbridge.serve.fingerprints import model_fingerprint
from langbridge.serve.generation import own_decoding
from langbridge.serve.sampling import SEED, seeded
from langbridge.serve.templates import fill, template_text

GENERATE, SCORE = "generate_until", "loglikelihood"

Bar = Callable[[int, str], AbstractContextManager[Any]]
"""Opens a progress bar: over so many requests, of this name."""


@dataclass(frozen=True)
class Request:
    """What is asked. shots: the worked examples, text: the question after them. argument: settings of a generation, or
    the continuation to score."""

    kind: str
    shots: str
    text: str
    argument: Any
    language: str


class Asker(abc.ABC):
    """A model that answers requests, one batch at a time."""

    lm: Any
    """The harness's model underneath, for its place among several processes."""
    batch_size: int
    chats: bool = False
    """Whether it answers in turns, of which it writes the end itself."""

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that an answer depends on, besides the request."""

    @abc.abstractmethod
    def shown(self, request: Request) -> str:
        """The whole prompt as the model is given it."""

    @abc.abstractmethod
    def length(self, request: Request) -> int:
        """Tokens of a request, to batch those of a length. Characters will not do: scripts differ in how many they take
        to a token."""

    @abc.abstractmethod
    def answer(self, batch: Sequence[Request]) -> list[dict[str, Any]]:
        """`text` and `cut_off` (the limit of new tokens was reached), or `loglikelihood` and `greedy`; and `prompt_cut`
        (the prompt was too long and lost its beginning). A batch is of one kind, one argument and one set of shots, but
        for continuations, which differ."""


class BridgeAsker(Asker):
    """A bridge. shots_in: `encoder` sends the worked examples through the encoder with the question, as the paper does;
    `lm` gives them to the language model as its own tokens."""

    def __init__(self, lm: LangBridgeLM, shots_in: str = "encoder"):
        if shots_in not in ("encoder", "lm"):
            raise LangBridgeError(f"shots_in: got {shots_in!r}, expected 'encoder' or 'lm'")
        self.lm, self.shots_in, self.batch_size = lm, shots_in, lm.batch_size
        self.chats = lm.processor.template == CHAT

    def settings(self) -> dict[str, Any]:
        return {"kind": "bridge", **self.lm.settings(), "shots_in": self.shots_in, "seed": SEED}

    def shown(self, request: Request) -> str:
        if self.shots_in == "lm":
            return self.lm.processor.format(request.text, request.shots)
        return self.lm.processor.format(request.shots + request.text)

    def length(self, request: Request) -> int:
        return self.lm.length(self._prompt(request), request.argument if request.kind == SCORE else "")

    def answer(self, batch: Sequence[Request]) -> list[dict[str, Any]]:
        prompts = [self._prompt(request) for request in batch]
        after = [self.lm.new_tokens(request.argument) for request in batch]
        cut = [self.lm.cut(prompt, count) for prompt, count in zip(prompts, after, strict=True)]
        if batch[0].kind == GENERATE:
            written = self.lm.continue_prompts(prompts, batch[0].argument)
            return [
                {"text": one.text, "cut_off": one.cut_off, "prompt_cut": c} for one, c in zip(written, cut, strict=True)
            ]
        scores = self.lm.score_prompts(prompts, [request.argument for request in batch])
        return [
            {"loglikelihood": value, "greedy": greedy, "prompt_cut": c}
            for (value, greedy), c in zip(scores, cut, strict=True)
        ]

    def _prompt(self, request: Request) -> Prompt:
        if self.shots_in == "lm":
            return Prompt(request.text, request.shots, language=request.language)
        return Prompt(request.shots + request.text, language=request.language)


class HarnessAsker(Asker):
    """An encoder-decoder through the harness's own class. template: a name or text of `templates.py`, or `chat` for the
    one that its tokenizer brings."""

    def __init__(self, lm: LM, template: str = "plain", batch_size: int = 16):
        self.lm, self.batch_size = lm, batch_size
        self.template = template if template == CHAT else template_text(template)
        self.chats = template == CHAT
        if template == CHAT and not lm.tokenizer.chat_template:
            raise LangBridgeError("template: got 'chat', but the model's tokenizer has no chat template")

    def settings(self) -> dict[str, Any]:
        return {
            "kind": self.lm.backend,
            "model": model_fingerprint(self.lm.model),
            "dtype": str(self.lm.model.dtype).removeprefix("torch."),
            "template": self.lm.tokenizer.chat_template if self.template == CHAT else self.template,
            "seed": SEED,
            **own_decoding(self.lm.model),
        }

    def shown(self, request: Request) -> str:
        whole = request.shots + request.text
        if self.template == CHAT:
            message = [{"role": "user", "content": whole}]
            return str(self.lm.apply_chat_template(message))
        return fill(self.template, whole, request.language)

    def length(self, request: Request) -> int:
        return len(self.lm.tok_encode(self.shown(request) + (request.argument if request.kind == SCORE else "")))

    def answer(self, batch: Sequence[Request]) -> list[dict[str, Any]]:
        texts, kind = [self.shown(request) for request in batch], batch[0].kind
        arguments = [request.argument for request in batch]
        if kind == GENERATE:
            # The harness would add the prompt's length to the limit, though a decoder does not repeat the prompt. One
            # token is the one that it starts from.
            limit = generation_settings(batch[0].argument)[0]
            arguments = [{**argument, "max_length": limit + 1} for argument in arguments]
        instances = [
            Instance(kind, {}, (text, argument), 0, (None, None, 1))
            for text, argument in zip(texts, arguments, strict=True)
        ]
        cut = [len(self.lm.tok_encode(text)) > self.lm.max_length for text in texts]
        if kind == SCORE:
            found = self.lm.loglikelihood(instances, disable_tqdm=True)
            return [
                {"loglikelihood": float(value), "greedy": bool(greedy), "prompt_cut": c}
                for (value, greedy), c in zip(found, cut, strict=True)
            ]
        written = self.lm.generate_until(instances, disable_tqdm=True)
        return [
            # The harness gives text alone, so its tokens are counted again: about right, where a text is.
            {"text": text, "cut_off": len(self.lm.tok_encode(text)) >= limit, "prompt_cut": c}
            for text, c in zip(written, cut, strict=True)
        ]


class Recorder(LM):
    """The harness's model over an asker: asks what is not answered yet, and keeps every batch at once.

    tasks: by the harness's name, to tell examples from questions. responses: what was answered before, and where more
    is kept. notes: by task and document, what was shown and what was cut, as the requests come by.
    """

    def __init__(self, asker: Asker, tasks: dict[str, SuiteTask], responses: Responses, bar: Bar | None = None):
        super().__init__()
        self.asker, self.tasks, self.responses, self.bar = asker, tasks, responses, bar
        self.notes: dict[tuple[str, int], dict[str, Any]] = {}
        self.asked = 0
        """How many requests the model itself has answered."""

    rank = property(lambda self: self.asker.lm.rank)
    world_size = property(lambda self: self.asker.lm.world_size)
    device = property(lambda self: self.asker.lm.device)

    def all_gather(self, tensor: Any) -> Any:
        return self.asker.lm.all_gather(tensor)

    def gather_object(self, obj: Any, dst: int = 0) -> Any:
        return self.asker.lm.gather_object(obj, dst=dst)

    def barrier(self) -> None:
        self.asker.lm.barrier()

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        return [str(one["text"]) for one in self._answers(requests)]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        return [(float(one["loglikelihood"]), bool(one["greedy"])) for one in self._answers(requests)]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        raise LangBridgeError("rolling log-likelihood: no suite here asks for it")

    def _answers(self, instances: list[Any]) -> list[dict[str, Any]]:
        requests = [self._request(instance) for instance in instances]
        keys = self._keys(instances, requests)
        left: dict[tuple[Any, ...], Request] = {}
        for key, request in zip(keys, requests, strict=True):
            if self.responses.get(*_split(key)) is None:
                left[key] = request
        groups: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
        for key, request in left.items():
            about = fingerprint(request.argument) if request.kind == GENERATE else ""
            groups.setdefault((about, request.shots), []).append(key)
        if left and self.bar is not None:
            with self.bar(len(left), "evaluate") as progress:
                self._ask(groups, left, progress.update)
        else:
            self._ask(groups, left, None)
        answers = [self.responses.get(*_split(key)) for key in keys]
        for instance, request, answer in zip(instances, requests, answers, strict=True):
            assert answer is not None, "all are answered by now"
            note = self.notes.setdefault((instance.task_name, instance.doc_id), {"prompt_cut": False, "cut_off": []})
            note["prompt"] = self.asker.shown(request)
            note["prompt_cut"] |= answer["prompt_cut"]
            note["cut_off"].append(answer.get("cut_off", False))
        return [answer for answer in answers if answer is not None]

    def _ask(self, groups: dict[Any, list[Any]], left: dict[Any, Request], progress: Any) -> None:
        batch_size = self.asker.batch_size

        def answer(batch: list[Any]) -> list[dict[str, Any]]:
            with seeded(batch):  # a key says which of several samples it is
                return self.asker.answer([left[key] for key in batch])

        def keep(batch: list[Any], found: Sequence[dict[str, Any]]) -> None:
            self.asked += len(batch)
            self.responses.add([(*_split(key), one) for key, one in zip(batch, found, strict=True)])

        for group in groups.values():
            in_batches(
                group, batch_size, answer, key=lambda key: self.asker.length(left[key]), progress=progress, done=keep
            )

    def _request(self, instance: Any) -> Request:
        """Worked examples and question told apart by the task itself, which put them together."""
        context, argument = instance.args[:2]
        task = self.tasks[instance.task_name]
        question = task.task.doc_to_text(instance.doc)
        if not isinstance(question, str) or not context.endswith(question):
            question = context
        shots = context.removesuffix(question) if question else ""
        # A translated question is no longer in its task's language.
        language = (task.task.config.metadata or {}).get("frame") or task.language
        return Request(instance.request_type, shots, question, argument, language)

    def _keys(self, instances: list[Any], requests: list[Request]) -> list[tuple[Any, ...]]:
        """What tells one answer from all others. A request that is sampled several times has several answers."""
        seen: Counter[tuple[Any, ...]] = Counter()
        keys = []
        for instance, request in zip(instances, requests, strict=True):
            argument = request.argument if request.kind == SCORE else fingerprint(request.argument)
            key = (request.kind, request.shots, request.text, request.language, argument)
            sampled = request.kind == GENERATE and request.argument.get("do_sample")
            # Processes that wait for each other are padded with copies of a request, which is the same one again.
            place = seen[instance.task_name, instance.doc_id, key] % (instance.repeats or 1) if sampled else 0
            seen[instance.task_name, instance.doc_id, key] += 1
            keys.append((*key, place))
        return keys


def _split(key: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    return key[0], key[1:]
