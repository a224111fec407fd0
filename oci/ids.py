"""Numbers of users and groups as text: what is one, and what is a name."""

from __future__ import annotations

MAX_ID = 0xFFFFFFFE  # setresuid(2) takes 2^32 - 1 for "no change"


def is_number(text: str) -> bool:
    """Return whether the text is a number, with or without a sign, in range or not. Such a text is never a name."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    return digits.isascii() and digits.isdigit()


def is_id(text: str) -> bool:
    """Return whether the text is an id that the kernel has, in decimal digits."""
    digits = text.lstrip("0") or "0"  # because int() takes at most 4300 digits
    return text.isascii() and text.isdigit() and len(digits) <= 10 and int(digits) <= MAX_ID


def number_of(text: str) -> int:
    """Return the number of an id (`is_id`)."""
    return int(text.lstrip("0") or "0")  # int() refuses more than 4300 digits, also zeros
