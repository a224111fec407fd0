"""Make a cgroup as a transient scope of systemd, over D-Bus: the systemd driver (org.freedesktop.systemd1(5)).

systemd makes the cgroup, and keeps the limits that it knows as unit properties. The others are written to the files,
which Delegate=yes allows. The D-Bus library, jeepney, is imported when the first message is sent.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from rootless.cgroup.driver import Cgroup
from rootless.cgroup.files import io_weight
from rootless.cgroup.freezer import wait_until_empty
from rootless.cgroup.tree import enable
from rootless.errors import RootlessError, advice
from rootless.kernel import cgroup_view as view
from rootless.kernel import sockets
from rootless.kernel.units import MAX_CPUS, parse_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jeepney.io.blocking import DBusConnection  # type: ignore[import-untyped]

    from rootless.cgroup.record import Entry

    Property = tuple[str, tuple[str, Any]]  # (name, (D-Bus signature, value))

INFINITY = 2**64 - 1
PATIENCE = 30  # seconds to wait for systemd's answer, and for the end of a job
_MOST = 64  # scopes of one name, for containers of different state roots
_UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"
_NO_UNIT = ("org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.ScopeNotRunning")


class Scope(Cgroup):
    """A container's cgroup that is a systemd scope. `create` needs a pid, because a scope starts with a process."""

    needs_pid = True

    def create(self, pid: int = 0) -> None:
        """Start the scope with `pid` in it, wait for it, and write the files.

        Raises RootlessError, after removing the scope but not the process.
        """
        with _Manager(self.record["user"]) as manager:
            self._start(manager, pid)
            self._find_cgroup(pid)
            try:
                self.note_identity()
                self._enable_rest()
                self._configure()
            except BaseException:
                self._leave(pid)
                manager.stop(self.unit)
                raise

    def _start(self, manager: _Manager, pid: int) -> None:
        """Start the scope, named `rootless-ID-2` and so on if it must be new and is not. Raises RootlessError."""
        number, stem = 1, self.unit.removesuffix(".scope")
        while True:
            try:
                manager.run("StartTransientUnit", "ssa(sv)a(sa(sv))", (self.unit, "replace", self._properties(pid), []))
                return
            except _Refused as error:
                if error.name != _UNIT_EXISTS or not self.must_be_new or number == _MOST:
                    raise
            number += 1
            self.record["unit"] = f"{stem}-{number}.scope"

    def apply(self, entries: Iterable[Entry]) -> None:
        """Write the files, then tell systemd the same values, because a later daemon-reload would write its own."""
        entries = list(entries)
        super().apply(entries)
        if properties := translate(entries):
            with _Manager(self.record["user"]) as manager:
                manager.call("SetUnitProperties", "sba(sv)", (self.unit, True, properties))

    def remove(self) -> None:
        """Stop the scope, wait for systemd, and remove what is left of the directory. Raises RootlessError."""
        if not self.gone():
            if self.keyed("cgroup.events").get("populated"):
                self.kill()
                wait_until_empty(self)
            try:
                with _Manager(self.record["user"]) as manager:
                    manager.stop(self.unit)
            except RootlessError:
                self.close()
                if not self.gone():  # it may be gone already, because systemd removes it with its last process
                    raise
        super().remove()

    @property
    def unit(self) -> str:
        """The scope's name."""
        return self.record["unit"]

    def _properties(self, pid: int) -> list[Property]:
        """Return the scope's first properties. TasksMax is always set, because systemd's default would limit it."""
        properties: dict[str, tuple[str, Any]] = {
            "Description": ("s", f"container {self.unit.removesuffix('.scope')}"),
            "Slice": ("s", self.record["slice"]),
            "PIDs": ("au", [pid]),
            "Delegate": ("b", True),
            "DefaultDependencies": ("b", False),
            "CollectMode": ("s", "inactive-or-failed"),
            "TasksMax": ("t", INFINITY),
        }
        for kind in ("CPU", "IO", "Memory", "Tasks"):
            properties[f"{kind}Accounting"] = ("b", True)
        properties.update(translate(self.record["files"]))
        properties.update((name, (kind, value)) for name, kind, value in self.record.get("properties", ()))
        return list(properties.items())

    def _find_cgroup(self, pid: int) -> None:
        """Read from the process which cgroup systemd made. Raises RootlessError."""
        here = view.read()
        own = view.own(pid)
        if not own.endswith(f"/{self.unit}"):
            raise RootlessError(f"systemd started {self.unit} without the container's process", own)
        self.record["path"] = os.path.normpath(here.mount + own)
        self.record["created"] = []

    def _enable_rest(self) -> None:
        """Enable controllers that systemd does not know, such as hugetlb and rdma, in the cgroups above."""
        if needed := self._controllers() - set(self.read("cgroup.controllers").split()):
            try:
                enable(os.path.dirname(self.path), needed)
            except OSError:
                pass  # writing the limit fails next, and that error names the file

    def _leave(self, pid: int) -> None:
        """Move the process out again, because stopping a scope kills its processes, which is the caller's decision."""
        here = view.read()
        try:
            with open(f"{here.mount}{here.own}/cgroup.procs", "w") as file:
                file.write(str(pid))
        except OSError:
            pass
        self.close()


