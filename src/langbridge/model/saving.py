"""Bridges written to folders, which `loading.py` describes: small checkpoints, and merged ones with their bases."""

import copy
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from langbridge.files import as_any_new
from langbridge.model.bases import ENCODER, LANGUAGE_MODEL, base_fingerprint, with_relative
from langbridge.model.encoders import save_encoder, unique_tensors
from langbridge.model.loading import WEIGHTS


def save_checkpoint(model: Any, folder: Any, state_dict: dict[str, torch.Tensor] | None = None) -> None:
    """Write a bridge's small checkpoint, so that at no moment a half-written one stands under its name."""
    folder = Path(folder)
    config = copy.deepcopy(model.config)
    config.encoder_base = with_relative(config.encoder_base, folder)
    config.language_model_base = with_relative(config.language_model_base, folder)
    with appearing(folder) as draft:
        _write(model, config, model.state_dict() if state_dict is None else state_dict, own_weights(config), draft)


def own_weights(config: Any) -> tuple[str, ...]:
    """How the names of the weights begin that a bridge's small checkpoint holds."""
    return ("connector.", "new_rows", "encoder.") if config.encoder_trained else ("connector.", "new_rows")


def write_merged(model: Any, folder: Path) -> None:
    """A bridge with both bases, into an existing folder."""
    save_encoder(model.encoder, copy.deepcopy(model.config.encoder_config), folder / ENCODER)
    model.language_model.save_pretrained(folder / LANGUAGE_MODEL)
    config = copy.deepcopy(model.config)
    for role in (ENCODER, LANGUAGE_MODEL):
        record = getattr(config, f"{role}_base") or {"id": None, "revision": None}
        setattr(config, f"{role}_base", {**record, "fingerprint": base_fingerprint(getattr(model, role))})
    _write(model, config, model.state_dict(), ("connector.", "new_rows"), folder)


def _write(model: Any, config: Any, state: dict[str, torch.Tensor], own: tuple[str, ...], folder: Path) -> None:
    kept = unique_tensors({name: tensor for name, tensor in state.items() if name.startswith(own)})
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
    model.generation_config.save_pretrained(folder)
    config.save_pretrained(folder)


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A draft folder whose files appear in `folder` only when all are written, `config.json` last: without
    it a folder is no checkpoint."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield draft
        as_any_new(draft)
        if not folder.exists():
            os.rename(draft, folder)
            return
        for item in sorted(draft.iterdir(), key=lambda path: path.name == "config.json"):
            target = folder / item.name
            if item.is_dir() and target.exists():
                shutil.rmtree(target)
            os.replace(item, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
