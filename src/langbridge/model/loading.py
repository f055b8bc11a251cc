"""From folders and hub ids to the parts of a bridge: its config, its bases, its own weights. No class of a bridge is
known here.

A checkpoint folder is `config.json` (with the bases' places, revisions and fingerprints), `generation_config.json` and
`model.safetensors` with the connector, its end vector, the new embedding rows, and the encoder only where it was
trained. A merged checkpoint has its bases in `encoder/` and `language_model/`.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from langbridge.errors import LangBridgeError
from langbridge.model.bases import (
    ENCODER,
    LANGUAGE_MODEL,
    check_fingerprint,
    checkpoint_folder,
    hub_options,
    load_base,
    resolve,
)
from langbridge.model.configuration import LangBridgeConfig
from langbridge.model.encoders import build_encoder, placed
from langbridge.model.intact import check_file
from langbridge.model.tokenizers import choose_placeholder, load_tokenizer, whitespace_ids

WEIGHTS = "model.safetensors"

_IGNORED = ("_from_auto", "adapter_kwargs", "code_revision", "low_cpu_mem_usage", "use_safetensors")
"""What the auto classes of transformers pass on."""
_DEFAULTS = {"subfolder": "", "output_loading_info": False, "ignore_mismatched_sizes": False}
"""What scripts write out although it asks for nothing."""
_FITTING = ("max_memory", "offload_folder", "offload_buffers", "offload_state_dict")
"""How a language model that is too large for its device is laid out."""


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How bases are loaded: the keywords that `from_bases` and `from_pretrained` share, for both bases together."""

    dtype: torch.dtype | str | dict[str, Any] | None = None
    device_map: Any = None
    attn_implementation: Any = None
    quantization_config: Any = None
    fitting: dict[str, Any] = field(default_factory=dict)
    hub: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def taken_from(cls, kwargs: dict[str, Any]) -> Self:
        """Take these out of a call's keywords."""
        dtype = kwargs.pop("torch_dtype", None)
        names = ("dtype", "device_map", "attn_implementation", "quantization_config")
        given, fitting = ({name: kwargs.pop(name) for name in some if name in kwargs} for some in (names, _FITTING))
        if given.get("dtype") is None:
            given["dtype"] = dtype
        return cls(**given, fitting=fitting, hub=hub_options(kwargs))

    def of(self, role: str) -> dict[str, Any]:
        """Those that concern one base."""
        chosen = {"dtype": self.dtype, "attn_implementation": self.attn_implementation}
        name = "encoder_config" if role == ENCODER else "text_config"
        for option, value in chosen.items():
            if isinstance(value, dict):  # by sub-config, as transformers takes them
                chosen[option] = value.get(name)
        quantisation = self.quantization_config
        if isinstance(quantisation, dict) and set(quantisation) <= {ENCODER, LANGUAGE_MODEL}:
            chosen["quantization_config"] = quantisation.get(role)
        else:
            chosen["quantization_config"] = None if role == ENCODER else quantisation
        chosen["device_map"] = self._devices(role)
        return chosen | (self.fitting if role == LANGUAGE_MODEL else {})

    def _devices(self, role: str) -> Any:
        devices = self.device_map
        if isinstance(devices, dict):
            own = {
                key.removeprefix(role).removeprefix("."): value
                for key, value in devices.items()
                if key == role or key.startswith(role + ".")
            }
            return own or ({"": devices[""]} if "" in devices else None)
        if devices in ("auto", "balanced", "balanced_low_0", "sequential") and role == ENCODER:
            # These would split an encoder that one device can hold. It is loaded first and takes the first
            # device; the language model finds what is left.
            return {"": 0 if torch.accelerator.is_available() else "cpu"}
        return devices


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An opened checkpoint folder."""

    folder: Path
    config: LangBridgeConfig
    state: dict[str, torch.Tensor]

    def base(self, role: str, explicit: Any, options: LoadOptions) -> PreTrainedModel:
        """One of its bases, checked against the recorded fingerprint, and written into the config with the place where
        it now is. An encoder that was trained is in the checkpoint itself, and needs no base."""
        name = f"{role}_base"
        record = getattr(self.config, name)
        if role == ENCODER and explicit is None and any(key.startswith("encoder.") for key in self.state):
            setattr(self.config, name, record or {})
            return self._encoder_of_state(**options.of(role))
        place, revision = resolve(role, self.folder, record, explicit)
        base = load_base(role, place, revision=revision, hub=options.hub, **options.of(role))
        record = record or {}
        found, wanted = str(base.record["id"] or type(base.model).__name__), str(record.get("id") or "another model")
        check_fingerprint(role, record.get("fingerprint"), base.model, found, wanted)
        if record and isinstance(place, Path) and place.parent == self.folder:
            record = {**record, "found": str(place)}
        else:
            record = {**base.record, "fingerprint": (record or base.record)["fingerprint"]}
        setattr(self.config, name, record)
        setattr(self.config, "encoder_config" if role == ENCODER else "text_config", base.config)
        return base.model

    def _encoder_of_state(
        self, dtype: Any, attn_implementation: Any, device_map: Any, quantization_config: Any
    ) -> PreTrainedModel:
        """An encoder whose weights are all in the checkpoint: laid out from its config, filled later, because new rows
        may make its table grow."""
        if quantization_config is not None:
            raise LangBridgeError(
                "quantization_config: the checkpoint holds an encoder that was trained, which cannot be quantised on "
                "loading; give one for the language model alone"
            )
        config: Any = self.config.encoder_config
        if attn_implementation is not None:
            config._attn_implementation = attn_implementation
        saved = next(tensor.dtype for name, tensor in self.state.items() if name.startswith("encoder."))
        return placed(build_encoder(config), saved, dtype, device_map)


def open_checkpoint(source: Any, kwargs: dict[str, Any]) -> tuple[Checkpoint, LoadOptions]:
    """A checkpoint's folder or hub id, with the keywords of `from_pretrained`. Raises `LangBridgeError`."""
    options = LoadOptions.taken_from(kwargs)
    folder = checkpoint_folder(source, kwargs.pop("revision", None), **options.hub)
    config = kwargs.pop("config", None)
    asked = {name for name, value in kwargs.items() if value is not None and value != _DEFAULTS.get(name)}
    if unknown := asked - set(_IGNORED):
        raise LangBridgeError(f"from_pretrained: unknown keyword {', '.join(sorted(unknown))}")
    config = copy.deepcopy(config) if config is not None else read_config(folder)
    return Checkpoint(folder=folder, config=config, state=read_weights(folder)), options