def adopt(cgroup: str, pid: int) -> None:
    """Have the user's systemd put a process into a cgroup below one of its units. Raises RootlessError.

    A plain login, such as by ssh, is in a scope of the system's systemd. Nobody but root may move a process from there
    into a cgroup of the user's systemd, because the cgroup above both is root's (cgroups(7)). The user's systemd asks
    the system's for it (org.freedesktop.systemd1(5), AttachProcessesToUnit).
    """
    _, _, inside = cgroup.partition("/user@")
    names = inside.split("/")[1:]
    place = next((n for n, name in enumerate(names) if name.endswith((".scope", ".service"))), -1)
    if place < 0 or not session_bus():
        what = "cannot enter the container's cgroup from this session"
        raise RootlessError(what, cgroup, errno.EACCES, hint=advice("cgroup-of-session"))
    below = "".join(f"/{name}" for name in names[place + 1 :])
    with _Manager(user=True) as manager:
        manager.call("AttachProcessesToUnit", "ssau", (names[place], below, [pid]))


def translate(entries: Iterable[Entry]) -> list[Property]:
    """Return the unit properties for those files that have one (systemd.resource-control(5))."""
    properties: list[Property] = []
    for file, value, _ in entries:
        if file in _NUMBERS:
            properties.append((_NUMBERS[file], ("t", INFINITY if value == "max" else int(value))))
        elif file == "cpu.max":
            properties += _cpu_quota(value)
        elif file in ("cpuset.cpus", "cpuset.mems"):
            name = "AllowedCPUs" if file == "cpuset.cpus" else "AllowedMemoryNodes"
            properties.append((name, ("ay", bit_mask(value))))
        elif file == "io.bfq.weight" and value.isdigit():
            properties.append(("IOWeight", ("t", io_weight(int(value)))))
    return properties


_NUMBERS = {
    "memory.max": "MemoryMax", "memory.high": "MemoryHigh", "memory.low": "MemoryLow", "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax", "cpu.weight": "CPUWeight",
}  # fmt: skip


