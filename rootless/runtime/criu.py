"""Talk to criu: `criu swrk` gets one request on a socket, reports its stages, and answers (criu.org/RPC).

The messages are protocol buffers with few fields. The field numbers are those of criu's images/rpc.proto.
"""

from __future__ import annotations

import os
from fcntl import F_DUPFD, fcntl
from typing import TYPE_CHECKING, Any, TypedDict

from oci import varint
from rootless import log
from rootless.errors import RootlessError, advice, errno_text
from rootless.kernel import child, sockets
from rootless.kernel.find_program import search
from rootless.kernel.host import Host
from rootless.process import program

if TYPE_CHECKING:
    from collections.abc import Callable

    Value = bool | int | str | bytes | list[Any]
    Message = list[tuple[int, int | str]]  # an inner message, as (number of the field, its value)

# criu_req_type. PRE_DUMP (4) is not used, because criu would then wait for a second request.
DUMP, RESTORE, _NOTIFY, SINGLE_PRE_DUMP = 1, 2, 6, 13
# the used fields of criu_opts, with their numbers
OPTIONS = {
    "images_dir_fd": 1, "pid": 2, "leave_running": 3, "ext_unix_sk": 4, "tcp_established": 5, "evasive_devices": 6,
    "shell_job": 7, "file_locks": 8, "log_level": 9, "log_file": 10, "ps": 11, "notify_scripts": 12, "root": 13,
    "parent_img": 14, "track_mem": 15, "auto_dedup": 16, "work_dir_fd": 17, "link_remap": 18, "ext_mnt": 23,
    "manage_cgroups": 24, "cg_root": 25, "rst_sibling": 26, "inherit_fd": 27, "manage_cgroups_mode": 34,
    "external": 37, "empty_ns": 38, "join_ns": 39, "freeze_cgroup": 44, "tcp_skip_in_flight": 46, "lazy_pages": 48,
    "orphan_pts_master": 50, "config_file": 51, "lsm_profile": 53, "lsm_mount_context": 63,
}  # fmt: skip
CGROUP_MODES = {"": 6, "ignore": 0, "soft": 3, "full": 4, "strict": 5}
_SOCKET = 3  # the descriptor at which criu finds its socket
_LIMIT = 65536


class Options(TypedDict, total=False):
    """Declare the options of a request: criu_opts, with the names and types of rpc.proto."""

    images_dir_fd: int
    pid: int
    leave_running: bool
    ext_unix_sk: bool
    tcp_established: bool
    evasive_devices: bool
    shell_job: bool
    file_locks: bool
    log_level: int
    log_file: str
    ps: list[Message]
    notify_scripts: bool
    root: str
    parent_img: str
    track_mem: bool
    auto_dedup: bool
    work_dir_fd: int
    link_remap: bool
    ext_mnt: list[Message]
    manage_cgroups: bool
    cg_root: list[Message]
    rst_sibling: bool
    inherit_fd: list[Message]
    manage_cgroups_mode: int
    external: list[str]
    empty_ns: int
    join_ns: list[Message]
    freeze_cgroup: str
    tcp_skip_in_flight: bool
    lazy_pages: bool
    orphan_pts_master: bool
    config_file: str
    lsm_profile: str
    lsm_mount_context: str


def find(named: str = "") -> str:
    """Return the path of criu. Raises RootlessError if it is missing, or this process is not root on the host.

    named: the value of --criu, "" to search PATH.
    """
    if not Host().is_root_on_host:
        raise RootlessError(
            "checkpoint and restore need root: an ordinary user may not read and create processes like criu does",
            hint=advice("criu-as-root"),
        )
    if named:
        if os.access(named, os.X_OK):
            return named
        raise RootlessError("no such program", named, hint="--criu names criu's path")
    # Root decides by PATH whether there is a criu, and which; the usual directories stand in only for a missing PATH.
    if path := search("criu", os.environ.get("PATH") or "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")[0]:
        return path
    raise RootlessError("criu is not installed", "checkpoint", hint=advice("no-criu"))


