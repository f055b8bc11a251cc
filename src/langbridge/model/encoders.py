"""Any Hugging Face text encoder, recognised by the type of its config, never by name.

Three families: models that transformers maps to a text encoder (mT5, umT5, T5, XLM-R, BERT, ...), encoder-decoders
whose encoder is cut out (NLLB/M2M-100, T5Gemma, BART, ...), and encoder-only models (ModernBERT/mmBERT, ...). A
decoder-only model is refused: given as an encoder it would run, and read nothing. `is_encoder_decoder` decides nothing
here, because encoder classes write False into the configs they save.
"""

import inspect
import logging
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
)

from langbridge.errors import LangBridgeError
from langbridge.model.connectors.settings import ConnectorSettings
from langbridge.model.devices import precision
from langbridge.model.intact import check_config, check_weights


def load_config(path: str | Path, role: str, **hub: Any) -> PreTrainedConfig:
    """The config of a base, and a clear error where there is none. `role` names it in messages: `encoder`
    or `language model`."""
    path = str(path)
    if not Path(path).is_dir() and path.startswith((".", "/", "~")):
        raise LangBridgeError(f"{role}: there is no folder at {path!r}; give an existing model folder or a hub id")
    check_config(path)
    try:
        return AutoConfig.from_pretrained(path, **hub)
    except (OSError, ValueError, KeyError) as error:
        raise LangBridgeError(
            f"{role}: {path!r} is neither a model folder (one with a config.json) nor a model that can be "
            f"fetched: {error}"
        ) from error


def is_encoder(config: PreTrainedConfig) -> bool:
    kind = type(config)
    return (
        kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
        or kind in MODEL_FOR_MASKED_LM_MAPPING
        or (kind in MODEL_FOR_TEXT_ENCODING_MAPPING and kind not in MODEL_FOR_CAUSAL_LM_MAPPING)
    )


def is_language_model(config: PreTrainedConfig) -> bool:
    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not is_encoder(config)


def check_encoder(config: PreTrainedConfig, where: str) -> None:
    if not is_encoder(config):
        raise LangBridgeError(
            f"encoder: got {where}, a {config.model_type!r} model, which is not a text encoder; expected an encoder "
            "or an encoder-decoder (mT5, NLLB, XLM-R, ...). Were encoder and language model exchanged?"
        )


def check_language_model(config: PreTrainedConfig, where: str) -> None:
    if not is_language_model(config):
        raise LangBridgeError(
            f"language model: got {where}, a {config.model_type!r} model, which is not decoder-only; expected a "
            "causal language model (Llama, Mistral, Qwen, Gemma, ...). Were encoder and language model exchanged?"
        )


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """A randomly initialised encoder of a config."""
    check_encoder(config, "a config")
    model_class = _model_class(config)
    model = model_class._from_config(config, **_without_pooler(model_class))
    return model if _is_whole(config) else model.get_encoder()


def load_encoder(path: str | Path, config: PreTrainedConfig, **kwargs: Any) -> PreTrainedModel:
    """The encoder at a folder or hub id; `kwargs` go to `from_pretrained` (dtype, device_map, revision, ...)."""
    check_encoder(config, repr(str(path)))
    if not _is_whole(config) and config.architectures == [_cut_class_name(config)]:
        return _load_cut_encoder(Path(path), config, **kwargs)
    model_class = _model_class(config)
    model = _load_whole(model_class, path, config=config, **_without_pooler(model_class), **kwargs)
    return model if _is_whole(config) else model.get_encoder()


def split_encoder(model: PreTrainedModel) -> tuple[PreTrainedModel, PreTrainedConfig]:
    """The encoder in a model, and the config that rebuilds it. Accepts an encoder or a whole encoder-decoder."""
    config = model.config
    check_encoder(config, f"a {type(model).__name__}")
    kind = type(config)
    if kind not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        return model, config
    if not _is_whole(config):
        full = isinstance(model, (MODEL_MAPPING[kind], MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[kind]))
        return model.get_encoder() if full else model, config
    if isinstance(model, _model_class(config)):
        return model, config
    # Of the class that it is loaded as (T5EncoderModel), or its weights would have other names than those on disk.
    with torch.device("meta"):
        encoder = build_encoder(config)
    encoder.encoder = model.get_encoder()
    encoder.set_input_embeddings(model.get_input_embeddings())
    return encoder, config


