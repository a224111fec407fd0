"""The state directory: one directory a container, with state.json, the config as read, and the start socket.

ROOT/ID/state.json    written by temp + rename under the directory's lock
ROOT/ID/config.json   what `create` read: the bundle's file is never looked at again
ROOT/ID/init          a link to nowhere: "PID START_TIME" of its init
ROOT/ID/cgroup.*      links to nowhere: the cgroup that is about to be made, and the one that was (see note_cgroup)
ROOT/ID/upper         a link to nowhere: the upper directory of its throw-away root (rootless/runtime/upper.py)
ROOT/ID/.lock.PID     a link to nowhere: a command that has the lock or waits for it (rootless/runtime/lock.py)
ROOT/ID/start.sock    there as long as the container is created and not started
"""

from __future__ import annotations

import errno

from rootless import log
from rootless.errors import IdInUse, NoSuchContainer, RootlessError, printable
from rootless.kernel import proc
from rootless.kernel.files import close_at_last, write_all
from rootless.runtime.lock import Lock
from rootless.startup import jsonlite
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_ID_LIMIT = 255  # of a file name, which the id becomes
_LATECOMERS = 100  # commands that note themselves in a directory that is being removed: lock.py
_INIT = "init"
_PLANNED, _MADE = "cgroup.planned", "cgroup.made"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass  # it is not ours; any other error says nothing, and there must be one answer each time
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

    def __init__(self, root: str, container_id: str, fd: int, root_fd: int) -> None:
        self.root = root
        self.container_id = container_id
        self.fd = fd
        self.root_fd = root_fd
        self.lock = Lock(fd, f"{root}/{container_id}", container_id)

    @classmethod
    def make(cls, root: str, container_id: str, holder: tuple[int, int] | None = None) -> StateDir:
        """Make a new one and take its lock; `holder`: see Lock.take. Raises RootlessError where the id is in use."""
        path = f"{root}/{container_id}"
        root_fd = open_root(root, make=True)
        fd, made = -1, False
        try:
            try:
                os.mkdir(container_id, 0o700, dir_fd=root_fd)
            except FileExistsError:
                raise IdInUse(container_id, path) from None
            made = True
            fd = _open_own(container_id, root_fd)
            os.fchmod(fd, 0o700)  # whatever the umask
            directory = cls(root, container_id, fd, root_fd)
            directory.lock.take(holder)
            return directory
        except BaseException as error:
            if made and not isinstance(error, NoSuchContainer):
                _undo_make(container_id, root_fd, fd)
            close_at_last(fd, root_fd)
            if isinstance(error, OSError):
                raise RootlessError.from_os(error, "cannot make the state directory", path) from None
            raise

    @classmethod
    def open(cls, root: str, container_id: str, *, lock: bool = False) -> StateDir:
        """Open the existing one; with `lock` after waiting for whoever holds it. Raises NoSuchContainer."""
        check_id(container_id)
        root_fd = open_root(root)
        if root_fd < 0:
            raise NoSuchContainer(container_id)
        fd = -1
        try:
            fd = _open_own(container_id, root_fd)
            _check_owner(os.fstat(fd), f"{root}/{container_id}")
            directory = cls(root, container_id, fd, root_fd)
            if lock:
                directory.lock.take(proc.own_identity())
            return directory
        except BaseException as error:
            close_at_last(fd, root_fd)
            if isinstance(error, FileNotFoundError):
                raise NoSuchContainer(container_id) from None
            if isinstance(error, OSError):
                path = f"{root}/{container_id}"
                raise RootlessError.from_os(error, "cannot open the state directory", path) from None
            raise

    def read(self, name: str) -> Any:
        """A JSON object of the directory, None where its file is missing. Raises RootlessError for a broken one."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            path = f"{self.root}/{self.container_id}/{name}"
            hint = f"rootless delete --force {self.container_id}"
            raise RootlessError.from_os(error, f"cannot read the container's {name}", path, hint) from None
        try:
            with open(fd, "rb", buffering=0) as file:
                found = jsonlite.loads(file.readall() or b"")
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
        """Replace a file of the directory in one step. Raises OSError; then the old one is still there."""
        temporary = f".{name}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(temporary, flags, 0o600, dir_fd=self.fd)
            try:
                os.fchmod(fd, 0o600)  # whatever the umask
                write_all(fd, data)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as error:
            path = f"{self.root}/{self.container_id}/{name}"
            raise OSError(error.errno, f"cannot write the container's {name}: {error.strerror}", path) from None

    def note_init(self, pid: int, start_time: int) -> None:
        """Note init outside of state.json too, in one step, so that `delete --force` can end it when that is damaged or
        not yet there."""
        self._link(f"{pid} {start_time}", _INIT)

    def noted_init(self) -> tuple[int, int]:
        """Return (pid, start time) as noted, (0, 0) without a note."""
        words = self._read_link(_INIT).split()
        return (int(words[0]), int(words[1])) if len(words) == 2 and all(map(str.isdigit, words)) else (0, 0)

    def note_cgroup(self, path: str, new: int, inode: int = 0) -> None:
        """Note the cgroup's directory: before it is made without its inode number, and with it when it is there.

        new: how many of the path's last directories are the container's, 0 for a cgroup that was there before. A path
        alone is no identity, because another container's cgroup may have it by the time that somebody looks.
        """
        self._link(f"{inode} {new} {path}", _MADE if inode else _PLANNED)

    def noted_cgroup(self) -> tuple[str, int, int]:
        """Return (path, new, inode) as noted; ("", 0, 0) without a note, inode 0 where it may not have been made."""
        for name in (_MADE, _PLANNED):
            inode, _, rest = self._read_link(name).partition(" ")
            new, _, path = rest.partition(" ")
            if inode.isdigit() and new.isdigit() and path.startswith("/"):
                return path, int(new), int(inode)
        return "", 0, 0

    def note(self, text: str, name: str) -> None:
        """Note something under a name, in one step: as a link to nowhere. Raises RootlessError."""
        self._link(text, name)

    def noted(self, name: str) -> str:
        """Return what is noted under a name, "" without a note. Raises RootlessError."""
        return self._read_link(name)

    def _link(self, text: str, name: str) -> None:
        try:
            os.symlink(text, name, dir_fd=self.fd)
        except FileExistsError:
            pass
        except OSError as error:
            raise RootlessError.from_os(
                error, "cannot write to the state directory", f"{self.root}/{self.container_id}/{name}"
            ) from None

    def _read_link(self, name: str) -> str:
        """Where a note leads, "" without one. Raises RootlessError."""
        try:
            return os.readlink(name, dir_fd=self.fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):  # EINVAL: it is not a link
                return ""
            path = f"{self.root}/{self.container_id}/{name}"
            raise RootlessError.from_os(error, "cannot read the state directory", path) from None

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
        """Remove the whole directory, whatever is in it; its mode does not matter. Raises RootlessError."""
        path = f"{self.root}/{self.container_id}"
        try:
            for _ in range(_LATECOMERS):
                self._empty()
                try:
                    os.rmdir(self.container_id, dir_fd=self.root_fd)
                    return
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:
                        raise
                    left = error
            raise left
        except FileNotFoundError:
            pass
        except OSError as error:
            hint = f"rootless delete --force {self.container_id}"
            raise RootlessError.from_os(error, "cannot remove the state directory", path, hint) from None

    def _empty(self) -> None:
        own = self.lock.note
        for name in os.listdir(self.fd):
            if name == own:
                continue
            try:
                self.unlink(name)
            except IsADirectoryError:
                _remove_directory(f"/proc/self/fd/{self.fd}/{name}")
        if own:  # last: without it nobody could end this command, were it to stop here
            self.unlink(own)

    def close(self) -> None:
        """Close it; this gives the lock up. What fails here is only told, because the command's work is done."""
        if self.fd >= 0:
            try:
                self.lock.give_up()
            except OSError as error:  # the note stays, and names a process that is then gone
                log.debug(f"lock: {error}")
            self.close_copy()

    def close_copy(self) -> None:
        """Close the descriptors of a copy that clone3(2) made: the lock stays with the other process."""
        if self.fd >= 0:
            close_at_last(self.fd, self.root_fd)
            self.fd = self.root_fd = -1


