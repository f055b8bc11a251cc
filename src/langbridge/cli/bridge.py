"""Opening a bridge's folder, for every command that uses one."""

from pathlib import Path
from typing import TYPE_CHECKING

from langbridge.errors import LangBridgeError

if TYPE_CHECKING:
    from langbridge import LangBridgeModel, LangBridgeProcessor


def model_folder(folder: Path) -> Path:
    """`folder`, or an error that says why it is no model's. Cheap, so it comes before torch is loaded."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise LangBridgeError(f"{folder}: {'is a file, expected a folder' if folder.exists() else 'no such folder'}")
    if not (folder / "config.json").is_file():
        raise LangBridgeError(f"{folder}: no config.json in it, so it is not a model's folder")
    return folder


def load_bridge(folder: Path, rows: int = 16) -> "tuple[LangBridgeModel, LangBridgeProcessor]":
    """The model, on the GPU where there is one, and its processor. `rows` are written at a time."""
    folder = model_folder(folder)
    from langbridge import LangBridgeModel, LangBridgeProcessor
    from langbridge.model.devices import in_fitting_precision, usable_device

    processor = LangBridgeProcessor.from_pretrained(folder)
    device = usable_device(None)
    model = LangBridgeModel.from_pretrained(folder, dtype="auto")
    for base in (model.encoder, model.language_model):
        in_fitting_precision(base, device, rows=rows)
    return model.eval().to(device), processor
