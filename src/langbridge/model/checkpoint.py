"""Checkpoints of a bridge: small ones that say what they belong to, and merged ones that hold everything.

A checkpoint folder is `config.json` (with the bases' places, revisions and fingerprints),
`generation_config.json` and `model.safetensors` with the connector, its end vector, the new embedding rows,
and the encoder only where it was trained. A merged checkpoint has its bases in `encoder/` and
`language_model/`. The processor saves itself into the same folder.
"""

import copy
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from langbridge.errors import LangBridgeError
from langbridge.files import as_any_new
from langbridge.model.bases import (
    ENCODER,
    LANGUAGE_MODEL,
    Base,
    check_fingerprint,
    checkpoint_folder,
    fingerprint,
    hub_options,
    load_base,
    resolve,
    with_relative,
)
from langbridge.model.configuration import LangBridgeConfig
from langbridge.model.devices import precision
from langbridge.model.encoders import build_encoder, load_tied, save_encoder, unique_tensors
from langbridge.model.intact import check_file
from langbridge.model.language_models import end_ids
from langbridge.model.modeling import LangBridgeModel
from langbridge.model.processing import LangBridgeProcessor
from langbridge.model.tokenizers import choose_placeholder, load_tokenizer, whitespace_ids

WEIGHTS = "model.safetensors"


def build_bridge(
    encoder: Any,
    language_model: Any,
    *,
    connector: Any = "linear",
    template: str = "{prompt}",
    template_in: str = "encoder",
    system: str | None = None,
    dtype: torch.dtype | str | None = None,
    processor: LangBridgeProcessor | None = None,
    **kwargs: Any,
) -> tuple[LangBridgeModel, LangBridgeProcessor]:
    """A fresh bridge and the processor that belongs to it, from two local folders or hub ids.

    template, template_in, system: as in `LangBridgeProcessor`. With `template="chat"` the bridge's generation ends
    where the chat template ends an answer.

    processor: one of these bases with this layout, where there is one already: reading tokenizers takes seconds. Other
    keywords are those of `LangBridgeModel.from_bases`.
    """
    if processor is not None:
        kwargs |= {
            "new_token_ids": processor.new_token_ids,
            "soft_prompt_token_id": processor.soft_prompt_token_id,
        }
    model = LangBridgeModel.from_bases(encoder, language_model, connector=connector, dtype=dtype, **kwargs)
    if processor is None:
        processor = LangBridgeProcessor.from_bases(
            encoder, language_model, config=model.config, template=template, template_in=template_in, system=system
        )
    end, ends = processor.layout.end, end_ids(model.generation_config)
    if end is not None and end not in ends:
        model.generation_config.eos_token_id = [*ends, end]
    return model, processor


def from_bases(
    cls: type[LangBridgeModel],
    encoder: Any,
    language_model: Any,
    *,
    dtype: torch.dtype | str | None = None,
    device_map: Any = None,
    attn_implementation: Any = None,
    quantization_config: Any = None,
    **kwargs: Any,
) -> LangBridgeModel:
    """See `LangBridgeModel.from_bases`."""
    hub = hub_options(kwargs)
    options = {
        "dtype": dtype,
        "device_map": device_map,
        "attn_implementation": attn_implementation,
        "quantization_config": quantization_config,
    }
    first = load_base(ENCODER, encoder, hub=hub, **_for_role(ENCODER, options))
    second = load_base(LANGUAGE_MODEL, language_model, hub=hub, **_for_role(LANGUAGE_MODEL, options))
    if kwargs.get("new_token_ids") is None:
        tokenizer = load_tokenizer(encoder, required=False)
        kwargs["new_token_ids"] = [] if tokenizer is None else whitespace_ids(tokenizer)
    if kwargs.get("soft_prompt_token_id") is None:
        rows = second.model.get_input_embeddings().num_embeddings
        kwargs["soft_prompt_token_id"] = choose_placeholder(
            second.config, rows, load_tokenizer(language_model, required=False)
        )
    unknown = set(kwargs) - set(LangBridgeConfig().to_dict())
    if unknown:
        raise LangBridgeError(
            f"from_bases: unknown setting {', '.join(sorted(unknown))}; settings about a run belong to its recipe"
        )
    config = LangBridgeConfig(
        encoder_config=first.config,
        text_config=second.config,
        encoder_base=first.record,
        language_model_base=second.record,
        **kwargs,
    )
    return _assemble(cls, config, first, second, device_map)


def save(model: LangBridgeModel, folder: Any, state_dict: dict[str, torch.Tensor] | None = None) -> None:
    """Write the small checkpoint, so that at no moment a half-written one stands under its name."""
    folder = Path(folder)
    config = copy.deepcopy(model.config)
    # Not `type(model)`: sharding gives the instance a class of its own.
    config.architectures = [LangBridgeModel.__name__]
    config.encoder_base = with_relative(config.encoder_base, folder)
    config.language_model_base = with_relative(config.language_model_base, folder)
    state = model.state_dict() if state_dict is None else state_dict
    prefixes = ("connector.", "new_rows") if not config.encoder_trained else ("connector.", "new_rows", "encoder.")
    kept = unique_tensors({name: tensor for name, tensor in state.items() if name.startswith(prefixes)})
    with appearing(folder) as draft:
        save_file(kept, draft / WEIGHTS, metadata={"format": "pt"})
        model.generation_config.save_pretrained(draft)
        config.save_pretrained(draft)


