"""The two models that a bridge joins: found, loaded, and recognised again.

A checkpoint is small because it does not hold its bases. It records where each came from and a fingerprint of
its weights, so that a bridge is never silently laid over another model.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from transformers import PreTrainedConfig, PreTrainedModel

from langbridge.errors import LangBridgeError
from langbridge.files import named_as_on_the_hub
from langbridge.model.devices import precision
from langbridge.model.encoders import (
    check_language_model,
    load_config,
    load_encoder,
    load_language_model,
    split_encoder,
)
from langbridge.model.intact import check_config

ENCODER, LANGUAGE_MODEL = "encoder", "language_model"
"""Names of the bases: of the model's children, of the folders inside a checkpoint, and of the explicit arguments."""

_HUB_KEYS = ("cache_dir", "force_download", "local_files_only", "token", "trust_remote_code", "proxies")
_FETCHING = ("cache_dir", "force_download", "local_files_only", "token")
"""Those that concern a whole checkpoint."""
_SAMPLED_TENSORS, _SAMPLED_VALUES = 12, 4
_FOLDING = ("awq", "compressed-tensors")
"""Ways to quantise that may move scales of a layer into the norm before it."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """A loaded base: the model, the config that rebuilds it, and the record that goes into the bridge's config."""

    model: PreTrainedModel
    config: PreTrainedConfig
    record: dict[str, Any]


def hub_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Take the options of fetching out of a call's keywords."""
    return {key: kwargs.pop(key) for key in _HUB_KEYS if key in kwargs}


def load_base(
    role: str, source: Any, *, revision: str | None = None, hub: dict[str, Any] | None = None, **options: Any
) -> Base:
    """Load a base from a folder, a hub id or a model in memory, and record it. `options` go to
    transformers' `from_pretrained`."""
    name = role.replace("_", " ")
    if isinstance(source, PreTrainedModel):
        _check_as_asked(role, source, options)
        return _given(role, source)
    hub = dict(hub or {})
    if not Path(str(source)).is_dir() and revision is not None:
        hub["revision"] = revision
    config = load_config(source, name, **hub)
    load = load_encoder if role == ENCODER else load_language_model
    model = load(source, config, **hub, **{key: value for key, value in options.items() if value is not None})
    commit = None if Path(str(source)).is_dir() else config._commit_hash
    record = {"id": str(source), "revision": commit or revision, "fingerprint": base_fingerprint(model)}
    return Base(model=model, config=config if role == ENCODER else model.config, record=record)


def _check_as_asked(role: str, model: PreTrainedModel, options: dict[str, Any]) -> None:
    """Raise `LangBridgeError` where a model that is loaded already is otherwise than the options of loading ask."""
    for name, value in options.items():
        same = value is None
        if name == "dtype":
            same = same or value == "auto" or precision(value) == model.dtype
        elif name == "attn_implementation":
            same = same or value == model.config._attn_implementation
        elif name == "device_map":
            same = same or _is_at(model, value)
        if not same:
            raise LangBridgeError(
                f"{role.replace('_', ' ')}: got {name}={value!r} beside a {type(model).__name__} that is loaded "
                "already; expected a folder or hub id, or a model that was loaded so. If it is meant for the other of "
                "the two models, load that one so and give it in memory as well"
            )


def _is_at(model: PreTrainedModel, device_map: Any) -> bool:
    place = device_map[""] if isinstance(device_map, dict) and device_map.keys() == {""} else device_map
    try:
        device = torch.device(place)
    except (RuntimeError, TypeError):  # "auto" and its kin, or module by module
        return False
    return device.type == model.device.type and device.index in (None, model.device.index)


def _given(role: str, model: PreTrainedModel) -> Base:
    if role == ENCODER:
        model, config = split_encoder(model)
    else:
        config = model.config
        check_language_model(config, f"a {type(model).__name__}")
    return Base(
        model=model,
        config=config,
        record={"id": config.name_or_path or None, "revision": None, "fingerprint": base_fingerprint(model)},
    )


