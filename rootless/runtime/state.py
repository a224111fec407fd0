"""Read and write the state directory of a container, which holds its state, its config and its start socket.

ROOT/ID/state.json    written to a temporary file and renamed, while the directory is locked
ROOT/ID/config.json   a copy of the config that `create` has read; the bundle's file is not used again
ROOT/ID/init          a dangling symbolic link whose target text is "PID START_TIME" of init
ROOT/ID/cgroup.*      dangling symbolic links: the cgroup that will be made, and the one that was made (note_cgroup)
ROOT/ID/upper         a dangling symbolic link: the upper directory of a throw-away root (runtime/upper.py)
ROOT/ID/.lock.PID     a dangling symbolic link: a command that holds the lock or waits for it (runtime/lock.py)
ROOT/ID/start.sock    exists while the container is created and not started
"""

from __future__ import annotations

import errno

from rootless import log
from rootless.errors import IdInUse, NoSuchContainer, RootlessError, advice, printable
from rootless.kernel import proc
from rootless.kernel.files import PATH_DIRECTORY, READ_DIRECTORY, close_at_last, write_all
from rootless.runtime.lock import Lock
from rootless.startup import jsonlite
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_ID_LIMIT = 255  # the longest file name (NAME_MAX), because the id becomes one
_LATECOMERS = 100  # commands that note themselves in a directory that is being removed: lock.py
_INIT = "init"
_PLANNED, _MADE = "cgroup.planned", "cgroup.made"


def default_root(uid: int, in_userns: bool) -> str:
    """Return the state root without --root (docs/internals/architecture.md, "State")."""
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
            pass  # not this user's. Other errors are raised, because the answer must be the same for every command
    return f"/tmp/rootless-{uid}"


