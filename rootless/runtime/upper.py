"""Choose, make and remove the upper directory of a throw-away root.

$XDG_CACHE_HOME/rootless/upper/NAME/{upper,work}   the changes of the container (overlayfs.rst)
$XDG_CACHE_HOME/rootless/upper/NAME/lower          a link to the root below
$XDG_CACHE_HOME/rootless/upper/NAME/owner          a symbolic link to the state directory of the container

The state directory notes the path before the upper directory is made, so that `delete --force` finds it after a
kill -9. `cache prune` uses `owner` to see whether the container is gone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless.errors import RootlessError, advice, printable
from rootless.kernel.hints import HINTS
from rootless.runtime.caches import cache_directory

if TYPE_CHECKING:
    from rootless.runtime.bundle import Bundle
    from rootless.runtime.state import StateDir

NOTE = "upper"  # in the state directory: a symbolic link whose target text is the upper directory's path
_OWNER = "owner"
_LOWER = "lower"


def directory() -> str:
    """Return the directory of all upper directories."""
    return cache_directory("upper")


def choose_upper(how: str, bundle: Bundle) -> str:
    """Return where a container's changes go: a directory that does not exist yet, or `tmpfs[:size=SIZE]`.

    how: the value of --ephemeral, "true" for a directory on disk. Raises RootlessError.
    """
    if how.partition(":")[0] == "tmpfs":
        return _check_tmpfs(how)
    if how not in ("true", "disk"):
        hint = "--ephemeral, or --ephemeral=tmpfs[:size=SIZE]"
        raise RootlessError("unknown place for a throw-away root", f"--ephemeral={printable(how)}", hint=hint)
    path = f"{directory()}/{bundle.container_id}"
    return f"{path}.{os.urandom(4).hex()}" if os.path.lexists(path) else path


def _check_tmpfs(how: str) -> str:
    from rootless.kernel.units import parse_size

    _, colon, option = how.partition(":")
    if not colon:
        return "tmpfs"
    name, _, size = option.partition("=")
    try:
        if name != "size":
            raise ValueError
        return f"tmpfs:size={parse_size(size)}"
    except ValueError:
        hint = "--ephemeral=tmpfs:size=64m"
        raise RootlessError("not a size", f"--ephemeral={printable(how)}", hint=hint) from None


def is_directory(upper: str) -> bool:
    """Return whether an upper is a directory on disk, not a tmpfs."""
    return upper.startswith("/")


def make_upper(state: StateDir, path: str, rootfs: str) -> None:
    """Note a container's upper directory in the state directory, then make it. Raises RootlessError.

    It gets the mode of the root directory, because the overlay's root shows the upper directory's (overlayfs.rst).
    """
    from oci.private import open_private

    state.note(path, NOTE)
    try:
        os.close(open_private(os.path.dirname(path), make=True))
        os.mkdir(path, 0o700)
        os.symlink(f"{state.root}/{state.container_id}", f"{path}/{_OWNER}")
        os.symlink(rootfs, f"{path}/{_LOWER}")
        for name in ("upper", "work"):
            os.mkdir(f"{path}/{name}", 0o700)
        os.chmod(f"{path}/upper", os.stat(rootfs).st_mode & 0o7777)
    except OSError as error:
        hint = HINTS["cache-elsewhere"].text
        raise RootlessError.from_os(error, "cannot make the throw-away root", path, hint) from None


def remove_upper(path: str) -> None:
    """Remove an upper directory, including files of subordinate ids, if it exists. Raises RootlessError."""
    if not os.path.lexists(path):
        return
    from oci.errors import OciError
    from oci.remove import remove_tree
    from rootless.kernel.host import Host
    from rootless.userns import job
    from rootless.userns.run import default_maps

    try:
        remove_tree(path)
        return
    except OciError as error:
        raise RootlessError(error.what, error.where, error.errno, error.hint) from None
    except OSError:
        pass  # the rest belongs to subordinate ids
    host = Host()
    if host.is_root_here or job.remove(path, default_maps(host)):
        hint = advice("left-to-unshare")
        raise RootlessError("cannot remove the throw-away root", path, hint=hint)


def abandoned() -> list[str]:
    """Return the upper directories whose container is gone, sorted."""
    return [path for path in _all_uppers() if not _is_used(path)]


def owner(path: str) -> str:
    """Return the state directory of the container that an upper directory was made for, "" if it is not known."""
    try:
        return os.readlink(f"{path}/{_OWNER}")
    except OSError:
        return ""


def lowers() -> list[str]:
    """Return the root file systems that throw-away roots of containers lie over."""
    roots = []
    for path in _all_uppers():
        try:
            if _is_used(path):
                roots.append(os.readlink(f"{path}/{_LOWER}"))
        except OSError:
            continue
    return roots


def _all_uppers() -> list[str]:
    """Return all upper directories: [] if another user could have put them there, or a link leads elsewhere.

    They are removed when nobody uses them, and root may have the cache directory of another user (`sudo -E`). Raises
    RootlessError if they cannot be listed, because the images below them must not be removed.
    """
    from oci.private import open_private

    place = directory()
    try:
        fd = open_private(place)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    except OSError as error:
        raise RootlessError.from_os(error, "cannot list the throw-away roots", place) from None
    try:
        return [f"{place}/{name}" for name in sorted(os.listdir(fd))]
    finally:
        os.close(fd)


def _is_used(path: str) -> bool:
    """Return whether the container that an upper directory names still exists and uses it."""
    try:
        owner = os.readlink(f"{path}/{_OWNER}")
        return os.readlink(f"{owner}/{NOTE}") == path
    except FileNotFoundError:
        return False
    except OSError:  # EACCES, EINVAL: unknown, so keep it
        return True
