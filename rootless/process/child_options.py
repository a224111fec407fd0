"""Apply what subprocess.Popen asks of a child, in place of what config.json says, or beside it."""

from __future__ import annotations

import errno
from _signal import SIG_IGN, signal  # type: ignore[import-not-found]

from rootless.errors import RootlessError
from rootless.process import program
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Becoming(Protocol):
        """What the look-up reads and changes of a process that becomes the program (steps/context.py)."""

        env: list[str]
        left_groups: list[int]


_SEARCH = "/bin:/usr/bin"  # where subprocess looks without PATH: defpath of os
_NAME_MAX = 255  # bytes of a file's name (limits.h)
_PIPE, _XFSZ = 13, 25  # CPython ignores these signals


class ChildOptions:
    """Hold arguments of subprocess.Popen.

    executable: the file to execute; env: None for the container's own; cwd: "" for the container's own; restore:
    restore_signals; session: start_new_session; group: process_group, -1 for none.
    """

    __slots__ = ("cwd", "env", "executable", "group", "restore", "session")

    def __init__(
        self, executable: str, env: list[str] | None, cwd: str, *, restore: bool, session: bool, group: int
    ) -> None:  # fmt: skip
        self.executable = executable
        self.env = env
        self.cwd = cwd
        self.restore = restore
        self.session = session
        self.group = group

    def look_up(self, context: Becoming) -> str:
        """Enter the working directory and take over the environment, as the program's user.

        Return the program's file, which is searched for in the program's own PATH. Raises RootlessError.
        """
        if self.cwd:
            try:
                os.chdir(self.cwd)
            except OSError as error:
                what = "cannot enter the working directory"
                raise RootlessError(what, "/process/cwd", error.errno or 0) from None
        if self.env is not None:
            context.env[:] = self.env
        name, env = self.executable, context.env
        if "/" not in name and not any(entry.startswith("PATH=") for entry in env):
            env = [*env, f"PATH={_SEARCH}"]
        try:
            return program.look_up(name, env, context.left_groups)
        except RootlessError as error:
            if not error.errno:
                error.errno = errno.ENAMETOOLONG if len(os.fsencode(name)) > _NAME_MAX else errno.ENOENT
            if error.errno == errno.EISDIR:  # execve(2) returns EACCES for a directory
                error.errno = errno.EACCES
            error.where = "/process/args/0"
            raise

    def apply(self) -> None:
        """Set the session, the process group and the ignored signals of this process. Raises RootlessError.

        Call it after program.restore_signals, because that restores the two signals.
        """
        if self.session:
            try:
                os.setsid()
            except PermissionError:  # EPERM: it leads its group already, such as pid 1
                pass
        if self.group >= 0:
            try:
                os.setpgid(0, self.group)
            except OSError as error:  # EPERM: the leader of a session is in its own group, and stays there (setpgid(2))
                if self.group not in (0, os.getpid()):
                    raise self.group_error(error) from None
        self.ignore_signals()

    def group_error(self, error: OSError) -> RootlessError:
        """Return the error of setpgid(2), which names no file."""
        return RootlessError("cannot join the process group", f"process_group={self.group}", error.errno or 0)

    def ignore_signals(self) -> None:
        """Ignore the two signals that CPython ignores, if the program is to inherit that."""
        if not self.restore:
            signal(_PIPE, SIG_IGN)
            signal(_XFSZ, SIG_IGN)

    def for_spawn(self) -> dict[str, Any]:
        """Return the arguments of posix_spawn(3) for the session and the process group."""
        words: dict[str, Any] = {"setsid": True} if self.session else {}
        if self.group > 0 or (self.group == 0 and not self.session):  # the leader of a session is in its own group
            words["setpgroup"] = self.group
        return words
