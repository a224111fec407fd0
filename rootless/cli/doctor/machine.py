"""Check the kernel, its security modules, and the device nodes that containers may use."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from rootless.cli.doctor.line import LIMITED, MISSING, OK, Line
from rootless.errors import RootlessError, errno_text
from rootless.kernel.find_program import find_program
from rootless.kernel.hints import hint
from rootless.outside.ports import low_port_hint
from rootless.process.libseccomp import library_version
from rootless.runtime import criu

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.kernel.hints import Hint
    from rootless.kernel.host import Host

_HTTP = 80  # the port that servers have in examples
_OLDEST = (5, 12)  # mount_setattr(2)
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


def kernel(_host: Host) -> Iterator[Line]:
    """Check the version of the kernel, and the kinds of namespaces that it has (namespaces(7))."""
    release = os.uname().release
    numbers = release.replace("-", ".").split(".")
    version = tuple(int(number) for number in numbers[:2] if number.isdigit())
    if version < _OLDEST:
        yield Line("kernel", MISSING, f"Linux {release}", "mounts cannot be made safely", hint("old-kernel"))
    else:
        yield Line("kernel", OK, f"Linux {release}")
    lacking = [name for name in _NAMESPACES if not os.path.exists(f"/proc/self/ns/{name}")]
    if lacking:
        cost = "a container that asks for one of them is refused"
        yield Line("namespaces", LIMITED, f"the kernel has no {', '.join(lacking)} namespaces", cost)
    else:
        yield Line("namespaces", OK, " ".join(_NAMESPACES))


def seccomp(_host: Host) -> Iterator[Line]:
    """Check that filters can be made: by the kernel (seccomp(2)) and by libseccomp."""
    actions = _read("/proc/sys/kernel/seccomp/actions_avail")
    if not actions:
        yield Line("seccomp", LIMITED, "the kernel has no seccomp filters", "a config with linux.seccomp is refused")
        return
    try:
        version = library_version()
    except (OSError, RootlessError) as error:
        mend = hint("no-libseccomp")
        yield Line("seccomp", LIMITED, str(error), "a config with linux.seccomp is refused", mend)
        return
    yield Line("seccomp", OK, f"libseccomp {version}, actions {actions}")


def security_modules(host: Host) -> Iterator[Line]:
    """Name the security modules that are active (the file lsm of securityfs)."""
    names = _read("/sys/kernel/security/lsm").replace(",", " ")
    if not names:
        names = " ".join([*["apparmor"] * host.apparmor, *["selinux"] * host.selinux])
    yield Line("security-modules", OK, names or "none is visible")


def vsyscall(_host: Host) -> Iterator[Line]:
    """Check for the page that programs of 2014 and before call (the kernel parameter vsyscall=)."""
    if os.uname().machine != "x86_64":
        return
    if "[vsyscall]" in _read("/proc/self/maps"):
        yield Line("vsyscall", OK, "programs of old images can call it")
        return
    mend = hint("no-vsyscall")
    cost = "programs of images of 2014 and before (glibc up to 2.13) end with SIGSEGV"
    yield Line("vsyscall", LIMITED, "the kernel has no vsyscall page", cost, mend)


def programs(host: Host) -> Iterator[Line]:
    """Check the programs of others that some commands start."""
    if path := find_program("ps"):
        yield Line("ps", OK, path)
    else:
        yield Line("ps", LIMITED, "ps is not installed", "`rootless ps` prints no table", hint("no-ps"))
    try:
        yield Line("criu", OK, criu.find())
    except RootlessError as error:
        mend = hint("no-criu" if host.is_root_on_host else "criu-as-root")
        yield Line("criu", LIMITED, error.what, "`rootless checkpoint` and `restore` are refused", mend)


def devices(_host: Host) -> Iterator[Line]:
    """Check the device nodes of network engines and of file systems in user space."""
    yield _device("tun", "/dev/net/tun", "pasta and slirp4netns cannot connect a container", hint("no-tun"))
    engines = [name for name in ("pasta", "slirp4netns") if find_program(name)]
    if engines:
        yield Line("network-engines", OK, " ".join(engines))
    else:
        cost = "a container has the host's network, one of its own without a way out, or none"
        yield Line("network-engines", LIMITED, "neither pasta nor slirp4netns is installed", cost, hint("no-engine"))
    mend = hint("no-fuse")
    yield _device("fuse", "/dev/fuse", "sshfs, fuse-overlayfs and their like do not work", mend)


def low_ports(_host: Host) -> Iterator[Line]:
    """Check whether the ports that servers usually have can be published, by taking one for a moment (ip(7))."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", _HTTP))
        except PermissionError:
            mend = low_port_hint(_HTTP, _HTTP)
            cost = "a container's server gets a higher port of the host"
            yield Line("low-ports", LIMITED, f"only root may have port {_HTTP}", cost, mend)
            return
        except OSError:  # another program has it, or there is no such address
            pass
    yield Line("low-ports", OK, f"port {_HTTP} can be published")


def tmpfs_attributes(host: Host) -> Iterator[Line]:
    """Check whether a tmpfs keeps attributes of users, by a file on the kernel's own one (memfd_create(2))."""
    if host.is_root_on_host:  # an overlay of root keeps its notes in attributes of the class trusted
        return
    fd = os.memfd_create("rootless-doctor")
    try:
        os.setxattr(fd, "user.rootless", b"")
        yield Line("tmpfs-attributes", OK, "a tmpfs keeps attributes of users")
    except OSError as error:
        detail = f"a tmpfs keeps no attributes of users: {errno_text(error.errno or errno.EIO)}"
        yield Line("tmpfs-attributes", LIMITED, detail, "--ephemeral=tmpfs is refused", hint("tmpfs-without-xattrs"))
    finally:
        os.close(fd)


def _device(name: str, path: str, cost: str, mend: Hint) -> Line:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Line(name, LIMITED, f"{path}: {errno_text(error.errno or errno.EIO)}", cost, mend)
    return Line(name, OK, f"{path} can be opened")


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
