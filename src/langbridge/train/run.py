"""A run: from a recipe to a folder with the bridge.

`DIR/final` holds the bridge with its processor, the whole recipe and the log; checkpoints of the way stand beside it.
"""

import json
import os
import random
import shutil
import sys
from pathlib import Path

import torch
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import set_seed

from langbridge.data import LabelledCollator, RowTable, open_data, open_validation, write_atomically
from langbridge.model import LangBridgeModel, LangBridgeProcessor, build_bridge
from langbridge.train.recipe import Recipe
from langbridge.train.ridge import RidgeFit, ridge_start
from langbridge.train.trainer import BridgeTrainer, ConsoleLog


def train(recipe: Recipe, out: str | Path, *, progress: bool = True) -> Path:
    """Train a bridge and write it to `out`/final, which is returned.

    `progress` prints the start's fit and one line a log step to stderr. Raises `LangBridgeError` for what a user can
    mend: missing files, bad rows, bases of the wrong kind.
    """
    out = Path(out)
    examples, validation = read_data(recipe)
    set_seed(recipe.seed)
    model, processor = build_bridge(
        recipe.encoder,
        recipe.language_model,
        connector=recipe.connector,
        num_latents=recipe.num_latents,
        template=recipe.template,
        template_in=recipe.template_in,
        freeze_encoder=recipe.freeze_encoder,
        dtype=torch.float32,
    )
    if recipe.freeze_encoder and reads_new_rows(processor, examples):
        model.set_training_regime(freeze_encoder=True, train_new_rows=True)
        if progress:
            say("the prompts hold white space that the encoder's tokenizer would lose: training its new rows")
    start = start_connector(model, processor, examples, recipe)
    if progress:
        for skipped in examples.skipped.first:
            say(f"left out: {skipped}")
        if examples.skipped:
            say(f"{examples.skipped}, {len(examples)} kept")
        say(str(start) if start is not None else "random start")
    trainer = build_trainer(model, processor, examples, validation, recipe, out, progress=progress)
    trainer.train()
    return write_final(model, processor, trainer, recipe, start, out)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def read_data(recipe: Recipe) -> tuple[RowTable, RowTable | None]:
    """The training rows and, where the recipe names them, the validation rows."""
    validation = open_validation(recipe.data, regime="labelled")
    return open_data(recipe.data, regime="labelled", seed=recipe.seed), validation.get("labelled")


def reads_new_rows(processor: LangBridgeProcessor, examples: RowTable) -> bool:
    """Whether the prompts hold a token that was added to the encoder's tokenizer.

    Only then are the new rows worth training: it costs a backward pass through the frozen encoder.
    """
    added = processor.encoder_tokenizer.convert_ids_to_tokens(processor.new_token_ids)
    return any(token in processor.format(example.prompt) for example in examples for token in added)


def start_connector(
    model: LangBridgeModel, processor: LangBridgeProcessor, examples: RowTable, recipe: Recipe
) -> RidgeFit | None:
    """Apply `init`: ridge on a seeded sample of the training prompts, or the random connector as it is (None)."""
    if recipe.init == "random" or recipe.connector != "linear":
        return None
    count = min(recipe.ridge.texts, len(examples))
    chosen = random.Random(recipe.seed).sample(range(len(examples)), count)
    return ridge_start(
        model,
        processor,
        [examples[i].prompt for i in chosen],
        penalty=recipe.ridge.penalty,
        balance=recipe.ridge.balance,
    )


def build_trainer(
    model: LangBridgeModel,
    processor: LangBridgeProcessor,
    examples: RowTable,
    validation: RowTable | None,
    recipe: Recipe,
    out: Path,
    *,
    progress: bool,
) -> BridgeTrainer:
    """The trainer of a recipe, ready to run."""
    arguments = TrainingArguments(
        output_dir=str(out),
        seed=recipe.seed,
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        **recipe.train.arguments(),
    )
    trainer = BridgeTrainer(
        model=model,
        args=arguments,
        train_dataset=examples,
        eval_dataset=validation,
        processing_class=processor,
        data_collator=LabelledCollator(
            processor, max_encoder_length=recipe.max_encoder_length, max_length=recipe.max_length
        ),
        encoder_learning_rate=recipe.train.encoder_learning_rate,
        encoder_weight_decay=recipe.train.encoder_weight_decay,
        # Characters stand for tokens: exact lengths would cost a pass of both tokenizers over all rows.
        lengths=examples.lengths,
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    if progress:
        trainer.add_callback(ConsoleLog())
    return trainer


def write_final(
    model: LangBridgeModel,
    processor: LangBridgeProcessor,
    trainer: BridgeTrainer,
    recipe: Recipe,
    start: RidgeFit | None,
    out: Path,
) -> Path:
    """Write `out`/final whole or not at all."""
    final, part = out / "final", out / "final.part"
    shutil.rmtree(part, ignore_errors=True)
    model.eval()
    model.save_pretrained(part)
    processor.save_pretrained(part)
    recipe.save(part / "recipe.yaml")
    log = {"start": None if start is None else vars(start), "history": trainer.state.log_history}
    write_atomically(part / "training_log.json", json.dumps(log, indent=1))
    if final.exists():
        shutil.rmtree(final)
    os.replace(part, final)
    return final