def read_config(folder: Path) -> LangBridgeConfig:
    """The config of a checkpoint folder, and a clear error where it is another model's."""
    raw, _ = LangBridgeConfig.get_config_dict(str(folder))
    if raw.get("model_type") != LangBridgeConfig.model_type:
        raise LangBridgeError(
            f"checkpoint: {str(folder)!r} is a {raw.get('model_type')!r} model, not a bridge. A checkpoint in the "
            "original authors' format is read by `langbridge import`; two bases become a bridge by training."
        )
    return LangBridgeConfig.from_dict(raw)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors that a checkpoint folder holds itself."""
    if not (folder / WEIGHTS).is_file():
        raise LangBridgeError(
            f"checkpoint: {str(folder)!r} has no {WEIGHTS}; expected a folder written by save_pretrained, "
            f"training or import"
        )
    check_file(folder / WEIGHTS)
    return load_file(folder / WEIGHTS)


def fresh(
    encoder: Any, language_model: Any, options: LoadOptions, **settings: Any
) -> tuple[LangBridgeConfig, PreTrainedModel, PreTrainedModel]:
    """The config of a fresh bridge between two bases, and the bases. Raises `LangBridgeError`."""
    first = load_base(ENCODER, encoder, hub=options.hub, **options.of(ENCODER))
    second = load_base(LANGUAGE_MODEL, language_model, hub=options.hub, **options.of(LANGUAGE_MODEL))
    if settings.get("new_token_ids") is None:
        tokenizer = load_tokenizer(encoder, required=False)
        settings["new_token_ids"] = [] if tokenizer is None else whitespace_ids(tokenizer)
    if settings.get("soft_prompt_token_id") is None:
        rows = second.model.get_input_embeddings().num_embeddings
        tokenizer = load_tokenizer(language_model, required=False)
        settings["soft_prompt_token_id"] = choose_placeholder(second.config, rows, tokenizer)
    unknown = set(settings) - set(LangBridgeConfig().to_dict())
    if unknown:
        raise LangBridgeError(
            f"from_bases: unknown setting {', '.join(sorted(unknown))}; settings about a run belong to its recipe"
        )
    config = LangBridgeConfig(
        encoder_config=first.config,
        text_config=second.config,
        encoder_base=first.record,
        language_model_base=second.record,
        **settings,
    )
    return config, first.model, second.model
