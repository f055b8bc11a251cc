"""From the columns of a row to one text: a column's name, or a template over several columns.

question                             the column `question`
{system_prompt}\\n\\n{question}      two columns with an empty line between them
{{odd}}                              the column `{odd}`: doubled braces are braces

A column holds text, a number or a conversation, whose user turn is the prompt and whose answer is the target:

[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
[{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]
"""

import math
import string
from collections.abc import Mapping
from typing import Any, Literal

from langbridge.errors import LangBridgeError
from langbridge.files import BadRow, text_field
from langbridge.model.sequence import message_text

_PARSER = string.Formatter()

Side = Literal["user", "assistant"]

_ROLES: Mapping[str, Side] = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


class Columns:
    """One text from a row. `names` are the columns that it needs, in order and each once.

    side: whose turn it takes of a column that holds a conversation; with None such a column is an error.
    """

    def __init__(self, template: str, side: Side | None = None) -> None:
        self.template = template
        self._side = side
        self._parts = _parsed(template)
        self._column = None
        if not any(name is not None for _, name in self._parts):
            # No column in braces: the whole is a column's name, and doubled braces have become single ones.
            self._column = "".join(literal for literal, _ in self._parts)
            if not self._column:
                raise LangBridgeError("expected a column's name or a template over columns, got an empty text")
        found = [self._column] if self._column is not None else [name for _, name in self._parts]
        self.names: tuple[str, ...] = tuple(dict.fromkeys(name for name in found if name is not None))

    def __call__(self, row: Mapping[str, Any], where: str) -> str:
        """The text of `row`; `where` begins the error of a bad one.

        A single column must not be empty. In a template some columns may be empty or null; the result is then stripped.
        Raises `BadRow`.
        """
        if self._column is not None:
            return self._text(row, self._column, where)
        values = {name: self._text(row, name, where, empty=True) for name in self.names}
        text = "".join(literal + (values[name] if name is not None else "") for literal, name in self._parts)
        if not any(value.strip() for value in values.values()):
            raise BadRow(f"{where}: the fields {', '.join(map(repr, self.names))} are all empty", "empty text")
        return text if all(values.values()) else text.strip()

    def _text(self, row: Mapping[str, Any], name: str, where: str, *, empty: bool = False) -> str:
        value = row.get(name)
        if empty and value is None and name in row:
            return ""
        if isinstance(value, list) and self._side is not None:
            row = {name: turn_of(value, self._side, f"{where}, field {name!r}")}
        elif _has_one_text(value):
            row = {name: str(value)}
        return text_field(row, name, where, empty=empty)


def _has_one_text(value: Any) -> bool:
    """Numbers without an exponent do; a boolean could be written true, True or yes."""
    if isinstance(value, float):
        return math.isfinite(value) and "e" not in str(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _parsed(template: str) -> list[tuple[str, str | None]]:
    """Literal text with the column that follows it, in order."""
    try:
        parts = list(_PARSER.parse(template))
    except ValueError as error:
        raise LangBridgeError(f"{template!r} is no template ({error}); write {{{{ and }}}} for braces") from None
    for _, name, specification, conversion in parts:
        if name is not None and (not name or specification or conversion):
            raise LangBridgeError(
                f"{template!r}: expected only names of columns in braces, as in {{question}}; write {{{{ and }}}} for "
                "braces"
            )
    return [(literal, name) for literal, name, _, _ in parts]


def turn_of(turns: list[Any], side: Side, where: str) -> str:
    """The user's first turn, or the assistant's answer to it; `where` begins the error of a bad row.

    Turns before the user's (a system prompt) and after the answer are ignored. A list without a user's turn is an
    answer by itself, as in rows of a prompt and a completion, and must begin with the assistant's turn. Content in
    parts is joined. Raises `BadRow`.
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
    text = message_text(content)
    if text is not None:
        return text
    for part in content if isinstance(content, list) else []:
        if message_text([part]) is None:
            raise BadRow(f"{where}: expected parts with type text and a text, got {_shown(part)}", "not text")
    raise BadRow(f"{where}: expected text or parts of text, got {_shown(content)}", "not text")


def _listed(roles: list[str]) -> str:
    return ", ".join(roles[:6]) + (" and more" if len(roles) > 6 else "") if roles else "none at all"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        kind = value.get("type")
        return f"type {kind!r}" if isinstance(kind, str) else f"an object with {', '.join(value) or 'nothing'}"
    return "nothing" if value is None else type(value).__name__
