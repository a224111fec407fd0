"""The cgroupfs driver: one directory of the cgroup2 file system and its files (the kernel's admin-guide/cgroup-v2.rst).

A container may have written below its cgroup: nested cgroups are walked by directory fd, never by long paths.
"""

from __future__ import annotations

import errno

from rootless.cgroup.freezer import PATIENCE, is_frozen, wait_for_event, wait_until_empty
from rootless.cgroup.tree import (
    list_below,
    make_directory,
    read_file,
    remove_below,
    remove_directories,
    retry_as_range_root,
    write_file,
)
from rootless.errors import RootlessError
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.cgroup.record import Entry, Record

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)


class Cgroup:
    """A container's cgroup, or the lack of one (`path` is ""; then most methods do nothing).

    record: see rootless.cgroup.compile; create() writes into it what there is to remember ("path", "created", or
    "manager": "disabled"), so keep it after the call, not before.
    """

    needs_pid = False  # create() works before there is a process

    def __init__(self, record: Record) -> None:
        self.record = record
        self._fd = -1

    @property
    def path(self) -> str:
        """The absolute directory, "" for none."""
        return self.record["path"]

    @property
    def fd(self) -> int:
        """The directory as an O_PATH fd, good for CLONE_INTO_CGROUP, and the driver's to close; -1 for none."""
        try:
            return self.directory_fd() if self.path else -1
        except OSError as error:
            raise RootlessError.from_os(error, "open the container's cgroup") from None

    def close(self) -> None:
        """Close the fd, if it was opened."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def create(self, pid: int = 0) -> None:
        """Make the directory, hand controllers down to it, write the files, load the device program, add `pid`.

        It removes what it made when a step fails. A container that asks for no limits goes on without a
        cgroup where none may be made. Raises RootlessError.
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
            self.record["path"] = ""  # what stands there is somebody else's: remove() must not touch it
            raise

    def note_identity(self) -> None:
        """Remember which directory it is: another cgroup may have the same path later, and is not ours to end."""
        if self.path:
            self.record["inode"] = os.fstat(self.directory_fd()).st_ino

    def missing(self) -> int:
        """How many of the path's directories are not there yet, the last first."""
        count, path = 0, self.path
        while path and not os.path.isdir(path):
            count, path = count + 1, os.path.dirname(path)
        return count

    def gone(self) -> bool:
        """Whether the directory is not there any more, or another has its place. Raises RootlessError."""
        if not self.path:
            return True
        try:
            self.directory_fd()
        except FileNotFoundError:
            return True
        except OSError as error:
            raise RootlessError.from_os(error, "open the container's cgroup", self.path) from None
        return False

    def add(self, pid: int) -> None:
        """Move a process in, all threads of it."""
        if self.path:
            try:
                self.write("cgroup.procs", str(pid))
            except OSError as error:
                raise RootlessError.from_os(error, f"move process {pid} into its cgroup", self.path) from None

    def apply(self, entries: Iterable[Entry]) -> None:
        """Write [file, value, pointer] entries in their order. When one fails, those before it are put back.

        Raises RootlessError whose place is the entry's pointer.
        """
        from rootless.cgroup.files import value_before

        before: list[tuple[str, str]] = []
        for file, value, pointer in entries:
            if not self.path:
                raise RootlessError(f"set {file}: the container has no cgroup", pointer)
            try:
                old = self.read(file)
                if self._set(file, value):
                    before.append((file, value_before(file, value, old)))
            except OSError as error:
                for name, was in reversed(before):
                    self._set(name, was)
                raise self._refusal(error, file, value, pointer) from None

    def read(self, file: str, default: str = "") -> str:
        """A file's text without the last newline, `default` where it does not exist (systemd removes the cgroup of a
        scope as soon as its last process is gone)."""
        if not self.path:
            return default
        try:
            return retry_as_range_root(lambda: read_file(self.directory_fd(), file))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP, errno.EINVAL):
                return default
            raise RootlessError.from_os(error, "read", f"{self.path}/{file}") from None

    def keyed(self, file: str) -> dict[str, int]:
        """A flat-keyed file ("populated 1") as numbers; {} where it does not exist."""
        pairs = (line.split() for line in self.read(file).splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}

    def procs(self) -> list[int]:
        """The processes in this cgroup and below, sorted. Those of a foreign pid namespace do not show."""
        try:
            text = "" if self.gone() else retry_as_range_root(lambda: list_below(self.path))
        except OSError as error:
            raise RootlessError.from_os(error, "list the container's processes") from None
        return sorted(set(map(int, text.split())) - {0})

    def kill(self) -> None:
        """SIGKILL to every process in the cgroup and below, without a race with fork (cgroup.kill, Linux 5.14)."""
        if not self.path:
            return
        try:
            self.write("cgroup.kill", "1")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # ENODEV: it is taken away in this moment
                raise RootlessError.from_os(error, "kill the container's processes", self.path) from None
            self.close()
            if not self.gone():
                self._kill_each()

    def remove(self) -> None:
        """Take the cgroup away, with what the container made below it and what create() made above it. A process
        that is still inside is killed. Raises RootlessError."""
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
                raise RootlessError.from_os(error, "remove the container's cgroup") from None
            self._remove_tree()
        remove_directories(p for p in self.record.get("created", ()) if p != self.path)

    def oom_kills(self) -> int:
        """How many processes the kernel killed for want of memory, here and below."""
        return self.keyed("memory.events").get("oom_kill", 0)

    def join_fd(self, pid: int) -> int:
        """Where a process that joins the container goes: the cgroup, or the one of its init (host pid) when the
        container hands on controllers, for then none may live above (EBUSY). An fd for the caller to close; -1."""
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
            raise RootlessError.from_os(error, "open the cgroup of the container's init") from None

    def child_fd(self, path: str) -> int:
        """A cgroup below this one, for the caller to close; `..` and links do not lead out (openat2(2))."""
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
        """Make the directory and those above it, and note each in `created`."""
        try:
            make_directory(self.path, self._controllers(), created)
        except OSError as error:
            if self._required() or error.errno not in _UNWRITABLE:
                hint = (
                    "" if error.errno not in _UNWRITABLE else "name a cgroup that you may write, or ask for no limits"
                )
                raise RootlessError.from_os(error, "make the container's cgroup", hint=hint) from None
            from rootless import log

            log.debug(f"no cgroup for the container: {self.path}: {error.strerror}")
            remove_directories(created)
            created.clear()
            self.record["manager"], self.record["path"] = "disabled", ""
            return
        if self.path not in created and (count := len(self.procs())):
            raise RootlessError(f"the container's cgroup is not empty: {count} process(es) found", self.path)
        if self.path not in created and is_frozen(self):  # init would stand still before its first instruction
            raise RootlessError("the container's cgroup unexpectedly frozen", self.path, hint="echo 0 >cgroup.freeze")

    def _controllers(self) -> set[str]:
        """Those that the files need."""
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
        """Write a new cgroup's files and load its device program."""
        for file, value, pointer in self.record["files"]:
            try:
                self._set(file, value)
            except OSError as error:
                raise self._refusal(error, file, value, pointer) from None
        if self.path and self.record["devices"]:
            from rootless.cgroup import bpf

            bpf.attach(self.path, self.record["devices"])

    def _set(self, file: str, value: str) -> bool:
        """Write one value. False where the file is missing and the value asks for nothing anyway."""
        try:
            self.write(file, value)
        except FileNotFoundError:
            from rootless.cgroup import files

            if file == "io.bfq.weight":
                self.write("io.weight", files.without_bfq(value))
                return True
            # No swap on this machine: none can be used. Reservations of huge pages came with Linux 5.7.
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
        """The error of a value that could not be written: who has to do what."""
        from rootless.cgroup.files import controller

        name = controller(file)
        what = f"set {file} to {value}"
        if error.errno != errno.ENOENT:
            return RootlessError(what, pointer, error.errno or 0)
        available = self.read("cgroup.controllers").split()
        if name and name not in available:
            what = f"{what}: controller `{name}` is not available under {self.path}"
            # `unified` names a file: that it is missing is the answer; other limits ask for what a file does.
            number = errno.ENOENT if "/unified/" in pointer else 0
            return RootlessError(what, pointer, number, hint=_who_delegates(name))
        return RootlessError(f"{what}: this kernel has no such file", pointer)

    def _kill_each(self) -> None:
        """Linux 5.12 and 5.13: stop them, so that none forks, and kill one after the other."""
        self.write("cgroup.freeze", "1")
        wait_for_event(self, "frozen", 1, PATIENCE)
        for pid in self.procs():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        self.write("cgroup.freeze", "0")

    def _remove_tree(self) -> None:
        if self.keyed("cgroup.events").get("populated"):
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
            raise RootlessError.from_os(error, "remove the container's cgroup", self.path) from None


def _who_delegates(controller: str) -> str:
    if os.geteuid() == 0:
        return "see cgroup.controllers of the cgroups above; v1 may own the controller (boot with cgroup v2 alone)"
    return (
        f"root has to delegate it: Delegate=... {controller} in /etc/systemd/system/user@.service.d/delegate.conf, "
        "or run in a cgroup that has it"
    )


def _reset(file: str, value: str, old: str) -> str:
    """What to write to undo a write: the old text, or the old line of the same device in a file of many."""
    if file not in ("io.max", "rdma.max", "io.weight", "io.bfq.weight"):
        return old or value
    key = value.split()[0]
    for line in old.splitlines():
        if line.split()[0] == key:
            return line
    if file.endswith(".max"):
        return " ".join([key, *(f"{pair.partition('=')[0]}=max" for pair in value.split()[1:])])
    return old.removeprefix("default ").split("\n")[0] if ":" not in key else f"{key} default"
