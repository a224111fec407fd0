"""Make and use a cgroup as a directory of the cgroup2 file system: the cgroupfs driver (admin-guide/cgroup-v2.rst).

A container may have made cgroups below its own, so nested cgroups are walked by directory fd and never by long paths.
"""

from __future__ import annotations

import errno

from rootless.cgroup.tree import (
    list_below,
    make_directory,
    read_file,
    remove_below,
    remove_directories,
    retry_as_range_root,
    write_file,
)
from rootless.errors import RootlessError, advice
from rootless.kernel.signals import SIGNALS
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.cgroup.record import Entry, Record
    from rootless.kernel.hints import Hint

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)


class Cgroup:
    """A container's cgroup, or the lack of one (`path` is ""; then most methods do nothing).

    record: see record.py. `create` adds to it what must be remembered ("path", "created", or "manager": "disabled"), so
    save it after that call.
    """

    needs_pid = False  # the cgroup can be made before init exists

    def __init__(self, record: Record) -> None:
        self.record = record
        self.must_be_new = self.is_taken = False
        self._fd = -1

    @property
    def path(self) -> str:
        """The absolute path of the directory, "" for none."""
        return self.record["path"]

    @property
    def fd(self) -> int:
        """An O_PATH fd of the directory, for CLONE_INTO_CGROUP; -1 for none. The driver closes it."""
        try:
            return self.directory_fd() if self.path else -1
        except OSError as error:
            raise RootlessError.from_os(error, "cannot open the container's cgroup") from None

    def close(self) -> None:
        """Close the fd, if it was opened."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def create(self, pid: int = 0) -> None:
        """Make the directory, enable its controllers, write the files, load the device program, and add `pid`.

        A failure removes what was made. A container that asks for no limits continues without a cgroup if none can be
        made. Raises RootlessError, with `is_taken` if another container has made the cgroup since its name was free.
        """
        if not self.path:
            return
        created: list[str] = []
        try:
            self._make_directories(created)
            self.record["created"] = created
            self.note_identity()
            self._configure()
            if pid:
                self.add(pid)
        except BaseException:
            self.close()
            remove_directories(created)
            self.record["path"] = ""  # the directory there is somebody else's, and `remove` must not touch it
            raise

    def take_free_name(self, path: str) -> None:
        """Take a path that no cgroup has: `path`, or `path-2`, and so on. If one appears, `create` sets `is_taken`.

        A container of another state root may have the same ID. Its cgroup may be empty because it is being created or
        has ended; in each case its `delete` kills whoever is in there. Call this only if config.json names no cgroup.
        """
        number, self.record["path"] = 1, path
        while os.path.isdir(self.path):
            number += 1
            self.record["path"] = f"{path}-{number}"
        self.must_be_new, self.is_taken = True, False

    def note_identity(self) -> None:
        """Remember the directory's inode, because another cgroup may have the same path later."""
        if self.path:
            self.record["inode"] = os.fstat(self.directory_fd()).st_ino

    def missing(self) -> int:
        """Return how many directories of the path do not exist yet."""
        count, path = 0, self.path
        while path and not os.path.isdir(path):
            count, path = count + 1, os.path.dirname(path)
        return count

    def gone(self) -> bool:
        """Return whether the directory is gone, or another has its path. Raises RootlessError."""
        if not self.path:
            return True
        try:
            self.directory_fd()
        except FileNotFoundError:
            return True
        except OSError as error:
            raise RootlessError.from_os(error, "cannot open the container's cgroup", self.path) from None
        return False

    def add(self, pid: int) -> None:
        """Move a process with all its threads into the cgroup. Raises RootlessError."""
        if self.path:
            try:
                self.write("cgroup.procs", str(pid))
            except OSError as error:
                raise RootlessError.from_os(error, f"cannot move process {pid} into its cgroup", self.path) from None

    def apply(self, entries: Iterable[Entry]) -> None:
        """Write [file, value, pointer] entries in their order. If one fails, restore those before it.

        Raises RootlessError, whose place is the entry's pointer.
        """
        from rootless.cgroup.files import value_before

        before: list[tuple[str, str]] = []
        for file, value, pointer in entries:
            if not self.path:
                from rootless.cgroup.nowhere import why_none

                what = f"set {file}: the container has no cgroup"
                raise RootlessError(what, pointer, hint=why_none().text)
            try:
                old = self.read(file)
                if self._set(file, value):
                    before.append((file, value_before(file, value, old)))
            except OSError as error:
                for name, was in reversed(before):
                    self._set(name, was)
                raise self._refusal(error, file, value, pointer) from None

    def read(self, file: str, default: str = "") -> str:
        """Return a file's text without the last newline, `default` if the file does not exist. Raises RootlessError.

        It may not exist because systemd removes the cgroup of a scope when the last process is gone.
        """
        if not self.path:
            return default
        try:
            return retry_as_range_root(lambda: read_file(self.directory_fd(), file))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP, errno.EINVAL):
                return default
            raise RootlessError.from_os(error, "cannot read", f"{self.path}/{file}") from None

    def keyed(self, file: str) -> dict[str, int]:
        """Return a flat keyed file, such as "populated 1", as {key: number}; {} if it does not exist."""
        pairs = (line.split() for line in self.read(file).splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}

    def procs(self) -> list[int]:
        """Return the pids in this cgroup and below, sorted, except for those that our pid namespace does not show."""
        try:
            text = "" if self.gone() else retry_as_range_root(lambda: list_below(self.path))
        except OSError as error:
            raise RootlessError.from_os(error, "cannot list the container's processes") from None
        return sorted(set(map(int, text.split())) - {0})

    def kill(self) -> None:
        """Kill every process in the cgroup and below, without a race with fork (cgroup.kill, Linux 5.14)."""
        if not self.path:
            return
        try:
            self.write("cgroup.kill", "1")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # ENODEV: it is being removed
                raise RootlessError.from_os(error, "cannot kill the container's processes", self.path) from None
            self.close()
            if not self.gone():
                self._kill_each()

    def remove(self) -> None:
        """Remove the cgroup, those that the container made below it, and those that `create` made above it.

        A process that is still inside is killed. Raises RootlessError.
        """
        if not self.path:
            return
        self.close()
        try:
            if not self.gone():
                self.close()
                os.rmdir(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise RootlessError.from_os(error, "cannot remove the container's cgroup") from None
            self._remove_tree()
        remove_directories(p for p in self.record.get("created", ()) if p != self.path)

    def oom_kills(self) -> int:
        """Return how many processes the kernel has killed for lack of memory, here and below (memory.events)."""
        return self.keyed("memory.events").get("oom_kill", 0)

    def join_fd(self, pid: int) -> int:
        """Return an fd of the cgroup for a process that joins the container, -1 for none. The caller closes it.

        It is the container's cgroup. But if the container has enabled controllers for cgroups below, that one may hold
        no processes (EBUSY), and it is the cgroup of the container's init. pid: init's, as the host sees it.
        """
        if not self.path:
            return -1
        there = not self.gone()
        if there and not self.read("cgroup.subtree_control"):
            return os.dup(self.fd)
        from rootless.kernel import cgroup_view as view

        theirs = f"{view.read().mount}{view.own(pid)}"
        if there:
            return self.child_fd(os.path.relpath(theirs, self.path))
        try:  # its init has left it, and somebody has removed it
            return os.open(theirs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise RootlessError.from_os(error, "cannot open the cgroup of the container's init") from None

    def child_fd(self, path: str) -> int:
        """Return an fd of a cgroup below this one. The caller closes it. `..` and links are refused (openat2(2))."""
        from rootless.kernel import syscalls

        if ".." in path.split("/"):
            raise RootlessError("bad sub cgroup path: `..` components are not allowed", f"{self.path}/{path}")
        try:
            flags = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS
            return syscalls.openat2(self.fd, path.strip("/") or ".", os.O_PATH | os.O_DIRECTORY, resolve=flags)
        except OSError as error:
            what = "bad sub cgroup path" if error.errno == errno.EXDEV else "open a cgroup of the container"
            raise RootlessError.from_os(error, what, f"{self.path}/{path}") from None

    # --- how

    def directory_fd(self) -> int:
        """Return the directory as an O_PATH fd, opened when first asked for. Raises OSError."""
        if self._fd < 0:
            fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            if self.record.get("inode", 0) not in (0, os.fstat(fd).st_ino):
                os.close(fd)
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
            self._fd = fd
        return self._fd

    def _make_directories(self, created: list[str]) -> None:
        """Make the directory and those above it, and add each to `created`. Raises RootlessError."""
        try:
            make_directory(self.path, self._controllers(), created)
        except OSError as error:
            if self._required() or error.errno not in _UNWRITABLE:
                hint = "" if error.errno not in _UNWRITABLE else advice("cgroup-elsewhere")
                raise RootlessError.from_os(error, "cannot make the container's cgroup", hint=hint) from None
            from rootless import log

            log.debug(f"no cgroup for the container: {self.path}: {error.strerror}")
            remove_directories(created)
            created.clear()
            self.record["manager"], self.record["path"] = "disabled", ""
            return
        if self.must_be_new and self.path not in created:
            self.is_taken = True
            raise RootlessError("another container has just made a cgroup of this name", self.path)
        if self.path not in created and (count := len(self.procs())):
            raise RootlessError(f"the container's cgroup is not empty: {count} process(es) found", self.path)
        if self.path not in created and self._is_frozen():  # init would be frozen before its first instruction
            raise RootlessError("the container's cgroup unexpectedly frozen", self.path, hint=advice("frozen-above"))

    def _is_frozen(self) -> bool:
        from rootless.cgroup.freezer import is_frozen

        return is_frozen(self)

    def _controllers(self) -> set[str]:
        """Return the controllers that the files need."""
        required = self._required()
        if not required:
            return set()
        from rootless.cgroup.files import controller

        return {name for entry in required if (name := controller(entry[0]))}

    def _required(self) -> list[Entry]:
        if not self.record["files"]:
            return []
        from rootless.cgroup.files import required

        return required(self.record["files"])

    def _configure(self) -> None:
        """Write a new cgroup's files and load its device program. Raises RootlessError."""
        for file, value, pointer in self.record["files"]:
            try:
                self._set(file, value)
            except OSError as error:
                raise self._refusal(error, file, value, pointer) from None
        if self.path and self.record["devices"]:
            from rootless.cgroup import bpf

            bpf.attach(self.path, self.record["devices"])

    def _set(self, file: str, value: str) -> bool:
        """Write one value. Return False if the file is missing and the value asks for nothing."""
        try:
            self.write(file, value)
        except FileNotFoundError:
            from rootless.cgroup import files

            if file == "io.bfq.weight":
                self.write("io.weight", files.without_bfq(value))
                return True
            # A machine without swap has no memory.swap.max, where 0 holds anyway. *.rsvd.max came with Linux 5.7.
            if (file, value) == ("memory.swap.max", "0") or file.endswith(".rsvd.max"):
                return False
            if not files.asks_nothing(file, value):
                raise
            return False
        return True

    def write(self, file: str, value: str) -> None:
        """Write one value as the kernel takes it. Raises OSError."""
        retry_as_range_root(lambda: write_file(self.directory_fd(), file, value))

    def _refusal(self, error: OSError, file: str, value: str, pointer: str) -> RootlessError:
        """Return the error for a value that could not be written, with a hint who can change that."""
        from rootless.cgroup.files import controller

        name = controller(file)
        what = f"set {file} to {value}"
        if error.errno != errno.ENOENT:
            return RootlessError(what, pointer, error.errno or 0)
        if name and name not in self.read("cgroup.controllers").split():
            return _no_controller(file, value, pointer, self.path)
        return RootlessError(f"{what}: this kernel has no such file", pointer)

    def _kill_each(self) -> None:
        """Freeze the processes, so that none forks, and kill each. Linux 5.12 and 5.13 have no cgroup.kill."""
        from rootless.cgroup.freezer import PATIENCE, wait_for_event

        self.write("cgroup.freeze", "1")
        wait_for_event(self, "frozen", 1, PATIENCE)
        for pid in self.procs():
            try:
                os.kill(pid, SIGNALS["KILL"])
            except ProcessLookupError:
                pass
        self.write("cgroup.freeze", "0")

    def _remove_tree(self) -> None:
        if self.keyed("cgroup.events").get("populated"):
            from rootless.cgroup.freezer import PATIENCE, wait_until_empty

            self.kill()
            if not wait_until_empty(self):
                raise RootlessError(f"a process did not end within {PATIENCE} seconds", self.path)
        self.close()
        try:
            retry_as_range_root(lambda: remove_below(self.path))
            os.rmdir(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise RootlessError.from_os(error, "cannot remove the container's cgroup", self.path) from None


def check_controllers(path: str, entries: list[Entry]) -> None:
    """Refuse files whose controller a cgroup at this path cannot get. Raises RootlessError.

    A cgroup can have the controllers of the one above it (cgroup-v2.rst, "Enabling and Disabling"), and that one those
    of the next one, as far up as we may enable them. If the first cannot be read, making the cgroup says why.
    """
    from rootless.cgroup.files import controller

    above = path
    while above and not os.path.isdir(above):
        above = os.path.dirname(above)
    try:
        available = _controllers_in(above)
    except OSError:
        return
    for name, value, pointer in entries:
        needed = controller(name)
        while needed and needed not in available and _may_enable(next_one := os.path.dirname(above)):
            above = next_one
            available = _controllers_in(above)
        if needed and needed not in available and (name, value) != ("memory.swap.max", "0"):
            raise _no_controller(name, value, pointer, path)


def _controllers_in(directory: str) -> list[str]:
    with open(f"{directory}/cgroup.controllers", encoding="ascii") as file:
        return file.read().split()


def _may_enable(directory: str) -> bool:
    """Return whether we may enable controllers for the cgroups below a directory."""
    return os.access(f"{directory}/cgroup.subtree_control", os.W_OK)


def _no_controller(file: str, value: str, pointer: str, path: str) -> RootlessError:
    from rootless.cgroup.files import controller

    name = controller(file)
    what = f"set {file} to {value}: controller `{name}` is not available under {path}"
    # `unified` names the file itself, so ENOENT is the whole answer. For other limits it would mislead.
    number = errno.ENOENT if "/unified/" in pointer else 0
    return RootlessError(what, pointer, number, hint=who_delegates(name).text)


def who_delegates(controller: str) -> Hint:
    """Return the hint for a controller that a cgroup does not have."""
    from rootless.kernel.hints import hint

    if os.geteuid() == 0:
        return hint("no-controller-for-root")
    return hint("no-controller", controller=controller)
