"""Encoders kept on the way of one training: a stopped build goes on, a finished one stays, and the last encoder is the
ordinary one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoModelForTextEncoding, AutoTokenizer

from langbridge.errors import LangBridgeError
from langbridge.miniature.build import BuildRecipe, shrunken
from langbridge.miniature.tokenization import language_tag
from studies.miniature import models
from studies.miniature.models import build_models, encoder_folders, kept_steps

RECIPE = replace(shrunken(), tokenizer_problems=20)


def embeddings(folder: Path) -> torch.Tensor:
    return AutoModelForTextEncoding.from_pretrained(folder).get_input_embeddings().weight.detach()


def test_encoders_of_several_qualities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole" / "ablation").mkdir(parents=True)  # part f may come first
    whole = build_models(tmp_path / "whole", RECIPE, threads=1)
    assert [folder.name for folder in whole] == ["step-0001", "step-0002", "step-0004"]
    assert len({embeddings(folder).float().sum().item() for folder in whole}) == 3
    # The last one is the translation model's own encoder, which is asked for English by whoever loads it.
    translator = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "whole" / "translation")
    assert torch.equal(translator.get_input_embeddings().weight, embeddings(whole[-1]))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole" / "translation")
    started = translator.generate(**tokenizer(["Tom"], return_tensors="pt"), max_new_tokens=1)[0, 0]
    assert tokenizer.convert_ids_to_tokens(int(started)) == language_tag("en")

    save, saved = models.save_halved, []

    def save_one(*arguments: object) -> None:
        if saved:
            raise KeyboardInterrupt
        saved.append(arguments)
        save(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(models, "save_halved", save_one)
    with pytest.raises(KeyboardInterrupt):
        build_models(tmp_path / "stopped", RECIPE, threads=1)
    monkeypatch.setattr(models, "save_halved", save)
    with pytest.raises(LangBridgeError, match="holds no encoders of several qualities"):
        encoder_folders(tmp_path / "stopped")
    again = build_models(tmp_path / "stopped", RECIPE, threads=1)
    assert torch.equal(embeddings(again[-1]), embeddings(whole[-1]))

    monkeypatch.delattr(models, "train_translation")
    assert build_models(tmp_path / "whole", RECIPE) == whole
    with pytest.raises(LangBridgeError, match="belongs to a build with another recipe"):
        build_models(tmp_path / "whole", replace(RECIPE, seed=1))


def test_the_steps_end_with_the_training() -> None:
    steps = kept_steps(BuildRecipe())
    assert steps[-1] == BuildRecipe().translation.steps
    assert steps == sorted(steps)
    assert len(steps) >= 6
