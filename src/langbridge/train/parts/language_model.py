"""The language model: frozen in a bridge, trained whole where there is none."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from langbridge.model import LangBridgeModel
from langbridge.model.bases import LANGUAGE_MODEL
from langbridge.model.intact import check_file
from langbridge.train.card import short_name
from langbridge.train.parts.base import Part


class LanguageModelPart(Part):
    """A bridge's is in the final folder only where it is nobody else's: a base with adapters merged in."""

    name = group = "language model"

    def parameters(self) -> list[nn.Parameter]:
        return list((self.model.language_model if self.bridged else self.model).parameters())

    @property
    def bridged(self) -> bool:
        return isinstance(self.model, LangBridgeModel)

    def described(self, recipe: Any, start: Any, updates: int) -> tuple[str, str]:
        return f"`{short_name(recipe.language_model)}`", "trained" if self.trained else "frozen"

    @property
    def outside(self) -> bool:
        return self.bridged and self.model.config.language_model_base["id"] is not None

    def save_base(self, folder: Path) -> None:
        """Lay the language model itself into a final folder, where it is nowhere else."""
        if self.bridged and not self.outside:
            self.model.language_model.save_pretrained(folder / LANGUAGE_MODEL)

    def load(self, folder: Path) -> None:
        if not self.bridged:
            for file in folder.glob("*.safetensors"):
                check_file(file)
                self.model.load_state_dict(load_file(file), strict=False)  # tied weights stand there once
            self.model.tie_weights()
