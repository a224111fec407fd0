"""R in the foreground: waits for the program, forwards signals, and is the terminal between the user and the pty."""

from __future__ import annotations

import errno
import fcntl
import select
from _signal import set_wakeup_fd, signal  # type: ignore[import-not-found]
from struct import pack

from rootless.kernel import syscalls as sc
from rootless.kernel.signals import ENDING, FORWARDED, SIGNALS, unblock
from rootless.runtime.escalation import Escalation
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cgroup.oom import Watch
    from rootless.runtime.limit import TimeLimit
    from rootless.runtime.notify import Listener

_WINCH = SIGNALS["WINCH"]
_LIMIT = 65536
_PIECE = 4096
_REPEATS = 100


def listen(*, ready: bool = True) -> int:
    """Catch all that is forwarded, from now on: the fd from which `wait` reads the numbers.

    Called before `start`: a signal for the program that has just begun must not end R. Where R is not `ready`, those
    that end a command still do so, until `be_ready`.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    set_wakeup_fd(writer, warn_on_full_buffer=False)
    for signum in FORWARDED:
        if ready or signum not in ENDING:
            signal(signum, _noted)
    unblock(FORWARDED)
    return reader


def be_ready() -> None:
    """From now on the program is there, and gets those too."""
    for signum in ENDING:
        signal(signum, _noted)


def wait(
    pid: int,
    pidfd: int,
    reader: int,
    master: int = -1,
    *,
    oom: Watch | None = None,
    listener: Listener | None = None,
    limit: TimeLimit | None = None,
) -> int:
    """Until the program ends: its exit code, 128+n on a signal. With a master: raw mode, window size, all output.

    The caller has given the container's lock up, so that `kill`, `exec` and `delete` get on with it, and ends the
    program where this raises: nobody would wait for it. `oom` counts along: when the program has ended, a scope's
    cgroup and its figures may be gone. Signals that come afterwards are for nobody: they must not end the runtime while
    it takes the container away.
    """
    terminal = _Terminal(master) if master >= 0 else None
    try:
        _loop(pid, pidfd, reader, terminal, oom, listener, limit)
    finally:
        if terminal:
            terminal.restore()
        set_wakeup_fd(-1)
    return exit_code(pid)


def adopt(master: int, *, sized: bool = False) -> None:
    """Make a new pty ready to be proxied, before the program looks at it: the user's window size, unless it is `sized`,
    and a bare newline, as runc gives it: the user's own terminal makes what it needs of it."""
    import termios

    mode = termios.tcgetattr(master)
    mode[1] &= ~termios.ONLCR
    termios.tcsetattr(master, termios.TCSANOW, mode)
    if not sized:
        fit(master)


def fit(master: int) -> None:
    """Give the pty the size of the user's window; where there is none, config.json's stays, or it is 24x80."""
    size = _window_size()
    if not size:
        if any(fcntl.ioctl(master, sc.TIOCGWINSZ, b"\0" * 8)):
            return
        size = pack("4H", 24, 80, 0, 0)
    fcntl.ioctl(master, sc.TIOCSWINSZ, size)


def _window_size() -> bytes:
    """Return the struct winsize of the user's window, b"" where there is none: of the first of the standard streams
    that is a terminal, because any of them may be a pipe, then of the controlling terminal (tty(4))."""
    for fd in (0, 1, 2):
        try:
            return fcntl.ioctl(fd, sc.TIOCGWINSZ, bytes(8))
        except OSError:  # ENOTTY, or EIO of one that has hung up
            continue
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # ENXIO: there is none
        return b""
    try:
        return fcntl.ioctl(terminal, sc.TIOCGWINSZ, bytes(8))
    except OSError:
        return b""
    finally:
        os.close(terminal)


def exit_code(pid: int) -> int:
    """Reap the child: its exit code, or 128 and the signal's number."""
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _noted(_signum: int, _frame: Any) -> None:
    """Nothing: the wakeup fd carries the number."""


def _loop(
    pid: int,
    pidfd: int,
    reader: int,
    terminal: _Terminal | None,
    oom: Watch | None,
    listener: Listener | None,
    limit: TimeLimit | None,
) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.register(reader, select.POLLIN)
    if oom and oom.fd >= 0:
        poller.register(oom.fd, select.POLLPRI)
    if listener:
        poller.register(listener, select.POLLIN)
    if terminal:
        terminal.register(poller)
    escalation = Escalation(pid, pidfd)
    while True:
        timeout = escalation.timeout()
        if limit and (left := limit.timeout()) is not None:
            timeout = left if timeout is None else min(left, timeout)
        found = poller.poll(timeout)
        escalation.look()
        if limit:
            limit.look()
        for fd, events in found:
            if fd == reader:
                for signum in os.read(reader, 64):
                    _forward(pid, signum, terminal)
                    if not terminal:
                        escalation.note(signum)
            elif fd == pidfd:
                if oom:
                    oom.look()
                if terminal:
                    terminal.drain()
                return
            elif oom and fd == oom.fd:
                oom.look()
            elif listener and fd == listener.fileno():
                if listener.forward(os.getpid()):  # this process is the one to watch: it ends as the program does
                    poller.unregister(fd)
            elif terminal:
                terminal.move(fd, events, poller)


