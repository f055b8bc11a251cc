"""Pairs of a prompt and its answer: the paper's objective for fine-tuned language models."""

from typing import Any

from langbridge.train.objectives.base import Objective


class Labelled(Objective):
    """The encoder, frozen, reads the prompt in its template, and the language model is to write the answer."""

    kind = "labelled"
    noises_text = True

    def collator(self, processor: Any) -> Any:
        from langbridge.data import LabelledCollator

        recipe = self.recipe
        return LabelledCollator(
            processor, max_encoder_length=recipe.max_encoder_length, max_length=recipe.max_length, with_rows=True
        )