def _cpu_quota(value: str) -> list[Property]:
    """Return the quota in microseconds per second, rounded up, because systemd rounds down when it writes cpu.max."""
    quota, _, period = value.partition(" ")
    microseconds = int(period or 100000)
    per_second = INFINITY if quota == "max" else -(-int(quota) * 1000000 // microseconds)
    return [("CPUQuotaPerSecUSec", ("t", per_second)), ("CPUQuotaPeriodUSec", ("t", microseconds))]


def bit_mask(ranges: str) -> bytes:
    """Return "0-2,8" as systemd's array of bytes, the lowest bit first. Raises RootlessError."""
    try:
        numbers = parse_numbers(ranges, MAX_CPUS)
    except ValueError:
        raise RootlessError(f"{ranges!r} is not a list of CPUs or memory nodes", hint="such as 0-3,7") from None
    mask = sum(1 << number for number in numbers)
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


class _Manager:
    """A connection to a systemd instance, the user's or the system's, over its message bus."""

    def __init__(self, user: bool) -> None:
        if not library_found():
            from rootless.kernel.hints import hint

            what = "the systemd cgroup manager needs the Python package jeepney"
            raise RootlessError(what, hint=hint("no-jeepney").text)
        from jeepney import DBusAddress, MatchRule  # type: ignore[import-untyped]

        self._manager = DBusAddress(
            "/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"
        )
        self._removed = MatchRule(
            type="signal", interface=self._manager.interface, member="JobRemoved", path=self._manager.object_path
        )
        self._bus = _connect(user)

    def __enter__(self) -> _Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._bus.close()

    def call(self, method: str, signature: str, body: tuple[Any, ...]) -> tuple[Any, ...]:
        """Call a method of the manager; return its answer. Raises RootlessError with systemd's words."""
        from jeepney import DBusErrorResponse, new_method_call
        from jeepney.wrappers import unwrap_msg  # type: ignore[import-untyped]

        try:
            message = new_method_call(self._manager, method, signature, body)
            reply: tuple[Any, ...] = unwrap_msg(self._bus.send_and_get_reply(message, timeout=PATIENCE))
            return reply
        except DBusErrorResponse as error:
            words = error.data[0] if error.data else error.name
            raise _Refused(f"systemd: {method} {body[0]}: {words}", error.name) from None
        except (OSError, EOFError) as error:
            raise RootlessError(f"systemd: {method} {body[0]}: no answer ({error})") from None

    def run(self, method: str, signature: str, body: tuple[Any, ...]) -> None:
        """Call a method that returns a job, and wait for the signal that the job has ended. Raises RootlessError."""
        from jeepney import message_bus
        from jeepney.wrappers import unwrap_msg

        signals: deque[Any] = deque()
        unwrap_msg(self._bus.send_and_get_reply(message_bus.AddMatch(self._removed), timeout=PATIENCE))
        with self._bus.filter(self._removed, queue=signals):
            job = self.call(method, signature, body)[0]
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    signal = self._bus.recv_until_filtered(signals, timeout=end - time.monotonic())
                except (OSError, TimeoutError) as error:
                    raise RootlessError(f"systemd: {method} {body[0]}: the job does not end ({error})") from None
                _, path, _, result = signal.body
                if path == job:
                    break
        if result != "done":
            raise RootlessError(f"systemd: {method} {body[0]}: {result}", hint=advice("systemd-silent"))

    def stop(self, unit: str) -> None:
        """Stop a unit; a missing one is fine. Raises RootlessError."""
        try:
            self.run("StopUnit", "ss", (unit, "replace"))
        except _Refused as error:
            if error.name not in _NO_UNIT:
                raise


class _Refused(RootlessError):
    """A refusal by systemd. name: D-Bus's name of the error."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(what)
        self.name = name


def _connect(user: bool) -> DBusConnection:
    """Connect to the bus of the user's session, or of the system. Raises RootlessError."""
    from jeepney.io.blocking import DBusConnection

    path = session_bus() if user else "/run/dbus/system_bus_socket"
    if not path:
        from rootless.kernel.hints import hint

        raise RootlessError("no D-Bus session of this user", hint=hint("no-session").text)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(PATIENCE)
        sockets.connect(connection, path)
        # EXTERNAL without a name: the bus takes the uid from the socket. The uid that we know would be wrong in a user
        # namespace such as podman's.
        connection.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\n")
        answer = b""
        while answer.count(b"\r\n") < 2:
            answer += (piece := connection.recv(4096))
            if not piece or answer.startswith(b"REJECTED"):
                raise RootlessError("the message bus does not accept this user", path)
        connection.sendall(b"BEGIN\r\n")
        connection.settimeout(None)
        return DBusConnection(connection)
    except OSError as error:
        connection.close()
        raise RootlessError.from_os(error, "cannot connect to the message bus", path) from None
    except BaseException:
        connection.close()
        raise


def library_found() -> bool:
    """Return whether jeepney can be imported.

    The interpreter's site-packages are searched too, because the program starts without them.
    """
    from importlib.util import find_spec

    if find_spec("jeepney") is None:
        import site

        site.main()
    return find_spec("jeepney") is not None


def session_bus() -> str:
    """Return the path of the user's bus socket, or "". XDG_RUNTIME_DIR comes first: podman passes only that."""
    address = os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")
    named = address.partition("unix:path=")[2].partition(",")[0].partition(";")[0]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for path in (f"{runtime}/bus" if runtime else "", named):
        if path and os.path.exists(path):
            return path
    return ""
