"""Replace `os` in hot modules by the functions of `posix`.

This saves a millisecond, because `os` imports `abc` and `_collections_abc`.

A name that is missing here comes from `os`, which is then imported.

    from rootless.startup import lean_os as os
"""

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import *  # noqa: F403
    from os import _exit as _exit
    from os import path as path
    from typing import Any
else:
    from rootless.startup import lean_path as path  # noqa: F401

    _own = globals().copy()
    globals().update(posix.__dict__)  # `import *` takes twenty times as long
    globals().update(_own)
    SEEK_SET = 0
    _ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()

    def fsencode(name):
        """Return a path as the bytes that the kernel gets."""
        name = posix.fspath(name)
        return name.encode(_ENCODING, _ERRORS) if type(name) is str else name

    def fsdecode(name):
        """Return a path as text; bytes that do not decode become surrogates."""
        name = posix.fspath(name)
        return name.decode(_ENCODING, _ERRORS) if type(name) is bytes else name

    if "os" in sys.modules:  # share its environment, so that both see a change
        environ = sys.modules["os"].environ
    else:
        environ = {fsdecode(name): fsdecode(value) for name, value in posix.environ.items()}


def __getattr__(name: str) -> "Any":
    if name[:2] == "__":  # the import system asks every module for __path__
        raise AttributeError(name)
    import os

    return getattr(os, name)
