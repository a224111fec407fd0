"""Find the directories for caches: below $XDG_CACHE_HOME/rootless, by default in ~/.cache."""

from __future__ import annotations

import os


def cache_directory(name: str) -> str:
    """Return the directory of the cache of this name: `upper`, `images` or `code`.

    A user without HOME and without a line in passwd(5) has / as home, as login(1) does it. A relative XDG_CACHE_HOME is
    none (XDG Base Directory Specification).
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not cache.startswith("/"):
        home = os.path.expanduser("~")
        cache = f"{home if home.startswith('/') else ''}/.cache"
    return os.path.join(os.path.abspath(cache), "rootless", name)


def is_whole(bundle: str) -> bool:
    """Return whether an unpacked image has all its parts.

    It gets its name when it is complete, but after a power cut a file may be empty, and people clean caches by hand.
    Raises OSError if that cannot be known, because a damaged image is removed.
    """
    try:
        sizes = [os.stat(f"{bundle}/{name}").st_size for name in ("config.json", ".oci/image.json")]
    except (FileNotFoundError, NotADirectoryError):
        return False
    return all(sizes) and os.path.isdir(f"{bundle}/rootfs")
