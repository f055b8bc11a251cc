"""A frozen language model as the teacher of its own bridge: what it makes of a text that it reads as its own tokens is
held against what it makes of the same text through the bridge.

    teacher   <s> 2 + 2 ?           A: It is 4 . </s>      the prompt as its own tokens
    student   <s> [soft prompts] .  A: It is 4 . </s>      the prompt through the bridge

Behind the prompt both read the same tokens, the template's rest and the continuation, so rows are aligned from their
ends.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from langbridge.errors import LangBridgeError
from langbridge.model.language_models import Judge, LossesInPieces, at_the_head, head_only_at


class Lesson(NamedTuple):
    """What the teacher reads, and what of it the student is held to.

    input_ids, attention_mask: the student's rows, each with its prompt as the language model's own tokens.
    layers: how many of the language model's layers run; None for all, with its head. temperature: of the next-token
        distributions. hidden_layers, hidden: after which layers hidden states are compared, and the weight of that.
    """

    input_ids: Int[Tensor, "batch taught"]
    attention_mask: Int[Tensor, "batch taught"]
    layers: int | None = None
    temperature: float = 1.0
    hidden_layers: Sequence[int] = ()
    hidden: float = 0.0


@dataclass(kw_only=True)
class Pass:
    """What one pass of the language model gave: by layer the hidden states at the aligned positions, and at those
    before a target what the head reads, or its logits, where they are changed after it."""

    hidden: dict[int, Float[Tensor, "aligned d_lm"]] = field(default_factory=dict)
    states: Float[Tensor, "tgt d_lm"] | None = None
    logits: Float[Tensor, "tgt vocab"] | None = None


@dataclass(frozen=True, kw_only=True)
class Places:
    """Positions that teacher and student share, in the student's rows: `aligned`, those behind the prompt, and
    `learned`, those before a target. `shift` leads each row's to where they stand in the teacher's, `width` wide."""

    aligned: Bool[Tensor, "batch seq"]
    learned: Bool[Tensor, "batch seq"]
    shift: Int[Tensor, " batch"]
    width: int

    @classmethod
    def of(
        cls,
        mask: Int[Tensor, "batch seq"],
        learned: Bool[Tensor, "batch seq"],
        soft: Bool[Tensor, "batch seq"],
        lesson: Lesson,
    ) -> "Places":
        """mask: of the student's rows. learned: their positions before a target. soft: their placeholders."""
        behind = soft.flip(1).cumsum(1).flip(1) == 0
        return cls(
            aligned=mask.bool() & behind,
            learned=learned,
            shift=_last(lesson.attention_mask) - _last(mask),
            width=lesson.input_ids.shape[1],
        )

    def taught(self, places: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch taught"]:
        """Some of the student's positions in the teacher's rows, in the same order."""
        rows, columns = places.nonzero(as_tuple=True)
        found = torch.zeros(len(places), self.width, dtype=torch.bool, device=places.device)
        found[rows, columns + self.shift[rows]] = True
        return found


@torch.no_grad()
def listen(language_model: PreTrainedModel, inputs: dict[str, Any], lesson: Lesson, places: Places) -> Pass:
    """The teacher's pass. inputs: of the language model, for the lesson's rows."""
    heard, learned = Pass(), places.taught(places.learned)
    with states_after(
        language_model, lesson.hidden_layers, places.taught(places.aligned), lesson.layers
    ) as heard.hidden:
        if lesson.layers is not None:
            language_model(**inputs)
        elif (found := at_the_head(language_model, inputs, learned, lambda states, _: states)) is not None:
            heard.states = found[1]
        else:
            heard.logits = _logits_at(language_model, inputs, learned)
    return heard


def follow(
    language_model: PreTrainedModel, inputs: dict[str, Any], lesson: Lesson, places: Places, heard: Pass
) -> tuple[Float[Tensor, ""], Float[Tensor, " tgt"] | None]:
    """The student's pass: its loss, the sum over target tokens, and the divergence at each, None where the head does
    not run. inputs: of the language model, for the student's rows."""
    divergences = None
    with states_after(language_model, lesson.hidden_layers, places.aligned, lesson.layers) as hidden:
        if lesson.layers is not None:
            language_model(**inputs)
        elif heard.states is not None:
            divergences = _divergences(language_model, inputs, places.learned, heard.states, lesson.temperature)
        else:
            assert heard.logits is not None, "the head ran"
            ours = _logits_at(language_model, inputs, places.learned).float() / lesson.temperature
            theirs = heard.logits.float() / lesson.temperature
            divergences = _divergence(theirs.log_softmax(-1), ours.log_softmax(-1)) * lesson.temperature**2
    total = torch.zeros((), device=places.learned.device) if divergences is None else divergences.sum()
    if lesson.hidden:
        rows = places.aligned.sum(1).tolist()
        distances = [
            torch.stack(list(map(hidden_distance, hidden[layer].split(rows), heard.hidden[layer].split(rows))))
            for layer in lesson.hidden_layers
        ]
        # Of every row the mean, as often as it has targets: so the sum over all of them is divided by their number.
        mean = torch.stack([distance.to(total.device) for distance in distances]).mean(0)
        total = total + lesson.hidden * (mean * places.learned.sum(1).to(mean)).sum()
    return total, divergences


def hidden_distance(
    student: Float[Tensor, "aligned d_lm"], teacher: Float[Tensor, "aligned d_lm"]
) -> Float[Tensor, ""]:
    """How far the hidden states of a row are from its teacher's: the mean squared distance over positions, divided by
    the variance of the teacher's over the same positions (the sum of squared distances from their mean, over one less
    than their number). So it has no scale: 0 where they are the same, about 1 where the student's are all the
    teacher's mean, in any layer of any language model. Fewer than two positions have no variance, and count 0."""
    student, teacher = student.float(), teacher.float()
    if len(teacher) < 2:
        return 0 * student.sum()
    variance = (teacher - teacher.mean(0)).square().sum() / (len(teacher) - 1)
    return (student - teacher).square().sum(1).mean() / variance.clamp(min=torch.finfo(variance.dtype).tiny)


def layers_of(language_model: PreTrainedModel) -> nn.ModuleList:
    """The language model's layers in order. Raises `LangBridgeError` where it does not keep them in one list."""
    count = language_model.config.get_text_config().num_hidden_layers
    for module in language_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise LangBridgeError(
        f"distil: a {type(language_model).__name__} has no list of its {count} layers; leave hidden states out "
        "(distil.hidden: 0, distil.layers: null)"
    )


class _Enough(Exception):
    """The last layer that is wanted has run."""


@contextmanager
def states_after(
    language_model: PreTrainedModel, layers: Sequence[int], at: Bool[Tensor, "batch seq"], last: int | None = None
) -> Iterator[dict[int, Tensor]]:
    """Of the pass inside, by layer, the hidden states (positions, d_lm) at the positions `at` after `layers`; 0 stands
    for the embeddings. What the last layer gives is what the head reads, as transformers counts them.

    last: the pass ends after this layer, with no output; what follows costs nothing.
    """
    found: dict[int, Tensor] = {}

    def taker(layer: int) -> Any:
        def take(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if layer in layers:
                states = args[0] if args else kwargs["hidden_states"]
                found[layer] = states[at.to(states.device)]
            if layer == last:
                raise _Enough

        return take

    wanted = sorted({*layers, *([] if last is None else [last])})
    handles = []
    if wanted:
        # What a layer is given is what the one before it made.
        readers = [*layers_of(language_model), language_model.get_output_embeddings()]
        handles = [readers[layer].register_forward_pre_hook(taker(layer), with_kwargs=True) for layer in wanted]
    try:
        with suppress(_Enough):
            yield found
    finally:
        for handle in handles:
            handle.remove()


def _divergences(
    language_model: PreTrainedModel, inputs: dict[str, Any], learned: Tensor, teacher: Tensor, temperature: float
) -> Tensor:
    """The divergences at the targets, in pieces. teacher: what its head reads there."""
    found = at_the_head(
        language_model,
        inputs,
        learned,
        lambda states, head: LossesInPieces.apply(states, head, _from_teacher(teacher, head, temperature)),
    )
    assert found is not None, "the teacher's pass went through the same head"
    return found[1]


def _from_teacher(teacher: Tensor, head: Any, temperature: float) -> Judge:
    """What judges logits by the teacher's at the same places. Divergences are multiplied by the square of the
    temperature, so that their gradients keep about the same size at any."""

    def judge(some: slice, logits: Tensor, sloped: bool) -> tuple[Tensor, Tensor | None]:
        with torch.no_grad():
            theirs = (head(teacher[some]).float() / temperature).log_softmax(-1)
        ours = (logits.float() / temperature).log_softmax(-1)
        losses = _divergence(theirs, ours) * temperature**2
        return losses, ours.exp_().sub_(theirs.exp_()).mul_(temperature) if sloped else None

    return judge


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of log-probabilities (tgt, vocab)."""
    return nn.functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


def _logits_at(language_model: PreTrainedModel, inputs: dict[str, Any], places: Tensor) -> Tensor:
    with head_only_at(language_model, places):
        return language_model(**inputs).logits.squeeze(0)


def _last(mask: Int[Tensor, "batch seq"]) -> Int[Tensor, " batch"]:
    """The last real position of each row."""
    return (mask.bool() * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1) - 1