def save_encoder(encoder: PreTrainedModel, config: PreTrainedConfig, folder: Path) -> None:
    """Write an encoder as a folder that `load_encoder` reads: the ordinary format where the encoder is a
    model of its own."""
    if _is_whole(config):
        encoder.save_pretrained(folder)
        return
    # A cut-out encoder has key names of its own. Its class name in `architectures` tells this folder from a
    # whole model's.
    folder.mkdir(parents=True, exist_ok=True)
    config.architectures = [type(encoder).__name__]
    half = config.encoder if "encoder" in type(config).sub_configs else config
    half.vocab_size = encoder.get_input_embeddings().num_embeddings  # new tokens may have grown the table
    config.save_pretrained(folder)
    save_file(unique_tensors(encoder.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})


def encoder_width(config: PreTrainedConfig) -> int:
    """d_encoder, the width of the encoder's hidden states."""
    return _of_encoder(config).hidden_size


def encoder_depth(config: PreTrainedConfig) -> int:
    """How many layers the encoder has."""
    return _of_encoder(config).num_hidden_layers


def layers_read(config: PreTrainedConfig, settings: ConnectorSettings) -> tuple[int, ...] | None:
    """The encoder's layers that a connector reads; None for the last one alone. Raises `LangBridgeError`."""
    depth, layers = encoder_depth(config), settings.encoder_layers
    if layers is not None and max(layers) > depth:
        raise LangBridgeError(f"connector.encoder_layers: got {list(layers)}, but the encoder has {depth} layers")
    return tuple(range(depth + 1)) if layers is None and settings.mix_layers else layers


def _of_encoder(config: PreTrainedConfig) -> PreTrainedConfig:
    # T5Gemma keeps the widths of its halves apart
    return config.encoder.get_text_config() if "encoder" in type(config).sub_configs else config


_PIECE = 1 << 14  # rows of a table


def make_room(
    encoder: PreTrainedModel, new_token_ids: list[int]
) -> tuple[nn.Embedding, Float[Tensor, " d_encoder"], float]:
    """Give tokens that were added to the tokenizer a place in the encoder's table, and the mean row.

    Returns the table, the mean of the rows before the new ones, and the factor by which the table scales
    what it holds (M2M-100's does).
    """
    table = encoder.get_input_embeddings()
    if max(new_token_ids) >= table.num_embeddings:
        encoder.resize_token_embeddings(max(new_token_ids) + 1, mean_resizing=False)
        table = encoder.get_input_embeddings()
    # T5 holds one tensor in two modules; a hook on the table needs the one that runs.
    encoder.set_input_embeddings(table)
    with torch.no_grad():
        # By pieces: a table in half precision would be copied whole in single, gigabytes in the largest encoders.
        old = table.weight[: min(new_token_ids)]
        mean = sum(piece.sum(dim=0, dtype=torch.float32) for piece in old.split(_PIECE)) / len(old)
        table.weight[torch.tensor(new_token_ids, device=table.weight.device)] = mean.to(table.weight.dtype)
    # The factor has a name only where there is one: a one-column table of ones shows it everywhere.
    ones = torch.ones(table.num_embeddings, 1)
    scale = torch.func.functional_call(table, {"weight": ones}, (torch.tensor([min(new_token_ids)]),))
    return table, mean, float(scale)


def length_limit(encoder: PreTrainedModel) -> int | None:
    """The longest input, in tokens, that the encoder's table of learned positions has rows for; None where
    there is no such table.

    XLM-R has 514 rows, the first two of which no token uses: 512. Relative and rotary positions have no
    table, sinusoids are computed as needed.
    """
    limits = []
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Embedding) and ("position_embeddings" in name or "embed_positions" in name):
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(min(module.num_embeddings - skipped, encoder.config.max_position_embeddings))
    return min(limits, default=None)


def config_length_limit(config: PreTrainedConfig) -> int | None:
    """`length_limit` from a config alone: the encoder is built on the meta device."""
    with torch.device("meta"):
        return length_limit(build_encoder(config))


