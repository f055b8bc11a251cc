"""From the columns of a row to one text: a column's name, or a template over several columns.

question                             the column `question`
{system_prompt}\\n\\n{question}      two columns with an empty line between them
{{odd}}                              the column `{odd}`: doubled braces are braces

A column holds text, a number or a conversation, which gives what its user asks to the prompt and the answer to the
target.
"""

import math
import string
from collections.abc import Mapping
from typing import Any

from langbridge.data.chats import Side, turn_of
from langbridge.errors import LangBridgeError
from langbridge.files import BadRow, text_field

_PARSER = string.Formatter()


def check_template(template: str, key: str) -> None:
    """Raise `LangBridgeError` that names the setting `key` where `template` is neither a column nor a template."""
    try:
        Columns(template)
    except LangBridgeError as error:
        raise LangBridgeError(f"{key}: {error}") from None


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

        A column that stands alone must hold something. In a template a column may be empty, or null: the white space
        that it leaves at the ends goes, and what is left must be text. Raises `BadRow`.
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
    """A number has, unless it has an exponent. True may be meant as true, True or yes."""
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