def base_fingerprint(model: PreTrainedModel) -> dict[str, Any]:
    """A few values of a few weights, spread over the model, with their shapes: enough to tell two models
    apart, in any precision and on any device.

    Quantised and offloaded weights cannot be compared, and are left out.
    """
    named = [(name, p) for name, p in model.named_parameters() if _comparable(p) and p.numel()]
    named.sort(key=lambda item: item[0])
    chosen = _spread(len(named), _SAMPLED_TENSORS)
    samples = {}
    for name, parameter in (named[i] for i in chosen):
        samples[name] = {"shape": list(parameter.shape), "values": _values(parameter)}
    return {"model_type": model.config.model_type, "samples": samples}


def check_same(role: str, recorded: dict[str, Any], now: dict[str, Any], found: str, wanted: str) -> None:
    """Raise `LangBridgeError` unless two fingerprints are of one model, up to precision."""
    before, after = recorded["samples"], now["samples"]
    same = recorded["model_type"] == now["model_type"] and before.keys() == after.keys()
    same = same and all(
        before[key]["shape"] == after[key]["shape"] and _close(before[key]["values"], after[key]["values"])
        for key in before
    )
    if not same:
        raise LangBridgeError(
            f"{role.replace('_', ' ')}: got {found!r}, whose weights differ from those of {wanted!r}; give that one"
        )


def check_fingerprint(
    role: str, recorded: dict[str, Any] | None, model: PreTrainedModel, found: str, wanted: str
) -> None:
    """Raise `LangBridgeError` unless a model is the one that was recorded, up to precision."""
    difference = None if recorded is None else _difference(recorded, model)
    if difference is not None:
        raise LangBridgeError(
            f"{role.replace('_', ' ')}: got {found!r}, {difference}. The bridge was trained on {wanted!r} and means "
            f"nothing to another model: pass {role}= with the right one."
        )


def changed_since(recorded: dict[str, Any] | None, model: PreTrainedModel, *, same_shapes: bool = False) -> str | None:
    """How a model differs from the one that was recorded, as far as its weights still have the same names: what loading
    would refuse, never more. same_shapes: and as far as they have the same shapes."""
    if recorded is None:
        return None
    weights = dict(model.named_parameters(remove_duplicate=False))
    known = {
        name: sample
        for name, sample in recorded["samples"].items()
        if name in weights and not (same_shapes and list(weights[name].shape) != sample["shape"])
    }
    return _difference({**recorded, "samples": known}, model)


def _difference(recorded: dict[str, Any], model: PreTrainedModel) -> str | None:
    if recorded["model_type"] != model.config.model_type:
        return f"a {model.config.model_type!r} model; expected a {recorded['model_type']!r} model"
    parameters = dict(model.named_parameters(remove_duplicate=False))
    quantiser = getattr(model, "hf_quantizer", None)
    method = None if quantiser is None else quantiser.quantization_config.quant_method
    for key, sample in recorded["samples"].items():
        # An encoder of T5's kin that was given in memory was recorded without the beginning of its names.
        parameter = parameters.get(key, parameters.get(f"encoder.{key}"))
        if parameter is None and quantiser is not None:
            continue  # packed, under names of its own
        if parameter is None:
            return f"which has no weight {key!r}"
        if not _comparable(parameter) or (method in _FOLDING and parameter.ndim == 1):
            continue
        if list(parameter.shape) != sample["shape"]:
            return f"where {key!r} has shape {list(parameter.shape)}; expected {sample['shape']}"
        if not _close(_values(parameter), sample["values"]):
            return f"whose weights differ from those of the right one (first in {key!r})"
    return None


def _comparable(parameter: torch.Tensor) -> bool:
    """Whether a weight's values are its own: those of a byte (FP8) need a scale that stands elsewhere."""
    return parameter.is_floating_point() and parameter.element_size() > 1 and not parameter.is_meta


