"""Take a file of byte code apart (rootless/startup/codecache.py), and put it together."""

import marshal
from pathlib import Path
from typing import Any

from rootless.startup.codecache import HEAD


def read_cache(cache: Path) -> tuple[list[Any], bytes]:
    """Return what each start reads of a file, and the rest."""
    data = cache.read_bytes()
    end = HEAD + int.from_bytes(data[:HEAD], "little")
    return list(marshal.loads(data[HEAD:end])), data[end:]


def write_cache(cache: Path, parts: list[Any], rest: bytes) -> None:
    """Write a file of these parts."""
    first = marshal.dumps(tuple(parts))
    cache.write_bytes(len(first).to_bytes(HEAD, "little") + first + rest)
