"""The state directory: one directory a container, with state.json, the config as read, and the start socket.

ROOT/ID/state.json    written by temp + rename under the directory's lock
ROOT/ID/config.json   what `create` read: the bundle's file is never looked at again
ROOT/ID/init          a link to nowhere: "PID START_TIME" of its init
ROOT/ID/start.sock    there as long as the container is created and not started
"""

from __future__ import annotations

import errno
import fcntl
from _stat import S_ISDIR

from rootless import jsonlite
from rootless import lean_os as os
from rootless.errors import NoSuchContainer, RootlessError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_ID_LIMIT = 255  # of a file name, which the id becomes
_INIT = "init"


def default_root(uid: int, in_userns: bool) -> str:
    """Where states live without --root: see docs/internals/architecture.md, "State"."""
    if os.environ.get("ROOTLESS_ROOT"):
        return os.environ["ROOTLESS_ROOT"]
    if uid == 0 and not in_userns:
        return "/run/rootless"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        try:
            if os.stat(runtime).st_uid == uid:
                return f"{runtime}/rootless"
        except OSError:
            pass
    return f"/tmp/rootless-{uid}"


def check_id(container_id: str) -> str:
    """The id, if it can be one: `[A-Za-z0-9_+.-]`, no leading dot. Raises RootlessError."""
    if not container_id:
        raise RootlessError("container ID is empty")
    for character in container_id:
        if character not in _ID_CHARACTERS:
            raise RootlessError(f"invalid character {printable(repr(character))} in container ID", _shown(container_id))
    if container_id.startswith("."):
        raise RootlessError("invalid container ID: it begins with a dot", _shown(container_id))
    if len(container_id) > _ID_LIMIT:
        raise RootlessError(
            f"invalid container ID: it is longer than {_ID_LIMIT} characters", _shown(container_id[:40] + "...")
        )
    return container_id


def _shown(container_id: str) -> str:
    return f'"{printable(container_id)}"'


class StateDir:
    """An open, perhaps locked, state directory of one container."""

    def __init__(self, root: str, container_id: str, fd: int) -> None:
        self.root = root
        self.container_id = container_id
        self.fd = fd

    @classmethod
    def make(cls, root: str, container_id: str) -> StateDir:
        """A new, locked one. Raises RootlessError where the id is in use."""
        _make_root(root)
        path = f"{root}/{container_id}"
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            raise RootlessError(
                f'container "{container_id}" already exists', path, hint="choose another ID or delete it"
            ) from None
        except OSError as error:
            raise RootlessError.from_os(error, "cannot make the state directory", path) from None
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return cls(root, container_id, fd)

    @classmethod
    def open(cls, root: str, container_id: str, *, lock: bool = False) -> StateDir:
        """The existing one; with `lock` after waiting for whoever holds it. Raises NoSuchContainer."""
        check_id(container_id)
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(f"{root}/{container_id}", flags)
        except FileNotFoundError:
            raise NoSuchContainer(container_id) from None
        except OSError as error:
            raise RootlessError.from_os(error, "cannot open the state directory") from None
        if lock:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink == 0:  # deleted while we waited
                os.close(fd)
                raise NoSuchContainer(container_id)
        return cls(root, container_id, fd)

    def read(self, name: str) -> Any:
        """A JSON object of the directory, None where its file is missing. Raises RootlessError for a broken one."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        try:
            with open(fd, "rb", buffering=0) as file:
                found = jsonlite.loads(file.read() or b"")
            if type(found) is not dict:
                raise ValueError("it holds no object")
            return found
        except ValueError as error:
            raise RootlessError(
                f"the container's {name} is damaged ({error})",
                f"{self.root}/{self.container_id}/{name}",
                hint=f"rootless delete --force {self.container_id}",
            ) from None

    def write(self, name: str, data: bytes) -> None:
        """A file of the directory, replaced in one step."""
        temporary = f".{name}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(temporary, flags, 0o600, dir_fd=self.fd)
        try:
            os.write(fd, data) if len(data) < 65536 else _write_all(fd, data)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def note_init(self, pid: int, start_time: int) -> None:
        """Beside the state file, in one step: should that be damaged one day, its process can still be ended."""
        try:
            os.symlink(f"{pid} {start_time}", _INIT, dir_fd=self.fd)
        except FileExistsError:
            pass

    def noted_init(self) -> tuple[int, int]:
        """(pid, start time) as noted, (0, 0) without a note."""
        try:
            pid, start_time = os.readlink(_INIT, dir_fd=self.fd).split()
            return int(pid), int(start_time)
        except (OSError, ValueError):
            return 0, 0

    def has(self, name: str) -> bool:
        """Whether such a file is there."""
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in one step."""
        os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def unlink(self, name: str) -> None:
        """Take a file away; a missing one is fine."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            pass

    def remove(self) -> None:
        """Take the whole directory away."""
        for name in os.listdir(self.fd):
            try:
                self.unlink(name)
            except IsADirectoryError:  # notify/, or the empty one of a restore that was cut off
                self.unlink(f"{name}/notify.sock")
                os.rmdir(name, dir_fd=self.fd)
        try:
            os.rmdir(f"{self.root}/{self.container_id}")
        except FileNotFoundError:
            pass

    def close(self) -> None:
        """Close it; this gives the lock up."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def ids(root: str) -> list[str]:
    """The ids that have a state directory, sorted; [] where there is no root yet."""
    try:
        return sorted(name for name in os.listdir(root) if not name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RootlessError.from_os(error, "cannot list the state directory") from None


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _make_root(root: str) -> None:
    """The root of all states: 0700 and sticky (so that no tmp cleaner takes it), ours, no symbolic link."""
    try:
        found = os.lstat(root)
    except OSError:
        try:
            os.makedirs(root, 0o700, exist_ok=True)
            os.chmod(root, 0o1700)
        except OSError as error:
            raise RootlessError.from_os(
                error, "cannot make the state directory", root, "choose another with --root"
            ) from None
        return
    if root.startswith("/tmp/rootless-") and (not S_ISDIR(found.st_mode) or found.st_uid != os.geteuid()):
        raise RootlessError("the state directory belongs to somebody else", root, errno.EPERM, "choose one with --root")
