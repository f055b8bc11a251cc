"""Strict dataclasses from plain mappings: what a recipe and its blocks are read with.

PyYAML reads `6e-4` as text and `no` as false. So the declared type of a field decides how its value is read, and what
does not fit is an error with its dotted path. How a recipe's YAML and its overrides are read is `train.schema`'s.
"""

import dataclasses
import difflib
import math
import types
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

from langbridge.errors import LangBridgeError

T = TypeVar("T")


class Variants(ABC):
    """Base of a dataclass with subclasses: the value itself says which of them reads it."""

    @staticmethod
    @abstractmethod
    def as_mapping(value: Any, path: str) -> dict[str, Any]:
        """The value with its short forms written out; an error that names `path` where it is none."""

    @staticmethod
    @abstractmethod
    def variant(mapping: Mapping[str, Any], path: str) -> type:
        """The subclass that reads such a mapping."""


def build(cls: type[T], mapping: Any, path: str = "") -> T:
    """`cls` from a mapping; nested dataclasses from nested mappings. `path` is where the mapping stands."""
    if not isinstance(mapping, Mapping):
        raise LangBridgeError(f"{path or 'the top level'}: expected keys and values, got {_shown(mapping)}")
    kinds = kinds_of(cls)
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        dotted = join(path, key)
        if key not in kinds:
            raise LangBridgeError(f"{dotted}: unknown key{close_to(str(key), kinds, path)}")
        values[key] = read(value, kinds[key], dotted)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise LangBridgeError(f"{join(path, field.name)}: missing, and it has no default")
    try:
        return cls(**values)
    except LangBridgeError as error:
        # A dataclass knows its own field names; only here is it known where the dataclass stands.
        raise LangBridgeError(join(path, str(error))) from None


def check_bounds(instance: Any) -> None:
    """Hold every field to its type and to `at_least` or `above` in its metadata; for `__post_init__`.

    A value that only needs reading (`"1e-3"` for a number) is replaced by what it reads as.
    """
    kinds = kinds_of(type(instance))
    for field in dataclasses.fields(instance):
        value, kind = getattr(instance, field.name), kinds[field.name]
        if _is_dataclass(kind) and not issubclass(kind, Variants):
            if not isinstance(value, kind):
                raise LangBridgeError(f"{field.name}: expected {kind.__name__}(...), got {_shown(value)}")
            continue
        value = read(value, kind, field.name)
        object.__setattr__(instance, field.name, value)  # the dataclasses are frozen for everyone else
        if value is None:
            continue
        low = field.metadata.get("at_least")
        if low is not None and value < low:
            raise LangBridgeError(f"{field.name}: expected at least {low}, got {value}")
        low = field.metadata.get("above")
        if low is not None and value <= low:
            raise LangBridgeError(f"{field.name}: expected more than {low}, got {value}")


def read(value: Any, kind: Any, path: str) -> Any:
    """`value` as the declared `kind`, or an error that names `path`, what was expected and what came."""
    options = get_args(kind)
    if get_origin(kind) is Literal:
        if value is False and "no" in options:
            value = "no"  # as YAML reads it
        if not isinstance(value, str) or value not in options:
            raise LangBridgeError(f"{path}: expected one of {', '.join(options)}, got {_shown(value)}")
        return value
    if get_origin(kind) in (Union, types.UnionType):
        if value is None:
            return None
        (kind,) = (option for option in options if option is not type(None))
        return read(value, kind, path)
    if _is_dataclass(kind):
        if isinstance(value, kind):
            return value
        if issubclass(kind, Variants):
            value = kind.as_mapping(value, path)
            kind = kind.variant(value, path)
        return build(kind, value, path)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not value:
            raise LangBridgeError(f"{path}: expected a list, got {_shown(value)}")
        return tuple(read(item, options[0], f"{path}[{i}]") for i, item in enumerate(value))
    number = _number(value)
    if kind is float and number is not None:
        return float(number)
    if kind is int and number is not None and number == int(number):
        return int(number)
    if kind in (str, bool) and isinstance(value, kind):
        return value
    name = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}[kind]
    raise LangBridgeError(f"{path}: expected {name}, got {_shown(value)}")


def kinds_of(cls: type) -> dict[str, Any]:
    """The declared type of every field of a dataclass."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def dataclass_of(kind: Any) -> type | None:
    """The dataclass that a field of this type holds, be it optional; None where it holds something else."""
    options = () if get_origin(kind) is tuple else get_args(kind)
    return next((option for option in (kind, *options) if _is_dataclass(option)), None)


def join(path: str, key: Any) -> str:
    """The dotted path of a key."""
    return f"{path}.{key}" if path else str(key)


def close_to(key: str, names: Mapping[str, Any], path: str) -> str:
    """The end of an error about an unknown key: what was probably meant, or what there is."""
    close = difflib.get_close_matches(key, names, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(join(path, name) for name in close)}?"
    return f"; known here: {', '.join(names)}"


def _is_dataclass(kind: Any) -> TypeGuard[type]:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = value if isinstance(value, int) else float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})" if value is not None else "nothing"
