"""Encode and decode the attributes that keep what a user with one id cannot write: owners, and types of devices.

user.rootlesscontainers is umoci's, and keeps an owner; user.rootless.device is ours, on an empty file in place of a
device node.
"""

from __future__ import annotations

from oci import varint

XATTR = b"user.rootlesscontainers"
DEVICE_XATTR = b"user.rootless.device"
_OWN = 0xFFFFFFFF
_KINDS = {b"char": "c", b"block": "b"}


def encode(uid: int, gid: int) -> bytes:
    """Return the value of user.rootlesscontainers: the protobuf message {uint32 uid = 1; uint32 gid = 2}."""
    message = b""
    for field, number in ((b"\x08", uid), (b"\x10", gid)):
        if number:  # proto3 omits a field that is zero
            message += field + varint.encode(number)
    return message


def decode(value: bytes) -> tuple[int, int]:
    """Return the (uid, gid) of a user.rootlesscontainers value. Raises ValueError, also for unknown fields.

    umoci writes 2^32-1 for the user's own id, which is 0 in the container.
    """
    ids = {1: 0, 2: 0}
    position = 0
    while position < len(value):
        key = value[position]
        if key not in (0x08, 0x10):
            raise ValueError("not a rootlesscontainers message")
        number, end = varint.decode(value, position + 1)
        if end - position > 6:  # 32 bits are five bytes
            raise ValueError("not a rootlesscontainers message")
        position = end
        ids[key >> 3] = 0 if number == _OWN else number & 0xFFFFFFFF
    return ids[1], ids[2]


def encode_device(kind: str, major: int, minor: int) -> bytes:
    """Return the value of user.rootless.device, such as `char 1 3`. kind: `c` or `b`."""
    return b"%b %d %d" % (next(word for word, letter in _KINDS.items() if letter == kind), major, minor)


def decode_device(value: bytes) -> tuple[str, int, int]:
    """Return (`c` or `b`, major, minor) of a user.rootless.device value. Raises ValueError."""
    words = value.split(b" ")
    if len(words) != 3 or words[0] not in _KINDS or not (words[1].isdigit() and words[2].isdigit()):
        raise ValueError("not a device")
    return _KINDS[words[0]], int(words[1]) & 0xFFF, int(words[2]) & 0xFFFFF
