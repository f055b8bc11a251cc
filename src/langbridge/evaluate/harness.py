"""An engine as a model of lm-evaluation-harness, for our own evaluations and for its own command line:
`--model langbridge --model_args pretrained=FOLDER`.

Every answer is kept as it comes, and nothing that was answered is asked again.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather, gather_object
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import simple_parse_args_string

from langbridge.errors import LangBridgeError
from langbridge.evaluate.responses import Key, Responses
from langbridge.evaluate.suites import SuiteTask
from langbridge.serve.engine import GREEDY, Answer, Decoding, Engine, Likelihood, Request, digest
from langbridge.serve.load import bridge_engine, load_bridge

_log = logging.getLogger(__name__)

GENERATE, SCORE = "generate_until", "loglikelihood"

Bar = Callable[[int, str], AbstractContextManager[Any]]
"""Opens a progress bar: over so many requests, of this name."""


@register_model("langbridge")
class LangBridgeLM(LM):
    """What stands between the harness and an engine.

    pretrained: a bridge's folder or hub id, or an engine. encoder, language_model, revision: of the bases, where they
    are not what the checkpoint says. dtype, device, batch_size, max_encoder_length, template: as in `langbridge
    evaluate`. cache: a folder that keeps answers, apart for every model and setting.
    tasks: by the harness's name, to tell worked examples from questions; without them a context is a prompt, whole.
    notes: by task and document, what was shown and what was cut, as the requests come by.
    """

    def __init__(
        self,
        pretrained: str | Path | Engine,
        *,
        batch_size: int | str = 16,
        dtype: str = "auto",
        device: str | None = None,
        template: str | None = None,
        max_encoder_length: int | None = None,
        cache: str | Path | None = None,
        tasks: Mapping[str, SuiteTask] | None = None,
        bar: Bar | None = None,
        **bases: Any,
    ):
        super().__init__()
        bases.pop("max_batch_size", None)  # the harness passes it to every model
        if unknown := sorted(bases.keys() - {"encoder", "language_model", "revision"}):
            raise LangBridgeError(f"langbridge: unknown model argument {', '.join(unknown)}")
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise LangBridgeError(
                f"batch_size: got {batch_size!r}, expected a number of at least 1 (it is halved where memory runs out)"
            )
        if isinstance(pretrained, Engine):
            self.engine = pretrained
        else:
            rows = int(batch_size)
            bridge = load_bridge(pretrained, dtype=dtype, device=device, rows=rows, **bases)
            self.engine = bridge_engine(*bridge, rows, template=template, max_encoder_length=max_encoder_length)
        self.tasks, self.bar = tasks, bar
        self._device = getattr(self.engine, "device", torch.device("cpu"))
        self._rank, self._world_size = place_among_processes()
        model = "" if cache is None else digest(self.engine.identity)
        self.responses = Responses(None if cache is None else Path(cache), model, rank=self.rank)
        self.notes: dict[tuple[str, int], dict[str, Any]] = {}

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Any = None) -> "LangBridgeLM":
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: Any, additional_config: Any = None) -> "LangBridgeLM":
        """A setting may stand in both, such as the device; the harness's own option counts."""
        options = {name: value for name, value in (additional_config or {}).items() if value is not None}
        return cls(**{**arg_dict, **options})

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy unless the request says otherwise, up to the first stop string, which is left out."""
        return [str(one["text"]) for one in self._answers(requests)]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Natural log of the probability of the continuation, and whether greedy decoding would write it."""
        return [(float(one["loglikelihood"]), bool(one["greedy"])) for one in self._answers(requests)]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        raise LangBridgeError(
            "langbridge: no rolling log-likelihood. It is the probability of a text without a prompt, and a bridge's "
            "language model alone is frozen and unchanged: evaluate that one, with `--model hf`"
        )

    def set_cache_hook(self, cache_hook: Any) -> None:
        raise LangBridgeError(
            "--use_cache: the harness's cache knows the request but not the model, so it would give one model's "
            "answers to another; use `--model_args cache=FOLDER`, which keeps them apart"
        )

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        raise LangBridgeError(
            "--apply_chat_template: a bridge formats prompts through its own template, which is saved in its processor"
        )

    def all_gather(self, tensor: Any) -> Any:
        return tensor if self.world_size == 1 else gather(tensor)

    def gather_object(self, obj: Any, dst: int = 0) -> Any:
        return [obj] if self.world_size == 1 else gather_object([obj])

    def barrier(self) -> None:
        if self.world_size > 1:
            torch.distributed.barrier()

    def _answers(self, instances: list[Any]) -> list[dict[str, Any]]:
        keys = self._keys(instances)
        left = {key: one for key, one in zip(keys, instances, strict=True) if key not in self.responses}
        with self.bar(len(left), "evaluate") if left and self.bar is not None else nullcontext() as progress:
            for key, answer in self._ask(left):
                self.responses.add(key, answer)
                if progress is not None:
                    progress.update(1)
        answers = [self.responses[key] for key in keys]
        if self.tasks is not None:
            self._note(instances, keys, answers)
        elif cut := sum(answer["prompt_cut"] for answer in answers):  # the harness keeps no count of them
            _log.warning("%d of %d prompts were longer than the model reads and lost their beginning", cut, len(keys))
        return answers

    def _ask(self, left: Mapping[Key, Any]) -> Any:
        """Key and answer of each, as they come."""
        groups: dict[str, list[Key]] = {}
        for key in left:
            groups.setdefault(key[4] if key[0] == GENERATE else "", []).append(key)
        for group in groups.values():
            requests = [
                Request(text, shots, language, key=key) for key in group for shots, text, language in [key[1:4]]
            ]
            arguments = [left[key].args[1] for key in group]
            if group[0][0] == SCORE:
                for place, found in self.engine.score(requests, arguments):
                    likelihood = {"loglikelihood": found.log_probability, "greedy": found.greedy}
                    yield group[place], {**likelihood, "prompt_cut": found.prompt_cut, **_way(found)}
                continue
            for place, answer in self.engine.generate(requests, decoding(arguments[0])):
                cut = {"cut_off": answer.finish == "length", "prompt_cut": answer.prompt_cut}
                yield group[place], {"text": answer.text, **cut, **_way(answer)}

    def _keys(self, instances: list[Any]) -> list[Key]:
        """What tells one answer from all others: kind, examples, question, language, settings or continuation, and of
        one that is sampled several times its place."""
        seen: Counter[Any] = Counter()
        keys = []
        for one in instances:
            argument = one.args[1]
            written = one.request_type == GENERATE
            key = (one.request_type, *self._parts(one), digest(argument) if written else argument)
            # Processes that wait for each other are padded with copies of a request, which is the same one again.
            sampled = written and argument.get("do_sample")
            place = seen[one.task_name, one.doc_id, key] % (one.repeats or 1) if sampled else 0
            seen[one.task_name, one.doc_id, key] += 1
            keys.append((*key, place))
        return keys

    def _parts(self, instance: Any) -> tuple[str, str, str | None]:
        """Worked examples, question and language. The harness's context is both texts in one, and the task that put
        them together knows the question."""
        context = instance.args[0]
        if self.tasks is None:
            return "", context, None
        task = self.tasks[instance.task_name]
        question = task.task.doc_to_text(instance.doc)
        if not isinstance(question, str) or not question or not context.endswith(question):
            question = context
        # A translated question is no longer in its task's language.
        language = (task.task.config.metadata or {}).get("frame") or task.language
        return context.removesuffix(question), question, language

    def _note(self, instances: list[Any], keys: list[Key], answers: list[dict[str, Any]]) -> None:
        for instance, (_, shots, text, language, *_), answer in zip(instances, keys, answers, strict=True):
            note = self.notes.setdefault((instance.task_name, instance.doc_id), {"prompt_cut": False, "cut_off": []})
            note["prompt"] = self.engine.shown(Request(text, shots, language))
            note["prompt_cut"] |= answer["prompt_cut"]
            note["cut_off"].append(answer.get("cut_off", False))
            note["way"] = answer.get("way")


def _way(found: Answer | Likelihood) -> dict[str, str]:
    return {} if found.way is None else {"way": found.way}


def decoding(settings: Mapping[str, Any]) -> Decoding:
    """A task's settings as the harness writes them."""
    options = dict(normalize_gen_kwargs(dict(settings), GREEDY.max_new_tokens))
    limit, stop = int(options.pop("max_gen_toks")), options.pop("until")
    if not options.get("do_sample"):
        options.pop("temperature", None)
    return Decoding(limit, stop, options)


def place_among_processes() -> tuple[int, int]:
    """This process's number, and how many there are, where `torchrun` started several."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
