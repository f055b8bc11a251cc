"""What recipes and their blocks are made of: pydantic models that refuse what they do not know, with our messages.

A setting is a field with a type, a default and a docstring; pydantic's types hold bounds (`PositiveInt`).
"""

import difflib
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from langbridge.errors import LangBridgeError

_EXPECTED = {
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "model": "keys and values",
    "string": "text",
    "too": "a list",
    "tuple": "a list",
}
"""By the first word of the type of pydantic's error, where its own message speaks of Python's types."""


class Settings(BaseModel):
    """Base of every block of settings. Its errors are `LangBridgeError`, with the dotted path of the first mistake.

    A validator raises `LangBridgeError` too. Of a whole block, its message begins with a key: `path: missing`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise LangBridgeError(_message(error)) from None

    # A model inside another is then made without `__init__`, so that all errors come with their whole path.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def read(cls, value: Any, path: str = "") -> Self:
        """The settings from keys and values. `path` is where these stand."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise LangBridgeError(_message(error, path)) from None

    def to_dict(self) -> dict[str, Any]:
        """Every setting as plain values, defaults included, as YAML and JSON have them."""
        return self.model_dump(mode="json", serialize_as_any=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        for key in value if isinstance(value, Mapping) else ():
            if key not in cls.model_fields:
                raise PydanticCustomError("unknown_key", "unknown", {"key": str(key), "known": list(cls.model_fields)})
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _as_declared(cls, value: Any, info: ValidationInfo) -> Any:
        """PyYAML reads `1e3` as text and `no` as false, and what an override says may be of any type."""
        declared = cls.model_fields[str(info.field_name)].annotation
        kinds = {getattr(kind, "__origin__", kind) for kind in (declared, *get_args(declared))}
        if isinstance(value, _Override):
            if str in kinds and not (value == "null" and NoneType in kinds):
                return str(value)
            try:
                value = yaml.safe_load(value)
            except yaml.YAMLError:
                raise LangBridgeError(f"cannot read {str(value)!r} as a value") from None
        if isinstance(value, bool) and kinds & {int, float}:
            raise PydanticKnownError("int_type" if int in kinds else "float_type")
        if isinstance(value, str) and int in kinds:
            with suppress(ValueError):
                return float(value)
        return "no" if value is False and "no" in kinds else value


class _Override(str):
    """What stands behind `a.b=`; the type of its field says how to read it."""


def override(mapping: dict[str, Any], assignment: str) -> None:
    """Carry one `a.b=value`, or `a.0.b=value` where `a` is a list, into `mapping`, in place."""
    dotted, equals, text = assignment.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise LangBridgeError(f"override {assignment!r}: expected key=value, as in train.learning_rate=1e-3")
    block: Any = mapping
    for depth, key in enumerate(keys, start=1):
        place: Any = key
        if isinstance(block, list):
            if not key.isdecimal() or int(key) >= len(block):
                raise LangBridgeError(f"{'.'.join(keys[:depth])}: expected a place in the list, 0 to {len(block) - 1}")
            place = int(key)
        if depth == len(keys):
            block[place] = _Override(text)
            return
        inner = (block[place] if isinstance(block, list) else block.get(place)) or {}
        if not isinstance(inner, dict | list):  # a kind alone, as in `connector: resampler`
            inner = {"kind": inner}
        block[place] = inner
        block = inner


def read_yaml(path: Path) -> Any:
    """A file of plain YAML as Python values. Raises `LangBridgeError` with file and line."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise LangBridgeError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise LangBridgeError(f"{path}{line}: broken YAML: {getattr(error, 'problem', None) or error}") from None


class _Loader(yaml.SafeLoader):
    """PyYAML itself takes the last of two equal keys in silence."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: list[Any] = []
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.append(key.value)
        return node


def join(path: str, key: str | int) -> str:
    """The dotted path of a key, or of an index."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def _message(error: ValidationError, path: str = "") -> str:
    """Of the first mistake; of an unknown key before all others, since what is missing may be that key misspelt."""
    found = min(error.errors(include_url=False), key=lambda one: one["type"] != "unknown_key")
    for key in found["loc"]:
        path = join(path, key)
    kind, about, got = found["type"], found.get("ctx", {}), found["input"]
    if kind == "unknown_key":
        close = difflib.get_close_matches(about["key"], about["known"], n=3, cutoff=0.6)
        meant = f"did you mean {' or '.join(join(path, name) for name in close)}?" if close else ""
        return f"{join(path, about['key'])}: unknown key; {meant or 'known here: ' + ', '.join(about['known'])}"
    if kind == "value_error":
        text = str(about["error"])
        return join(path, text) if re.match(r"[\w.\[\]]+: ", text) or not path else f"{path}: {text}"
    if kind == "missing":
        return f"{path}: missing, and it has no default"
    expected = _EXPECTED.get(kind.partition("_")[0]) or found["msg"].removeprefix("Input should be ")
    return f"{path}: expected {expected}, got {'nothing' if got is None else f'{got!r} ({type(got).__name__})'}"
