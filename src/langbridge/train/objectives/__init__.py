"""What is learned from what, one file an objective, found by its name in a recipe.

    labelled     pairs of a prompt and its answer
    unlabelled   texts, split into what is read and what is written
    plain        either, by the plain language model
    distil       either, from the language model itself, which reads the same text as its own tokens

Those of other packages are found by the entry points of the group `langbridge.objectives`, each a class. Neither torch
nor transformers is imported here, so that a recipe can be read without them.
"""

from typing import Any

from langbridge.data import Regime
from langbridge.registry import Registry
from langbridge.train.objectives.base import Loss, Objective, target_loss

__all__ = ["GROUP", "Loss", "Objective", "collators", "objective", "objective_of", "target_loss"]

GROUP = "langbridge.objectives"
"""Entry points of packages that bring objectives: `name = "module:Class"`."""

_OURS = {
    "labelled": "langbridge.train.objectives.labelled:Labelled",
    "unlabelled": "langbridge.train.objectives.unlabelled:Unlabelled",
    "plain": "langbridge.train.objectives.plain:Plain",
    "distil": "langbridge.train.objectives.distil:Distil",
}


_REGISTRY = Registry(GROUP, _OURS, Objective)


def objective(name: str) -> type[Objective]:
    """The objective of this name. Raises `LangBridgeError` where there is none."""
    return _REGISTRY.find(name, "objective: ")


def objective_of(recipe: Any) -> Objective:
    """The objective that a recipe names, with its settings."""
    return objective(recipe.objective)(recipe)


def collators(own: Objective, processor: Any) -> dict[Regime, Any]:
    """What batches the rows of a run and of its held-out sets, by their kind; the run's own first."""
    kinds = dict.fromkeys([own.kind, *own.recipe.data.validation_sources(own.kind)])
    return {kind: (own if own.measures(kind) else objective(kind)(own.recipe)).collator(processor) for kind in kinds}
