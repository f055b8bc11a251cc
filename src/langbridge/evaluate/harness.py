"""A bridge as a model of lm-evaluation-harness: `--model langbridge --model_args pretrained=FOLDER`.

The context of a request goes through the encoder, in the processor's template. What is generated or scored after it is
the language model's own text.
"""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs

from langbridge.errors import LangBridgeError
from langbridge.evaluate.generate import left_padded
from langbridge.evaluate.responses import Responses
from langbridge.evaluate.scoring import per_row
from langbridge.model import LangBridgeModel, LangBridgeProcessor
from langbridge.model.devices import in_fitting_precision, precision, usable_device
from langbridge.model.language_marks import knows_language, own_mark
from langbridge.model.sequence import CHAT, END_VECTORS
from langbridge.serve.batching import in_batches
from langbridge.serve.engine import fingerprint
from langbridge.serve.fingerprints import model_fingerprint
from langbridge.serve.generation import Continuation, continuations, own_decoding
from langbridge.serve.sampling import seeded

_log = logging.getLogger(__name__)

DEFAULT_NEW_TOKENS = 256
"""As the harness's own models, for tasks that do not say."""


@dataclass(frozen=True)
class Prompt:
    """What a bridge reads: `shots` as the language model's own tokens before the soft prompts, `text` through the
    encoder, which is told the `language` where it marks languages and knows this one."""

    text: str
    shots: str = ""
    language: str | None = None


