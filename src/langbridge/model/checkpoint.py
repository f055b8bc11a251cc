"""A fresh bridge with the processor that belongs to it, and a checkpoint exported with its bases."""

import shutil
from pathlib import Path
from typing import Any

import torch

from langbridge.errors import LangBridgeError
from langbridge.model.bases import ENCODER, LANGUAGE_MODEL, checkpoint_folder
from langbridge.model.language_models import end_ids
from langbridge.model.registering import LangBridgeModel, LangBridgeProcessor
from langbridge.model.saving import appearing, check_no_adapters, write_merged


def build_bridge(
    encoder: Any,
    language_model: Any,
    *,
    connector: Any = "linear",
    template: str = "{prompt}",
    template_in: str = "encoder",
    system: str | None = None,
    drop_bare_tokens: bool = False,
    split_digits: bool = False,
    dtype: torch.dtype | str | None = None,
    processor: LangBridgeProcessor | None = None,
    **kwargs: Any,
) -> tuple[LangBridgeModel, LangBridgeProcessor]:
    """A fresh bridge and the processor that belongs to it, from two local folders or hub ids.

    template, template_in, system: as in `LangBridgeProcessor`. drop_bare_tokens, split_digits: as in its `from_bases`.
    With `template="chat"` the bridge's generation ends where the chat template ends an answer.

    processor: one of these bases with this layout, where there is one already: reading tokenizers takes seconds. Other
    keywords are those of `LangBridgeModel.from_bases`.
    """
    if processor is None:
        processor = LangBridgeProcessor.from_bases(
            encoder, language_model, template=template, template_in=template_in, system=system, connector=connector,
            drop_bare_tokens=drop_bare_tokens, split_digits=split_digits,
        )  # fmt: skip
    shared = ("new_token_ids", "bare_token_ids", "soft_prompt_token_id")
    kwargs = {name: getattr(processor, name) for name in shared} | kwargs
    model = LangBridgeModel.from_bases(encoder, language_model, connector=connector, dtype=dtype, **kwargs)
    end_as_the_template(model, processor)
    return model, processor


def end_as_the_template(model: LangBridgeModel, processor: LangBridgeProcessor) -> None:
    """Let generation end where the processor's chat template ends an answer, if it has one."""
    end, ends = processor.layout.end, end_ids(model.generation_config)
    if end is not None and end not in ends:
        model.generation_config.eos_token_id = [*ends, end]


def export_merged(source: Any, out: Any, *, encoder: Any = None, language_model: Any = None) -> Path:
    """Write a checkpoint with its bases inside, which `from_pretrained` loads alone.

    source: a folder or hub id, of which tokenizers and other files are copied; or a bridge in memory, whose language
    model may have changed, and whose processor is yours to save.
    """
    if isinstance(source, LangBridgeModel):
        check_no_adapters(source)
        with appearing(Path(out)) as draft:
            write_merged(source, draft, own_language_model=True)
        return Path(out)
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