def resolve(role: str, folder: Path, record: dict[str, Any] | None, explicit: Any) -> tuple[Any, str | None]:
    """Where a checkpoint's base is, and the revision to ask for. In this order:

    an explicit argument, which is always obeyed; a folder inside the checkpoint; the recorded path, first
    relative to the checkpoint and then as written; the recorded hub id.
    """
    if explicit is not None:
        return explicit, None
    record = record or {}
    identity, relative = record.get("id"), record.get("relative")
    candidates = [folder / role]
    if relative:
        candidates.append(Path(os.path.normpath(folder / relative)))
    if identity:
        candidates += [folder / identity, Path(identity)]
    for candidate in candidates:
        if (candidate / "config.json").is_file():
            return candidate, None
    if identity and is_hub_id(identity):
        return identity, record.get("revision")
    looked = ", ".join(dict.fromkeys(map(str, candidates)))
    raise LangBridgeError(
        f"{role.replace('_', ' ')}: the checkpoint {str(folder)!r} does not hold it and its recorded place is gone "
        f"(looked for {looked}). "
        f"Pass {role}= with a folder or hub id of {identity or 'the model the bridge was trained on'!r}."
    )


def with_relative(record: dict[str, Any] | None, folder: Path) -> dict[str, Any] | None:
    """A record with the path from the checkpoint's folder, so that checkpoint and bases can be moved together. A base
    that was found inside another checkpoint is there."""
    if not record:
        return record
    identity, found = record.get("id"), record.get("found")
    record = without_places(record)
    if found and Path(found).parent.resolve() != folder.resolve():
        place = Path(found).resolve()
    elif identity and Path(identity).is_dir():
        place = Path(identity).resolve()
    else:
        return record
    if identity and not is_hub_id(identity):
        record["id"] = str(place)
    return {**record, "relative": os.path.relpath(place, folder.resolve())}


def without_places(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what holds for one folder on one machine."""
    return {key: value for key, value in record.items() if key not in ("found", "relative")}


def is_hub_id(identity: str) -> bool:
    """Whether a base can be fetched by its id, and not only read where it lies."""
    return not Path(identity).is_dir() and not identity.startswith((".", "/", "~")) and identity.count("/") <= 1


def checkpoint_folder(source: Any, revision: str | None = None, **hub: Any) -> Path:
    """A checkpoint's folder on this machine, with all its files, fetched where `source` is a hub id."""
    path = Path(str(source)).expanduser()
    if not path.is_dir():
        if not named_as_on_the_hub(str(source)):
            raise LangBridgeError(f"checkpoint: there is no folder at {str(source)!r}")
        options = {key: hub[key] for key in _FETCHING if key in hub}
        try:
            path = Path(snapshot_download(str(source), revision=revision, **options))
        except (OSError, HFValidationError) as error:
            raise LangBridgeError(
                f"checkpoint: {str(source)!r} is neither a folder nor a bridge that can be fetched: {error}"
            ) from error
    if not (path / "config.json").is_file():
        raise LangBridgeError(
            f"checkpoint: {str(path)!r} has no config.json; give the folder that save_pretrained or training wrote"
        )
    check_config(path)
    return path


def spread_values(tensor: torch.Tensor, count: int) -> torch.Tensor:
    """Up to `count` values of a tensor, evenly over it, first and last included; a larger tensor is not copied."""
    total = tensor.numel()
    if total <= count:
        return tensor.detach().flatten()
    # By whole numbers: torch.linspace counts in float32, whose steps are larger than 1 beyond 2**24 values.
    places = torch.tensor(_spread(total, count), device=tensor.device)
    return tensor.detach()[torch.unravel_index(places, tensor.shape)]


def _values(parameter: torch.Tensor) -> list[float]:
    return spread_values(parameter, _SAMPLED_VALUES).float().tolist()


def _close(values: list[float], others: list[float]) -> bool:
    # bfloat16 keeps 8 bits: 0.4%. Twice that, and something absolute for values that half precision flushes.
    return torch.allclose(torch.tensor(values), torch.tensor(others), rtol=1e-2, atol=1e-6)


def _spread(total: int, count: int) -> list[int]:
    """Up to `count` indices, evenly over range(total), first and last included."""
    if total <= count:
        return list(range(total))
    return [round(i * (total - 1) / (count - 1)) for i in range(count)]