def unique_tensors(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict without aliases of one tensor (safetensors holds each once), on the CPU and contiguous."""
    seen: set[tuple[int, torch.Size]] = set()
    unique = {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and key in seen:
            continue
        seen.add(key)
        unique[name] = tensor.detach().to("cpu").contiguous()
    return unique


def load_tied(module: nn.Module, state: dict[str, torch.Tensor], where: str) -> None:
    """Load a state dict that may lack aliases of tied tensors; anything else missing or left over is an error."""
    result = module.load_state_dict(state, strict=False)
    own = module.state_dict(keep_vars=True)
    loaded = {own[name].data_ptr() for name in state if name in own}
    missing = [name for name in result.missing_keys if own[name].data_ptr() not in loaded]
    if missing or result.unexpected_keys:
        raise LangBridgeError(
            f"{where}: the weights do not fit the config: missing {missing[:5]}, unexpected "
            f"{result.unexpected_keys[:5]} ({len(missing)} and {len(result.unexpected_keys)} in all)"
        )


def load_language_model(path: str | Path, config: PreTrainedConfig, **kwargs: Any) -> PreTrainedModel:
    """The causal language model at a folder or hub id."""
    check_language_model(config, repr(str(path)))
    return _load_whole(AutoModelForCausalLM, path, config=config, **kwargs)


def _load_whole(model_class: Any, path: str | Path, **kwargs: Any) -> PreTrainedModel:
    """`from_pretrained` that ignores unused weights (an encoder-decoder's decoder) and raises for missing ones."""
    check_weights(path)
    logger = logging.getLogger("transformers.modeling_utils")

    # Not by the logger's level: where that is set, transformers reports on tensor parallelism as well.
    def grave(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger.addFilter(grave)
    try:
        model, report = model_class.from_pretrained(str(path), output_loading_info=True, **kwargs)
    except OSError as error:
        raise LangBridgeError(f"{str(path)!r} has a config but no weights that can be read: {error}") from error
    finally:
        logger.removeFilter(grave)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise LangBridgeError(
            f"{str(path)!r} lacks {len(missing)} weights of a {type(model).__name__}, {missing[0]!r} among "
            f"them; expected a complete model"
        )
    return model


def _is_whole(config: PreTrainedConfig) -> bool:
    """Whether transformers has a model class that is this encoder, so that nothing has to be cut out."""
    kind = type(config)
    if kind in MODEL_FOR_TEXT_ENCODING_MAPPING and "encoder" not in kind.sub_configs:
        return True
    return kind not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING


def _model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    kind = type(config)
    if _is_whole(config) and kind in MODEL_FOR_TEXT_ENCODING_MAPPING:
        return MODEL_FOR_TEXT_ENCODING_MAPPING[kind]
    found = MODEL_MAPPING[kind]
    return found[0] if isinstance(found, tuple) else found


def _cut_class_name(config: PreTrainedConfig) -> str:
    with torch.device("meta"):
        return type(build_encoder(config)).__name__


def placed(
    encoder: PreTrainedModel, saved: torch.dtype, dtype: torch.dtype | str | None, device_map: Any
) -> PreTrainedModel:
    """An encoder that was built here, in the precision and on the device that `from_pretrained` would give it."""
    encoder = encoder.to(saved if dtype in (None, "auto") else precision(dtype))
    if isinstance(device_map, dict) and "" in device_map:
        encoder = encoder.to(device_map[""])
    return encoder


def _load_cut_encoder(
    folder: Path, config: PreTrainedConfig, dtype: torch.dtype | str | None = None, **kwargs: Any
) -> PreTrainedModel:
    attention = kwargs.pop("attn_implementation", None)
    if kwargs.pop("quantization_config", None) is not None:
        raise LangBridgeError(
            f"encoder: {folder} holds a cut-out encoder, which cannot be quantised on loading; give the "
            f"original model as encoder="
        )
    if attention is not None:
        config._attn_implementation = attention
    check_weights(folder)
    state = load_file(folder / "model.safetensors")
    encoder = build_encoder(config)
    load_tied(encoder, state, str(folder))
    return placed(encoder, next(iter(state.values())).dtype, dtype, kwargs.get("device_map")).eval()


def _without_pooler(model_class: type[PreTrainedModel]) -> dict[str, bool]:
    """A pooler never runs here, and would be a trainable part without gradient."""
    return (
        {"add_pooling_layer": False}
        if "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
        else {}
    )


def check_source(ids: torch.Tensor, mask: torch.Tensor, limit: int | None, config: PreTrainedConfig) -> None:
    """Raise where the encoder's input is longer than the encoder has positions, or its mask has another shape."""
    if limit is not None and ids.shape[1] > limit:
        raise LangBridgeError(
            f"encoder_input_ids: got {ids.shape[1]} positions, but the encoder ({config.model_type}) has positions for "
            f"{limit}; shorten the text, or let the processor cut it with truncation='encoder'"
        )
    if ids.shape != mask.shape:
        raise LangBridgeError(
            f"encoder_attention_mask: got shape {tuple(mask.shape)}, expected that of encoder_input_ids, "
            f"{tuple(ids.shape)}"
        )
