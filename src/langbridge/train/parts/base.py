"""What a part of a model is to a run that may train it, and the parts that a base or a bridge has by itself."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import load_file
from torch import nn

from langbridge.model import LangBridgeModel
from langbridge.model.bases import LANGUAGE_MODEL
from langbridge.model.intact import check_file
from langbridge.train.card import short_name


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

    def described(self, recipe: Any, start: Any, updates: int) -> tuple[str, str] | None:
        """Where it is from, and what this run did with it, for the model card; None for what that passes over.

        start: what is known of the connector's closed-form start, None for a random one. updates: made in the run.
        """
        return None

    @property
    def outside(self) -> bool:
        """Whether a final folder does not hold it, so that it is loaded from its base."""
        return False

    def save(self, folder: Path) -> None:  # noqa: B027
        """Lay beside the model's own `save_pretrained` what that does not write; nothing for most."""

    def save_base(self, folder: Path) -> None:  # noqa: B027
        """Lay into a final folder what is nowhere else and `save_pretrained` does not write; nothing for most."""

    def load(self, folder: Path) -> None:  # noqa: B027
        """Take back, in place, what `save` laid there; a bridge's `load_trained` takes what is its own."""


class NewRowsPart(Part):
    """Embeddings of white space that the encoder's tokenizer would lose. They learn at the connector's rate, and were
    always in its group."""

    name, group = "new rows", "connector"

    def parameters(self) -> list[nn.Parameter]:
        return [] if self.model.new_rows is None else [self.model.new_rows]


class ConnectorPart(Part):
    """The connector with its end vector, which most runs train alone (LangBridge, appendix D)."""

    name = group = "connector"

    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.connector.parameters())

    def described(self, recipe: Any, start: Any, updates: int) -> tuple[str, str]:
        how = "closed-form (ridge) start" if start else "random start"
        if recipe.begins_with is not None:
            how = f"begun as `{'/'.join(Path(recipe.init).parts[-2:])}`"
        done = "not trained" if not updates else "trained" if self.trained else "frozen"
        return f"{recipe.connector}, {how}", done


class EncoderPart(Part):
    """The encoder. In a checkpoint it is only where it was trained, in this run or before."""

    name = group = "encoder"

    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.encoder.parameters())

    def described(self, recipe: Any, start: Any, updates: int) -> tuple[str, str]:
        return f"`{short_name(recipe.encoder)}`", "trained" if self.trained else "frozen"

    @property
    def outside(self) -> bool:
        return not self.model.config.encoder_trained


class LanguageModelPart(Part):
    """The language model: frozen in a bridge, trained whole where there is none. A bridge's is in the final folder only
    where it is nobody else's: a base with adapters merged in."""

    name = group = "language model"

    @property
    def bridged(self) -> bool:
        return isinstance(self.model, LangBridgeModel)

    def parameters(self) -> list[nn.Parameter]:
        return list((self.model.language_model if self.bridged else self.model).parameters())

    def described(self, recipe: Any, start: Any, updates: int) -> tuple[str, str]:
        return f"`{short_name(recipe.language_model)}`", "trained" if self.trained else "frozen"

    @property
    def outside(self) -> bool:
        return self.bridged and self.model.config.language_model_base["id"] is not None

    def save_base(self, folder: Path) -> None:
        if self.bridged and not self.outside:
            self.model.language_model.save_pretrained(folder / LANGUAGE_MODEL)

    def load(self, folder: Path) -> None:
        if not self.bridged:
            for file in folder.glob("*.safetensors"):
                check_file(file)
                self.model.load_state_dict(load_file(file), strict=False)  # tied weights stand there once
            self.model.tie_weights()
