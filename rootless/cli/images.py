"""Share what the commands for images need: sizes, and errors of the package `oci` as errors of ours."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from oci.errors import OciError
from oci.image.blobs import MAX_SIZE
from rootless.errors import RootlessError, printable
from rootless.kernel.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    try:
        return parse_size(text)
    except ValueError:
        raise RootlessError(f"not a size: {printable(repr(text))}", hint="bytes, or with k, m, g, t or p") from None