class Session:
    """Run one criu for one request. fds: the descriptors that criu inherits, from number 4 on."""

    def __init__(self, path: str, fds: tuple[int, ...] = ()) -> None:
        self.sock, theirs = sockets.pair()
        self.log_path = ""
        self.pid, pidfd = child.clone(0, lambda: _become_criu(path, theirs.fileno(), fds))
        os.close(pidfd)
        theirs.close()

    def request(self, kind: int, options: Options, notified: Callable[[str, int, list[int]], None]) -> None:
        """Send a request, and call notified(stage, pid, fds) for each stage up to the answer. Raises RootlessError."""
        numbered: list[tuple[int, Value]] = []
        for name, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                numbered.append((OPTIONS[name], one))  # type: ignore[arg-type] # a TypedDict's values are objects
        self._send([(1, kind), (2, numbered)])
        while True:
            answer, fds = self._receive()
            if answer.get(1) != [_NOTIFY] or not answer.get(2, [0])[0]:
                break
            stage = decode(answer[5][0]) if 5 in answer else {}
            try:
                notified(stage.get(1, [b""])[0].decode(), stage.get(2, [0])[0], fds)
            finally:
                for fd in fds:
                    os.close(fd)
            self._send([(1, _NOTIFY), (3, True)])
        if not answer.get(2, [0])[0]:
            number = answer.get(7, [0])[0]
            raise self._failure(errno_text(number) if number else "no reason given")
        self.sock.close()
        os.waitpid(self.pid, 0)
        self.pid = 0

    def close(self) -> None:
        """End criu if the request did not."""
        self.sock.close()
        if self.pid:
            os.waitpid(self.pid, 0)
            self.pid = 0

    def _send(self, message: list[tuple[int, Value]]) -> None:
        try:
            self.sock.send(encode(message))
        except (BrokenPipeError, ConnectionResetError):
            raise self._failure("it ended before the request") from None

    def _receive(self) -> tuple[dict[int, list[Any]], list[int]]:
        try:
            data, fds = sockets.receive_fds(self.sock, _LIMIT)
        except ConnectionResetError:
            data, fds = b"", []
        if not data:
            raise self._failure("it ended without an answer")
        return decode(data), fds

    def _failure(self, reason: str) -> RootlessError:
        """Return the error with the first error of criu's log, because that says more than criu's answer."""
        hint = f"the whole log is {self.log_path}" if os.path.exists(self.log_path) else advice("criu-check")
        return RootlessError(f"criu failed: {_first_error(self.log_path) or reason}", hint=hint)


def encode(fields: list[tuple[int, Value]]) -> bytes:
    """Return a message as bytes: numbers as varints, text and inner messages (lists) with their length."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += varint.encode(number << 3) + varint.encode(value & (1 << 64) - 1)
            continue
        data = encode(value) if isinstance(value, list) else value.encode() if isinstance(value, str) else value
        out += varint.encode(number << 3 | 2) + varint.encode(len(data)) + data
    return bytes(out)


def decode(data: bytes) -> dict[int, list[Any]]:
    """Return {field number: its values}; values with a length are bytes. Raises ValueError."""
    fields: dict[int, list[Any]] = {}
    position = 0
    while position < len(data):
        key, position = varint.decode(data, position)
        number, position = varint.decode(data, position)
        if key & 7 == 2:
            fields.setdefault(key >> 3, []).append(data[position : position + number])
            position += number
        elif key & 7 == 0:
            fields.setdefault(key >> 3, []).append(number)
        else:
            raise ValueError(f"a field of wire type {key & 7}")
    return fields


def _become_criu(path: str, sock: int, fds: tuple[int, ...]) -> None:
    try:
        above = _SOCKET + 1 + len(fds)
        for number, fd in enumerate([fcntl(fd, F_DUPFD, above) for fd in (sock, *fds)], _SOCKET):
            os.dup2(fd, number)
        program.become(path, ["criu", "swrk", str(_SOCKET)], os.environ, keep=range(_SOCKET, above))
    finally:
        os._exit(127)


def _first_error(path: str) -> str:
    """Return the first error in a criu log, because the others follow from it; "" for none.

    A line reads `(00.01) Error (criu/x.c:1): what`.
    """
    try:
        with open(path, errors="replace") as file:
            errors = [line.strip() for line in file if "Error (" in line and "RLIMIT_NOFILE" not in line]
    except OSError:
        return ""
    for line in errors:
        log.debug(f"criu: {line}")
    return errors[0].partition("Error ")[2] if errors else ""
