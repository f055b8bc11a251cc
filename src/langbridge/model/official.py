"""Read the published LangBridge checkpoints (kaistAI's format) and write ours.

The published state dict has `lb.enc.*` (the encoder), `lb.alignment.*` (the connector), `lb.lm.*` (the
language model without its head), `lb.lm_head.*`, and `lb.embeddings.weight`, which repeats the language
model's table. The config names the bases (`enc`, `lm`), their widths (`dim_enc`, `dim_lm`) and the connector
(`alignments`: linear, ffn or latent). All weights are in the checkpoint; of the bases only configs and
tokenizers are needed.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from langbridge.errors import LangBridgeError
from langbridge.model.bases import base_fingerprint
from langbridge.model.configuration import LangBridgeConfig
from langbridge.model.connectors.settings import ConnectorSettings
from langbridge.model.encoders import build_encoder, check_language_model, encoder_width, load_config, load_tied
from langbridge.model.intact import check_file
from langbridge.model.registering import LangBridgeModel, LangBridgeProcessor
from langbridge.model.saving import appearing, write_merged
from langbridge.model.tokenizers import choose_placeholder, load_tokenizer, whitespace_ids

_KINDS = {"linear": "linear", "ffn": "mlp", "latent": "resampler"}
_RENAMED = {
    "linear": {"enc_eos": "end"},
    "mlp": {"enc_eos": "end", "ffn.0.": "up.", "ffn.2.": "down."},
    "resampler": {
        "enc_eos": "end",
        "layers.0.0.norm_media.": "norm_states.",
        "layers.0.0.norm_latents.": "norm_latents.",
        "layers.0.0.to_q.": "query.",
        "layers.0.0.to_k.": "key.",
        "layers.0.0.to_v.": "value.",
        "layers.0.0.to_out.": "output.",
        "layers.0.1.0.": "up.",
        "layers.0.1.2.": "down.",
        "out_proj.": "project.",
    },
}


@dataclass(kw_only=True)
class ImportReport:
    """What an import did. `notes` are for the user to read: what was missing, what was chosen in its
    place."""

    out: Path
    connector: ConnectorSettings
    tensors: int
    tokenizers: bool
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"imported {self.tensors} tensors, connector {self.connector}, to {self.out}"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def import_official(checkpoint: Any, encoder: Any = None, language_model: Any = None, out: Any = None) -> ImportReport:
    """Turn a published checkpoint folder into a merged bridge at `out`, which `from_pretrained` loads alone.

    encoder, language_model: folders or hub ids of the bases' configs and tokenizers, where the ids in the
        checkpoint's config cannot be reached from here.
        Folders with a config alone suffice; the report then says that the tokenizers are missing.
    Raises `LangBridgeError` where a part is missing or does not fit. Pickles are read with
    `weights_only=True` alone.
    """
    folder = Path(str(checkpoint))
    if out is None:
        raise LangBridgeError("import: no folder to write to; give out=")
    settings = _read_settings(folder)
    state = _read_state(folder)
    sources = {
        "encoder": _base_folder(encoder, settings["enc"], folder),
        "language model": _base_folder(language_model, settings["lm"], folder),
    }
    configs = {role: load_config(source, role) for role, source in sources.items()}
    check_language_model(configs["language model"], repr(str(sources["language model"])))
    parts = _split(state)
    encoder_model = build_encoder(configs["encoder"]).to(next(iter(parts["enc"].values())).dtype)
    _load(encoder_model, parts["enc"], f"encoder {str(sources['encoder'])!r}")
    lm = _fill_language_model(configs["language model"], parts, str(sources["language model"]))
    notes: list[str] = []
    if (folder / "generation_config.json").is_file():
        published = GenerationConfig.from_pretrained(folder)
        for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if getattr(lm.generation_config, key) is None:
                setattr(lm.generation_config, key, getattr(published, key))

    kind = _KINDS[settings["alignments"]]
    connector_state = _rename(parts["alignment"], kind)
    connector: dict[str, Any] = {"kind": kind}
    if "latents" in connector_state:
        connector["num_latents"] = len(connector_state["latents"])
    tokenizers = {role: load_tokenizer(str(source), required=False) for role, source in sources.items()}
    placeholder = choose_placeholder(
        configs["language model"], lm.get_input_embeddings().num_embeddings, tokenizers["language model"]
    )
    config = LangBridgeConfig(
        encoder_config=configs["encoder"],
        text_config=lm.config,
        connector=connector,
        soft_prompt_token_id=placeholder,
        freeze_encoder=bool(settings.get("freeze_encoder", True)),
        encoder_base={"id": settings["enc"], "revision": None, "fingerprint": base_fingerprint(encoder_model)},
        language_model_base={"id": settings["lm"], "revision": None, "fingerprint": base_fingerprint(lm)},
    )
    _check_widths(settings, config, lm)
    model = LangBridgeModel(config, encoder=encoder_model, language_model=lm)
    load_tied(model.connector, connector_state, "lb.alignment")
    model.connector.to(torch.promote_types(torch.float32, lm.dtype))

    out = Path(out)
    with appearing(out) as draft:
        write_merged(model, draft)
        complete = _write_processor(model, tokenizers, draft, notes)
        for name in ("README.md", "LICENSE"):
            if (folder / name).is_file():
                shutil.copy2(folder / name, draft / name)
    return ImportReport(out=out, connector=config.connector, tensors=len(state), tokenizers=complete, notes=notes)


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise LangBridgeError(
            f"import: {str(folder)!r} has no config.json; expected the folder of a published LangBridge checkpoint"
        )
    settings = json.loads(path.read_text(encoding="utf-8"))
    missing = [key for key in ("enc", "lm", "dim_enc", "dim_lm") if key not in settings]
    if missing:
        raise LangBridgeError(
            f"import: {str(path)!r} lacks {', '.join(missing)}; expected the config of a published "
            f"LangBridge checkpoint"
        )
    settings.setdefault("alignments", "linear")
    if settings["alignments"] not in _KINDS:
        raise LangBridgeError(
            f"import: alignments is {settings['alignments']!r} in {str(path)!r}, expected one of {', '.join(_KINDS)}"
        )
    return settings


def _read_state(folder: Path) -> dict[str, Tensor]:
    """All tensors of the checkpoint: safetensors before pickles, an index of shards before one file."""
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{stem}.index.json"
        if index.is_file():
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        elif (folder / stem).is_file():
            names = [stem]
        else:
            continue
        state: dict[str, Tensor] = {}
        for name in names:
            path = folder / name
            check_file(path)
            state |= (
                load_file(path)
                if path.suffix == ".safetensors"
                else torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            )
        return state
    raise LangBridgeError(
        f"import: {str(folder)!r} has neither model.safetensors nor pytorch_model.bin, nor an index of shards"
    )


def _base_folder(given: Any, named: str, folder: Path) -> Any:
    """Where a base's config and tokenizer are: as given, or as the checkpoint names it, also beside or
    inside the checkpoint."""
    if given is not None:
        return given
    for candidate in (folder / named, folder.parent / named, Path(named)):
        if (candidate / "config.json").is_file():
            return candidate
    return named


def _split(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in ("enc", "alignment", "lm", "lm_head", "embeddings")}
    for name, tensor in state.items():
        owner, _, rest = name.removeprefix("lb.").partition(".")
        if not name.startswith("lb.") or owner not in parts:
            raise LangBridgeError(
                f"import: the tensor {name!r} is none of the published format; expected names that begin with lb.enc, "
                "lb.alignment, lb.lm, lb.lm_head or lb.embeddings"
            )
        parts[owner][rest] = tensor
    for owner in ("enc", "alignment", "lm"):
        if not parts[owner]:
            raise LangBridgeError(f"import: the checkpoint has no lb.{owner}.* tensors")
    return parts


def _fill_language_model(config: Any, parts: dict[str, dict[str, Tensor]], where: str) -> PreTrainedModel:
    """The causal language model: the body's names get the model's own prefix, the head its own name."""
    lm = AutoModelForCausalLM.from_config(config).to(next(iter(parts["lm"].values())).dtype)
    prefix = f"{lm.base_model_prefix}."
    state = {prefix + name: tensor for name, tensor in parts["lm"].items()}
    head = next(name for name, module in lm.named_modules() if module is lm.get_output_embeddings())
    state |= {f"{head}.{name}": tensor for name, tensor in parts["lm_head"].items()}
    _load(lm, state, f"language model {where!r}")
    return lm


def _load(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Load what the model knows; older versions of transformers also saved buffers (rotary frequencies),
    which are computed anew."""
    own = model.state_dict()
    wrong = [name for name, tensor in state.items() if name in own and own[name].shape != tensor.shape]
    if wrong:
        name = wrong[0]
        raise LangBridgeError(
            f"import: {where}: {name!r} has shape {tuple(state[name].shape)} in the checkpoint and "
            f"{tuple(own[name].shape)} by the config; give the folder of the base that the checkpoint was made with"
        )
    # A pooler never runs in a bridge, and ours is built without one.
    state = {name: tensor for name, tensor in state.items() if not name.startswith("pooler.")}
    buffers = tuple(name for name, _ in model.named_buffers())
    known = {
        n: t
        for n, t in state.items()
        if n in own or not n.endswith((*buffers, "rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"))
    }
    load_tied(model, known, f"import: {where}")


