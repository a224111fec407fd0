"""Numbers of protocol buffers: seven bits a byte, the lowest first, the top bit says that more follow."""

from __future__ import annotations


def encode(number: int) -> bytes:
    """A number from 0 on."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode(data: bytes, position: int) -> tuple[int, int]:
    """(the number at that position, the position behind it). Raises ValueError where 64 bits do not end it."""
    number = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return number, position
        shift += 7
    raise ValueError("a number without an end")
