"""What a part of a model is to a run that may train it."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from torch import nn


class Part(ABC):
    """Parameters that are trained or frozen together: at which rate they move, and how they come into a checkpoint and
    out of it.

    model: the bridge, or the plain language model. learning_rate, weight_decay: the optimiser's for this part.
    """

    name: ClassVar[str]
    """What the model card calls it."""

    group: ClassVar[str]
    """Parts of one group share a parameter group of the optimiser."""

    adapter: Any = None
    """What PEFT laid around the language model, to be merged into it at a run's end."""

    def __init__(self, model: Any, learning_rate: float, weight_decay: float = 0.0) -> None:
        self.model = model
        self.learning_rate, self.weight_decay = learning_rate, weight_decay

    @abstractmethod
    def parameters(self) -> list[nn.Parameter]:
        """Its own, trained or frozen, in the order that the model has them in."""

    @property
    def trained(self) -> list[nn.Parameter]:
        """Those that the optimiser moves."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def save(self, folder: Path) -> None:  # noqa: B027
        """Lay beside the model's own `save_pretrained` what that does not write; nothing for most."""

    def described(self, recipe: Any, start: Any, updates: int) -> tuple[str, str] | None:
        """Where it is from, and what this run did with it, for the model card; None for what that passes over.

        start: what is known of the connector's closed-form start, None for a random one. updates: made in the run.
        """
        return None

    @property
    def outside(self) -> bool:
        """Whether a final folder does not hold it, so that it is loaded from its base."""
        return False

    def save_base(self, folder: Path) -> None:  # noqa: B027
        """Lay into a final folder what is nowhere else and `save_pretrained` does not write; nothing for most."""

    def load(self, folder: Path) -> None:  # noqa: B027
        """Take back, in place, what `save` laid there; a bridge's `load_trained` takes what is its own."""
