"""Python values as JSON lines between checker and candidate.

Only plain data travels, so reading what a hostile process sent runs nothing of its making (`pickle` would). What
compares equal in one process compares equal after the journey; an object of any other kind arrives as an `Opaque`,
which equals nothing.
"""

import sys
from collections.abc import Iterator, Mapping, Set
from itertools import islice
from typing import Any

LONGEST_ITERATOR = 100_000
"""Items read off an iterator that a program returned instead of a list."""


class Opaque:
    """A value that is not plain data."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def encode(value: Any) -> Any:
    """A value as what JSON can hold: scalars and lists as they are, everything else as `{kind: content}`."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # As text: JSON readers and Python itself bound the digits of a number.
        return int(value) if -(2**63) < value < 2**63 else {"int": hex(value)}
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, Set):  # dict_keys too
        return {"frozenset" if isinstance(value, frozenset) else "set": [encode(item) for item in value]}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, Iterator):
        return {"iterator": [encode(item) for item in islice(value, LONGEST_ITERATOR)]}
    # Imported only by a program that returns one.
    if "decimal" in sys.modules and isinstance(value, sys.modules["decimal"].Decimal):
        return {"decimal": str(value)}
    if "fractions" in sys.modules and isinstance(value, sys.modules["fractions"].Fraction):
        return {"fraction": [encode(value.numerator), encode(value.denominator)]}
    return {"opaque": type(value).__name__}


def decode(value: Any) -> Any:
    """The value that `encode` wrote; raises `ValueError` for anything that it cannot have written."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise ValueError("not a value")
    ((kind, content),) = value.items()
    try:
        return _DECODERS[kind](content)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a value of kind {kind!r}") from error


def _decimal(content: str) -> Any:
    from decimal import Decimal

    return Decimal(content)


def _fraction(content: list[Any]) -> Any:
    from fractions import Fraction

    return Fraction(*decode(content))


_DECODERS: dict[str, Any] = {
    "int": lambda content: int(content, 16),
    "complex": lambda content: complex(*content),
    "bytes": bytes.fromhex,
    "tuple": lambda content: tuple(decode(content)),
    "dict": lambda content: {decode(key): decode(item) for key, item in content},
    "set": lambda content: set(decode(content)),
    "frozenset": lambda content: frozenset(decode(content)),
    "range": lambda content: range(*content),
    "iterator": lambda content: iter(decode(content)),
    "decimal": _decimal,
    "fraction": _fraction,
    "opaque": Opaque,
}
