"""Encode and decode numbers of protocol buffers: seven bits in a byte, the lowest first; the top bit says that more
bytes follow."""

from __future__ import annotations


def encode(number: int) -> bytes:
    """Return the bytes of a number, which is 0 or above."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode(data: bytes, position: int) -> tuple[int, int]:
    """Return (the number at that position, the position after it). Raises ValueError if it is longer than 64 bits."""
    number = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return number, position
        shift += 7
    raise ValueError("the number does not end")
