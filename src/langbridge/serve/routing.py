"""Which way a prompt goes: a language model reads what it knows best as its own text, and all else through the bridge.

A prompt is known that is as expected as English prompts are, or that makes its gloss by the bridge easier to predict,
at least half as much as an English one does (`signals.py`). No label is asked for, and no language but English has a
part in the thresholds.
"""

import json
import random
import statistics
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from langbridge.errors import LangBridgeError
from langbridge.files import existing_file, write_atomically
from langbridge.model import LangBridgeModel, LangBridgeProcessor
from langbridge.model.bases import LANGUAGE_MODEL, check_same
from langbridge.model.sequence import Own, chats, message_text
from langbridge.serve.engine import PromptTooLong, Request
from langbridge.serve.readers import BridgeReader, CausalReader, Reading
from langbridge.serve.signals import Signals
from langbridge.settings import Settings

TEXT, BRIDGE = "text", "bridge"
"""The ways of a prompt, as answers name them."""

FORMAT = 2
MISTYPED = 0.4
"""Share of letters that are replaced in the English that is to go through the bridge."""
FEWEST = 8
"""Prompts that a threshold is fitted on, at least."""
ASTRAY = 0.1
"""Share of the English prompts that may tell less than half of their gloss, at most; else the loss decides alone."""


