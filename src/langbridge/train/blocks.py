"""The `ridge:`, `lora:` and `distil:` blocks of a recipe: a start, a part that learns, an objective's settings."""

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from langbridge.errors import LangBridgeError
from langbridge.settings import Settings


class Ridge(Settings):
    """The closed-form start of the linear connector."""

    texts: PositiveInt = 400
    """How many English prompts of the training data the regression is fitted on."""

    penalty: PositiveFloat = 1e-4
    """Strength of the regularisation, relative to the mean variance of a state's coordinate."""

    balance: NonNegativeFloat = 0.5
    """A token of frequency f weighs f ** -balance: 0 counts every occurrence alike, 1 every word."""


ALL_LINEAR = "all-linear"


class Lora(Settings):
    """Low-rank adapters on the language model (Hu et al., arXiv 2106.09685), through PEFT. Not part of the paper."""

    r: NonNegativeInt = 0
    """Rank of the adapters; 0 for none."""

    alpha: PositiveFloat = 16.0
    """Adapters are scaled by alpha / r."""

    dora: bool = False
    """Whether each adapted weight's magnitudes are learned apart from its direction (DoRA, Liu et al., arXiv
    2402.09353), one more number a row of it."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on what the adapters read."""

    target_modules: str = ALL_LINEAR
    """Layers that get an adapter: `all-linear` (all but the output head), or names with commas: `q_proj,v_proj`. One on
    a head that shares its weight with the embeddings gives the head a weight of its own, here and in the final folder.
    """

    learning_rate: PositiveFloat = 2e-4
    """Learning rate of the adapters."""

    @property
    def target_names(self) -> list[str]:
        """The names in `target_modules`."""
        return [name.strip() for name in self.target_modules.split(",")]


class Distil(Settings):
    """What a bridge learns from its own language model, with `objective: distil`."""

    layers: PositiveInt | None = None
    """How many of the language model's layers run, for teacher and student; null for all. Fewer cost less, and leave no
    next-token distributions, so that hidden states are all that is compared."""

    continuation: Literal["target", "answer"] = "target"
    """What both read behind the prompt: the row's own text (the target of a pair, the rest of a text), or the language
    model's greedy answer to the prompt, made once before the first update. With `answer`, a text is a prompt."""

    temperature: PositiveFloat = 1.0
    """Of the next-token distributions whose divergence is minimised."""

    hidden: NonNegativeFloat | None = None
    """Weight of the distance of hidden states behind the prompt, relative to their variance in the teacher; null for 0,
    or for 1 with `layers`, where it is the whole loss."""

    hidden_layers: tuple[NonNegativeInt, ...] | None = Field(default=None, min_length=1)
    """After which layers hidden states are compared, counted from 1, with 0 for the embeddings; null for the last that
    runs."""

    @property
    def weight(self) -> float:
        """Of hidden states, null replaced."""
        return self.hidden if self.hidden is not None else float(self.layers is not None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.layers is not None and self.hidden == 0:
            raise LangBridgeError("hidden: got 0, but with layers there is no other loss; leave it out, or give more")
        if self.hidden_layers is not None and not self.weight:
            raise LangBridgeError("hidden_layers: has no effect while hidden is 0; give hidden a weight")
        if self.layers is not None and max(self.hidden_layers or (0,)) > self.layers:
            raise LangBridgeError(f"hidden_layers: got {list(self.hidden_layers or ())}, but only {self.layers} run")
        return self