def load(
    cls: type[LangBridgeModel],
    source: Any,
    *,
    encoder: Any = None,
    language_model: Any = None,
    config: LangBridgeConfig | None = None,
    dtype: torch.dtype | str | None = None,
    device_map: Any = None,
    attn_implementation: Any = None,
    quantization_config: Any = None,
    revision: str | None = None,
    **kwargs: Any,
) -> LangBridgeModel:
    """Load a checkpoint from a folder or hub id.

    Bases: an explicit `encoder=` / `language_model=` (folder, hub id or model) is always obeyed; otherwise a
        folder inside the checkpoint, then the recorded
    path (relative to the checkpoint, then as written), then the recorded hub id and revision. Each is checked
    against the recorded fingerprint. An encoder that was trained is in the checkpoint itself, and needs no
    base.

    dtype: of the bases; the connector and the new rows stay in float32 (or more), since they are what is
        trained.
    device_map: of the language model; encoder and connector go where its embeddings are, or where the keys
        `encoder` and `connector` of a dict say.
    attn_implementation: one word for both, or a dict by sub-config (`encoder_config`, `text_config`).
    quantization_config: of the language model; a dict with the keys `encoder` and `language_model` also
        quantises the encoder.
    """
    dtype = kwargs.pop("torch_dtype", None) if dtype is None else dtype
    hub = hub_options(kwargs)
    folder = checkpoint_folder(source, revision, **hub)
    for key in ("_from_auto", "adapter_kwargs", "code_revision", "low_cpu_mem_usage", "use_safetensors"):
        kwargs.pop(key, None)
    if kwargs:
        raise LangBridgeError(f"from_pretrained: unknown keyword {', '.join(sorted(kwargs))}")
    config = copy.deepcopy(config) if config is not None else read_config(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise LangBridgeError(
            f"checkpoint: {str(folder)!r} has no {WEIGHTS}; expected a folder written by save_pretrained, "
            f"training or import"
        )
    check_file(weights)
    state = load_file(weights)
    options = {
        "dtype": dtype,
        "device_map": device_map,
        "attn_implementation": attn_implementation,
        "quantization_config": quantization_config,
    }
    trained = any(name.startswith("encoder.") for name in state)
    bases = {}
    for role, explicit in ((ENCODER, encoder), (LANGUAGE_MODEL, language_model)):
        if role == ENCODER and trained and explicit is None:
            bases[role] = _encoder_of_state(config, state, **_for_role(role, options))
            continue
        bases[role] = _load_recorded(role, folder, config, explicit, hub, **_for_role(role, options))
    first, second = bases[ENCODER], bases[LANGUAGE_MODEL]
    config.encoder_config, config.text_config = first.config, second.config
    model = _assemble(cls, config, first, second, device_map)
    # new_rows may have grown the encoder's table, so a trained encoder is loaded only now
    load_part(model, "connector.", state, str(folder))
    if trained:
        load_part(model, "encoder.", state, str(folder))
    if model.new_rows is not None:
        with torch.no_grad():
            model.new_rows.copy_(state["new_rows"])
    if (folder / "generation_config.json").is_file():
        model.generation_config = type(model.generation_config).from_pretrained(folder)
    model.freeze()
    return model.eval()


def read_config(folder: Path) -> LangBridgeConfig:
    """The config of a checkpoint folder, and a clear error where it is another model's."""
    raw, _ = LangBridgeConfig.get_config_dict(str(folder))
    if raw.get("model_type") != LangBridgeConfig.model_type:
        raise LangBridgeError(
            f"checkpoint: {str(folder)!r} is a {raw.get('model_type')!r} model, not a bridge. A checkpoint "
            f"in the original authors' format is read by "
            "`langbridge import`; two bases become a bridge by training."
        )
    return LangBridgeConfig.from_dict(raw)


def load_part(model: LangBridgeModel, prefix: str, state: dict[str, torch.Tensor], where: str) -> None:
    """Load one child of the model from the tensors whose names begin with `prefix`."""
    part = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    load_tied(model.get_submodule(prefix.removesuffix(".")), part, where)


def export_merged(source: Any, out: Any, *, encoder: Any = None, language_model: Any = None) -> Path:
    """Write a checkpoint with its bases inside, which `from_pretrained` loads alone. Tokenizers and other
    files are copied."""
    folder, out = checkpoint_folder(source), Path(out)
    if out.resolve() == folder.resolve():
        raise LangBridgeError(f"export: {str(out)!r} is the checkpoint itself; give another folder")
    model = LangBridgeModel.from_pretrained(folder, encoder=encoder, language_model=language_model)
    with appearing(out) as draft:
        write_merged(model, draft)
        for item in folder.iterdir():
            if item.name in (ENCODER, LANGUAGE_MODEL) or (draft / item.name).exists():
                continue
            (shutil.copytree if item.is_dir() else shutil.copy2)(item, draft / item.name)
    return out


def write_merged(model: LangBridgeModel, folder: Path) -> None:
    """A model with both bases, into an existing folder."""
    save_encoder(model.encoder, copy.deepcopy(model.config.encoder_config), folder / ENCODER)
    model.language_model.save_pretrained(folder / LANGUAGE_MODEL)
    config = copy.deepcopy(model.config)
    # Not `type(model)`: sharding gives the instance a class of its own.
    config.architectures = [LangBridgeModel.__name__]
    for name, child in (("encoder_base", model.encoder), ("language_model_base", model.language_model)):
        setattr(
            config,
            name,
            {**(getattr(config, name) or {"id": None, "revision": None}), "fingerprint": fingerprint(child)},
        )
    state = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(("connector.", "new_rows"))}
    save_file(unique_tensors(state), folder / WEIGHTS, metadata={"format": "pt"})
    model.generation_config.save_pretrained(folder)
    config.save_pretrained(folder)


