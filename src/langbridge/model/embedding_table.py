"""The input embeddings of a language model, without the language model: one tensor of its weights."""

import json
from pathlib import Path
from typing import Any

from accelerate import init_empty_weights
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.utils.hub import cached_file

from langbridge.errors import LangBridgeError
from langbridge.model.bases import LANGUAGE_MODEL, check_fingerprint
from langbridge.model.encoders import check_language_model, load_config
from langbridge.model.intact import check_file

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def load_embedding_table(
    source: str | Path, *, revision: str | None = None, record: dict[str, Any] | None = None
) -> nn.Module:
    """From ids to input embeddings as the language model makes them, its own scaling (Gemma) included, in the precision
    of its file.

    source: the language model's folder, or its hub id; of sharded weights the index and the one shard are enough.
    record: what a bridge's config says of it, against which it is checked as far as that goes. Raises
    `LangBridgeError`.
    """
    hub = {} if revision is None or Path(source).is_dir() else {"revision": revision}
    config = load_config(source, "language model", **hub)
    check_language_model(config, repr(str(source)))
    with init_empty_weights(include_buffers=False):  # factors are buffers, and stay
        model = AutoModelForCausalLM.from_config(config)
    table = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is table) + ".weight"
    weight = _tensor(source, name, **hub)
    if weight.shape != table.weight.shape:
        raise LangBridgeError(
            f"language model: {str(source)!r} has input embeddings of shape {list(weight.shape)} in its weights, but "
            f"its config.json says {list(table.weight.shape)}"
        )
    table.weight = nn.Parameter(weight, requires_grad=False)
    wanted = record or {}
    check_fingerprint(LANGUAGE_MODEL, wanted.get("fingerprint"), model, str(source), str(wanted.get("id")))
    found: nn.Module = table.eval()
    return found


def _tensor(source: str | Path, name: str, **hub: Any) -> Any:
    """A tensor out of weights, by its name in the whole model; files may leave out what stands before it."""
    path = _file(source, _WHOLE, **hub)
    if path is None and (index := _file(source, _INDEX, **hub)):
        names = json.loads(index.read_bytes())["weight_map"]
        shard = names[_matching(names, name, source)]
        path = _file(source, shard, **hub)
        if path is None:
            raise LangBridgeError(
                f"language model: {str(source)!r} has no {shard}, which by its {_INDEX} holds the input embeddings"
            )
    if path is None:
        raise LangBridgeError(
            f"language model: {str(source)!r} has no weights in safetensors, out of which its input embeddings could "
            "be taken alone; save it once with save_pretrained"
        )
    with safe_open(path, framework="pt") as weights:
        return weights.get_tensor(_matching(weights.keys(), name, source))


def _matching(names: Any, name: str, source: str | Path) -> str:
    found = [one for one in names if one == name or name.endswith(f".{one}") or one.endswith(f".{name}")]
    if not found:  # files of models of text and images have the parts before the table in another order
        table = ".".join(name.split(".")[-2:])
        found = [one for one in names if one.endswith(f".{table}")]
    if len(found) != 1:
        raise LangBridgeError(f"language model: {str(source)!r} has {len(found)} tensors {name!r}, expected one")
    return str(found[0])


def _file(source: str | Path, name: str, **hub: Any) -> Path | None:
    try:
        found = cached_file(str(source), name, _raise_exceptions_for_missing_entries=False, **hub)
    except OSError as error:
        raise LangBridgeError(f"language model: {str(source)!r} cannot be fetched: {error}") from error
    if found is None:
        return None
    check_file(Path(found))
    return Path(found)
