"""Damaged files and Git LFS pointers in a model's folder, reported before anything reads them.

What reads them says neither which file it was nor what is wrong with it.
"""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from langbridge.errors import LangBridgeError
from langbridge.files import existing_file

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""As transformers looks for them: only the first that is there is read."""
_CONFIGS = ("config.json", "generation_config.json")
_TOKENIZER = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "processor_config.json",
)
_VOCABULARY = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json")
"""The first is enough by itself."""
_LONG = 1_000_000
"""From this size on a vocabulary of JSON is not read twice; of half a file the end tells."""
_PICKLED = b"\x80\x02"
"""What torch wrote before it wrote zip archives begins so."""


def check_config(folder: Any) -> None:
    """Raise `LangBridgeError` for a damaged config in a folder; a hub id passes, here and below."""
    _check(folder, _CONFIGS)


def check_weights(folder: Any) -> None:
    """Raise `LangBridgeError` for damaged weights in a folder, or a shard that is missing."""
    name = next((name for name in _WEIGHTS if Path(folder, name).exists()), None)
    if name is None:
        return
    _check(folder, [name])
    if name.endswith(".index.json"):
        shards = _parsed(Path(folder, name)).get("weight_map", {})
        for shard in sorted(set(shards.values())):
            check_file(Path(folder, shard))


def check_tokenizer(folder: Any) -> None:
    """Raise `LangBridgeError` for a damaged file of a tokenizer in a folder."""
    _check(folder, _TOKENIZER)
    _check(folder, [name for name in _VOCABULARY if Path(folder, name).exists()][:1])


def check_file(path: Path) -> None:
    """Raise `LangBridgeError` where a file is missing, empty, a pointer of Git LFS, or not whole."""
    existing_file(path)
    if path.stat().st_size == 0:
        raise LangBridgeError(f"{path}: is empty; fetch it again")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise LangBridgeError(f"{path}: is damaged or not whole ({error}); fetch it again") from error
    elif path.suffix == ".bin":
        with path.open("rb") as file:
            pickled = file.read(len(_PICKLED)) == _PICKLED
        if not pickled and not zipfile.is_zipfile(path):
            raise LangBridgeError(f"{path}: is damaged or not whole (no archive of torch's); fetch it again")
    elif path.suffix == ".json" and path.stat().st_size < _LONG:
        _parsed(path)
    elif path.suffix == ".json" and not _closed(path):
        raise LangBridgeError(f"{path}: is damaged or not whole (no bracket at its end); fetch it again")


def _check(folder: Any, names: Any) -> None:
    for name in names:
        if (path := Path(folder, name)).exists():
            check_file(path)


def _closed(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-100, os.SEEK_END)
        return file.read().rstrip().endswith(b"}")


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise LangBridgeError(f"{path}: is damaged or not whole ({error}); fetch it again") from error
