"""Strict dataclasses from plain mappings: the part of it that reads YAML and overrides.

How a value is read by the declared type of its field is `langbridge.schema`'s. PyYAML takes the last of two equal keys
in silence; here that is an error with its line.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

import yaml

from langbridge.errors import LangBridgeError
from langbridge.schema import Variants, build, check_bounds, close_to, dataclass_of, join, kinds_of

__all__ = ["build", "check_bounds", "load_yaml", "set_dotted"]


def set_dotted(mapping: dict[str, Any], cls: type, assignment: str) -> None:
    """Carry one `a.b=value` into `mapping`, in place; the value is read as YAML unless the field is text."""
    dotted, equals, text = assignment.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise LangBridgeError(f"{assignment!r}: expected key=value, as in train.learning_rate=1e-3")
    kinds: Mapping[str, Any] = kinds_of(cls)
    for depth, key in enumerate(keys):
        path = ".".join(keys[:depth])
        if key not in kinds:
            raise LangBridgeError(f"{join(path, key)}: unknown key{close_to(key, kinds, path)}")
        kind = kinds[key]
        if depth == len(keys) - 1:
            break
        nested = dataclass_of(kind)
        if nested is None:
            raise LangBridgeError(f"{'.'.join(keys)}: {join(path, key)} holds a value, not keys")
        if issubclass(nested, Variants):
            value = mapping[key] if key in mapping else _default(cls, key)
            mapping[key] = nested.as_mapping(value, join(path, key))
            nested = nested.variant(mapping[key], join(path, key))
        if not isinstance(mapping.setdefault(key, {}), dict):
            raise LangBridgeError(f"{join(path, key)}: expected keys and values")
        mapping, kinds, cls = mapping[key], kinds_of(nested), nested
    is_text = kind is str or (str in get_args(kind) and text != "null")
    try:
        mapping[keys[-1]] = text if is_text else yaml.safe_load(text)
    except yaml.YAMLError:
        raise LangBridgeError(f"{dotted}: cannot read {text!r} as a value") from None


def _default(cls: type, key: str) -> Any:
    (field,) = (field for field in dataclasses.fields(cls) if field.name == key)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


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
