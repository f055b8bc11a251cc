"""Bridges written to folders, which `loading.py` describes: small checkpoints, and merged ones with their bases."""

import copy
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from langbridge.errors import LangBridgeError
from langbridge.files import as_any_new
from langbridge.model.bases import (
    ENCODER,
    LANGUAGE_MODEL,
    base_fingerprint,
    changed_since,
    is_hub_id,
    with_relative,
    without_places,
)
from langbridge.model.encoders import save_encoder, unique_tensors
from langbridge.model.loading import WEIGHTS


def check_kept(model: Any) -> None:
    """Raise `LangBridgeError` where a small checkpoint, which does not hold the language model, would lose what was
    done to it. A change of few weights may not be seen."""
    record = model.config.language_model_base or {}
    rows = model.get_input_embeddings().num_embeddings
    if rows != model.table_rows:
        change = f"whose table has {rows} rows; it had {model.table_rows}"
    else:
        change = changed_since(record.get("fingerprint"), model.language_model) or ""
    if change:
        raise LangBridgeError(
            f"save_pretrained: the language model is no longer {record.get('id') or 'the one it was'!r}, of which a "
            f"small checkpoint only says where it is: it is one {change}. Write the bridge with both models: "
            "langbridge.model.export_merged(model, FOLDER)"
        )


def mark_trained_encoder(model: Any, *, compare: bool = True) -> None:
    """Have a bridge's checkpoint hold an encoder that is marked as trained, or whose weights are not its base's. A
    change of weights that are frozen again may not be seen.

    compare: False where the weights are elsewhere.
    """
    record = model.config.encoder_base or {}
    if model.encoder_learns or (
        # The table of a bridge's encoder may have new rows, and so another shape.
        compare and changed_since(record.get("fingerprint"), model.encoder, same_shapes=True)
    ):
        model.config.encoder_trained = True


def check_no_adapters(model: Any) -> None:
    """Raise `LangBridgeError` for a bridge with adapters of PEFT in it."""
    tuners = sys.modules.get("peft.tuners.tuners_utils")
    if tuners is None:  # then nobody has made any
        return
    adapted = [name for name, part in model.named_modules() if isinstance(part, tuners.BaseTunerLayer)]
    if adapted:
        raise LangBridgeError(
            f"adapters: {len(adapted)} layers have some of PEFT ({adapted[0]} is the first), which are no part of a "
            "bridge's checkpoint. Merge them (merge_and_unload of the PEFT model) and write the bridge with both "
            "models, langbridge.model.export_merged(model, FOLDER); or train them by a recipe's `lora`, which does that"
        )


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


def write_merged(model: Any, folder: Path, own_language_model: bool = False) -> None:
    """A bridge with both bases, into an existing folder. own_language_model: whether it may be nobody else's, whatever
    it came from."""
    save_encoder(model.encoder, copy.deepcopy(model.config.encoder_config), folder / ENCODER)
    model.language_model.save_pretrained(folder / LANGUAGE_MODEL)
    config = copy.deepcopy(model.config)
    for role in (ENCODER, LANGUAGE_MODEL):
        record = without_places(getattr(config, f"{role}_base") or {"id": None, "revision": None})
        setattr(config, f"{role}_base", {**record, "fingerprint": base_fingerprint(getattr(model, role))})
    if own_language_model:
        config.language_model_base |= {"id": None, "revision": None}
    _write(model, config, model.state_dict(), ("connector.", "new_rows"), folder)


def _write(model: Any, config: Any, state: dict[str, torch.Tensor], own: tuple[str, ...], folder: Path) -> None:
    """config: a copy, which is changed."""
    for part in (config.encoder_config, config.text_config):
        part._name_or_path = ""  # where it was read on this machine; the records of the bases say where it is
    kept = unique_tensors({name: tensor for name, tensor in state.items() if name.startswith(own)})
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
    model.generation_config.save_pretrained(folder)
    config.save_pretrained(folder)


@contextmanager
def for_everybody(config: Any, folder: Path | None = None) -> Iterator[None]:
    """A config whose records of the bases say nothing of this machine. Raises `LangBridgeError` where a base is on no
    hub, and not in the folder either, so that nobody else could load what is uploaded."""
    mine = {f"{role}_base": getattr(config, f"{role}_base") for role in (ENCODER, LANGUAGE_MODEL)}
    public = {name: without_places(record or {}) for name, record in mine.items()}
    for name, record in public.items():
        identity, role = record.get("id"), name.removesuffix("_base")
        if identity and is_hub_id(identity):
            continue
        held = folder is not None and (folder / role).is_dir()
        if not held and (role == LANGUAGE_MODEL or not config.encoder_trained):
            raise LangBridgeError(
                f"push_to_hub: {role.replace('_', ' ')}: {identity or 'a model'!r} is only here, and a small "
                "checkpoint does not hold it, so that nobody else could load the bridge. Push the folder that "
                "`langbridge export` writes (`hf upload OWNER/NAME FOLDER`); or, if the model is on the hub too, say "
                f"where: model.config.{name}['id'] = 'OWNER/NAME'"
            )
        record["id"] = None  # a trained encoder is in the checkpoint, and so are the bases of a merged one
    vars(config).update(public)
    try:
        yield
    finally:
        vars(config).update(mine)


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
