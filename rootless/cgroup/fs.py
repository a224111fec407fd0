"""The cgroupfs driver: one directory of the cgroup2 file system and its files (the kernel's admin-guide/cgroup-v2.rst).

A container may have written below its cgroup: nested cgroups are walked by directory fd, never by long paths.
"""

from __future__ import annotations

import errno
import time

from rootless.errors import RootlessError
from rootless.kernel.files import write_at_once
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Record = dict[str, Any]
    Entry = list[str]

LEAF = "rootless-leaf"  # where this process goes when its cgroup has to hand on controllers
PATIENCE = 10  # seconds for the kernel to freeze, thaw or end processes; longer means one hangs in the kernel

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class Cgroup:
    """A container's cgroup, or the lack of one (`path` is ""; then most methods do nothing).

    record: see rootless.cgroup.compile; create() writes into it what there is to remember ("path", "made", or
    "manager": "disabled"), so keep it after the call, not before.
    """

    needs_pid = False  # create() works before there is a process

    def __init__(self, record: Record) -> None:
        self.record = record
        self._fd = -1

    @property
    def path(self) -> str:
        """The absolute directory, "" for none."""
        path: str = self.record["path"]
        return path

    @property
    def fd(self) -> int:
        """The directory as an O_PATH fd, good for CLONE_INTO_CGROUP, and the driver's to close; -1 for none."""
        try:
            return self._open() if self.path else -1
        except OSError as error:
            raise RootlessError.from_os(error, "open the container's cgroup") from None

    def close(self) -> None:
        """Close the fd, if it was opened."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def create(self, pid: int = 0) -> None:
        """Make the directory, hand controllers down to it, write the files, load the device program, add `pid`.

        What was made is taken away again when a step fails. A container that asks for no limits goes on without a
        cgroup where none may be made. Raises RootlessError.
        """
        if not self.path:
            return
        made: list[str] = []
        try:
            self._make(made)
            self.record["made"] = made
            self.note_identity()
            self._configure()
            if pid:
                self.add(pid)
        except BaseException:
            self.close()
            remove_directories(made)
            self.record["path"] = ""  # what stands there is somebody else's: remove() must not touch it
            raise

    def note_identity(self) -> None:
        """Remember which directory it is: another cgroup may have the same path later, and is not ours to end."""
        if self.path:
            self.record["inode"] = os.fstat(self._open()).st_ino

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
            self._open()
        except FileNotFoundError:
            return True
        except OSError as error:
            raise RootlessError.from_os(error, "open the container's cgroup", self.path) from None
        return False

    def add(self, pid: int) -> None:
        """Move a process in, all threads of it."""
        if self.path:
            try:
                self._write("cgroup.procs", str(pid))
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
            return _whatever_the_container_did(lambda: _read(self._open(), file))
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
            text = "" if self.gone() else _whatever_the_container_did(lambda: _list_below(self.path))
        except OSError as error:
            raise RootlessError.from_os(error, "list the container's processes") from None
        return sorted(set(map(int, text.split())) - {0})

    def freeze(self) -> None:
        """Stop all processes and return when they stand still. Raises RootlessError, and then none is stopped."""
        self._switch_freezer("1")

    def thaw(self) -> None:
        """Let them go on."""
        self._switch_freezer("0")

    def frozen(self) -> bool:
        """Whether the container is paused."""
        return bool(self.path) and self.read("cgroup.freeze") == "1"

    def kill(self) -> None:
        """SIGKILL to every process in the cgroup and below, without a race with fork (cgroup.kill, Linux 5.14)."""
        if not self.path:
            return
        try:
            self._write("cgroup.kill", "1")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # ENODEV: it is taken away in this moment
                raise RootlessError.from_os(error, "kill the container's processes", self.path) from None
            self.close()
            if not self.gone():
                self._kill_each()

    def wait_empty(self, seconds: float = PATIENCE) -> bool:
        """Wait until no process is left (zombies do not count); False when the time is over."""
        return not self.path or self._wait("populated", 0, seconds)

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
        remove_directories(p for p in self.record.get("made", ()) if p != self.path)

    def oom_kills(self) -> int:
        """How many processes the kernel killed for want of memory, here and below."""
        return self.keyed("memory.events").get("oom_kill", 0)

    def stats(self) -> dict[str, Any]:
        """The "data" of runc's `events --stats`."""
        from rootless.cgroup.stats import collect

        return collect(self)

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

    def _open(self) -> int:
        if self._fd < 0:
            fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            if self.record.get("inode", 0) not in (0, os.fstat(fd).st_ino):
                os.close(fd)
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
            self._fd = fd
        return self._fd

    def _make(self, made: list[str]) -> None:
        """Make the directory and those above it, noting each in `made`."""
        try:
            _make_directory(self.path, self._controllers(), made)
        except OSError as error:
            if self._required() or error.errno not in _UNWRITABLE:
                hint = (
                    "" if error.errno not in _UNWRITABLE else "name a cgroup that you may write, or ask for no limits"
                )
                raise RootlessError.from_os(error, "make the container's cgroup", hint=hint) from None
            from rootless import log

            log.debug(f"no cgroup for the container: {self.path}: {error.strerror}")
            remove_directories(made)
            made.clear()
            self.record.update(manager="disabled", path="")
            return
        if self.path not in made and (count := len(self.procs())):
            raise RootlessError(f"the container's cgroup is not empty: {count} process(es) found", self.path)
        if self.path not in made and self.frozen():  # I would stand still before its first instruction
            raise RootlessError("the container's cgroup unexpectedly frozen", self.path, hint="echo 0 >cgroup.freeze")

    def _controllers(self) -> set[str]:
        """Those that the files need."""
        return {name for entry in self._required() if (name := _controller(entry[0]))}

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
            self._write(file, value)
        except FileNotFoundError:
            from rootless.cgroup import files

            if file == "io.bfq.weight":
                self._write("io.weight", files.without_bfq(value))
                return True
            # No swap on this machine: none can be used. Reservations of huge pages came with Linux 5.7.
            if (file, value) == ("memory.swap.max", "0") or file.endswith(".rsvd.max"):
                return False
            if not files.asks_nothing(file, value):
                raise
            return False
        return True

    def _write(self, file: str, value: str) -> None:
        _whatever_the_container_did(lambda: _write(self._open(), file, value))

    def _refusal(self, error: OSError, file: str, value: str, pointer: str) -> RootlessError:
        """The error of a value that could not be written: who has to do what."""
        name = _controller(file)
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

    def _switch_freezer(self, value: str) -> None:
        verb = "pause" if value == "1" else "resume"
        if not self.path:
            raise RootlessError(f"{verb}: the container has no cgroup", hint="it was created without one")
        try:
            self._write("cgroup.freeze", value)
            if self._wait("frozen", int(value), PATIENCE):
                return
            if value == "1":
                self._write("cgroup.freeze", "0")
        except OSError as error:
            raise RootlessError.from_os(error, f"{verb} the container", f"{self.path}/cgroup.freeze") from None
        raise RootlessError(f"{verb}: a process did not follow within {PATIENCE} seconds", self.path)

    def _wait(self, key: str, value: int, seconds: float) -> bool:
        """Wait for a value in cgroup.events, which the kernel tells by POLLPRI. A cgroup that is gone has none."""
        import select

        end = time.monotonic() + seconds
        try:
            events = _open_events(self._open())
        except FileNotFoundError:
            return True
        try:
            poller = select.poll()
            poller.register(events, select.POLLPRI)
            while True:
                text = os.pread(events, 4096, 0).decode()
                if f"{key} {value}" in text.splitlines():
                    return True
                left = end - time.monotonic()
                if left <= 0:
                    return False
                poller.poll(left * 1000)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return True
            raise
        finally:
            os.close(events)

    def _kill_each(self) -> None:
        """Linux 5.12 and 5.13: stop them, so that none forks, and kill one after the other."""
        self._write("cgroup.freeze", "1")
        self._wait("frozen", 1, PATIENCE)
        for pid in self.procs():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        self._write("cgroup.freeze", "0")

    def _remove_tree(self) -> None:
        if self.keyed("cgroup.events").get("populated"):
            self.kill()
            if not self.wait_empty():
                raise RootlessError(f"a process did not end within {PATIENCE} seconds", self.path)
        self.close()
        try:
            _whatever_the_container_did(lambda: _remove_below(self.path))
            os.rmdir(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise RootlessError.from_os(error, "remove the container's cgroup", self.path) from None


def _whatever_the_container_did(function: Callable[[], str]) -> str:
    """Call it. A container that has its cgroup writable can change modes, and owners within the user's ids: what that
    forbids is done as root of them all, who needs no permission (user_namespaces(7))."""
    try:
        return function()
    except PermissionError:
        if os.geteuid() == 0:
            raise
    from rootless.cgroup.ownership import as_root_of_the_range

    return as_root_of_the_range(function)


def _controller(file: str) -> str:
    name = file.partition(".")[0]
    return "" if name == "cgroup" else name


def _who_delegates(controller: str) -> str:
    if os.geteuid() == 0:
        return "see cgroup.controllers of the cgroups above; v1 may own the controller (boot with cgroup v2 alone)"
    return (
        f"root has to delegate it: Delegate=... {controller} in /etc/systemd/system/user@.service.d/delegate.conf, "
        "or run in a cgroup that has it"
    )


def _read(directory: int, file: str) -> str:
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        text = b""
        while piece := os.read(fd, 65536):
            text += piece
        return text.decode(errors="replace").rstrip("\n")
    finally:
        os.close(fd)


def _write(directory: int, file: str, value: str) -> str:
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        write_at_once(fd, value.encode())
    finally:
        os.close(fd)
    return ""


def _open_events(directory: int) -> int:
    try:
        return os.open("cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except PermissionError:
        _whatever_the_container_did(lambda: _make_readable(directory, "cgroup.events"))
        return os.open("cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)


def _make_readable(directory: int, file: str) -> str:
    os.chmod(f"/proc/self/fd/{directory}", 0o755)
    os.chmod(file, 0o444, dir_fd=directory)
    return ""


def _list_below(path: str) -> str:
    """cgroup.procs of a cgroup and of all below it."""
    found = ""
    below = [path]
    while below:
        directory = below.pop()
        try:
            with os.scandir(directory) as entries:
                below += [e.path for e in entries if e.is_dir(follow_symlinks=False)]
            with open(f"{directory}/cgroup.procs") as file:
                found += file.read()
        except OSError as error:  # it went away meanwhile, or is a threaded one, whose processes show above it
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                raise
    return found


def _make_directory(path: str, needed: set[str], made: list[str]) -> None:
    """Make a cgroup and those above it, each with all controllers that it can get."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_directory(parent, needed, made)
    enable(parent, needed)
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return
    made.append(path)


def enable(directory: str, needed: set[str]) -> None:
    """Hand the directory's controllers on to its children: all where it can be had, `needed` ones with more effort.
    What is missing in the end shows when a file is written."""
    fd = os.open(directory, _DIRECTORY)
    try:
        available = set(_read(fd, "cgroup.controllers").split())
        if needed - available and os.path.exists(f"{os.path.dirname(directory)}/cgroup.controllers"):
            enable(os.path.dirname(directory), needed)
            available = set(_read(fd, "cgroup.controllers").split())
        missing = available - set(_read(fd, "cgroup.subtree_control").split())
        if not missing:
            return
        try:
            _write(fd, "cgroup.subtree_control", _switch_on(missing))
            return
        except OSError as error:
            if not needed & missing:
                return  # for the sake of statistics alone nothing is moved
            number = error.errno
        if number == errno.EBUSY:
            _clear(fd, directory)
        try:
            _write(fd, "cgroup.subtree_control", _switch_on(needed & missing))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                return
            names = " ".join(sorted(needed & missing))
            raise RootlessError.from_os(error, f"enable {names} for the cgroups below", directory) from None
    finally:
        os.close(fd)


def _switch_on(controllers: set[str]) -> str:
    return " ".join(f"+{name}" for name in sorted(controllers))


def _clear(fd: int, directory: str) -> None:
    """Move this process and its neighbours one level down: a cgroup that hands on controllers may hold no processes
    ("no internal process constraint"). Done for our own cgroup only."""
    from rootless import log
    from rootless.kernel import cgroup_view as view

    here = view.read()
    if os.path.normpath(here.mount + here.own) != directory:
        raise RootlessError(
            "the cgroup holds processes, so it cannot hand on controllers", directory, hint="use a cgroup without any"
        )
    try:
        os.mkdir(LEAF, 0o755, dir_fd=fd)
    except FileExistsError:
        pass
    count = 0
    for _ in range(64):  # what was forked meanwhile shows in the next round
        pids = _read(fd, "cgroup.procs").split()
        if not pids:
            break
        for pid in pids:
            try:
                _write(fd, f"{LEAF}/cgroup.procs", pid)
                count += 1
            except ProcessLookupError:
                pass
            except OSError as error:
                raise RootlessError.from_os(error, f"move process {pid} to {LEAF}", directory) from None
    log.warn(
        f"moved {count} processes from {directory} to {LEAF} below it: a cgroup that hands on controllers holds none"
    )


def remove_directories(paths: Iterable[str]) -> None:
    """Remove empty cgroups, the deepest first; one that somebody else uses stays, and what fails otherwise is named."""
    for path in sorted(paths, key=len, reverse=True):
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY):
                from rootless import log

                log.warn(f"the cgroup {path} is left: {error.strerror}")


def _remove_below(path: str) -> str:
    """Remove all cgroups below, depth first, with one fd that climbs up and down: no depth can exhaust fds, stack
    or the length of a path."""
    fd = os.open(path, _DIRECTORY)
    try:
        names: list[str] = []
        while True:
            with os.scandir(fd) as entries:
                child = next((e.name for e in entries if e.is_dir(follow_symlinks=False)), None)
            if child is None and not names:
                return ""
            into = os.open(child or "..", _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = into
            if child is None:
                os.rmdir(names.pop(), dir_fd=fd)
            else:
                names.append(child)
    finally:
        os.close(fd)