def _forward(pid: int, signum: int, terminal: _Terminal | None) -> None:
    if signum == _WINCH and terminal:
        terminal.resize()
        return
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        pass


class _Terminal:
    """The user's stdin and stdout on one side, the pty's master on the other."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.saved: list[Any] | None = None
        self.input = self.output = b""  # what has been read on one side and not been written on the other
        self.reading = True  # the user's input has not ended
        self.ended = False  # the program's output has
        self.repeats = 0  # how often the end of file may still be said
        self.asked: set[int] = set()  # the fds that poll(2) is asked about
        os.set_blocking(master, False)
        if os.isatty(0):
            import termios
            import tty

            try:
                self.saved = termios.tcgetattr(0)
                tty.setraw(0, termios.TCSANOW)  # what was typed ahead stays
                raw = termios.tcgetattr(0)
                raw[1] |= termios.OPOST  # for the newlines, see `adopt`
                termios.tcsetattr(0, termios.TCSANOW, raw)
            except termios.error:  # EIO: it has hung up meanwhile
                pass

    def register(self, poller: select.poll) -> None:
        """Ask for what can go on. Neither side is waited for alone: a program that does not read its input may be
        waiting for its output to be read."""
        ask = {}
        if self.reading and not self.input:
            ask[0] = select.POLLIN
        if self.output:
            ask[1] = select.POLLOUT
        if self.master >= 0 and (self.input or self._readable()):
            ask[self.master] = (select.POLLOUT if self.input else 0) | (select.POLLIN if self._readable() else 0)
        for fd in self.asked.difference(ask):
            poller.unregister(fd)
        for fd, events in ask.items():
            poller.register(fd, events)
        self.asked = set(ask)

    def resize(self) -> None:
        if self.master >= 0:
            fit(self.master)

    def move(self, fd: int, events: int, poller: select.poll) -> None:
        """Go on with one side."""
        if fd == 0:
            self._read_input()
        elif fd == 1:
            self._write_output()
        elif fd == self.master:  # else it was asked about before it hung up
            if events & select.POLLOUT:
                self._write_input()
            elif events & select.POLLHUP:  # nobody has it open, and it is full
                self.input = b""
            if events & ~select.POLLOUT and self._readable():
                self._read_output()
        self.register(poller)

    def _readable(self) -> bool:
        """Whether there may be more output, and room for it."""
        return not self.ended and not self.output

    def _read_input(self) -> None:
        try:
            self.input = os.read(0, 4096)
        except OSError:
            self.input = b""
        if self.input:
            self._write_input()
            return
        self.reading = False
        if _has_hung_up(0):
            self._hang_up()
        else:
            self.repeats = _REPEATS
            self._say_end_of_file()

    def _write_input(self) -> None:
        try:
            self.input = self.input[os.write(self.master, self.input) :]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads there any more
            self.input = b""

    def _hang_up(self) -> None:
        """The user's terminal is gone, and so is the container's: the kernel tells all who use it. A forwarded SIGHUP
        alone is not for everybody: pid 1 gets no signal that it has no handler for (pid_namespaces(7))."""
        os.close(self.master)
        self.master = -1
        self.input = b""

    def _say_end_of_file(self) -> None:
        """The end of a pipe is the terminal's end of file; said again after each output, for the character is looked
        at as it comes in (termios(3)): a shell that has its terminal raw only afterwards has not seen it."""
        if self.repeats and not self.input:
            self.repeats -= 1
            self.input = b"\x04"
            self._write_input()

    def _read_output(self) -> None:
        try:
            self.output = os.read(self.master, _LIMIT)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last slave is closed (pty(7))
            self.output = b""
        self.ended = not self.output

    def _write_output(self) -> None:
        """A piece that poll(2) has seen room for: pipe(7), PIPE_BUF. Whoever blocks here forwards no signals."""
        try:
            self.output = self.output[os.write(1, self.output[:_PIECE]) :]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads it
            self.output = b""
        if not self.output:
            self._say_end_of_file()

    def drain(self) -> None:
        """Everything that the program wrote before it ended."""
        _write_all(1, self.output)
        while self.master >= 0:
            try:
                data = os.read(self.master, _LIMIT)
            except OSError:
                return
            if not data:
                return
            _write_all(1, data)

    def restore(self) -> None:
        if self.saved is not None:
            import termios

            try:
                termios.tcsetattr(0, termios.TCSADRAIN, self.saved)
            except termios.error:  # EIO: it has hung up
                pass
        if self.master >= 0:
            os.close(self.master)


def _has_hung_up(fd: int) -> bool:
    """Whether it is a terminal that is no more, of which isatty(3) says no: all that is left of it is EIO."""
    try:
        fcntl.ioctl(fd, sc.TIOCGWINSZ, b"\0" * 8)
    except OSError as error:
        return error.errno == errno.EIO
    return False


def _write_all(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except OSError:
            return
