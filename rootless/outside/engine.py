"""Run the engine that carries a container's packets between its network namespace and the host's: pasta, slirp4netns.

An engine is a child of the runtime, which it tells when it is ready: pasta writes its pid into a FIFO, slirp4netns a
byte into a pipe. It keeps running when the container has ended, so whoever waits for the container's end ends the
engine, too (runtime/helpers.py).
"""

from __future__ import annotations

import fcntl
import select
from _signal import SIG_DFL, SIG_SETMASK, SIGKILL, pthread_sigmask, signal  # type: ignore[import-not-found]
from _socket import SHUT_WR, SOCK_STREAM

from rootless import log
from rootless.errors import RootlessError, printable
from rootless.kernel import caps, child, proc, sockets
from rootless.kernel import syscalls as sc
from rootless.process import program
from rootless.startup import jsonlite
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.steps.network import ConnectNetwork

_FIFO = "engine.ready"  # in the state directory, while the engine starts
_SOCKET = "engine.sock"
_NETNS, _USERNS = "engine.net", "engine.user"  # files that root mounts the namespaces on, for the engine alone
_READY, _NETNS_FD = 3, 4  # the fds of slirp4netns: to say that it is ready, and of the container's network namespace
_OUTPUT = 16384  # bytes of the engine's output that are kept, for the error
_PATIENCE = 30000  # milliseconds
_SANDBOX = "--enable-sandbox"
_RIGHTS = ("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE")  # what slirp4netns needs to enter a network namespace
_F_ADD_SEALS, _F_SEAL_SHRINK, _F_SEAL_GROW = 1033, 2, 4  # linux/fcntl.h
_NOISE = ("Failed to send", "WARNING: ", "Don't run as root", "sent tapfd", "received tapfd", "Starting slirp", "* ")


