"""Test Node: values with their JSON pointers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.config_node import Node, closest
from rootless.errors import SpecError


def test_pointers_are_escaped() -> None:
    assert Node({"a/b": {"~c": 1}})["a/b"]["~c"].pointer == "/a~1b/~0c"


def test_members_of_nothing_are_nothing() -> None:
    node = Node(None)["a"]["b"]
    assert not node
    assert (node.pointer, node.items(), node.string("x"), list(node.members())) == ("/a/b", [], "x", [])


def test_empty_counts_as_a_value() -> None:
    assert Node({"a": {}})["a"]
    assert not Node({"a": None})["a"]


@pytest.mark.parametrize(("value", "number"), [(3, 3), (3.0, 3), (1e3, 1000)])
def test_a_whole_float_is_an_integer(value: Any, number: int) -> None:
    assert Node(value).integer() == number


@pytest.mark.parametrize("value", [True, "1", 1.5, [], {}, 2**64, -(2**63) - 1, float("inf")])
def test_what_is_no_integer(value: Any) -> None:
    with pytest.raises(SpecError):
        Node(value, "/n").integer()


@pytest.mark.parametrize("value", ["a\0b", "\ud800", 1, True, [], {}])
def test_what_is_no_string(value: Any) -> None:
    with pytest.raises(SpecError) as caught:
        Node(value, "/s").string()
    assert caught.value.where == "/s"


def test_choice_says_what_was_meant() -> None:
    with pytest.raises(SpecError) as caught:
        Node("netwrok", "/t").choice({"network": 1, "pid": 2})
    assert "did you mean 'network'" in caught.value.hint
    assert closest("zzz", ["network"]) == ""


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(st.text(max_size=3), below, max_size=3)),
    max_leaves=6,
)
_READERS = ("string", "boolean", "integer", "uint32", "items", "strings", "string_map", "required")


@given(_JSON, st.sampled_from(_READERS))
def test_a_reader_reads_or_complains_with_the_place(value: Any, reader: str) -> None:
    try:
        getattr(Node(value, "/here"), reader)()
    except SpecError as error:
        assert error.where.startswith("/here")
        assert error.message().isprintable()
