"""The connector with its end vector."""

from pathlib import Path
from typing import Any

from torch import nn

from langbridge.model import LangBridgeModel, LangBridgeProcessor
from langbridge.train.parts.base import Part
from langbridge.train.recipe import Recipe
from langbridge.train.ridge import RidgeFit, ridge_start
from langbridge.train.rows import some_texts


class ConnectorPart(Part):
    """What a bridge always has, and most runs train alone (LangBridge, appendix D)."""

    name = group = "connector"

    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.connector.parameters())

    def described(self, recipe: Any, start: Any, updates: int) -> tuple[str, str]:
        how = "closed-form (ridge) start" if start else "random start"
        if recipe.begins_with is not None:
            how = f"begun as `{'/'.join(Path(recipe.init).parts[-2:])}`"
        done = "not trained" if not updates else "trained" if self.trained else "frozen"
        return f"{recipe.connector}, {how}", done


def start_connector(
    model: LangBridgeModel, processor: LangBridgeProcessor, examples: Any, recipe: Recipe
) -> RidgeFit | None:
    """Apply `init`: ridge on a seeded sample of the training prompts, or the connector as it is (None)."""
    if recipe.init == "random" or recipe.begins_with is not None or not recipe.connector.closed_form:
        return None
    texts = some_texts(examples, recipe.ridge.texts, recipe.seed)
    return ridge_start(model, processor, texts, penalty=recipe.ridge.penalty, balance=recipe.ridge.balance)