class Engine:
    """Run one engine.

    step: what to run; directory: fd of the state directory; foreground: whether it ends with the runtime; ready: the fd
    that tells when it is ready; output: a memfd with what it says.
    """

    def __init__(self, step: ConnectNetwork, directory: int, *, foreground: bool) -> None:
        self.step = step
        self.directory = directory
        self.foreground = foreground
        self.pid = 0
        self.pidfd = self.ready = self.output = -1
        self.has_ended = False

    def fileno(self) -> int:
        """Return the pidfd, which is readable when the engine has ended."""
        return self.pidfd

    def start(self, init: int, *, is_root: bool, has_userns: bool, note: Callable[[int, int], None]) -> None:
        """Start the engine for the namespaces of init. Raises OSError and RootlessError.

        is_root: whether this is root of its user namespace; has_userns: whether the container has a user namespace of
        its own; note: notes (pid, start time) before the engine runs, so that `delete --force` finds it.
        """
        self.output = _open_output()
        gate, opener = os.pipe2(os.O_CLOEXEC)
        ready_writer = self._open_ready()
        argv = self._command(init, is_root=is_root, has_userns=has_userns)

        def live() -> None:
            os.close(opener)
            if os.read(gate, 1):  # b"" if the runtime was killed before it has noted this process
                self._become(argv, ready_writer, self._entering(init, is_root=is_root, has_userns=has_userns))

        try:
            self.pid, self.pidfd = child.clone(0, live)
            note(self.pid, proc.start_time(self.pid))
            os.write(opener, b"1")
        finally:
            for fd in (gate, opener, *([ready_writer] if ready_writer >= 0 else [])):
                os.close(fd)

    def _open_ready(self) -> int:
        """Make the pipe or FIFO over which the engine says that it is ready.

        Return the end for the engine, -1 for a FIFO.
        """
        if self.step.engine == "slirp4netns":
            self.ready, writer = os.pipe2(os.O_CLOEXEC)
            return writer
        os.mkfifo(_FIFO, 0o600, dir_fd=self.directory)
        self.ready = os.open(_FIFO, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.directory)
        return -1

    def _command(self, init: int, *, is_root: bool, has_userns: bool) -> list[str]:
        """Return the engine's command line. Paths are relative to the state directory, in which it is started."""
        step = self.step
        if step.engine == "slirp4netns":
            place = f"/proc/self/fd/{_NETNS_FD}" if has_userns else f"/proc/{init}/ns/net"
            target = [str(init)] if has_userns and _SANDBOX in step.args else ["--netns-type=path", place]
            api = ["--api-socket", _SOCKET] if step.ports else []
            return [step.program, *step.args, "--ready-fd", str(_READY), *api, *target, "tap0"]
        fixed = [step.program, *step.args, "--foreground", "--quiet", "--pid", _FIFO]
        if not is_root:
            return [*fixed, str(init)]
        # As root, pasta becomes nobody, or gives up the capability that opens /proc/PID/ns/*. So it stays root, in a
        # mount namespace of its own where the namespaces are mounted on files.
        place = f"/proc/self/fd/{self.directory}"
        here = os.readlink(place)
        userns = ["--userns", f"{here}/{_USERNS}"] if has_userns else ["--netns-only"]
        return [*fixed, "--runas", "0", "--no-netns-quit", *userns, "--netns", f"{here}/{_NETNS}"]

    def _entering(self, init: int, *, is_root: bool, has_userns: bool) -> Callable[[], int] | None:
        """Return what gives the engine its access to the namespaces, None if it enters them by init's pid."""
        if self.step.engine == "pasta" and is_root:
            return lambda: _mount_namespaces(init, has_userns=has_userns)
        if self.step.engine == "slirp4netns" and has_userns and _SANDBOX not in self.step.args:
            return lambda: _enter_userns(init)
        return None

    def _become(self, argv: list[str], ready_writer: int, enter: Callable[[], int] | None) -> None:
        """Execute the engine: with default signals, no fd of ours, and the state directory as working directory."""
        try:
            os.setsid()
            os.chdir(f"/proc/self/fd/{self.directory}")
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            for fd, source in ((0, null), (1, self.output), (2, self.output)):
                os.dup2(source, fd)
            netns = enter() if enter else -1
            kept = {_READY: ready_writer, _NETNS_FD: netns}
            _renumber({number: fd for number, fd in kept.items() if fd >= 0})
            # pasta dies at a write where SIGPIPE is ignored, which CPython does; and the runtime ignores others.
            for signum in range(1, 65):
                if signum not in (9, 19, 32, 33):
                    signal(signum, SIG_DFL)
            pthread_sigmask(SIG_SETMASK, [])
            if self.foreground:  # SIGKILL of the runtime ends the program, too, so the engine must not stay
                sc.prctl(sc.PR_SET_PDEATHSIG, SIGKILL)
            os.execve(argv[0], argv, {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"})
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            os.write(2, f"cannot be executed{where}: {error.strerror}\n".encode())

    def await_ready(self) -> None:
        """Wait until packets flow, and publish the ports. Raises RootlessError if the engine ends instead."""
        poller = select.poll()
        poller.register(self.ready, select.POLLIN)
        poller.register(self.pidfd, select.POLLIN)
        ready = poller.poll(_PATIENCE)
        try:
            said = os.read(self.ready, 64)
        except BlockingIOError:
            said = b""
        os.close(self.ready)
        if self.step.engine == "pasta":
            os.unlink(_FIFO, dir_fd=self.directory)
        if not said:
            how = self._how_it_ended() if ready else "not ready in 30 seconds"
            raise self._failed(how)
        if self.step.engine == "slirp4netns" and self.step.ports:
            self._publish()

    def _publish(self) -> None:
        for port in self.step.ports:
            arguments: dict[str, str | int] = {"proto": port.protocol, "host_port": port.host}
            arguments |= {"host_addr": port.address or "0.0.0.0", "guest_port": port.container}
            sock = sockets.create(SOCK_STREAM)
            try:
                sockets.connect_at(sock, self.directory, _SOCKET)
                sock.sendall(jsonlite.dumps({"execute": "add_hostfwd", "arguments": arguments}).encode())
                sock.shutdown(SHUT_WR)
                answer = sock.recv(4096)
            except OSError as error:
                raise self._failed(f"its API socket: {error.strerror}") from None
            finally:
                sock.close()
            if b'"error"' in answer:
                raise self._failed(f"port {port}: {printable(answer.decode('utf-8', 'replace').strip())}")
        os.unlink(_SOCKET, dir_fd=self.directory)

    def _failed(self, how: str) -> RootlessError:
        words = self.last_words()
        what = f"{self.step.engine} could not connect the container: {how}"
        return RootlessError(f"{what}: {words}" if words else what, self.step.pointer)

    def last_words(self) -> str:
        """Return the last two lines of the engine's output, without those that it always prints."""
        text = os.pread(self.output, _OUTPUT, 0).rstrip(b"\0").decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(_NOISE)]
        return printable("; ".join(lines[-2:]))

    def _how_it_ended(self) -> str:
        """Reap the engine, and return how it ended."""
        self.has_ended = True
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return f"signal {-code}" if code < 0 else f"exit status {code}"

    def tell_end(self) -> None:
        """Warn that the engine has ended before the container."""
        how = self._how_it_ended()
        words = self.last_words()
        log.warn(
            f"{self.step.engine} has ended, so the container has no network any more: {how}{': ' * bool(words)}{words}"
        )

    def end(self) -> None:
        """Kill the engine, reap it, and close what belongs to it."""
        if not self.has_ended and self.pidfd >= 0:
            self.has_ended = True
            proc.end(self.pid, self.pidfd)
            self.pidfd = -1


def _open_output() -> int:
    """Return a memfd that takes the first lines of the engine's output.

    The kernel refuses what follows, because an engine may write much.
    """
    fd = os.memfd_create("engine", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, _OUTPUT)
    fcntl.fcntl(fd, _F_ADD_SEALS, _F_SEAL_SHRINK | _F_SEAL_GROW)
    return fd


def _renumber(fds: dict[int, int]) -> None:
    """Give descriptors their numbers for the engine, {number: fd}, and close all others but 0, 1, 2."""
    high = {number: fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for number, fd in fds.items()}
    for number, fd in high.items():
        os.dup2(fd, number)
    program.close_all_but(fds)


def _enter_userns(init: int) -> int:
    """Enter init's user namespace with the rights that slirp4netns needs, and keep them in execve(2).

    slirp4netns itself can only become root there, and this container has no root. Return an fd of init's network
    namespace, because access(2), with which slirp4netns looks at a path, does not use these rights.
    """
    netns = os.open(f"/proc/{init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    userns = os.open(f"/proc/{init}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    sc.prctl(sc.PR_SET_DUMPABLE, 0)  # until execve(2), so that no process of the container traces this one: ptrace(2)
    sc.setns(userns, sc.CLONE_NEWUSER)
    rights = sum(1 << caps.CAPABILITIES[name] for name in _RIGHTS)
    caps.apply_capabilities(dict.fromkeys(("effective", "permitted", "inheritable", "ambient"), rights))
    return netns


def _mount_namespaces(init: int, *, has_userns: bool) -> int:
    """Mount init's namespaces on files of the state directory, in a mount namespace of the engine's own; return -1."""
    sc.unshare(sc.CLONE_NEWNS)
    sc.mount(None, "/", None, sc.MS_REC | sc.MS_PRIVATE)
    for name, kind in ((_NETNS, "net"), *(((_USERNS, "user"),) if has_userns else ())):
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        sc.mount(f"/proc/{init}/ns/{kind}", name, None, sc.MS_BIND)
    return -1
