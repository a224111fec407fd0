"""Share what the commands for images need: sizes, and errors of the package `oci` as errors of ours."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from oci.errors import OciError
from oci.image.blobs import MAX_SIZE
from rootless.errors import RootlessError

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise an OciError of the block again as a RootlessError with the same words."""
    try:
        yield
    except OciError as error:
        raise RootlessError(error.what, error.where, error.errno, error.hint) from None


def read_size(text: str) -> int:
    """Return the bytes of a size such as `10g`, `500M` or `4096`; "" gives the default. Raises RootlessError."""
    if not text:
        return MAX_SIZE
    number = text.lower().rstrip("b").rstrip("i")
    unit = number[-1:] if number[-1:].isalpha() else ""
    digits = number[: len(number) - len(unit)]
    if not digits.isascii() or not digits.isdigit() or unit not in _UNITS:
        raise RootlessError(f"not a size: {text!r}", hint="bytes, or with k, m, g or t")
    return int(digits) * _UNITS[unit]
