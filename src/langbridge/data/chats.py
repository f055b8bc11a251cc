"""The texts of a conversation: what its user asks first, and what the assistant answers.

[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
[{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]
"""

from collections.abc import Mapping
from typing import Any, Literal

from langbridge.files import BadRow

Side = Literal["user", "assistant"]

_ROLES: Mapping[str, Side] = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


def turn_of(turns: list[Any], side: Side, where: str) -> str:
    """The text of the user's first turn, or of the assistant's that answers it; `where` begins the error of a bad row.

    Turns before the user's (a system prompt) and after the answer are not read. A list without a user's turn is an
    answer by itself, as in rows of a prompt and a completion: its first turn has to be the assistant's. Content that is
    in parts is joined. Raises `BadRow`.
    """
    roles = [_role(turn, f"{where}, turn {number}") for number, turn in enumerate(turns, start=1)]
    asked = roles.index("user") if "user" in roles else None
    if side == "user":
        if asked is None:
            raise BadRow(f"{where}: no turn is the user's; the turns are {_listed(roles)}", "no user turn")
        place = asked
    else:
        place = 0 if asked is None else asked + 1
        if roles[place : place + 1] != ["assistant"]:
            after = "at the beginning" if asked is None else f"after turn {place}, the user's"
            raise BadRow(f"{where}: no assistant's turn {after}; the turns are {_listed(roles)}", "no assistant turn")
    return _content(turns[place], f"{where}, turn {place + 1}")


def _role(turn: Any, where: str) -> str:
    """Whose turn it is, by the names of the one layout or the other."""
    role = turn.get("role", turn.get("from")) if isinstance(turn, dict) else None
    if not isinstance(role, str):
        raise BadRow(f"{where}: expected role and content, or from and value, got {_shown(turn)}", "not a turn")
    return _ROLES.get(role, role)


def _content(turn: dict[str, Any], where: str) -> str:
    content = turn.get("content" if "role" in turn else "value")
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise BadRow(f"{where}: expected parts with type text and a text, got {_shown(part)}", "not text")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise BadRow(f"{where}: expected text or parts of text, got {_shown(content)}", "not text")
    return content


def _listed(roles: list[str]) -> str:
    return ", ".join(roles[:6]) + (" and more" if len(roles) > 6 else "") if roles else "none at all"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        kind = value.get("type")
        return f"type {kind!r}" if isinstance(kind, str) else f"an object with {', '.join(value) or 'nothing'}"
    return "nothing" if value is None else type(value).__name__
