"""The model that a folder or hub id holds, ready to be asked: a bridge, or a language model of either kind."""

from pathlib import Path
from typing import Any

from langbridge.errors import LangBridgeError
from langbridge.evaluate.asking import Asker, BridgeAsker, HarnessAsker
from langbridge.evaluate.causal import CausalAsker
from langbridge.evaluate.harness import LangBridgeLM
from langbridge.evaluate.suites import quiet_harness
from langbridge.model.devices import in_fitting_precision, precision, usable_device
from langbridge.model.intact import check_config, check_tokenizer, check_weights
from langbridge.model.sequence import CHAT
from langbridge.serve.templates import template_text


def load_asker(
    name: str,
    *,
    template: str | None = None,
    shots_in: str = "encoder",
    dtype: str = "auto",
    device: str | None = None,
    batch_size: int = 16,
    max_length: int | None = None,
    revision: str | None = None,
) -> tuple[Asker, dict[str, Any]]:
    """A model to ask, and what a report says of it: name, kind, revisions.

    template: for a bridge its processor's own where none is given; for other models the chat template of the tokenizer
    where it has one, else none. `chat` is the chat template of the language model, which a bridge has in it.
    max_length: of the encoder's input of a bridge, of the whole sequence of other models.
    """
    config = _config(name, revision)
    kind = str(config.get("model_type"))
    if kind == "langbridge":
        text = template if template in (None, CHAT) else template_text(template)
        if text is not None and "{language}" in text:
            raise LangBridgeError("--template: a bridge formats all languages alike, so {language} has no value")
        lm = LangBridgeLM(
            name,
            dtype=dtype,
            device=device,
            batch_size=batch_size,
            max_encoder_length=max_length,
            template=text,
            revision=revision,
        )
        bases = {role: getattr(lm.model.config, f"{role}_base") or {} for role in ("encoder", "language_model")}
        about = {
            "name": name,
            "revision": revision,
            "bases": {role: {key: base.get(key) for key in ("id", "revision")} for role, base in bases.items()},
        }
        return BridgeAsker(lm, shots_in), about
    if shots_in != "encoder":
        raise LangBridgeError(f"--shots-in: {name} is no bridge: it has no encoder to choose against")
    from accelerate import Accelerator, PartialState
    from lm_eval.models.huggingface import HFLM

    chosen, two_sided = usable_device(device), bool(config.get("is_encoder_decoder"))
    precise = precision(dtype)
    state = PartialState(cpu=chosen.type == "cpu")  # who this process is, where torchrun started several
    check_weights(name)
    check_tokenizer(name)
    try:
        with quiet_harness():
            lm = HFLM(
                pretrained=name,
                backend="seq2seq" if two_sided else "causal",
                dtype=precise,
                device=str(chosen),
                batch_size=batch_size,
                max_length=max_length,
                truncation=True,
                **({} if revision is None else {"revision": revision}),
            )
    except (OSError, ValueError) as error:
        # The rest of the message is a list of all architectures that there are.
        reason = str(error).strip().split("\n")[0]
        as_what = "an encoder-decoder" if two_sided else "a causal language model"
        raise LangBridgeError(f"{name}: model_type {kind!r} cannot be loaded as {as_what}: {reason}") from error
    # The end of a prompt is its question; where a tokenizer has a limit, it would cut that.
    lm.tokenizer.truncation_side = "left"
    if dtype == "auto":
        in_fitting_precision(lm.model, chosen, rows=batch_size)
    if state.num_processes > 1 and lm.world_size == 1:
        # The harness shares the questions only among several GPUs of one machine; processes on CPUs can as well.
        lm.accelerator = Accelerator(cpu=state.device.type == "cpu")
        lm._rank, lm._world_size = state.process_index, state.num_processes
    if template is None:
        template = CHAT if lm.tokenizer.chat_template else "plain"
    about = {"name": name, "revision": getattr(lm.config, "_commit_hash", None) or revision, "model_type": kind}
    return (HarnessAsker if two_sided else CausalAsker)(lm, template, batch_size), about


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