def ids(root: str) -> list[str]:
    """Return the ids that have a state directory, sorted; [] where there is no root yet."""
    root_fd = open_root(root)
    if root_fd < 0:
        return []
    try:
        return sorted(name for name in os.listdir(root_fd) if not name.startswith("."))
    except OSError as error:
        raise RootlessError.from_os(error, "cannot list the state directory", root) from None
    finally:
        os.close(root_fd)


def open_root(root: str, *, make: bool = False) -> int:
    """Open the directory of all states, the one way for every command; -1 where there is none and `make` is not asked.

    It has to be a directory, not a symbolic link, of this process's user, and no one else may write it: otherwise
    somebody else says which processes to kill and which hooks to run. Root becomes the user that it belongs to. A new
    one is 0700, as are its missing parents, and sticky, so that no cleaner of /tmp takes it. Raises RootlessError.
    """
    try:
        fd = _open_own(root)
    except FileNotFoundError:
        return _make_root(root) if make else -1
    except NotADirectoryError:
        what = "the state directory is a symbolic link, or not a directory"
        raise RootlessError(what, root, errno.ENOTDIR, "name a directory itself with --root") from None
    except OSError as error:
        raise RootlessError.from_os(error, "cannot open the state directory", root) from None
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() and not found.st_mode & 0o022:
            from rootless.runtime.owner import become_owner

            become_owner(found, root)
        _check_owner(found, root)
        return fd
    except BaseException:
        os.close(fd)
        raise


