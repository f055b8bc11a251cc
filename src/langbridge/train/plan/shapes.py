"""The configuration of a base without its weights: from a local folder, the package's notes, or the hub."""

import json
from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig

from langbridge.errors import LangBridgeError
from langbridge.model.encoders import load_config

BASES = Path(__file__).parent / "bases"
"""One JSON file a base, OWNER--NAME.json: the fields of its configuration that decide shapes. See its README."""


def known_bases() -> list[str]:
    """Hub ids of the bases whose shapes the package holds."""
    return sorted(path.stem.replace("--", "/") for path in BASES.glob("*.json"))


def shapes_of(source: str, role: str) -> tuple[PreTrainedConfig, str]:
    """A base's configuration, and where it is from in words. `role` names the base in messages."""
    if Path(source).is_dir():
        return load_config(source, role), "its folder"
    noted = BASES / f"{source.replace('/', '--')}.json"
    if noted.is_file():
        return AutoConfig.for_model(**json.loads(noted.read_text(encoding="utf-8"))), "the package's note of its shapes"
    try:
        return load_config(source, role), "the hub"
    except LangBridgeError as error:
        if source.startswith((".", "/", "~")):  # a wrong path: a list of ids would not help
            raise
        reason = str(error).splitlines()[0]
        raise LangBridgeError(
            f"{reason} (nor does the package hold its shapes; it holds those of {', '.join(known_bases())})"
        ) from None
