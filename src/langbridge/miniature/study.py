"""`langbridge miniature build --study`: what only the study needs. The encoder at several steps of its training, from
early to fully trained, and the whole translation model, for translating before solving.

    OUT/encoders/step-0100/ ...   encoders, ordinary model folders; the last is trained as the shipped one was
    OUT/translation/              the translation model, which writes English
    OUT/study.json                recipe and steps; written last
"""

import copy
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import MT5EncoderModel, MT5ForConditionalGeneration, PreTrainedTokenizerFast

from langbridge.errors import LangBridgeError
from langbridge.miniature.build import BuildRecipe, encoder_tokenizer, logger, same_recipe
from langbridge.miniature.tokenization import language_tag
from langbridge.miniature.translation import train_translation

ENCODERS, TRANSLATION, RECORD = "encoders", "translation", "study.json"

QUALITIES = (0.04, 0.08, 0.16, 0.32, 0.55, 1.0)
"""Shares of the training after which an encoder is kept: a little less than twice as much each time."""


def kept_steps(recipe: BuildRecipe) -> list[int]:
    """The steps after which an encoder is kept; the last is the end of the training."""
    return sorted({max(1, round(share * recipe.translation.steps)) for share in QUALITIES})


def build_study(out: Path, recipe: BuildRecipe, *, state: Path | None = None, threads: int | None = None) -> list[Path]:
    """Train the translation model as `build` does, and write `out`, all or nothing; the encoders' folders.

    A finished build is left as it is, a stopped one goes on from `state` (default: beside `out`). The learning rate is
    the ordinary build's, a cosine over the whole training: an early encoder has not cooled down.
    """
    if (out / RECORD).is_file():
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
        if record["recipe"] != json.loads(json.dumps(asdict(recipe))):
            raise LangBridgeError(f"{out}: was built by another recipe; delete it or give another --out")
        return encoder_folders(out)
    if out.exists() and any(out.iterdir()):
        raise LangBridgeError(f"{out}: is not empty and holds no models of a study; give another --out")
    state = state or out.with_name(out.name + ".state")
    state.mkdir(parents=True, exist_ok=True)
    same_recipe(state / "recipe.json", recipe, "study")
    torch.set_num_threads(threads or os.cpu_count() or 1)
    tokenizer = encoder_tokenizer(recipe)
    steps = kept_steps(recipe)

    def keep(step: int, model: MT5ForConditionalGeneration) -> None:
        # A copy: the class notes in its config that there is no decoder.
        encoder = MT5EncoderModel(copy.deepcopy(model.config))
        encoder.load_state_dict(model.state_dict(), strict=False)
        _save(encoder, tokenizer, state / ENCODERS / f"step-{step:04d}")

    model = train_translation(
        tokenizer, recipe.translation, seed=recipe.seed, state=state / "translation.pt",
        log=logger(state / "study.log"), keep=keep, keep_at=steps,
    )  # fmt: skip
    # Into English, whoever loads it: the decoder begins with the tag.
    start = tokenizer.convert_tokens_to_ids(language_tag("en"))
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = start
    _save(model, tokenizer, state / TRANSLATION)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for name in (ENCODERS, TRANSLATION):
        shutil.copytree(state / name, part / name)
    record = {"recipe": asdict(recipe), "steps": steps, "torch": torch.__version__}
    (part / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(part, out)
    return encoder_folders(out)


def encoder_folders(models: Path) -> list[Path]:
    """The encoders of a finished build, from early to fully trained. Raises `LangBridgeError` where there are none."""
    if not (models / RECORD).is_file():
        raise LangBridgeError(
            f"{models}: holds no encoders of several qualities; `langbridge miniature build --study --out {models}` "
            "builds them once"
        )
    return sorted((models / ENCODERS).iterdir())


def _save(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """In half precision, as the shipped models are, and whole or not at all; the model itself is left as it is."""
    part = folder.with_name(f".{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    halved = type(model)(model.config)
    halved.load_state_dict(model.state_dict())
    halved.half().save_pretrained(part)
    if model.can_generate():
        model.generation_config.save_pretrained(part)
    tokenizer.save_pretrained(part)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