def _load_recorded(
    role: str, folder: Path, config: LangBridgeConfig, explicit: Any, hub: dict[str, Any], **options: Any
) -> Base:
    """A checkpoint's base, checked; the record in the checkpoint's config is kept, with the place where the
    base now is."""
    record = config.encoder_base if role == ENCODER else config.language_model_base
    place, revision = resolve(role, folder, record, explicit)
    base = load_base(role, place, revision=revision, hub=hub, **options)
    found = str(base.record["id"] or type(base.model).__name__)
    check_fingerprint(
        role,
        (record or {}).get("fingerprint"),
        base.model,
        found,
        str((record or {}).get("id") or "another model"),
    )
    inside = isinstance(place, Path) and place.parent == folder
    kept = record if inside and record else {**base.record, "fingerprint": (record or base.record)["fingerprint"]}
    return Base(model=base.model, config=base.config, record=kept)


def _encoder_of_state(
    config: LangBridgeConfig,
    state: dict[str, torch.Tensor],
    dtype: Any = None,
    attn_implementation: Any = None,
    **_: Any,
) -> Base:
    """An encoder whose weights are all in the checkpoint: laid out from its config, filled later."""
    encoder_config: Any = config.encoder_config
    if attn_implementation is not None:
        encoder_config._attn_implementation = attn_implementation
    saved = next(tensor.dtype for name, tensor in state.items() if name.startswith("encoder."))
    encoder = build_encoder(encoder_config).to(saved if dtype in (None, "auto") else precision(dtype))
    return Base(model=encoder, config=encoder_config, record=config.encoder_base or {})


def _assemble(
    cls: type[LangBridgeModel], config: LangBridgeConfig, first: Base, second: Base, device_map: Any
) -> LangBridgeModel:
    config.encoder_base, config.language_model_base = first.record, second.record
    model = cls(config, encoder=first.model, language_model=second.model)
    target = second.model.get_input_embeddings().weight.device
    if target.type == "meta":
        target = first.model.device
    named = device_map if isinstance(device_map, dict) else {}
    if device_map is not None and ENCODER not in named and first.model.device != target:
        model.encoder.to(target)
    model.connector.to(named.get("connector", target))
    if model.new_rows is not None:
        model.new_rows.data = model.new_rows.data.to(model.encoder.device)
    # What is trained stays in full precision under half-precision bases, or small updates are lost; under
    # double precision it follows.
    precise = torch.promote_types(torch.float32, second.model.dtype)
    model.connector.to(precise)
    if model.new_rows is not None:
        model.new_rows.data = model.new_rows.data.to(precise)
    return model


def _for_role(role: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that concern one base, out of those given for the bridge."""
    chosen = dict(options)
    attention = chosen["attn_implementation"]
    if isinstance(attention, dict):
        chosen["attn_implementation"] = attention.get("encoder_config" if role == ENCODER else "text_config")
    quantisation = chosen["quantization_config"]
    if isinstance(quantisation, dict) and set(quantisation) <= {ENCODER, LANGUAGE_MODEL}:
        chosen["quantization_config"] = quantisation.get(role)
    elif role == ENCODER:
        chosen["quantization_config"] = None
    devices = chosen["device_map"]
    if isinstance(devices, dict):
        own = {
            key.removeprefix(role).removeprefix("."): value
            for key, value in devices.items()
            if key == role or key.startswith(role + ".")
        }
        chosen["device_map"] = own or ({"": devices[""]} if "" in devices else None)
    elif devices in ("auto", "balanced", "balanced_low_0", "sequential") and role == ENCODER:
        # These would split an encoder that one device can hold. It is loaded first and takes the first
        # device; the language model finds what is left.
        chosen["device_map"] = {"": 0 if torch.accelerator.is_available() else "cpu"}
    return chosen


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
