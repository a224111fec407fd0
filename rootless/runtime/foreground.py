"""Wait for a program in the foreground: forward signals, and copy between the user's terminal and the program's pty."""

from __future__ import annotations

import errno
import fcntl
import select
from _signal import set_wakeup_fd, signal  # type: ignore[import-not-found]
from struct import pack

from rootless.kernel import syscalls as sc
from rootless.kernel.signals import ENDING, FORWARDED, SIGNALS, end_on_signals, unblock
from rootless.runtime.escalation import Escalation
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Any

    from rootless.cgroup.oom import Watch
    from rootless.outside.engine import Engine
    from rootless.runtime.limit import TimeLimit
    from rootless.runtime.notify import Listener

_WINCH = SIGNALS["WINCH"]
_LIMIT = 65536
_PIECE = 4096
_REPEATS = 100


def listen(*, ready: bool = True) -> int:
    """Catch all signals that are forwarded; return the fd from which `wait` reads their numbers.

    Call this before `start`, because a signal for a program that has just begun must not end the runtime. Without
    `ready` the signals that end a command still do so, until `be_ready` is called.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    set_wakeup_fd(writer, warn_on_full_buffer=False)
    for signum in FORWARDED:
        if ready or signum not in ENDING:
            signal(signum, _only_wake)
    unblock(FORWARDED)
    return reader


def be_ready() -> None:
    """Forward HUP, INT, QUIT and TERM to the program, too, from now on."""
    for signum in ENDING:
        signal(signum, _only_wake)


def be_ready_with_hooks(*, poststart: bool) -> Callable[[socket], None]:
    """Return what waits, on the socket to init, until the startContainer hooks have run, and then does as `be_ready`.

    Until init says so there is no program to forward HUP, INT, QUIT and TERM to, and a hook may hang. So they are
    raised as Interrupted. Init's word decides, also if it has not been read yet: after it the program may run.
    poststart: there are poststart hooks, too, which keep the first signal waiting. So the second is raised.
    """
    first = iter((True,))

    def await_hooks(sock: socket) -> None:
        waiting, asking = select.poll(), select.poll()  # two, because one cannot be polled while it is polled
        for poller in (waiting, asking):
            poller.register(sock, select.POLLIN)
        end_on_signals(unless=lambda: bool(asking.poll(0)))
        waiting.poll()
        if poststart:
            end_on_signals(unless=lambda: next(first, False))
        else:
            be_ready()

    return await_hooks


def wait(
    pid: int,
    pidfd: int,
    reader: int,
    master: int = -1,
    *,
    oom: Watch | None = None,
    listener: Listener | None = None,
    limit: TimeLimit | None = None,
    engine: Engine | None = None,
) -> int:
    """Wait until the program ends; return its exit code, 128+n if a signal ended it. Raises OSError.

    reader: the fd from `listen`; master: the pty's, -1 for none. With a pty the user's terminal is in raw mode
    meanwhile. The caller has released the container's lock, so that `kill`, `exec` and `delete` work. If this function
    raises, the caller must end the program, because no process would wait for it. oom: counts OOM kills during the
    wait, because the cgroup of a scope may be gone afterwards. engine: warns if it ends first. Later signals are
    ignored, because they must not end the runtime while it deletes the container.
    """
    terminal = _Terminal(master) if master >= 0 else None
    try:
        _loop(pid, pidfd, reader, terminal, oom, listener, limit, engine)
    finally:
        if terminal:
            terminal.restore()
        set_wakeup_fd(-1)
    return exit_code(pid)


def adopt(master: int, *, sized: bool = False) -> None:
    """Prepare a new pty before the program uses it: set its window size, and turn off the translation of newlines.

    sized: whether config.json sets the size, so that the user's is not used. The pty passes a bare newline on, like
    runc's, because the user's own terminal adds the carriage return (termios(3), ONLCR).
    """
    import termios

    mode = termios.tcgetattr(master)
    mode[1] &= ~termios.ONLCR
    termios.tcsetattr(master, termios.TCSANOW, mode)
    if not sized:
        fit(master)


def fit(master: int) -> None:
    """Give the pty the size of the user's window; without one it keeps its size, or gets 24x80 if it has none."""
    size = _window_size()
    if not size:
        if any(fcntl.ioctl(master, sc.TIOCGWINSZ, b"\0" * 8)):
            return
        size = pack("4H", 24, 80, 0, 0)
    fcntl.ioctl(master, sc.TIOCSWINSZ, size)


def _window_size() -> bytes:
    """Return the struct winsize of the user's window, b"" if there is none.

    It is asked of the first standard stream that is a terminal, because any of them may be a pipe. Without one it is
    asked of the controlling terminal (tty(4)).
    """
    for fd in (0, 1, 2):
        try:
            return fcntl.ioctl(fd, sc.TIOCGWINSZ, bytes(8))
        except OSError:  # ENOTTY: not a terminal; EIO: a terminal that has hung up
            continue
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # ENXIO: there is no controlling terminal
        return b""
    try:
        return fcntl.ioctl(terminal, sc.TIOCGWINSZ, bytes(8))
    except OSError:
        return b""
    finally:
        os.close(terminal)