def check_id(container_id: str) -> str:
    """Return the id if it is valid: `[A-Za-z0-9_+.-]`, no leading dot, at most 255 characters. Raises RootlessError."""
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
    """Hold the open state directory of a container, and its lock.

    spare: a descriptor that `remove` closes, because it needs one more to list the directory; -1 if there is none.
    """

    def __init__(self, root: str, container_id: str, fd: int, root_fd: int, spare: int = -1) -> None:
        self.root = root
        self.container_id = container_id
        self.fd = fd
        self.root_fd = root_fd
        self.spare = spare
        self.lock = Lock(fd, f"{root}/{container_id}", container_id)

    @classmethod
    def make(cls, root: str, container_id: str, holder: tuple[int, int] | None = None) -> StateDir:
        """Make a state directory and lock it. holder: see Lock.take. Raises IdInUse and RootlessError."""
        path = f"{root}/{container_id}"
        root_fd = open_root(root, make=True)
        fd, spare, is_new = -1, -1, False
        try:
            spare = os.dup(root_fd)  # whoever uses up all others, what is made here can be removed: see remove
            os.close(os.dup(root_fd))  # for the directory; without it nothing is made
            try:
                os.mkdir(container_id, 0o700, dir_fd=root_fd)
            except FileExistsError:
                raise IdInUse(container_id, path) from None
            is_new = True
            fd = _open_own(container_id, root_fd)
            os.fchmod(fd, 0o700)  # the umask may have removed bits
            directory = cls(root, container_id, fd, root_fd, spare)
            directory.lock.take(holder)
            return directory
        except BaseException as error:
            close_at_last(spare)
            if is_new and not isinstance(error, NoSuchContainer):
                _undo_make(container_id, root_fd, fd)
            close_at_last(fd, root_fd)
            if isinstance(error, OSError):
                raise RootlessError.from_os(error, "cannot make the state directory", path) from None
            raise

    @classmethod
    def open(cls, root: str, container_id: str, *, lock: bool = False) -> StateDir:
        """Open a state directory; with `lock`, wait for its lock. Raises NoSuchContainer and RootlessError."""
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
        """Return the JSON object in a file of the directory, None if there is no such file. Raises RootlessError."""
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
                value = jsonlite.loads(file.readall() or b"")
            if type(value) is not dict:
                raise ValueError("it is not an object")
            return value
        except ValueError as error:
            raise RootlessError(
                f"the container's {name} is damaged ({error})",
                f"{self.root}/{self.container_id}/{name}",
                hint=f"rootless delete --force {self.container_id}",
            ) from None

    def write(self, name: str, data: bytes) -> None:
        """Replace a file of the directory in one step. Raises OSError; the old file then still exists."""
        temporary = f".{name}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(temporary, flags, 0o600, dir_fd=self.fd)
            try:
                os.fchmod(fd, 0o600)  # the umask may have removed bits
                write_all(fd, data)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as error:
            path = f"{self.root}/{self.container_id}/{name}"
            raise OSError(error.errno, f"cannot write the container's {name}: {error.strerror}", path) from None

    def note_init(self, pid: int, start_time: int) -> None:
        """Note init outside of state.json, too, with one system call.

        So `delete --force` can kill init if state.json is damaged or does not exist yet.
        """
        self._link(f"{pid} {start_time}", _INIT)

    def noted_init(self) -> tuple[int, int]:
        """Return (pid, start time) as noted, (0, 0) without a note."""
        words = self._read_link(_INIT).split()
        return (int(words[0]), int(words[1])) if len(words) == 2 and all(map(str.isdigit, words)) else (0, 0)

    def note_cgroup(self, path: str, new: int, inode: int = 0) -> None:
        """Note the cgroup's directory: first without an inode number, and again with it once the directory exists.

        new: how many of the path's last directories `create` makes, 0 for a cgroup that exists already. The inode
        identifies the directory, because another container's cgroup may have the same path later.
        """
        self._link(f"{inode} {new} {path}", _MADE if inode else _PLANNED)

    def noted_cgroup(self) -> tuple[str, int, int]:
        """Return (path, new, inode) as noted; ("", 0, 0) without a note, inode 0 if it may not exist."""
        for name in (_MADE, _PLANNED):
            inode, _, rest = self._read_link(name).partition(" ")
            new, _, path = rest.partition(" ")
            if inode.isdigit() and new.isdigit() and path.startswith("/"):
                return path, int(new), int(inode)
        return "", 0, 0

    def note(self, text: str, name: str) -> None:
        """Store a text under a name with one system call, as a dangling symbolic link. Raises RootlessError."""
        self._link(text, name)

    def noted(self, name: str) -> str:
        """Return the text that `note` has stored under a name, "" for none. Raises RootlessError."""
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
        """Return the target text of a link, "" if there is no such link. Raises RootlessError."""
        try:
            return os.readlink(name, dir_fd=self.fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):  # EINVAL: not a symbolic link
                return ""
            path = f"{self.root}/{self.container_id}/{name}"
            raise RootlessError.from_os(error, "cannot read the state directory", path) from None

    def names(self) -> list[str]:
        """Return the names of what the directory holds. Raises RootlessError."""
        try:
            return os.listdir(self.fd)
        except OSError as error:
            path = f"{self.root}/{self.container_id}"
            raise RootlessError.from_os(error, "cannot read the state directory", path) from None

    def has(self, name: str) -> bool:
        """Return whether the directory has a file of this name. Raises OSError."""
        try:
            os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def rename(self, old: str, new: str) -> None:
        """Rename a file of the directory. Raises OSError."""
        os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def unlink(self, name: str) -> None:
        """Remove a file of the directory if it exists. Raises OSError."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            pass

    def remove(self) -> None:
        """Remove the directory with all that is in it. Raises RootlessError."""
        path = f"{self.root}/{self.container_id}"
        close_at_last(self.spare)
        self.spare = -1
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
        if own:  # last, because `delete --force` needs the note to kill this command if it hangs
            self.unlink(own)

    def close(self) -> None:
        """Close the directory and release its lock. A failure is only logged, because the command has done its work."""
        if self.fd >= 0:
            try:
                self.lock.give_up()
            except OSError as error:  # the note stays; it names a process that will be gone
                log.debug(f"lock: {error}")
            self.close_copy()

    def close_copy(self) -> None:
        """Close the descriptors in a clone of the process. The lock stays with the other process."""
        if self.fd >= 0:
            close_at_last(self.fd, self.root_fd, self.spare)
            self.fd = self.root_fd = self.spare = -1


def ids(root: str) -> list[str]:
    """Return the ids that have a state directory, sorted; [] if the root does not exist yet. Raises RootlessError."""
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
    """Open the state root; return its fd, -1 if it does not exist. With `make`, make it. Raises RootlessError.

    Every command opens it here. It must be a directory, not a symbolic link. It must belong to this user, and no one
    else may write it, because a state says which processes to kill and which hooks to run. Root becomes the owner
    (owner.py). A new root and its missing parents have mode 0700. It is also sticky, so that no cleaner of /tmp
    removes it.
    """
    try:
        fd = _open_own(root)
    except FileNotFoundError:
        return _make_root(root) if make else -1
    except NotADirectoryError:
        what = "the state directory is a symbolic link, or not a directory"
        raise RootlessError(what, root, errno.ENOTDIR, "name a directory itself with --root") from None
    except OSError as error:
        hint = advice("own-state-root") if error.errno == errno.EACCES else ""
        raise RootlessError.from_os(error, "cannot open the state directory", root, hint) from None
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() and not status.st_mode & 0o022:
            from rootless.runtime.owner import become_owner

            become_owner(status, root)
        _check_owner(status, root)
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
        from rootless.kernel.hints import hint

        elsewhere = hint("state-elsewhere").text
        raise RootlessError.from_os(error, "cannot make the state directory", root, elsewhere) from None


def _open_own(path: str, dir_fd: int | None = None) -> int:
    """Open a directory, never through a symbolic link. Raises OSError.

    If a umask has taken permissions from its owner, who is this user, they are restored.
    """
    try:
        return os.open(path, READ_DIRECTORY, dir_fd=dir_fd)
    except PermissionError:
        fd = os.open(path, PATH_DIRECTORY, dir_fd=dir_fd)
    try:
        status = os.fstat(fd)
        if status.st_uid == os.geteuid() and status.st_mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{fd}", status.st_mode & 0o7777 | 0o700)
        return os.open(".", READ_DIRECTORY, dir_fd=fd)
    finally:
        os.close(fd)


def _check_owner(status: os.stat_result, path: str) -> None:
    """Refuse a directory that belongs to another user, or that others may write. Raises RootlessError."""
    if status.st_mode & 0o022:
        raise RootlessError(
            "the state directory may be written by its group or others",
            path,
            errno.EPERM,
            advice("state-writable", path=path),
        )
    if status.st_uid != os.geteuid():
        raise RootlessError(
            f"the state directory belongs to uid {status.st_uid}",
            path,
            errno.EPERM,
            advice("own-state-root"),
        )


def _undo_make(container_id: str, root_fd: int, fd: int) -> None:
    """Remove the state directory that was just made. A failure is only a warning."""
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
    """Remove a directory in the state directory, as root of the user's ids if it belongs to a subordinate id.

    It does not cross mounts, because rmdir(2) refuses a mount point. Raises OSError and RootlessError.
    """
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
