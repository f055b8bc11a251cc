"""Plain text whose beginning is read and whose continuation is written: the paper's objective for base models."""

from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.train.objectives.base import Objective


class Unlabelled(Objective):
    """Where a text is cut is drawn for every batch; the encoder is trained as well."""

    kind = "unlabelled"
    freeze_encoder = False

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        self.shortest_source = recipe.min_encoder_length

    def check(self) -> None:
        super().check()
        least, most = self.recipe.min_encoder_length, self.recipe.max_encoder_length
        if least > most:
            raise LangBridgeError(f"min_encoder_length: {least} is more than max_encoder_length {most}")

    def collator(self, processor: Any) -> Any:
        from langbridge.data import UnlabelledCollator

        recipe = self.recipe
        return UnlabelledCollator(
            processor,
            seed=recipe.seed,
            min_encoder_length=recipe.min_encoder_length,
            max_encoder_length=recipe.max_encoder_length,
            min_lm_length=recipe.min_lm_length,
            max_length=recipe.max_length,
            with_rows=True,
        )
