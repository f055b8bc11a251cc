"""What the server knows of a request while it answers it."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import Scope

_PLACE = "langbridge.visit"


@dataclass
class Visit:
    """owner: whose it is. status: what it was answered, 499 where the client went. leaving: what is done at its end,
    however it comes. notes: what the log says of it."""

    id: str = field(default_factory=lambda: f"req_{secrets.token_hex(12)}")
    began: float = field(default_factory=time.monotonic)
    owner: str = ""
    status: int = 499
    leaving: list[Callable[[], object]] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def begin(scope: Scope) -> Visit:
    visit = scope[_PLACE] = Visit()
    return visit


def visit_of(scope: Scope) -> Visit:
    found: Visit = scope[_PLACE]
    return found
