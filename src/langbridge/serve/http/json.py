"""JSON as it is sent: text as it is, in whatever script."""

import json
from typing import Any

from starlette.responses import JSONResponse


def as_json(value: Any) -> bytes:
    # Half of a surrogate pair, which a client may send and an error then repeats, has no bytes but as an escape.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


class JSON(JSONResponse):
    def render(self, content: Any) -> bytes:
        return as_json(content)
