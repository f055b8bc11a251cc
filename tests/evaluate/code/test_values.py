"""The journey of values between two processes."""

import json
from collections import Counter, OrderedDict
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langbridge.evaluate.code.inside.values import LONGEST_ITERATOR, Opaque, decode, encode

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.fractions()
)
hashable = st.recursive(scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=6)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(hashable, inner, max_size=3) | st.sets(hashable, max_size=3)
    ),
    max_leaves=12,
)


def travelled(value: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value))))


@settings(max_examples=60, deadline=None)  # the machine is shared
@given(values)
def test_what_arrives_equals_what_was_sent(value: Any) -> None:
    arrived = travelled(value)
    assert arrived == value
    if isinstance(value, list | tuple | dict | bool | str | int | float):
        assert type(arrived) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        -(2**63),
        2**63,
        1j,
        range(2, 9, 3),
        Decimal("1.10"),
        Fraction(1, 3),
        Counter("aab"),
        OrderedDict(a=1),
        "\ud800",
    ],
)
def test_rarer_values(value: Any) -> None:
    assert travelled(value) == value


def test_numbers_of_more_digits_than_python_prints() -> None:
    assert travelled(10**5000) == 10**5000


def test_none_and_truth_keep_their_identity() -> None:
    assert [travelled(value) for value in (None, True, False)] == [None, True, False]
    assert travelled(True) is True
    assert travelled(1) is not True


def test_iterators_arrive_as_iterators_of_bounded_length() -> None:
    def forever() -> Any:
        while True:
            yield 1

    assert tuple(travelled(iter([1, 2]))) == (1, 2)
    assert sum(travelled(forever())) == LONGEST_ITERATOR


def test_anything_else_equals_nothing() -> None:
    arrived = travelled(object())
    assert isinstance(arrived, Opaque)
    assert arrived != travelled(object())
    assert repr(travelled(len)) == "<builtin_function_or_method>"


@pytest.mark.parametrize("line", [{"a": 1, "b": 2}, {"exec": "x"}, {"int": 5}, {"dict": [1]}, {}, {"set": [[1]]}])
def test_what_encode_never_wrote_is_refused(line: Any) -> None:
    with pytest.raises(ValueError, match=r"not a value|unpack"):
        decode(line)