def _make_root(root: str) -> int:
    from oci.private import make_private

    try:
        fd = make_private(root)
        os.fchmod(fd, 0o1700)
        return fd
    except OSError as error:
        raise RootlessError.from_os(
            error, "cannot make the state directory", root, "choose another with --root"
        ) from None


def _open_own(path: str, dir_fd: int | None = None) -> int:
    """Open a directory, never through a symbolic link; one of our own that a umask has left without permissions gets
    them back. Raises OSError."""
    try:
        return os.open(path, _DIRECTORY, dir_fd=dir_fd)
    except PermissionError:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        found = os.fstat(fd)
        if found.st_uid == os.geteuid() and found.st_mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{fd}", found.st_mode & 0o7777 | 0o700)
        return os.open(".", _DIRECTORY, dir_fd=fd)
    finally:
        os.close(fd)


def _check_owner(found: os.stat_result, path: str) -> None:
    """Refuse a directory that another user has made or may write. Raises RootlessError."""
    if found.st_mode & 0o022:
        raise RootlessError(
            "the state directory may be written by its group or others", path, errno.EPERM, f"chmod go-w {path}"
        )
    if found.st_uid != os.geteuid():
        raise RootlessError(
            f"the state directory belongs to uid {found.st_uid}",
            path,
            errno.EPERM,
            "choose one of your own with --root",
        )


def _undo_make(container_id: str, root_fd: int, fd: int) -> None:
    """Remove the directory that was just made."""
    try:
        for name in os.listdir(fd) if fd >= 0 else ():
            os.unlink(name, dir_fd=fd)
        os.rmdir(container_id, dir_fd=root_fd)
    except FileNotFoundError:
        pass
    except OSError as failed:
        from rootless import log

        log.warn(f"the state directory is left: {failed.strerror}; hint: rootless delete --force {container_id}")


def _remove_directory(path: str) -> None:
    """Remove a directory of the state directory, with what somebody has put there: as root of the user's ids where it
    belongs to one of them. Mounts below are not crossed: rmdir(2) refuses them. Raises OSError and RootlessError."""
    from oci.remove import remove_tree

    try:
        remove_tree(path)
    except PermissionError:
        if os.geteuid() == 0:
            raise
        from rootless.kernel.host import Host
        from rootless.userns.run import default_maps, run_in_userns

        def remove() -> int:
            remove_tree(path)
            return 0

        if run_in_userns(*default_maps(Host()), remove):
            raise