class Route(Settings):
    """What sends a prompt one way or the other, as its file holds it.

    loss: a prompt of at most this loss goes as text. gloss: so does one that tells at least so much of its gloss; None
    where only the loss decides. prompts: how many English ones it was fitted on. english_by_bridge, mistyped_by_text:
    how many of them, and of the same with mistyped letters, go the wrong way. template: of prompts as text, as plain
    models have it; None for the bridge's own. language_model: the one that the route holds for, as a checkpoint records
    it.
    """

    format: int = FORMAT
    loss: float
    gloss: float | None = None
    prompts: int = 0
    english_by_bridge: int = 0
    mistyped_by_text: int = 0
    template: str | None = None
    language_model: dict[str, Any] | None = None

    @classmethod
    def load(cls, path: str | Path) -> "Route":
        """Raises `LangBridgeError` for a file that holds no route."""
        path = existing_file(path)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise LangBridgeError(f"{path}: broken JSON: {error}") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT or "loss" not in found:
            raise LangBridgeError(
                f"{path}: holds no route; `langbridge route BRIDGE --data FILE --out FILE` writes one"
            )
        return cls.read(found, str(path))

    def save(self, path: str | Path) -> None:
        write_atomically(path, json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")

    def way(self, loss: float, gloss: Callable[[], float]) -> str:
        """The gloss is asked where the loss does not decide."""
        return TEXT if loss <= self.loss or (self.gloss is not None and gloss() >= self.gloss) else BRIDGE

    def ways(self, prompts: Sequence[str], signals: Signals) -> list[str]:
        """Of each prompt, `text` or `bridge`."""
        return [self.way(signals.loss(prompt), partial(signals.gloss, prompt)) for prompt in prompts]


def fit_route(
    model: LangBridgeModel, processor: LangBridgeProcessor, prompts: Sequence[str], *, template: str | None = None
) -> Route:
    """The route between English prompts and the same with mistyped letters.

    Known is a prompt of a loss that 95 in 100 English ones do not exceed, or that tells half of what English tells of
    its gloss in the median. Where English tells nothing of it, no more than the mistyped does, or less than that half
    in more than one prompt of ten, the loss decides alone, and its threshold is half-way to that of mistyped English.
    template: as in `Route`. Raises `LangBridgeError` where the loss does not tell the two apart then.
    """
    if template is not None:
        CausalReader(processor.tokenizer, model.language_model.config, template=template)  # refuses what is none
    if len(prompts) < FEWEST:
        raise LangBridgeError(f"route: got {len(prompts)} prompts to fit on, expected at least {FEWEST}")
    spoilt = [mistyped(text, number) for number, text in enumerate(prompts)]
    signals = Signals(model, processor)
    lost, spoilt_lost = ([signals.loss(text) for text in texts] for texts in (prompts, spoilt))
    told, spoilt_told = ([signals.gloss(text) for text in texts] for texts in (prompts, spoilt))
    low, high = statistics.quantiles(lost, n=20)[-1], statistics.quantiles(spoilt_lost, n=20)[0]
    half = statistics.median(told) / 2
    glossed = half > max(0, statistics.median(spoilt_told) / 2)
    glossed = glossed and sum(one < half for one in told) <= ASTRAY * len(prompts)
    if not glossed and low >= high:
        raise LangBridgeError(
            f"route: the language model's loss does not tell these prompts ({low:.2f} nats a token for the worst in "
            f"20) from the same with {MISTYPED:.0%} of their letters mistyped ({high:.2f} for the best in 20); "
            "expected English prompts, of a sentence or more, and a language model that reads English"
        )
    route = Route(
        loss=low if glossed else (low + high) / 2,
        gloss=half if glossed else None,
        prompts=len(prompts),
        template=template,
        language_model=getattr(model.config, f"{LANGUAGE_MODEL}_base"),
    )
    ways, spoilt_ways = (
        [route.way(loss, partial(float, gloss)) for loss, gloss in zip(losses, glosses, strict=True)]
        for losses, glosses in ((lost, told), (spoilt_lost, spoilt_told))
    )
    return route.model_copy(
        update={"english_by_bridge": ways.count(BRIDGE), "mistyped_by_text": spoilt_ways.count(TEXT)}
    )


def mistyped(text: str, seed: int, share: float = MISTYPED) -> str:
    """A text with so many of its letters replaced by random ones."""
    rng = random.Random(seed)
    return "".join(
        rng.choice(string.ascii_lowercase) if one.isalpha() and rng.random() < share else one for one in text
    )


def routing_reader(
    model: LangBridgeModel, processor: LangBridgeProcessor, file: str | Path, **reading: Any
) -> "RoutingReader":
    """The reader of a bridge's requests, by the route in a file. Raises `LangBridgeError` where that was fitted for
    another language model."""
    route, base = Route.load(file), getattr(model.config, f"{LANGUAGE_MODEL}_base") or {}
    recorded, now = (one.get("fingerprint") for one in (route.language_model or {}, base))
    if recorded and now:
        check_same(
            LANGUAGE_MODEL, recorded, now, str(base.get("id")), f"{(route.language_model or {}).get('id')} ({file})"
        )
    config = model.language_model.config
    return RoutingReader(processor, config, route=route, signals=Signals(model, processor), **reading)


class RoutingReader(BridgeReader):
    """A bridge's requests, of which those that the language model knows how to read are its own text, in the bridge's
    own template. What decides is the prompt, or all that the user says in a conversation.

    Other settings are those of `BridgeReader`.
    """

    def __init__(
        self,
        processor: LangBridgeProcessor,
        config: PreTrainedConfig,
        *,
        route: Route,
        signals: Signals,
        **reading: Any,
    ):
        super().__init__(processor, config, **reading)
        self.route, self.signals = route, signals
        self._own_text = (
            _OwnText(self)
            if route.template is None
            else CausalReader(processor.tokenizer, config, template=route.template)
        )

    @property
    def takes_turns_as_text(self) -> bool:
        """Whether a conversation may be text: in the language model's own chat template."""
        return self.route.template is None or chats(self.route.template)

    @property
    def identity(self) -> dict[str, Any]:
        return {
            **super().identity,
            "route": {key: getattr(self.route, key) for key in ("loss", "gloss", "template")},
        }

    def ways(self, requests: Sequence[Request]) -> list[str]:
        """Of each request, `text` or `bridge`."""
        said = [
            "\n".join(message_text(turn.get("content")) or "" for turn in one.messages if turn.get("role") == "user")
            or one.prompt
            for one in requests
        ]
        texts = list(dict.fromkeys(said))
        found = dict(zip(texts, self.route.ways(texts, self.signals), strict=True))
        return [found[text] for text in said]

    def own_text(self, request: Request) -> str:
        """All that the bridge reads of a request, as the language model's text: the prompt once, where the template has
        it twice."""
        template = self.processor.layout
        parts = self._parts(request, template)
        return "".join(part.text for part in parts if isinstance(part, Own) or not template.reads_prompt)

    def read(
        self, requests: Sequence[Request], *, new_tokens: int = 0, continuations: Sequence[str] | None = None
    ) -> list[Reading]:
        ways = self.ways(requests)
        # Each in its place, by which an error names it; in those of the others stands a prompt that nobody asks.
        bridged = [one if way == BRIDGE else Request("-") for one, way in zip(requests, ways, strict=True)]
        readings = super().read(bridged, new_tokens=new_tokens, continuations=continuations)
        places = [place for place, way in enumerate(ways) if way == TEXT]
        after = None if continuations is None else [continuations[place] for place in places]
        own = self._own_text.read([requests[place] for place in places], new_tokens=new_tokens, continuations=after)
        for place, reading in zip(places, own, strict=True):
            if reading.cut and (self.strict or requests[place].messages):
                raise PromptTooLong(
                    f"prompt {place + 1}: it has {reading.length} tokens of the language model, which reads "
                    f"{self._own_text.limit} with the answer; shorten it, or let the model write less "
                    "(--max-new-tokens)"
                )
            if self.processor.soft_prompt_token_id in reading.ids:
                raise LangBridgeError(
                    f"prompt {place + 1}: the text contains a token that marks soft prompts "
                    f"({self.tokenizer.convert_ids_to_tokens(self.processor.soft_prompt_token_id)!r}); remove it"
                )
            readings[place] = reading
        return [replace(reading, way=way) for reading, way in zip(readings, ways, strict=True)]


class _OwnText(CausalReader):
    """What a bridge would read of a request, as its language model reads text."""

    def __init__(self, bridge: RoutingReader):
        self.tokenizer, self.config, self.max_length = bridge.tokenizer, bridge.config, None
        self._text = bridge.own_text

    def shown(self, request: Request) -> str:
        return self._text(request)
