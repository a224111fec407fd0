"""Read facts about the host's network: its gateways, its name servers, and the engines that can connect a container."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop
from struct import pack

from rootless.startup import lean_os as os

_ZERO6 = "0" * 32
_RTF_GATEWAY = 2  # linux/route.h
_LIMIT = 1 << 20  # bytes of a file
_NS_GET_USERNS = 0xB701  # ioctl_ns(2)


def read_gateways() -> tuple[str, str]:
    """Return the gateways of the default routes as (IPv4, IPv6), "" for none (proc_pid_net(5))."""
    return _gateway4(_lines("/proc/net/route")), _gateway6(_lines("/proc/net/ipv6_route"))


def _lines(path: str) -> list[list[str]]:
    return [line.split() for line in read_text(path).splitlines()]


def _gateway4(lines: list[list[str]]) -> str:
    routes = [
        (int(words[6]), words[2])
        for words in lines
        if len(words) > 7 and words[1] == "00000000" == words[7] and int(words[3], 16) & _RTF_GATEWAY
    ]
    return inet_ntop(AF_INET, pack("=I", int(min(routes)[1], 16))) if routes else ""


def _gateway6(lines: list[list[str]]) -> str:
    routes = [
        (int(words[5], 16), words[4])
        for words in lines
        if len(words) > 9 and words[0] == _ZERO6 and words[1] == "00" and words[4] != _ZERO6
    ]
    return inet_ntop(AF_INET6, bytes.fromhex(min(routes)[1])) if routes else ""


def read_text(path: str) -> str:
    """Return a text file of the host, "" if there is none that can be read."""
    try:
        with open(path, "rb") as file:
            return file.read(_LIMIT).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def find_engines() -> dict[str, str]:
    """Return {name: path} of the engines that are installed, the better one first."""
    from rootless.kernel.find_program import find_program

    paths = {name: find_program(name) for name in ("pasta", "slirp4netns")}
    return {name: path for name, path in paths.items() if path}


def read_help(program: str) -> str:
    """Return what `PROGRAM --help` says, on either stream; "" if it cannot be run."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_DUP2, writer, 2)]
    try:
        pid = os.posix_spawn(program, [program, "--help"], {}, file_actions=actions, setsigdef=(13, 25))
    except OSError:
        os.close(reader)
        return ""
    finally:
        os.close(writer)
        os.close(null)
    with open(reader, "rb") as pipe:
        text = pipe.read().decode("utf-8", "replace")
    os.waitpid(pid, 0)
    return text


def owner_beside(path: str) -> str:
    """Return `/proc/PID/ns/user` for a `/proc/PID/ns/net` that belongs to it, "" if that is this process's or another.

    Only a process in the namespace that owns a network namespace, or in one above, may enter it (setns(2)).
    """
    from fcntl import ioctl

    place, _, name = path.rpartition("/")
    if not name or not place.endswith("/ns"):
        return ""
    fds = []
    try:
        fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        fds.append(ioctl(fds[0], _NS_GET_USERNS))
        owner, beside, own = (os.stat(each) for each in (fds[1], f"{place}/user", "/proc/self/ns/user"))
    except OSError:  # EPERM: the owner is not below this user namespace
        return ""
    finally:
        for fd in fds:
            os.close(fd)
    numbers = [(status.st_dev, status.st_ino) for status in (owner, beside, own)]
    return f"{place}/user" if numbers[0] == numbers[1] != numbers[2] else ""
