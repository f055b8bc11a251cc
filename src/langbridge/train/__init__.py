"""How a bridge learns: the recipe of a run, and the run.

    recipe = Recipe.load("recipe.yaml")
    folder = train(recipe, "runs/mine")

Only the recipe and its objective are imported here, so that they can be read and checked without torch; the rest comes
on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langbridge.train.objectives import Objective
from langbridge.train.recipe import Recipe

if TYPE_CHECKING:
    from langbridge.train.run import train
    from langbridge.train.trainer import BridgeTrainer

_HOME = {"BridgeTrainer": "trainer", "train": "run"}

__all__ = ["BridgeTrainer", "Objective", "Recipe", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'langbridge.train' has no attribute {name!r}")
    return getattr(import_module(f"langbridge.train.{_HOME[name]}"), name)
