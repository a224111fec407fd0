"""Find the directories for caches: below $XDG_CACHE_HOME/rootless, by default in ~/.cache."""

from __future__ import annotations

import os


def cache_directory(name: str) -> str:
    """Return the directory of the cache of this name: `upper` or `images`."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(os.path.abspath(cache), "rootless", name)
