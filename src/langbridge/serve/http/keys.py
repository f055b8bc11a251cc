"""Who may ask: whoever shows a key, where there are keys."""

import hashlib
import hmac
import os
from collections.abc import Sequence
from pathlib import Path

from starlette.requests import HTTPConnection

from langbridge.errors import LangBridgeError
from langbridge.serve.http.errors import Refusal

VARIABLE = "LANGBRIDGE_API_KEYS"
_LEAST = 16
"""Characters of a key. Shorter ones can be found by trying."""


def read_keys(file: Path | None = None) -> list[str]:
    """The keys of the environment variable, separated by commas, and of a file, one a line (`#` begins a comment)."""
    keys = os.environ.get(VARIABLE, "").split(",")
    places = [VARIABLE] * len(keys)
    if file is not None:
        try:
            lines = file.expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise LangBridgeError(f"--api-key-file: {file} cannot be read: {error}") from None
        lines = [line.partition("#")[0] for line in lines]
        if not any(line.strip() for line in lines):
            raise LangBridgeError(f"--api-key-file: there is no key in {file}; without the option none is asked for")
        keys, places = [*keys, *lines], [*places, *(f"{file}, line {number}" for number in range(1, len(lines) + 1))]
    for key, place in zip(keys, places, strict=True):
        if key.strip() and (len(key.strip()) < _LEAST or not key.strip().isascii() or " " in key.strip()):
            raise LangBridgeError(f"{place}: expected keys of at least {_LEAST} ASCII characters without spaces")
    return [key.strip() for key in keys if key.strip()]


class Keys:
    """The keys that are known; with none, everybody may ask."""

    def __init__(self, keys: Sequence[str] = ()):
        self._keys = [key.encode() for key in keys]

    def owner(self, connection: HTTPConnection) -> str:
        """Whose a request is: its key's, or, where none is asked for, its address's. Raises `Refusal`."""
        if not self._keys:
            return connection.client.host if connection.client else ""
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        shown = given.strip().encode() if scheme.lower() == "bearer" else b""
        # All are compared, so that the time does not say which.
        if not max([hmac.compare_digest(shown, key) for key in self._keys]):
            what = "this key is not known" if shown else "no key"
            raise Refusal(
                401,
                f"API key: {what}; send one as `Authorization: Bearer KEY`",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return hashlib.sha256(shown).hexdigest()[:16]