@register_model("langbridge")
class LangBridgeLM(LM):
    """pretrained: folder or hub id of a bridge, or a loaded `LangBridgeModel` together with its `processor`.
    encoder, language_model: the bases, where they are not where the checkpoint says. dtype: of the bases; `auto` as
        saved, but single precision where the device is slow in that.
    batch_size: requests at once; halved where memory runs out.
    max_encoder_length: longer prompts lose their beginning, as the harness's models cut theirs; so do those that with
        examples, template and answer are more than the language model has positions for. template: instead of the
        processor's own. cache: a folder that keeps responses, apart for every model and setting.
    """

    def __init__(
        self,
        pretrained: str | Path | LangBridgeModel,
        processor: LangBridgeProcessor | None = None,
        *,
        encoder: str | None = None,
        language_model: str | None = None,
        revision: str | None = None,
        dtype: str | torch.dtype = "auto",
        device: str | None = None,
        batch_size: int | str = 16,
        max_encoder_length: int | None = None,
        template: str | None = None,
        cache: str | Path | None = None,
        **unknown: Any,
    ):
        super().__init__()
        unknown.pop("max_batch_size", None)  # the harness passes it to every model
        if unknown:
            raise LangBridgeError(f"langbridge: unknown model argument {', '.join(sorted(unknown))}")
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise LangBridgeError(
                f"batch_size: got {batch_size!r}, expected a number of at least 1 (it is halved where memory runs out)"
            )
        self.batch_size = int(batch_size)
        self._device: Any = usable_device(device)
        self._join()
        if isinstance(pretrained, LangBridgeModel):
            if processor is None:
                raise LangBridgeError("langbridge: a loaded model needs its processor beside it")
            self.model, self.processor = pretrained, copy.deepcopy(processor)
        else:
            bases = {"encoder": encoder, "language_model": language_model, "revision": revision}
            self.model = LangBridgeModel.from_pretrained(
                pretrained,
                dtype=precision(dtype),
                **{name: value for name, value in bases.items() if value},
            )
            if dtype == "auto":
                for base in (self.model.encoder, self.model.language_model):
                    in_fitting_precision(base, self._device, rows=self.batch_size)
            self.model.to(self._device)
            self.processor = LangBridgeProcessor.from_pretrained(pretrained)
        self._device = self.model.device
        self.model.eval()
        if template == CHAT:
            self.processor.template, self.processor.template_in = CHAT, "lm"
        elif template is not None:
            self.processor.template, self.processor.system = template, None
        _ = self.processor.layout  # refuses a template that cannot be, before anything is asked
        # The end of a prompt is its question; what is cut is cut from the front.
        self.processor.encoder_tokenizer.truncation_side = "left"
        self.max_encoder_length = max_encoder_length
        self._around: dict[str, int] = {}
        self._known: dict[str, bool] = {}
        self._responses: Responses | None = None
        if cache is not None:
            self._responses = Responses(Path(cache), fingerprint(self.settings()), rank=self.rank)

    # What the harness asks of a model

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy unless the request says otherwise, up to the first stop string, which is left out."""
        found = self._kept("generate_until", requests)
        return [one["text"] for one in found]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Natural log of the probability of the continuation, and whether greedy decoding would write it."""
        found = self._kept("loglikelihood", requests)
        return [(one["loglikelihood"], one["greedy"]) for one in found]

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

    @property
    def tokenizer_name(self) -> str:
        return str(self.processor.encoder_tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        raise LangBridgeError(
            "--apply_chat_template: a bridge formats prompts through its own template, which is saved in its processor"
        )

    def all_gather(self, tensor: Any) -> Any:
        if self.world_size == 1:
            return tensor
        gathered = [torch.zeros_like(tensor) for _ in range(self.world_size)]
        torch.distributed.all_gather(gathered, tensor)
        return torch.stack(gathered).flatten()

    def gather_object(self, obj: Any, dst: int = 0) -> Any:
        if self.world_size == 1:
            return [obj]
        gathered: list[Any] | None = [None] * self.world_size if self.rank == dst else None
        torch.distributed.gather_object(obj, gathered, dst=dst)
        return gathered

    def barrier(self) -> None:
        if self.world_size > 1:
            torch.distributed.barrier()

    # What ours asks of it

    def settings(self) -> dict[str, Any]:
        """All that an answer depends on, besides the request."""
        marked = own_mark(self.processor.encoder_tokenizer) is not None
        chat = self.processor.template == CHAT
        return {
            "model": model_fingerprint(self.model),
            "dtype": str(self.model.language_model.dtype).removeprefix("torch."),
            "template": self.processor.tokenizer.chat_template if chat else self.processor.template,
            "template_in": self.processor.template_in,
            **({"system": self.processor.system} if chat else {}),
            "max_encoder_length": self.max_encoder_length,
            **own_decoding(self.model),
            **({"languages": "marked"} if marked else {}),
        }

    def cut(self, prompt: Prompt, new_tokens: int = 0) -> bool:
        """Whether a prompt, with so many tokens of the language model after it, is too long and loses its beginning.
        Raises `LangBridgeError` where what cannot be cut leaves no room for it."""
        return self._cut_to(prompt, new_tokens) is not None

    def new_tokens(self, argument: Any) -> int:
        """How many tokens follow a prompt at most: a generation's limit, or those of a continuation."""
        if isinstance(argument, str):
            return self._lm_length(argument.removeprefix(" "))
        return generation_settings(argument)[0]

    def length(self, prompt: Prompt, continuation: str = "") -> int:
        """Tokens of the encoder for the prompt, of the language model for what follows: how much there is to compute.
        Shots that go to the language model are left out, since a batch shares them."""
        return self._encoder_length(prompt) + self._lm_length(continuation)

    def continue_prompts(self, prompts: Sequence[Prompt], settings: dict[str, Any]) -> list[Continuation]:
        """One batch, with the generation settings of the harness."""
        limit, stop, generation = generation_settings(settings)
        limits = [found for found in (self._cut_to(prompt, limit) for prompt in prompts) if found is not None]
        inputs = self._inputs(prompts, cut_to=min(limits, default=None))  # one set of shots and one limit: all the same
        return continuations(
            self.model,
            inputs,
            self.processor.tokenizer,
            self.processor.decode,
            ends=[self.processor.answer_end_id],
            max_new_tokens=limit,
            stop=stop,
            **generation,
        )

    @torch.inference_mode()
    def score_prompts(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[tuple[float, bool]]:
        """Log-probability and greediness of a text after each prompt, one batch. After an empty prompt it is scored by
        the language model alone, after BOS, as the harness's causal models do."""
        # Those that are cut to the same length are scored together: a batch of the processor has one limit.
        alone: list[int] = []
        groups: dict[int | None, list[int]] = {}
        for index, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            if prompt.text.strip() or prompt.shots:
                groups.setdefault(self._cut_to(prompt, self.new_tokens(text)), []).append(index)
            else:
                alone.append(index)
        scores: dict[int, tuple[float, bool]] = {}
        if alone:
            scores.update(zip(alone, self._score_alone([texts[index] for index in alone]), strict=True))
        for cut_to, chosen in groups.items():
            some, after = [prompts[index] for index in chosen], [texts[index] for index in chosen]
            scores.update(zip(chosen, self._score_bridged(some, after, cut_to), strict=True))
        return [scores[index] for index in range(len(prompts))]

    # Inside

    def _join(self) -> None:
        """This process's place among those that `torchrun` started, and its device."""
        from accelerate import PartialState

        state = PartialState(cpu=self._device.type == "cpu")
        self._rank, self._world_size = state.process_index, state.num_processes
        if self._world_size > 1 and self._device.type == "cuda":
            self._device = state.device

    def _kept(self, kind: str, requests: list[Any]) -> list[dict[str, Any]]:
        """The answer to each request, from the cache where it has it."""
        arguments = [request.args for request in requests]
        # A sampled answer is drawn anew each time, so it is never taken from the cache.
        fixed = [kind == "loglikelihood" or not args[1].get("do_sample") for args in arguments]
        answers: dict[int, dict[str, Any]] = {}
        if self._responses is not None:
            for index, args in enumerate(arguments):
                kept = self._responses.get(kind, args) if fixed[index] else None
                if kept is not None:
                    answers[index] = kept
        left = [index for index in range(len(arguments)) if index not in answers]
        groups: dict[str, list[int]] = {}
        for index in left:
            groups.setdefault(fingerprint(arguments[index][1]) if kind == "generate_until" else "", []).append(index)

        def keep(batch: list[int], found: Sequence[dict[str, Any]]) -> None:
            if self._responses is not None:
                rows = zip(batch, found, strict=True)
                self._responses.add([(kind, arguments[index], one) for index, one in rows if fixed[index]])

        def answer(batch: list[int]) -> list[dict[str, Any]]:
            prompts = [Prompt(arguments[index][0]) for index in batch]
            if kind == "generate_until":
                with seeded([(index, arguments[index]) for index in batch]):
                    return [{"text": one.text} for one in self.continue_prompts(prompts, arguments[batch[0]][1])]
            found = self.score_prompts(prompts, [arguments[index][1] for index in batch])
            return [{"loglikelihood": value, "greedy": greedy} for value, greedy in found]

        def length(index: int) -> int:
            text, argument = arguments[index]
            return self.length(Prompt(text), argument if kind == "loglikelihood" else "")

        for group in groups.values():
            found = in_batches(group, self.batch_size, answer, key=length, done=keep)
            answers.update(zip(group, found, strict=True))
        self._tell_cut(arguments)
        return [answers[index] for index in range(len(arguments))]

    def _tell_cut(self, arguments: Sequence[tuple[str, Any]]) -> None:
        """Warn of prompts that lost their beginning: the harness keeps no count of them."""
        prompts = [(Prompt(text), argument) for text, argument in arguments if text.strip()]
        cut = sum(self.cut(prompt, self.new_tokens(argument)) for prompt, argument in prompts)
        if cut:
            _log.warning(
                "%d of %d prompts were longer than the model reads (max_encoder_length %s, and the positions of its "
                "two models) and lost their beginning",
                cut, len(arguments), self.max_encoder_length,
            )  # fmt: skip

    def _cut_to(self, prompt: Prompt, new_tokens: int = 0) -> int | None:
        """How many of its encoder's tokens a prompt that is too long keeps; None where it is not."""
        limits = [self.max_encoder_length, self.processor.encoder_length_limit, self._room(prompt, new_tokens)]
        limit = min((limit for limit in limits if limit is not None), default=None)
        return limit if limit is not None and self._encoder_length(prompt) > limit else None

    def _room(self, prompt: Prompt, new_tokens: int) -> int | None:
        """How many of the encoder's tokens the language model has positions for, beside all that it reads and writes
        itself; None where it has positions without end, or where their number does not depend on the prompt."""
        positions = getattr(self.model.language_model.config.get_text_config(), "max_position_embeddings", None)
        if positions is None:
            return None
        processor, shots = self.processor, prompt.shots
        if shots not in self._around:
            self._around[shots] = processor.overhead(shots)
        room = positions - self._around[shots] - new_tokens
        least = processor.soft_length(processor.encoder_tokenizer.num_special_tokens_to_add() + 1)
        if room < least:
            around = "examples, template and beginning" if shots else "template and beginning"
            fewer = ", give fewer examples, or let them go through the encoder (--shots-in encoder)" if shots else ""
            raise LangBridgeError(
                f"the language model has positions for {positions} tokens, of which "
                f"{self._around[shots] - END_VECTORS} go to {around} and {new_tokens} to the answer: expected at least "
                f"{least + END_VECTORS} left for the prompt, got {max(0, room + END_VECTORS)}; "
                f"let it write less (--max-new-tokens){fewer}"
            )
        return processor.connector.longest_source(room)

    def _lm_length(self, text: str) -> int:
        return len(self.processor.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _encoder_length(self, prompt: Prompt) -> int:
        return len(self.processor.encoder_ids([prompt.text])[0])

    def _inputs(
        self, prompts: Sequence[Prompt], targets: Sequence[str] | None = None, cut_to: int | None = None
    ) -> dict[str, torch.Tensor]:
        """A batch for the model. All prompts of a batch share their shots, and the number of the encoder's tokens that
        longer ones are cut to."""
        processor, texts = self.processor, [prompt.text for prompt in prompts]
        shots = {prompt.shots for prompt in prompts}
        if len(shots) > 1:
            raise AssertionError("one batch, one set of shots")
        (shot,) = shots
        languages = [self._language(prompt) for prompt in prompts]
        if cut_to is not None:
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # cuts are counted, not told of row by row
                batch = processor(
                    texts,
                    targets,
                    shots=shot,
                    max_encoder_length=cut_to,
                    truncation="encoder",
                    add_eos=False,
                    source_language=languages,
                )
        else:
            batch = processor(texts, targets, shots=shot, add_eos=False, source_language=languages)
        return dict(batch.to(self._device))

    def _language(self, prompt: Prompt) -> str | None:
        """A prompt's language where the encoder can be told it; else it reads what it was trained on, English."""
        language = prompt.language
        if language is not None and language not in self._known:
            self._known[language] = knows_language(self.processor.encoder_tokenizer, language)
            if not self._known[language]:
                _log.warning("the encoder's tokenizer has no mark for %r: it is told English", language)
        return language if language is not None and self._known[language] else None

    def _score_bridged(
        self, prompts: Sequence[Prompt], texts: Sequence[str], cut_to: int | None
    ) -> list[tuple[float, bool]]:
        # The language model's text begins after the soft prompts as a training target does, so the space that separates
        # words in one text is not part of it.
        targets = [text.removeprefix(" ") for text in texts]
        inputs = self._inputs(prompts, targets, cut_to)
        labels = inputs["labels"]
        counts = (labels[:, 1:] >= 0).sum(1).tolist()
        if not sum(counts):
            return [(0.0, True) for _ in prompts]
        logits = self.model(**inputs).logits  # at target positions only, row by row
        learned = labels[:, 1:][labels[:, 1:] >= 0]
        return per_row(logits, learned.to(logits.device), counts)

    def _score_alone(self, texts: Sequence[str]) -> list[tuple[float, bool]]:
        tokenizer = self.processor.tokenizer
        first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        inputs = left_padded([[first, *row] for row in rows], self._device)
        mask = inputs["attention_mask"]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = self.model.language_model(**inputs, position_ids=positions).logits
        scored = mask[:, 1:].bool() & mask[:, :-1].bool()
        return per_row(logits[:, :-1][scored], inputs["input_ids"][:, 1:][scored], [len(row) for row in rows])


def generation_settings(settings: Mapping[str, Any]) -> tuple[int, list[str], dict[str, Any]]:
    """A task's settings as the harness writes them: the limit of new tokens, stop strings, and what `generate` gets."""
    generation = dict(normalize_gen_kwargs(dict(settings), DEFAULT_NEW_TOKENS))
    limit, stop = int(generation.pop("max_gen_toks")), generation.pop("until")
    if not generation.get("do_sample"):
        generation.pop("temperature", None)
    return limit, stop, generation
