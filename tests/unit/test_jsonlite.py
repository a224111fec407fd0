"""jsonlite reads and writes what the json package reads and writes."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.startup import jsonlite

_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda below: st.one_of(st.lists(below), st.dictionaries(st.text(), below)),
    max_leaves=20,
)


@given(_JSON, st.sampled_from([0, 1, 2, 4]))
def test_what_is_written_is_read_again_by_both(value: Any, indent: int) -> None:
    text = jsonlite.dumps(value, indent)
    assert json.loads(text) == value
    assert jsonlite.loads(text.encode()) == value


@given(_JSON, st.sampled_from([2, 4]))
def test_indented_as_the_package_does(value: Any, indent: int) -> None:
    assert jsonlite.dumps(value, indent) == json.dumps(value, indent=indent)


@given(_JSON, st.sampled_from([None, 2]), st.booleans())
def test_reads_what_the_package_writes(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate has no UTF-8
    assert jsonlite.loads(data) == value


def outcome(read: Any, data: bytes) -> Any:
    try:
        return repr(read(data))
    except ValueError:
        return "refused"


def strictly(data: bytes) -> Any:
    def refuse(name: str) -> Any:
        raise ValueError(name)

    return json.loads(data.decode("utf-8"), parse_constant=refuse)


@given(
    st.one_of(st.binary(max_size=20), st.text('[]{}",:.0123456789eE+-ntfalsru \\\n\t\x01', max_size=20).map(str.encode))
)
def test_any_bytes_give_the_packages_answer(data: bytes) -> None:
    assert outcome(jsonlite.loads, data) == outcome(strictly, data)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "[NaN]", "", " ", "[1,]", "{'a':1}", "\ufeff{}",
                                  "[" * 100000, '"\x01"', "01", "1 2"])  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        jsonlite.loads(text.encode())


def test_a_number_that_no_float_holds_is_not_written_as_a_word() -> None:
    """1e999 reads as infinity.

    It is written as JSON all the same, because the state could not be read again otherwise.
    """
    value = jsonlite.loads(b"1e999")
    assert math.isinf(value)
    assert outcome(strictly, jsonlite.dumps(value).encode()) != "refused"
