"""Apply what subprocess.Popen asks of a child and config.json has no word for: its file, session, group and signals."""

from __future__ import annotations

from _signal import SIG_IGN, signal  # type: ignore[import-not-found]

from rootless.errors import RootlessError
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PIPE, _XFSZ = 13, 25  # CPython ignores these signals


class ChildOptions:
    """Hold arguments of subprocess.Popen.

    executable: the file to execute in place of args[0], "" for args[0]; restore: restore_signals; session:
    start_new_session; group: process_group, -1 for none.
    """

    __slots__ = ("executable", "group", "restore", "session")

    def __init__(self, executable: str, *, restore: bool, session: bool, group: int) -> None:
        self.executable = executable
        self.restore = restore
        self.session = session
        self.group = group

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
                    raise RootlessError.from_os(error, "cannot set the process group", "/process/args") from None
        self.ignore_signals()

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
