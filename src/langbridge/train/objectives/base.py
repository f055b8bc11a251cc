"""What an objective is: which rows a run learns from, how they become a batch, and what is minimised over it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from langbridge.data import Regime
from langbridge.errors import LangBridgeError
from langbridge.model.sequence import least_positions

Loss = Callable[[Any, Mapping[str, Any]], tuple[Any, Any]]
"""From a model and a batch to the sum of the losses of its target tokens, a tensor, and their number."""


def target_loss(model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
    """The next-token loss of a bridge, summed over target tokens, and their number."""
    return model(**batch, num_items_in_batch=1, return_logits=False).loss, target_count(batch)


def target_count(batch: Mapping[str, Any]) -> Any:
    """Target tokens of a batch; what stands first has nothing before it, and is none."""
    from langbridge.model.configuration import IGNORE  # with transformers, which reading a recipe does not load

    return (batch["labels"][:, 1:] != IGNORE).sum()


class Objective(ABC):
    """One way to learn, made from a `Recipe`. An update's loss is the sum over its target tokens divided by their
    number, over all passes and processes; target tokens are those of a batch's `labels` that are not -100."""

    kind: Regime
    """What a row is: `labelled`, a prompt with its target (`Example`), or `unlabelled`, a text (`TextExample`)."""

    learning_rate: ClassVar[float] = 6e-4
    """The default of `train.learning_rate` from a random start (LangBridge, appendix D)."""

    freeze_encoder: ClassVar[bool] = True
    """The default of the recipe's `freeze_encoder`."""

    bridged: ClassVar[bool] = True
    """Whether a bridge is trained; else it is the plain language model, which has no encoder and no reading score."""

    shortest_source: int = 1
    """Fewest encoder tokens of a row, for the plan."""

    noises_text: ClassVar[bool] = False
    """Whether its collator takes the recipe's `text_noise` (`LabelledCollator.with_noise`)."""

    layers: int | None = None
    """How many of the language model's layers an update runs, for the plan; None for all, with the head."""

    def __init__(self, recipe: Any) -> None:
        self.recipe = recipe

    def check(self) -> None:
        """Hold the recipe to what the objective needs; raise `LangBridgeError` with the key for what does not fit."""
        recipe = self.recipe
        if recipe.encoder is None:
            raise LangBridgeError("encoder: missing, and it has no default")
        # What stands around the soft prompts and a target of one must fit as well.
        soft = recipe.connector.soft_length(recipe.max_encoder_length)
        least = least_positions(recipe.template, soft) + 1
        if recipe.max_length < least:
            raise LangBridgeError(
                f"max_length: {recipe.max_length} leaves no room for a target after max_encoder_length "
                f"{recipe.max_encoder_length}, which is {soft} soft prompts; expected at least {least}"
            )

    @abstractmethod
    def collator(self, processor: Any) -> Any:
        """What makes a batch of rows, and knows which rows it cannot use (`langbridge.data.examples.Judge`).

        A batch is a mapping of tensors for `loss`, `labels` among them, with the rows' origins under `rows`.

        processor: the bridge's, or the plain language model's tokenizer.
        """

    def in_training(self, collate: Any) -> Any:
        """The collator of the rows that are learned from, given that of all: `text_noise` is for these alone."""
        noise = self.recipe.text_noise
        return collate.with_noise(noise, self.recipe.seed) if noise else collate

    def begin(self, model: Any, prepared: Any, out: Path, tell: Callable[[str], None]) -> None:  # noqa: B027
        """Make what the collators need of the model before the first batch; nothing by default.

        prepared: the run's rows and collators (`langbridge.train.prepare.Prepared`). out: the run's folder.
        """

    def measures(self, kind: Regime) -> bool:
        """Whether held-out rows of this kind are measured by this objective, and not by the one of that name."""
        return kind == self.kind

    def loss(self, model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        """The sum of the losses of the batch's target tokens, a tensor with its gradient, and their number."""
        return target_loss(model, batch)
