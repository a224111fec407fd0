"""Read facts about the host and the user. Each is read once, when first asked for; reading changes nothing."""

from __future__ import annotations

import errno

from rootless.kernel import caps
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.kernel.cgroup_view import View

IdMap = list[tuple[int, int, int]]  # (container id, host id, size) of each range

_WHOLE = 2**32 - 1


if TYPE_CHECKING:
    from functools import cached_property as fact
else:

    class fact:
        """A property that is computed once: functools.cached_property, whose module costs two milliseconds."""

        def __init__(self, function):
            self.function = function
            self.name = function.__name__
            self.__doc__ = function.__doc__

        def __get__(self, host, owner):
            value = host.__dict__[self.name] = self.function(host)
            return value


class Host:
    """Facts about the user, the user namespace, subordinate ids, cgroups and security modules of this machine.

    Tests pass facts by name: `Host(uid=1000, subuid=[(100000, 65536)])`.
    """

    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)

    @fact
    def uid(self) -> int:
        """The effective user id."""
        return os.geteuid()

    @fact
    def gid(self) -> int:
        """The effective group id."""
        return os.getegid()

    @fact
    def groups(self) -> list[int]:
        """The supplementary groups."""
        return os.getgroups()

    @fact
    def uid_map(self) -> IdMap:
        """The uid map of this process's user namespace (user_namespaces(7))."""
        return read_id_map("/proc/self/uid_map")

    @fact
    def gid_map(self) -> IdMap:
        """The gid map of this process's user namespace."""
        return read_id_map("/proc/self/gid_map")

    @fact
    def in_userns(self) -> bool:
        """Whether this process is in another user namespace than the initial one, whose map has all ids."""
        return self.uid_map != [(0, 0, _WHOLE)]

    @fact
    def setgroups(self) -> bool:
        """Whether setgroups(2) is allowed here: user_namespaces(7)."""
        return not self.in_userns or read_setgroups()

    @fact
    def is_root_here(self) -> bool:
        """Whether this is root of its user namespace, with CAP_SYS_ADMIN: a container needs no other one."""
        return self.uid == 0 and effective_capabilities() & caps.SYS_ADMIN != 0

    @fact
    def is_root_on_host(self) -> bool:
        """Whether this is root of the initial user namespace, who may also raise limits and make device nodes."""
        return self.is_root_here and not self.in_userns

    @fact
    def subuid(self) -> list[tuple[int, int]]:
        """The user's ranges in /etc/subuid that exist in this user namespace."""
        ranges = read_subids("/etc/subuid", self.uid, lambda: self.user_name)
        return _existing(ranges, self.uid_map) if self.in_userns else ranges

    @fact
    def subgid(self) -> list[tuple[int, int]]:
        """The user's ranges in /etc/subgid that exist in this user namespace."""
        ranges = read_subids("/etc/subgid", self.uid, lambda: self.user_name)
        return _existing(ranges, self.gid_map) if self.in_userns else ranges

    @fact
    def user_name(self) -> bytes:
        """The user's name, b"" for none."""
        return _user_name(self.uid)

    @fact
    def cgroup_view(self) -> View:
        """Where cgroup v2 is mounted and where this process stands in it."""
        return read_cgroup_view()

    @fact
    def cgroup_mount(self) -> str:
        """The directory of the cgroup2 file system, "" for none."""
        return self.cgroup_view.mount

    @fact
    def own_cgroup(self) -> str:
        """This process's cgroup, below the mount."""
        return self.cgroup_view.own

    @fact
    def all_capabilities(self) -> int:
        """The capabilities that the first process of a new user namespace has, as a mask."""
        return caps.all_capabilities()

    @fact
    def grantable(self) -> int:
        """The capabilities that can be handed on without a new user namespace, as a mask."""
        return caps.grantable()

    @fact
    def kernel(self) -> tuple[int, int]:
        """The kernel's version, such as (6, 1)."""
        major, minor = os.uname().release.split(".")[:2]
        return int(major), int(minor.partition("-")[0])

    @fact
    def apparmor(self) -> bool:
        """Whether AppArmor runs: its module parameter says Y."""
        try:
            with open("/sys/module/apparmor/parameters/enabled", "rb") as file:
                return file.read(1) == b"Y"
        except FileNotFoundError:
            return False

    @fact
    def selinux(self) -> bool:
        """Whether SELinux runs: selinuxfs is mounted (is_selinux_enabled(3))."""
        return os.path.exists("/sys/fs/selinux/enforce")

    @fact
    def resctrl(self) -> str:
        """Where resctrl is mounted, "" if it is not."""
        from rootless.kernel import mountinfo

        return next((os.fsdecode(mount.path) for mount in mountinfo.find(b"resctrl")), "")

    @fact
    def hard_limits(self) -> dict[int, int]:
        """{number: hard limit of this process}, filled by `hard_limit` (getrlimit(2))."""
        return {}

    def hard_limit(self, number: int) -> int:
        """Return this process's hard limit with that number."""
        if number not in self.hard_limits:
            from rootless.kernel import syscalls

            self.hard_limits[number] = syscalls.prlimit(number)[1]
        return self.hard_limits[number]

    @fact
    def device_modes(self) -> dict[str, int]:
        """{path: permissions of the host's node}, filled by `device_mode`."""
        return {}

    def device_mode(self, path: str, kind: int, rdev: int) -> int:
        """Return the permissions of the host's node for a device, -1 if it has none."""
        if path not in self.device_modes:
            from rootless.kernel.devices import host_path

            try:
                self.device_modes[path] = os.stat(host_path(path, kind, rdev)).st_mode & 0o7777
            except FileNotFoundError:
                self.device_modes[path] = -1
        return self.device_modes[path]

    @fact
    def tries_cgroups(self) -> bool:
        """Whether to try candidates for a cgroup on this machine; tests that describe another machine set False."""
        return True

    @fact
    def engines(self) -> dict[str, str]:
        """The network engines that are installed, {name: path}."""
        from rootless.kernel.network_facts import find_engines

        return find_engines()

    @fact
    def pasta_help(self) -> str:
        """What `pasta --help` says, which tells its features; versions do not (pasta(1))."""
        from rootless.kernel.network_facts import read_help

        return read_help(self.engines["pasta"]) if "pasta" in self.engines else ""

    @fact
    def gateways(self) -> tuple[str, str]:
        """The gateways of the default routes of IPv4 and IPv6, "" for none."""
        from rootless.kernel.network_facts import read_gateways

        return read_gateways()

    @fact
    def texts(self) -> dict[str, str]:
        """{path: content} of files that say how the host resolves names, filled by `text`."""
        return {}

    def text(self, path: str) -> str:
        """Return a file that says how the host resolves names, "" if there is none that can be read."""
        if path not in self.texts:
            from rootless.kernel.network_facts import read_text

            self.texts[path] = read_text(path)
        return self.texts[path]

    def owner_of(self, path: str) -> int:
        """Return the user id that owns a file, -1 if there is none."""
        try:
            return os.stat(path).st_uid
        except OSError:
            return -1

    def is_writable(self, path: str) -> bool:
        """Return whether this process may make files in a directory."""
        return os.access(path, os.W_OK)

    def exists(self, path: str) -> bool:
        """Return whether there is something at a path, links followed."""
        return os.path.exists(path)

    def userns_of(self, path: str) -> str:
        """Return the path of the user namespace that owns a process's /proc/PID/ns/*, "" for this one or an unknown."""
        from rootless.kernel.network_facts import owner_beside

        return owner_beside(path)

    def device_of(self, path: str) -> tuple[str, int, int] | None:
        """Return (`c` or `b`, major, minor) of the device node at a path, None where there is none."""
        from _stat import S_ISBLK, S_ISCHR

        try:
            status = os.stat(path)
        except OSError:
            return None
        if not S_ISCHR(status.st_mode) and not S_ISBLK(status.st_mode):
            return None
        return "c" if S_ISCHR(status.st_mode) else "b", os.major(status.st_rdev), os.minor(status.st_rdev)

    def is_directory(self, path: str) -> bool:
        """Return whether there is a directory at a path."""
        return os.path.isdir(path)


