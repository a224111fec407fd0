"""Encode and decode criu's messages: protocol buffers."""

import pytest

from rootless.runtime.criu import decode, encode


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ([(1, 1)], b"\x08\x01"),
        ([(1, 150)], b"\x08\x96\x01"),
        ([(3, True)], b"\x18\x01"),
        ([(2, "testing")], b"\x12\x07testing"),
        ([(3, [(1, 150)])], b"\x1a\x03\x08\x96\x01"),
        ([(38, 0x40000000)], b"\xb0\x02\x80\x80\x80\x80\x04"),
        ([(1, -1)], b"\x08" + b"\xff" * 9 + b"\x01"),
    ],
)
def test_encode(fields, data) -> None:
    """The examples of protobuf.dev/programming-guides/encoding are right, and numbers beyond one byte."""
    assert encode(fields) == data


def test_decode_keeps_every_value_of_a_field() -> None:
    data = encode([(1, 6), (2, True), (5, [(1, "post-restore"), (2, 4711)]), (9, "a"), (9, "b")])
    found = decode(data)
    assert (found[1], found[2], found[9]) == ([6], [1], [b"a", b"b"])
    assert decode(found[5][0]) == {1: [b"post-restore"], 2: [4711]}


@pytest.mark.parametrize("data", [b"\x80", b"\x08", b"\x0d\x00\x00\x00\x00"])
def test_what_is_no_message(data) -> None:
    with pytest.raises(ValueError):
        decode(data)
