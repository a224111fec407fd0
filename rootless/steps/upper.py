"""Make the upper directory of a throw-away root in memory, a tmpfs, and shorten the options of an overlay."""

from __future__ import annotations

import errno

from rootless.errors import RootlessError, advice
from rootless.kernel import syscalls as sc
from rootless.startup import lean_os as os


def mount_upper(place: int, options: list[str]) -> tuple[int, list[str]]:
    """Mount a tmpfs on the root and return (an fd of it, the options of the overlay that goes on top of it).

    place: an fd of the root, which is the overlay's lower directory; options: those of the overlay, with
    `upper=tmpfs[:size=BYTES]`. The tmpfs ends with the mount namespace. Raises RootlessError if the overlay needs
    attributes of users (`userxattr`) and tmpfs has none: without them a directory that is removed and made again would
    show its old files (overlayfs.rst).
    """
    upper = next(option for option in options if option.startswith("upper=tmpfs"))
    tree = _make_tmpfs(upper.partition(":size=")[2], os.fstat(place).st_mode & 0o7777)
    for name in ("upper", "work"):
        os.mkdir(name, 0o755, dir_fd=tree)
    os.chmod("upper", os.fstat(place).st_mode & 0o7777, dir_fd=tree)
    if "userxattr" in options:
        _require_attributes(tree)
    sc.move_mount(tree, place)
    others = [option for option in options if option != upper and not option.startswith("lowerdir=")]
    places = [f"lowerdir=/proc/self/fd/{place}"]
    places += [f"{name}dir=/proc/self/fd/{tree}/{name}" for name in ("upper", "work")]
    return tree, [*places, *others]


def shorten(options: list[str]) -> tuple[list[str], list[int]]:
    """Return (an overlay's options with descriptors in place of its directories, those descriptors).

    mount(2) takes no more than a page of options, and a single path may be as long. Raises OSError if a directory
    cannot be opened.
    """
    short, fds = [], []
    try:
        for option in options:
            key, _, value = option.partition("=")
            if key in ("lowerdir", "upperdir", "workdir"):
                paths = _unescaped(value)
                places = []
                for path in paths if key == "lowerdir" else [":".join(paths)]:
                    if path:  # two colons stand before a layer of data alone (overlayfs.rst, "Data-only lower layers")
                        fds.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
                    places.append(f"/proc/self/fd/{fds[-1]}" if path else "")
                option = f"{key}={':'.join(places)}"
            short.append(option)
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    return short, fds


def _unescaped(value: str) -> list[str]:
    """Return what colons separate in the value of an overlay's option, without the escapes (`_escape` of settings)."""
    parts, is_escaped = [""], False
    for character in value:
        if is_escaped or character not in "\\:":
            parts[-1] += character
            is_escaped = False
        elif character == "\\":
            is_escaped = True
        else:
            parts.append("")
    return parts


def _require_attributes(tree: int) -> None:
    try:
        os.setxattr(f"/proc/self/fd/{tree}/upper", "user.overlay.test", b"")
        os.removexattr(f"/proc/self/fd/{tree}/upper", "user.overlay.test")
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        hint = advice("tmpfs-without-xattrs")
        what = "a throw-away root in memory needs a tmpfs with extended attributes of users"
        raise RootlessError.from_os(error, what, "--ephemeral=tmpfs", hint) from None


def _make_tmpfs(size: str, mode: int) -> int:
    fs_fd = sc.fsopen("tmpfs")
    try:
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "source", "tmpfs")
        sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "mode", f"{mode:o}")
        if size:
            sc.fsconfig(fs_fd, sc.FSCONFIG_SET_STRING, "size", size)
        sc.fsconfig(fs_fd, sc.FSCONFIG_CMD_CREATE)
        return sc.fsmount(fs_fd)
    finally:
        os.close(fs_fd)