def read_id_map(path: str) -> IdMap:
    """Return the ranges of a uid_map or gid_map file (user_namespaces(7)). Raises OSError."""
    with open(path, "rb", buffering=0) as file:  # 340 lines at most, of 33 bytes
        return [(int(a), int(b), int(c)) for a, b, c in (line.split() for line in file.readall().splitlines())]


def read_setgroups(path: str = "/proc/self/setgroups") -> bool:
    """Return whether a process's user namespace allows setgroups(2), by its /proc/PID/setgroups."""
    with open(path, "rb", buffering=0) as file:
        return file.readall().strip() == b"allow"


def effective_capabilities() -> int:
    """Return the effective capabilities of this process as a bit mask (CapEff of proc_pid_status(5))."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapEff:"):
                return int(line.split()[1], 16)
    return 0


def read_subids(path: str, uid: int, find_name: Callable[[], bytes] | None = None) -> list[tuple[int, int]]:
    """Return the ranges [(first id, count)] of a user in /etc/subuid or /etc/subgid (subuid(5)).

    find_name: returns the user's name if it is known already; without it, the name is looked up. Raises OSError.
    """
    try:
        lines = _read(path).split(b"\n")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EACCES):
            raise
        return []
    names = {b"%d" % uid}
    if any(lines):
        names.add(find_name() if find_name else _user_name(uid))
    ranges = []
    for line in lines:
        fields = line.strip().split(b":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
            ranges.append((int(fields[1]), int(fields[2])))
    return [r for r in ranges if r[1] > 0]


def _existing(ranges: list[tuple[int, int]], id_map: IdMap) -> list[tuple[int, int]]:
    """Return the ranges of ids that a user namespace has as a whole: a nested one seldom has any."""
    existing = []
    for first, count in ranges:
        end = first
        for start, _, size in sorted(id_map):  # a range may span two that adjoin
            if start <= end < start + size:
                end = start + size
        if end >= first + count:
            existing.append((first, count))
    return existing


def _user_name(uid: int) -> bytes:
    """Return the name of a user, b"" for none. Raises OSError.

    getpwuid(3) says "not found" for any failure (EMFILE, ENOMEM), and the user would be without a range of ids. So the
    file that lists most users is read here, and the library is asked for the others.
    """
    try:
        lines = _read("/etc/passwd").split(b"\n")
    except FileNotFoundError:
        lines = []
    for line in lines:
        fields = line.split(b":")
        if len(fields) > 6 and fields[2] == b"%d" % uid:
            return fields[0]
    from pwd import getpwuid

    try:
        return os.fsencode(getpwuid(uid).pw_name)
    except KeyError:
        return b""


def _read(path: str) -> bytes:
    """Return a file's bytes, without the five system calls that a buffer would add. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def default_id_map(own: int, ranges: list[tuple[int, int]]) -> IdMap:
    """Return the default map: container id 0 is the user, 1 and above are the subordinate ids, in their order."""
    id_map = [(0, own, 1)]
    following = 1
    for first, count in ranges:
        id_map.append((following, first, count))
        following += count
    return id_map


def read_cgroup_view() -> View:
    """Return where cgroup v2 is mounted and which cgroup this process is in."""
    from rootless.kernel import cgroup_view as view

    return view.read()
