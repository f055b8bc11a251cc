"""The engine of what a folder or hub id holds: a bridge, or a language model of either kind."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from langbridge.errors import LangBridgeError
from langbridge.model import LangBridgeModel, LangBridgeProcessor
from langbridge.model.devices import in_fitting_precision, precision, usable_device
from langbridge.model.intact import check_config, check_tokenizer, check_weights
from langbridge.model.sequence import CHAT
from langbridge.serve.continuous import ContinuousEngine
from langbridge.serve.hf import HFEngine
from langbridge.serve.readers import BridgeReader, CausalReader, EncoderDecoderReader, Reader
from langbridge.serve.routing import routing_reader
from langbridge.serve.templates import TEMPLATES


def load_engine(
    name: str | Path,
    *,
    template: str | None = None,
    shots_in: str = "encoder",
    dtype: str | torch.dtype = "auto",
    device: str | None = None,
    batch_size: int = 16,
    max_length: int | None = None,
    revision: str | None = None,
    route: str | Path | None = None,
) -> HFEngine:
    """A model to ask.

    template: for a bridge its processor's own where none is given; for other models the chat template of the tokenizer
    where it has one, else none. `chat` is the chat template of the language model, which a bridge has in it, and
    `chat: TURN` that with more in the user's turn.
    dtype: `auto` as saved, but single precision where the device is slow in that. max_length: of the encoder's input of
    a bridge, of the whole sequence of other models. route: the file by which a bridge's prompts go one way or the other
    (`routing.py`).
    """
    model, reader, about = _load(name, template, shots_in, dtype, device, batch_size, max_length, revision, route=route)
    engine = HFEngine(model, reader, batch_size)
    engine.about = about
    return engine


def load_live(
    name: str | Path,
    *,
    slots: int = 32,
    template: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | None = None,
    revision: str | None = None,
    route: str | Path | None = None,
    **limits: Any,
) -> ContinuousEngine:
    """A model that answers requests as they come, `slots` of them at a time. What is wrong with a prompt, its length or
    its language, is an error. limits: `queue`, `max_new_tokens`; see `ContinuousEngine`."""
    model, reader, _ = _load(name, template, "encoder", dtype, device, slots, None, revision, True, route)
    return ContinuousEngine(model, reader, slots=slots, **limits)


def _load(
    name: str | Path,
    template: str | None,
    shots_in: str,
    dtype: str | torch.dtype,
    device: str | None,
    rows: int,
    max_length: int | None,
    revision: str | None,
    strict: bool = False,
    route: str | Path | None = None,
) -> tuple[PreTrainedModel, Reader, dict[str, Any]]:
    """A model, the reader of its requests, and what a report says of it. rows: written at a time."""
    config = _config(str(name), revision)
    if config["model_type"] == "langbridge":
        if template not in (None, CHAT):
            template = TEMPLATES.get(template, template)  # what it may be, the processor says
            if "{language}" in template:
                raise LangBridgeError("--template: a bridge formats all languages alike, so {language} has no value")
        model, processor = load_bridge(name, dtype=dtype, device=device, rows=rows, revision=revision)
        bases = {role: getattr(model.config, f"{role}_base") or {} for role in ("encoder", "language_model")}
        about = {
            "name": str(name),
            "revision": revision,
            "bases": {role: {key: base.get(key) for key in ("id", "revision")} for role, base in bases.items()},
        }
        reader = bridge_reader(
            model,
            processor,
            route,
            template=template,
            shots_in=shots_in,
            max_encoder_length=max_length,
            strict=strict,
        )
        return model, reader, about
    if route is not None:
        raise LangBridgeError(f"--route: {name} is no bridge: there is one way only")
    if shots_in != "encoder":
        raise LangBridgeError(f"--shots-in: {name} is no bridge: it has no encoder to choose against")
    kind = EncoderDecoderReader if config.get("is_encoder_decoder") else CausalReader
    plain, tokenizer = _plain_model(str(name), config, dtype, device, revision)
    if dtype == "auto":
        in_fitting_precision(plain, plain.device, rows=rows)
    commit = getattr(plain.config, "_commit_hash", None) or revision
    about = {"name": str(name), "revision": commit, "model_type": config["model_type"]}
    return plain, kind(tokenizer, plain.config, template=template, max_length=max_length), about


def load_bridge(
    name: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | None = None,
    rows: int = 16,
    **bases: Any,
) -> tuple[LangBridgeModel, LangBridgeProcessor]:
    """A bridge, ready to be asked, and its processor. rows: written at a time, by which a precision is chosen. bases:
    `encoder`, `language_model` and `revision`, where they are not what the checkpoint says."""
    place = _place(device)
    model = LangBridgeModel.from_pretrained(name, dtype=precision(dtype), **{k: v for k, v in bases.items() if v})
    if dtype == "auto":
        for base in (model.encoder, model.language_model):
            in_fitting_precision(base, place, rows=rows)
    processor = LangBridgeProcessor.from_pretrained(name, revision=bases.get("revision") or "main")
    return model.eval().to(place), processor


def bridge_engine(
    model: LangBridgeModel, processor: LangBridgeProcessor, batch_size: int = 16, **reading: Any
) -> HFEngine:
    """The engine of a bridge at hand. reading: as `bridge_reader` has it."""
    return HFEngine(model, bridge_reader(model, processor, **reading), batch_size)


def bridge_reader(
    model: LangBridgeModel, processor: LangBridgeProcessor, route: str | Path | None = None, **reading: Any
) -> BridgeReader:
    """The reader of a bridge's requests. route: as in `load_engine`. reading: as `BridgeReader` has it."""
    if route is None:
        return BridgeReader(processor, model.language_model.config, **reading)
    return routing_reader(model, processor, route, **reading)


def _plain_model(
    name: str, config: dict[str, Any], dtype: str | torch.dtype, device: str | None, revision: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    place, precise = _place(device), precision(dtype)
    check_weights(name)
    check_tokenizer(name)
    two_sided = bool(config.get("is_encoder_decoder"))
    auto = AutoModelForSeq2SeqLM if two_sided else AutoModelForCausalLM
    which = {} if revision is None else {"revision": revision}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **which)
        return auto.from_pretrained(name, dtype=precise, device_map={"": place}, **which), tokenizer
    except (OSError, ValueError) as error:
        # The rest of the message is a list of all architectures that there are.
        reason = str(error).strip().split("\n")[0]
        as_what = "an encoder-decoder" if two_sided else "a causal language model"
        raise LangBridgeError(
            f"{name}: model_type {config['model_type']!r} cannot be loaded as {as_what}: {reason}"
        ) from error


def _place(device: str | None) -> torch.device:
    """The device of a name; of each of the processes that `torchrun` started, its own."""
    chosen = usable_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        state = PartialState(cpu=chosen.type == "cpu")
        return state.device if chosen.type == "cuda" else chosen
    return chosen


def _config(name: str, revision: str | None) -> dict[str, Any]:
    from transformers import PreTrainedConfig

    path = Path(name).expanduser()
    if not path.is_dir() and (path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise LangBridgeError(f"{name}: {'is a file, expected a folder' if path.exists() else 'no such folder'}")
    check_config(path)
    try:
        config, _ = PreTrainedConfig.get_config_dict(name, **({} if revision is None else {"revision": revision}))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise LangBridgeError(f"{name}: neither a model's folder nor a model that can be fetched: {reason}") from error
    if "model_type" not in config:
        raise LangBridgeError(f"{name}: no config.json with a model_type in it, so it is not a model's folder")
    return dict(config)
