"""Several names in one option, as `--languages en,sw`."""

from langbridge.errors import LangBridgeError


def names_in(text: str, option: str) -> list[str]:
    """The names in an option's text. Raises `LangBridgeError` where there is none."""
    found = [item.strip() for item in text.split(",") if item.strip()]
    if not found:
        raise LangBridgeError(f"{option}: got {text!r}, expected names with commas between them")
    return found
