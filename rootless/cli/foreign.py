"""Copy another user's bundle once into the caller's own cache, so that the caller can run it.

The owner of its files is not mapped in the caller's container, where they would be nearly read-only, below an overlay
too (EACCES, EINVAL).
"""

from __future__ import annotations

import hashlib
import os

from oci.regular import open_regular
from oci.remove import remove_tree
from rootless import log
from rootless.cli.image_store import locked, open_store
from rootless.errors import RootlessError, advice
from rootless.runtime.copy import copy, find_on_host


def own_copy(bundle: str) -> str:
    """Return the caller's copy of a bundle, made now if there is none. Raises RootlessError.

    The copy is known by the bundle's record of its image, its config.json and its place.
    """
    store = open_store()
    digest = hashlib.sha256(os.fsencode(bundle))
    for name in ("config.json", ".oci/image.json"):
        digest.update(_read(f"{bundle}/{name}"))
    key = digest.hexdigest()[:32]
    target = f"{store}/{key}"
    with locked(store, key):
        if os.path.lexists(target):
            os.utime(target)
            return target
        log.notice("this bundle belongs to another user: it is copied once into your cache")
        temporary = f"{store}/.{key}.{os.urandom(4).hex()}"
        try:
            os.mkdir(temporary, 0o700)
            for name in ("config.json", ".oci", "rootfs"):
                if os.path.lexists(f"{bundle}/{name}"):
                    copy(find_on_host(f"{bundle}/{name}"), find_on_host(temporary), name, contents=False)
            os.rename(temporary, target)
        except OSError as error:
            raise RootlessError.from_os(error, "cannot copy the bundle", bundle) from None
        finally:
            remove_tree(temporary)
    return target


def _read(path: str) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        hint = advice("not-shared")
        raise RootlessError.from_os(error, "cannot read another user's bundle", path, hint) from None