def exit_code(pid: int) -> int:
    """Reap a child; return its exit code, 128+n if signal n has ended it."""
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _only_wake(_signum: int, _frame: Any) -> None:
    """Do nothing, because the interpreter writes the signal's number to the wakeup fd."""


def _loop(
    pid: int,
    pidfd: int,
    reader: int,
    terminal: _Terminal | None,
    oom: Watch | None,
    listener: Listener | None,
    limit: TimeLimit | None,
    engine: Engine | None,
) -> None:
    poller = select.poll()
    sources: tuple[int | Listener | Engine | None, ...] = (pidfd, reader, listener, engine)
    for source in sources:
        if source is not None:
            poller.register(source, select.POLLIN)
    if oom and oom.fd >= 0:
        poller.register(oom.fd, select.POLLPRI)
    if terminal:
        terminal.register(poller)
    escalation = Escalation(pid, pidfd)
    while True:
        timeout = escalation.timeout()
        if limit and (left := limit.timeout()) is not None:
            timeout = left if timeout is None else min(left, timeout)
        ready = poller.poll(timeout)
        escalation.look()
        if limit:
            limit.look()
        for fd, events in ready:
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
                if listener.forward(os.getpid()):  # the manager's main process is this one: it ends with the program
                    poller.unregister(fd)
            elif engine and fd == engine.fileno():
                poller.unregister(fd)
                engine.tell_end()
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
    """Copy between the user's stdin and stdout and the pty's master."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.saved: list[Any] | None = None
        self.input = self.output = b""  # data that was read and not written yet
        self.reading = True  # False once the user's input has ended
        self.ended = False  # True once the program's output has ended
        self.repeats = 0  # how often ^D may still be sent
        self.asked: set[int] = set()  # the fds that are registered with poll(2)
        os.set_blocking(master, False)
        if os.isatty(0):
            import termios
            import tty

            try:
                self.saved = termios.tcgetattr(0)
                tty.setraw(0, termios.TCSANOW)  # TCSANOW keeps what was typed ahead
                raw = termios.tcgetattr(0)
                raw[1] |= termios.OPOST  # the user's terminal translates newlines, see `adopt`
                termios.tcsetattr(0, termios.TCSANOW, raw)
            except termios.error:  # EIO: the terminal has hung up
                pass

    def register(self, poller: select.poll) -> None:
        """Register with poll(2) what can continue.

        Never wait for one side alone, because a program that does not read its input may wait for its output to be
        read.
        """
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
        """Read or write on the side that poll(2) reports."""
        if fd == 0:
            self._read_input()
        elif fd == 1:
            self._write_output()
        elif fd == self.master:  # otherwise the master was closed after poll(2) returned
            if events & select.POLLOUT:
                self._write_input()
            elif events & select.POLLHUP:  # no process has the slave open, so the input cannot be written
                self.input = b""
            if events & ~select.POLLOUT and self._readable():
                self._read_output()
        self.register(poller)

    def _readable(self) -> bool:
        """Return whether there may be more output, and the last has been written."""
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
            self._send_end_of_file()

    def _write_input(self) -> None:
        try:
            self.input = self.input[os.write(self.master, self.input) :]
        except BlockingIOError:
            pass
        except OSError:  # no process reads the slave any more
            self.input = b""

    def _hang_up(self) -> None:
        """Close the pty's master after the user's terminal has hung up, so that the kernel hangs the pty up, too.

        A forwarded SIGHUP would not be enough, because pid 1 of a pid namespace does not get a signal that it has no
        handler for (pid_namespaces(7)).
        """
        os.close(self.master)
        self.master = -1
        self.input = b""

    def _send_end_of_file(self) -> None:
        """Send ^D to the pty after the end of a pipe on stdin, and again after each output of the program.

        The pty interprets the character when it arrives (termios(3), VEOF). A program such as a shell that changes the
        terminal's mode afterwards would miss a single one.
        """
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
        """Write at most PIPE_BUF bytes, because a longer write may block (pipe(7)), and then no signal is forwarded."""
        try:
            self.output = self.output[os.write(1, self.output[:_PIECE]) :]
        except BlockingIOError:
            pass
        except OSError:  # no process reads the output
            self.output = b""
        if not self.output:
            self._send_end_of_file()

    def drain(self) -> None:
        """Copy all that the program wrote before it ended."""
        _write_waiting(1, self.output)
        while self.master >= 0:
            try:
                data = os.read(self.master, _LIMIT)
            except OSError:
                return
            if not data:
                return
            _write_waiting(1, data)

    def restore(self) -> None:
        if self.saved is not None:
            import termios

            try:
                termios.tcsetattr(0, termios.TCSADRAIN, self.saved)
            except termios.error:  # EIO: the terminal has hung up
                pass
        if self.master >= 0:
            os.close(self.master)


def _has_hung_up(fd: int) -> bool:
    """Return whether fd is a terminal that has hung up: ioctl(2) then returns EIO, while isatty(3) only says no."""
    try:
        fcntl.ioctl(fd, sc.TIOCGWINSZ, b"\0" * 8)
    except OSError as error:
        return error.errno == errno.EIO
    return False


def _write_waiting(fd: int, data: bytes) -> None:
    """Write all bytes, and wait when the pipe is full; give up at the first error, because the program has ended."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            from rootless.kernel.waiting import wait_for

            wait_for(fd, event=select.POLLOUT)
        except OSError:
            return
