"""Strict dataclasses from plain mappings: the machinery under `recipe.py`.

PyYAML reads `6e-4` as text and `no` as false, and takes the last of two equal keys in silence. So the
declared type of a field decides how its value is read, and what does not fit is an error with its dotted
path.
"""

import dataclasses
import difflib
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from langbridge.errors import LangBridgeError

T = TypeVar("T")


def build(cls: type[T], mapping: Any, path: str = "") -> T:
    """`cls` from a mapping; nested dataclasses from nested mappings. `path` is where the mapping stands."""
    if not isinstance(mapping, Mapping):
        raise LangBridgeError(f"{path or 'the top level'}: expected keys and values, got {_shown(mapping)}")
    kinds = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        dotted = _join(path, key)
        if key not in kinds:
            raise LangBridgeError(f"{dotted}: unknown key{_close(str(key), kinds, path)}")
        if _is_dataclass(kinds[key]):
            values[key] = build(kinds[key], value, dotted)
        else:
            values[key] = read(value, kinds[key], dotted)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise LangBridgeError(f"{_join(path, field.name)}: missing, and it has no default")
    try:
        return cls(**values)
    except LangBridgeError as error:
        # A dataclass knows its own field names; only here is it known where the dataclass stands.
        raise LangBridgeError(_join(path, str(error))) from None


def check_bounds(instance: Any) -> None:
    """Hold every field to its type and to `at_least` or `above` in its metadata; for `__post_init__`.

    A value that only needs reading (`"1e-3"` for a number) is replaced by what it reads as.
    """
    kinds = get_type_hints(type(instance))
    for field in dataclasses.fields(instance):
        value, kind = getattr(instance, field.name), kinds[field.name]
        if _is_dataclass(kind):
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


def set_dotted(mapping: dict[str, Any], cls: type, assignment: str) -> None:
    """Carry one `a.b=value` into `mapping`, in place; the value is read as YAML unless the field is text."""
    dotted, equals, text = assignment.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise LangBridgeError(f"{assignment!r}: expected key=value, as in train.learning_rate=1e-3")
    kinds: Mapping[str, Any] = get_type_hints(cls)
    for depth, key in enumerate(keys):
        path = ".".join(keys[:depth])
        if key not in kinds:
            raise LangBridgeError(f"{_join(path, key)}: unknown key{_close(key, kinds, path)}")
        kind = kinds[key]
        if depth == len(keys) - 1:
            break
        if not _is_dataclass(kind):
            raise LangBridgeError(f"{'.'.join(keys)}: {_join(path, key)} holds a value, not keys")
        if not isinstance(mapping.setdefault(key, {}), dict):
            raise LangBridgeError(f"{_join(path, key)}: expected keys and values")
        mapping, kinds = mapping[key], get_type_hints(kind)
    is_text = kind is str or (str in get_args(kind) and text != "null")
    try:
        mapping[keys[-1]] = text if is_text else yaml.safe_load(text)
    except yaml.YAMLError:
        raise LangBridgeError(f"{dotted}: cannot read {text!r} as a value") from None


def read(value: Any, kind: Any, path: str) -> Any:
    """`value` as the declared `kind`, or an error that names `path`, what was expected and what came."""
    options = get_args(kind)
    if get_origin(kind) is Literal:
        if not isinstance(value, str) or value not in options:
            raise LangBridgeError(f"{path}: expected one of {', '.join(options)}, got {_shown(value)}")
        return value
    if get_origin(kind) in (Union, types.UnionType):
        if value is None:
            return None
        (kind,) = (option for option in options if option is not type(None))
        return read(value, kind, path)
    number = _number(value)
    if kind is float and number is not None:
        return float(number)
    if kind is int and number is not None and number == int(number):
        return int(number)
    if kind in (str, bool) and isinstance(value, kind):
        return value
    name = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}[kind]
    raise LangBridgeError(f"{path}: expected {name}, got {_shown(value)}")


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


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _close(key: str, names: Mapping[str, Any], path: str) -> str:
    close = difflib.get_close_matches(key, names, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(_join(path, name) for name in close)}?"
    return f"; known here: {', '.join(names)}"


def load_yaml(text: str, name: str) -> Any:
    """Plain YAML as Python values; broken syntax and repeated keys are errors with `name` and the line."""
    try:
        _refuse_repeated_keys(yaml.compose(text, yaml.SafeLoader), name)
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise LangBridgeError(f"{name}{line}: broken YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise LangBridgeError(f"{name}: broken YAML: {error}") from None


def _refuse_repeated_keys(node: yaml.Node | None, name: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise LangBridgeError(f"{name}:{key.start_mark.line + 1}: the key {key.value!r} stands twice")
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
            _refuse_repeated_keys(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(value, name)
