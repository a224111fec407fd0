"""Make, list and remove directories of the cgroup2 file system, and enable controllers in them.

A container may have made cgroups below its own, so nested cgroups are walked by directory fd and never by long paths.
"""

from __future__ import annotations

import errno

from rootless.errors import RootlessError, advice
from rootless.kernel.files import READ_DIRECTORY, write_at
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LEAF = "rootless-leaf"  # the cgroup that our own processes move to when theirs has to enable controllers


def retry_as_range_root(function: Callable[[], str]) -> str:
    """Return what `function` returns; after EACCES, call it again as root of all the user's ids.

    A container that has its cgroup writable can change modes, and give files to any of the user's ids. Root of a user
    namespace with all these ids has access anyway (user_namespaces(7)). Raises OSError and RootlessError.
    """
    try:
        return function()
    except PermissionError:
        if os.geteuid() == 0:
            raise
    from rootless.userns.run import call_as_range_root

    return call_as_range_root(function)


def read_file(directory: int, file: str) -> str:
    """Return a file's text without the last newline. Raises OSError."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        text = b""
        while piece := os.read(fd, 65536):
            text += piece
        return text.decode(errors="replace").rstrip("\n")
    finally:
        os.close(fd)


def write_file(directory: int, file: str, value: str) -> str:
    """Write one value, and return "". Raises OSError."""
    write_at(directory, file, value.encode())
    return ""


def list_below(path: str) -> str:
    """Return the text of cgroup.procs of a cgroup and of all cgroups below it. Raises OSError."""
    text = ""
    below = [path]
    while below:
        directory = below.pop()
        try:
            with os.scandir(directory) as entries:
                below += [e.path for e in entries if e.is_dir(follow_symlinks=False)]
            with open(f"{directory}/cgroup.procs") as file:
                text += file.read()
        except OSError as error:  # it is gone, or is a threaded one, whose processes show in the one above it
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                raise
    return text


def make_directory(path: str, needed: set[str], created: list[str]) -> None:
    """Make a cgroup and those above it, enable all controllers that they can get, and add each to `created`."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        make_directory(parent, needed, created)
    enable(parent, needed)
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return
    created.append(path)


def enable(directory: str, needed: set[str]) -> None:
    """Enable all available controllers for the cgroups below a directory. Raises OSError and RootlessError.

    For the `needed` ones it also enables them in the parents and moves our own processes out of the way. A controller
    that is still missing shows when its file is written.
    """
    fd = os.open(directory, READ_DIRECTORY)
    try:
        available = set(read_file(fd, "cgroup.controllers").split())
        if needed - available and os.path.exists(f"{os.path.dirname(directory)}/cgroup.controllers"):
            enable(os.path.dirname(directory), needed)
            available = set(read_file(fd, "cgroup.controllers").split())
        missing = available - set(read_file(fd, "cgroup.subtree_control").split())
        if not missing:
            return
        try:
            write_file(fd, "cgroup.subtree_control", _switch_on(missing))
            return
        except OSError as error:
            if not needed & missing:
                return  # only statistics need controllers, and for them no process is moved
            number = error.errno
        if number == errno.EBUSY:
            _clear(fd, directory)
        try:
            write_file(fd, "cgroup.subtree_control", _switch_on(needed & missing))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                return
            names = " ".join(sorted(needed & missing))
            raise RootlessError.from_os(error, f"cannot enable {names} for the cgroups below", directory) from None
    finally:
        os.close(fd)


def _switch_on(controllers: set[str]) -> str:
    return " ".join(f"+{name}" for name in sorted(controllers))


def _clear(fd: int, directory: str) -> None:
    """Move our own processes one level down, because a cgroup that enables controllers may hold none itself.

    That is cgroup-v2.rst's "no internal process constraint". Raises RootlessError for any cgroup but our own.
    """
    from rootless import log
    from rootless.kernel import cgroup_view as view

    here = view.read()
    if os.path.normpath(here.mount + here.own) != directory:
        raise RootlessError(
            "the cgroup holds processes, so it cannot enable controllers", directory, hint=advice("busy-cgroup")
        )
    try:
        os.mkdir(LEAF, 0o755, dir_fd=fd)
    except FileExistsError:
        pass
    count = 0
    for _ in range(64):  # the next round moves what was forked meanwhile
        pids = read_file(fd, "cgroup.procs").split()
        if not pids:
            break
        for pid in pids:
            try:
                write_file(fd, f"{LEAF}/cgroup.procs", pid)
                count += 1
            except ProcessLookupError:
                pass
            except OSError as error:
                raise RootlessError.from_os(error, f"cannot move process {pid} to {LEAF}", directory) from None
    log.warn(
        f"moved {count} processes from {directory} to {LEAF} below it: a cgroup that hands on controllers holds none"
    )


def remove_directories(paths: Iterable[str]) -> None:
    """Remove empty cgroups, the deepest first. One that is in use stays; any other failure is a warning."""
    for path in sorted(paths, key=len, reverse=True):
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY):
                from rootless import log

                log.warn(f"the cgroup {path} is left: {error.strerror}")


def remove_below(path: str) -> str:
    """Remove all cgroups below, depth first, and return "". Raises OSError.

    One fd moves up and down the tree, so no depth can exhaust the fds, the stack or the length of a path.
    """
    fd = os.open(path, READ_DIRECTORY)
    try:
        names: list[str] = []
        while True:
            with os.scandir(fd) as entries:
                child = next((e.name for e in entries if e.is_dir(follow_symlinks=False)), None)
            if child is None and not names:
                return ""
            into = os.open(child or "..", READ_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = into
            if child is None:
                os.rmdir(names.pop(), dir_fd=fd)
            else:
                names.append(child)
    finally:
        os.close(fd)
