"""The plain language model, fine-tuned whole on the same data: the paper's baselines."""

from collections.abc import Mapping
from typing import Any

from langbridge.data import Regime
from langbridge.errors import LangBridgeError
from langbridge.train.objectives.base import Objective, target_count


class Plain(Objective):
    """It learns from pairs, or from texts where `data.text` names their column."""

    learning_rate = 2e-5
    bridged = False

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        self.kind = "unlabelled" if recipe.data.names_texts else "labelled"

    def check(self) -> None:
        recipe = self.recipe
        if recipe.encoder is not None:
            raise LangBridgeError(f"encoder: objective plain has none, got {recipe.encoder!r}; leave it out")
        if recipe.lora.r:
            raise LangBridgeError("lora: objective plain trains the whole language model; leave lora out")
        if recipe.state_noise:
            raise LangBridgeError("state_noise: objective plain has no encoder; leave it out")
        if recipe.begins_with is not None:
            raise LangBridgeError(f"init: objective plain begins with language_model; leave out {recipe.init!r}")
        if recipe.train.max_steps == 0:
            raise LangBridgeError("train.max_steps: got 0, but objective plain has nothing to write without an update")

    def collator(self, processor: Any) -> Any:
        from langbridge.data import CausalCollator

        recipe = self.recipe
        return CausalCollator(
            processor, template=recipe.template, system=recipe.system, max_length=recipe.max_length, with_rows=True
        )

    def measures(self, kind: Regime) -> bool:
        return True  # its collator takes pairs and texts

    def loss(self, model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        return model(**batch, num_items_in_batch=1).loss, target_count(batch)
