"""Models that only the study needs, built once: encoders from early to fully trained, and the translation model.

python -m studies.miniature.models --out DIR

DIR/encoders/step-0088/ ...   ordinary model folders; the last is trained as the shipped encoder was
DIR/translation/              the translation model, which writes English
DIR/study.json                recipe and steps; written last
"""

import argparse
import copy
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import MT5EncoderModel, MT5ForConditionalGeneration, PreTrainedTokenizerFast

from langbridge.errors import LangBridgeError
from langbridge.files import write_atomically
from langbridge.miniature.build import BuildRecipe, encoder_tokenizer, logger, shrunken
from langbridge.miniature.tokenization import language_tag
from langbridge.miniature.translation import train_translation

ENCODERS, TRANSLATION, ABLATION, RECORD = "encoders", "translation", "ablation", "study.json"
"""Of them part f writes `ABLATION`, which may be there before the others."""

QUALITIES = (0.04, 0.08, 0.16, 0.32, 0.55, 1.0)
"""Shares of the training after which an encoder is kept: a little less than twice as much each time."""


def kept_steps(recipe: BuildRecipe) -> list[int]:
    """The steps after which an encoder is kept; the last is the end of the training."""
    return sorted({max(1, round(share * recipe.translation.steps)) for share in QUALITIES})


def build_models(out: Path, recipe: BuildRecipe, *, threads: int | None = None) -> list[Path]:
    """Train the translation model as `langbridge miniature build` does, and write `out`; the encoders' folders.

    A finished build is left as it is, a stopped one goes on. The learning rate is the ordinary build's, a cosine over
    the whole training: an early encoder has not cooled down.
    """
    begun, about = out / "recipe.json", json.dumps(asdict(recipe), indent=1) + "\n"
    if begun.is_file() and begun.read_text(encoding="utf-8") != about:
        raise LangBridgeError(f"{out}: belongs to a build with another recipe; delete it or give another --out")
    if out.exists() and any(one.name != ABLATION for one in out.iterdir()) and not begun.is_file():
        raise LangBridgeError(f"{out}: is not empty and holds no models of a study; give another --out")
    if (out / RECORD).is_file():
        return encoder_folders(out)
    write_atomically(begun, about)
    torch.set_num_threads(threads or os.cpu_count() or 1)
    tokenizer = encoder_tokenizer(recipe)
    steps = kept_steps(recipe)

    def keep(step: int, model: MT5ForConditionalGeneration) -> None:
        # A copy: the class notes in its config that there is no decoder.
        encoder = MT5EncoderModel(copy.deepcopy(model.config))
        encoder.load_state_dict(model.state_dict(), strict=False)
        save_halved(encoder, tokenizer, out / ENCODERS / f"step-{step:04d}")

    model = train_translation(
        tokenizer, recipe.translation, seed=recipe.seed, state=out / "state.pt", log=logger(out / "build.log"),
        keep=keep, keep_at=steps,
    )  # fmt: skip
    # Always into English: the decoder begins with the tag.
    start = tokenizer.convert_tokens_to_ids(language_tag("en"))
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = start
    save_halved(model, tokenizer, out / TRANSLATION)
    record = {"recipe": asdict(recipe), "steps": steps, "torch": torch.__version__}
    write_atomically(out / RECORD, json.dumps(record, indent=1) + "\n")
    return encoder_folders(out)


def encoder_folders(models: Path) -> list[Path]:
    """The encoders of a finished build, from early to fully trained. Raises `LangBridgeError` where there are none."""
    if not (models / RECORD).is_file():
        raise LangBridgeError(
            f"{models}: holds no encoders of several qualities; `python -m studies.miniature.models --out {models}` "
            "builds them once"
        )
    return sorted((models / ENCODERS).iterdir())


def save_halved(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """In half precision, as the shipped models are; the model itself is left as it is."""
    halved = type(model)(model.config)
    halved.load_state_dict(model.state_dict())
    halved.half().save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="studies.miniature.models", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder for the models")
    parser.add_argument("--shrunken", action="store_true", help="models that learn nothing: to see that it runs")
    parser.add_argument("--threads", type=int, metavar="N", help="default: one a core")
    given = parser.parse_args(arguments)
    try:
        for folder in build_models(given.out, shrunken() if given.shrunken else BuildRecipe(), threads=given.threads):
            print(folder)
    except LangBridgeError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
