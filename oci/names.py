"""Names of archives, and of the bundles that are made of them."""

from __future__ import annotations

import os
import stat

_SUFFIXES = (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".lz4", ".tar", ".oci")


def bundle_name(source: str) -> str:
    """Return an archive's file name without its suffixes."""
    name = os.path.basename(os.path.abspath(source))
    while True:
        stem = next((name[: -len(s)] for s in _SUFFIXES if name.endswith(s) and len(name) > len(s)), None)
        if stem is None:
            return name
        name = stem


def is_stream(source: str) -> bool:
    """Return whether an archive can be read only once: `-`, or a pipe, such as a shell's <(...) names one."""
    try:
        return source == "-" or stat.S_ISFIFO(os.stat(source).st_mode)
    except OSError:
        return False
