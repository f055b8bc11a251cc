"""The learning rate of a run whose recipe gives none.

An optimiser of Adam's kind moves every weight by about the learning rate at each update, however large the weights
are. The closed form's are as small as the language model's embeddings ask: their root mean square is .028 with the
miniature, .016 with SmolLM2-135M, .003 with Qwen2.5-Coder-0.5B and 1.5B. So a rate that is right for one pair undoes in
a few updates what another's start reads, and the rate has to follow the weights.
"""

from typing import Any

from torch import nn

from langbridge.model import LangBridgeModel
from langbridge.train.console import Tell
from langbridge.train.objectives import objective_of
from langbridge.train.recipe import Recipe

SHARE = 0.01
"""Of the root mean square of a reading connector's weights, the learning rate. As docs/real-study.md has it: at .009 to
.016 four pairs kept most of what they read, at .06 one lost a sixth of its English and another all."""
LARGE = 0.03
"""A share that a recipe's own rate is doubted from."""


def learning_rate(model: Any, recipe: Recipe, start: Any, tell: Tell) -> float:
    """The recipe's, or its objective's for a random start, or `SHARE` of the weights of a connector that reads already:
    from the closed form (`start`), or because the run begins with a bridge."""
    given, default = recipe.train.learning_rate, objective_of(recipe).learning_rate
    reads = isinstance(model, LangBridgeModel) and (start is not None or recipe.begins_with is not None)
    scale = weight_scale(model.connector) if reads else None
    if not scale or recipe.train.max_steps == 0 or recipe.freeze_connector:
        return default if given is None else given
    if given is None:
        fitting = SHARE * scale
        tell(f"learning rate {fitting:.1e}, {SHARE:.0%} of the connector's weights (root mean square {scale:.2g})")
        return fitting
    if given > LARGE * scale:
        tell(
            f"train.learning_rate is {given:g}, {given / scale:.0%} of the connector's weights (root mean square "
            f"{scale:.2g}) at each update: what the start reads may be lost before anything is learned. Watch the "
            f"reading score; null would take {SHARE * scale:.1e}"
        )
    return given


def weight_scale(connector: nn.Module) -> float | None:
    """The root mean square of the weights of its linear layers; None where it has none."""
    weights = [part.weight.detach() for part in connector.modules() if isinstance(part, nn.Linear)]
    count = sum(weight.numel() for weight in weights)
    return (sum(float(weight.double().square().sum()) for weight in weights) / count) ** 0.5 if count else None
