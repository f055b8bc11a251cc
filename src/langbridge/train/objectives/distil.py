"""The frozen language model teaches its own bridge: no labels, only English text."""

import itertools
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.train.objectives.base import Objective, target_count, target_loss


class Distil(Objective):
    """Reading a prompt through the bridge, the language model is to go on as it does when it reads the prompt as its
    own tokens: the divergence of its next-token distributions at a continuation, and, if asked for, the distance of its
    hidden states behind the prompt.

    The continuation is text that both read, not labels: nothing of it is learned but what the teacher makes of it. It
    is a row's target, the rest of a text whose beginning is the prompt, or the language model's own answer.
    """

    def __init__(self, recipe: Any) -> None:
        super().__init__(recipe)
        self.kind = "unlabelled" if recipe.data.names_texts else "labelled"
        self.layers, self.answered = recipe.distil.layers, recipe.distil.continuation == "answer"
        if self.kind == "unlabelled" and not self.answered:
            self.shortest_source = recipe.min_encoder_length

    def check(self) -> None:
        super().check()
        recipe = self.recipe
        if recipe.lora.r:
            raise LangBridgeError(
                "lora: objective distil needs the language model as it is, which is the teacher; leave lora out"
            )
        if self.answered and recipe.data.streaming:
            raise LangBridgeError(
                "data.streaming: with distil.continuation answer every prompt is answered before the first update; set "
                "it to false"
            )
        least, most = recipe.min_encoder_length, recipe.max_encoder_length
        if self.kind == "unlabelled" and not self.answered and least > most:
            raise LangBridgeError(f"min_encoder_length: {least} is more than max_encoder_length {most}")
        if recipe.distil.layers is not None and (recipe.train.fsdp or recipe.train.deepspeed):
            raise LangBridgeError(
                "distil.layers: a pass that ends early does not go with sharding (train.fsdp, train.deepspeed); leave "
                "one of them out"
            )

    def collator(self, processor: Any) -> Any:
        from langbridge.data.teaching import TaughtAnswers, TaughtPairs, TaughtTexts

        recipe = self.recipe
        self._check_layers()
        limits = {"max_encoder_length": recipe.max_encoder_length, "max_length": recipe.max_length, "with_rows": True}
        if self.answered:
            return TaughtAnswers(processor, **limits)
        if self.kind == "labelled":
            return TaughtPairs(processor, **limits)
        return TaughtTexts(
            processor,
            seed=recipe.seed,
            min_encoder_length=recipe.min_encoder_length,
            min_lm_length=recipe.min_lm_length,
            **limits,
        )

    @cached_property
    def _all_layers(self) -> int:
        """The language model's layers, which its configuration says."""
        from langbridge.model.encoders import load_config

        return int(load_config(self.recipe.language_model, "language model").get_text_config().num_hidden_layers)

    def _check_layers(self) -> None:
        settings = self.recipe.distil
        if settings.layers is not None and settings.layers >= self._all_layers:
            raise LangBridgeError(
                f"distil.layers: got {settings.layers}, but the language model has {self._all_layers}; expected fewer, "
                "or null for all"
            )
        if settings.hidden_layers is not None and max(settings.hidden_layers) > self._all_layers:
            raise LangBridgeError(
                f"distil.hidden_layers: got {list(settings.hidden_layers)}, but the language model has "
                f"{self._all_layers} layers"
            )

    def begin(self, model: Any, prepared: Any, out: Path, tell: Callable[[str], None]) -> None:
        if not self.answered:
            return
        from langbridge.data.teaching import prompt_of
        from langbridge.train.answers import answers_to

        tables = [prepared.training, *(table for kind, table in prepared.validation.items() if kind == self.kind)]
        if prepared.reading is not None and prepared.reading[0] == self.kind:
            tables.append(prepared.reading[1])
        prepared.collate[self.kind].answers = answers_to(
            map(prompt_of, itertools.chain(*tables)),
            model,
            prepared.processor,
            max_length=self.recipe.max_length,
            batch=self.recipe.train.per_device_eval_batch_size,
            folder=out,
            tell=tell,
        )

    def loss(self, model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        from langbridge.data.teaching import TEACHER_IDS, TEACHER_MASK
        from langbridge.model.teaching import Lesson

        if TEACHER_IDS not in batch:  # held-out rows of the other kind, as their own objective batches them
            return target_loss(model, batch)
        settings = self.recipe.distil
        lesson = Lesson(
            batch[TEACHER_IDS],
            batch[TEACHER_MASK],
            layers=settings.layers,
            temperature=settings.temperature,
            hidden=settings.weight,
            hidden_layers=(settings.hidden_layers or (settings.layers or self._all_layers,)) if settings.weight else (),
        )
        student = {name: value for name, value in batch.items() if name not in (TEACHER_IDS, TEACHER_MASK)}
        return model(**student, lesson=lesson, num_items_in_batch=1).loss, target_count(batch)
