"""Names that bundles get."""

from __future__ import annotations

import os

_SUFFIXES = (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".lz4", ".tar", ".oci")


def bundle_name(source: str) -> str:
    """Return an archive's file name without its suffixes."""
    name = os.path.basename(os.path.abspath(source))
    while True:
        stem = next((name[: -len(s)] for s in _SUFFIXES if name.endswith(s) and len(name) > len(s)), None)
        if stem is None:
            return name
        name = stem
