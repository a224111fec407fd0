"""Open a pty of the container's own devpts. The caller's tty never gets in (CVE-2017-5226, CVE-2025-52565)."""

from __future__ import annotations

import fcntl
from _socket import SOCK_STREAM
from struct import pack

from rootless.errors import RootlessError, advice
from rootless.kernel import channel, sockets
from rootless.kernel import syscalls as sc
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket


def check_holder(terminal: bool, detached: bool, console_socket: str) -> None:
    """Refuse a terminal whose master nobody would keep, and a console socket without a terminal. RootlessError then."""
    if terminal and detached and not console_socket:
        raise RootlessError(
            "a terminal needs someone to hold it",
            "/process/terminal",
            hint="use --console-socket, or do without --detach",
        )
    if console_socket and not terminal:
        raise RootlessError(
            "--console-socket needs a terminal",
            "/process/terminal",
            hint="set it to true (exec: --tty), or leave --console-socket out",
        )


def open_pty(root_fd: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return (master, slave) of a new pty in the container's devpts. size: (rows, columns), (0, 0) for none.

    The kernel opens the slave from the master (TIOCGPTPEER, ioctl_tty(2)), so there is no path that the container could
    swap. Raises RootlessError.
    """
    try:
        master = sc.open_in_root(root_fd, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        raise RootlessError.from_os(error, "no pty in the container", "/dev/pts/ptmx", advice("no-devpts")) from None
    fcntl.ioctl(master, sc.TIOCSPTLCK, pack("i", 0))
    slave = fcntl.ioctl(master, sc.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if size[0] and size[1]:
        fcntl.ioctl(master, sc.TIOCSWINSZ, pack("4H", *size, 0, 0))
    return master, slave


def offer(sync: socket, master: int, slave: int, uid: int) -> None:
    """Give the slave to the program's user, and send the master to the runtime, which calls `receive_master`."""
    os.fchown(slave, uid, -1)
    channel.send(sync, channel.CONSOLE, fds=(master,))
    os.close(master)


def receive_master(sync: socket, console_socket: str) -> int:
    """Return the master that `offer` sent; -1 if it was passed on to the listener of --console-socket."""
    _, _, (master,) = channel.receive(sync, channel.CONSOLE)
    if not console_socket:
        return master
    send_to(console_socket, master)
    os.close(master)
    return -1


def take_over(slave: int) -> None:
    """Make the terminal the session's controlling one (TIOCSCTTY) and the three standard streams.

    The caller's streams are closed, because a reader of a pipe would wait for its end as long as a container is only
    created.
    """
    fcntl.ioctl(slave, sc.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)


def send_to(path: str, master: int) -> None:
    """Send the master to the listener of --console-socket, with the name of the pty, as runc does."""
    _hand_over(path, master, b"/dev/pts/ptmx", "cannot send the terminal to the console socket")


def send_pidfd(path: str, pidfd: int, kind: bytes) -> None:
    """Send a pidfd to the listener of --pidfd-socket. kind: runc's word, `standard` for init, `setns` for exec."""
    _hand_over(path, pidfd, kind, "cannot send the pidfd to the pidfd socket")


def _hand_over(path: str, fd: int, name: bytes, what: str) -> None:
    sock = sockets.create(SOCK_STREAM)
    try:
        sockets.connect(sock, path)
        sockets.send_fds(sock, name, (fd,))
    except OSError as error:
        raise RootlessError.from_os(error, what, path) from None
    finally:
        sock.close()