def _rename(state: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        for old, new in _RENAMED[kind].items():
            if name.startswith(old):
                name = new + name.removeprefix(old)
                break
        renamed[name] = tensor
    if kind == "resampler" and "latents" not in renamed:
        raise LangBridgeError("import: alignments is 'latent' but the checkpoint has no lb.alignment.latents")
    return renamed


def _check_widths(settings: dict[str, Any], config: LangBridgeConfig, lm: PreTrainedModel) -> None:
    found = {"dim_enc": encoder_width(config.encoder_config), "dim_lm": lm.get_input_embeddings().embedding_dim}
    for key, width in found.items():
        if settings[key] != width:
            base = "encoder" if key == "dim_enc" else "language model"
            raise LangBridgeError(
                f"import: {key} is {settings[key]} in the checkpoint, but the {base} given has width "
                f"{width}; give the base it was made with"
            )


def _write_processor(model: LangBridgeModel, tokenizers: dict[str, Any], draft: Path, notes: list[str]) -> bool:
    missing = [role for role, tokenizer in tokenizers.items() if tokenizer is None]
    if missing:
        notes.append(
            f"no tokenizer of the {' and of the '.join(missing)} was found, so the folder holds no processor: it "
            "computes on ids, but reads no text. Import again with folders that have tokenizers."
        )
        return False
    encoder_tokenizer = tokenizers["encoder"]
    added = whitespace_ids(encoder_tokenizer)
    if added:
        rows = model.encoder.get_input_embeddings().num_embeddings
        if max(added) >= rows:
            raise LangBridgeError(
                f"import: the encoder has {rows} rows, but its tokenizer with the whitespace tokens needs "
                f"{max(added) + 1}; give a folder with the tokenizer that was published for the checkpoint"
            )
        notes.append(
            f"the whitespace tokens were added to the encoder's tokenizer as ids {added[0]} to {added[-1]}, "
            f"in the order of the published tokenizer"
        )
    processor = LangBridgeProcessor(
        tokenizers["language model"],
        encoder_tokenizer,
        connector=model.config.connector,
        soft_prompt_token_id=model.config.soft_prompt_token_id,
        encoder_length_limit=model.encoder_length_limit,
    )
    processor.save_pretrained(draft)
    notes.append(
        "the template is not part of the published format: set `template` in processor_config.json, or give "
        "the prompt with its template"
    )
    return True
