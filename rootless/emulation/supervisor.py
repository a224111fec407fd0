"""Serve the notifications of a seccomp filter: the supervisor of `--root-emulation=notify` (seccomp_unotify(2))."""

from __future__ import annotations

import select
import struct
from errno import EINTR, EINVAL, ENOENT, EPERM
from fcntl import ioctl
from typing import TYPE_CHECKING

from rootless import log
from rootless.emulation.calls import HANDLERS
from rootless.emulation.identity import Refused
from rootless.emulation.numbers import all_numbers
from rootless.emulation.processes import Gone, Notification, Processes
from rootless.kernel.host import Host

if TYPE_CHECKING:
    from rootless.emulation.calls import Handler

# linux/seccomp.h
_RECV, _SEND, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104
_SYNC_WAKE_UP = 1
_CONTINUE = 1
_unpack = struct.Struct("<QI4xiI").unpack_from  # struct seccomp_notif: id, pid; struct seccomp_data: nr, arch
_unpack_arguments = struct.Struct("<6Q").unpack_from
_ARGUMENTS = 32  # the offset of the six arguments
_pack_into = struct.Struct("<QqiI").pack_into  # struct seccomp_notif_resp: id, val, error, flags
_pack_id_into = struct.Struct("<Q").pack_into


def serve(listener: int, processes: Processes) -> None:
    """Answer until no process has the filter any more."""
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    try:
        ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)
    except OSError:
        pass  # before Linux 6.6
    handlers: dict[int, dict[int, tuple[str, Handler]]] = {}
    for (arch, nr), name in all_numbers().items():
        handlers.setdefault(arch, {})[nr] = name, HANDLERS[name]
    # ioctl() tries each kind of argument until one fits, beginning with what can be written: bytes cost 0.3 µs more.
    request, response, passes = bytearray(80), bytearray(24), bytearray(24)
    _pack_into(passes, 0, 0, 0, 0, _CONTINUE)
    receive_ends = Host().kernel >= (6, 11)  # since then it fails when all processes have ended
    call = Notification()
    while True:
        try:
            if not receive_ends and poller.poll()[0][1] & select.POLLHUP:
                return
            notification = ioctl(listener, _RECV, request, False)  # the request stays empty, as the kernel wants it
        except OSError as error:
            if error.errno == EINTR:
                continue
            if error.errno != ENOENT:  # ENOENT: that process was killed, or all have ended
                raise
            if any(events & select.POLLHUP for _, events in poller.poll(0)):
                return
            continue
        call.number, call.tid, nr, call.arch = number, _, _, arch = _unpack(notification)
        call.args = _unpack_arguments(notification, _ARGUMENTS)
        call.name, handler = handlers[arch][nr]
        failure = 0
        try:
            value = handler(processes, call)
        except Refused as error:
            value, failure = 0, -error.number
        except OSError as error:
            value, failure = 0, -(error.errno or EPERM)
        except Gone:
            continue
        except Exception as error:  # such as a damaged record: the kernel's own answer is better than none
            value = None
            log.debug(f"root emulation: {call.name}: {type(error).__name__}: {error}")
        try:
            if value is None:  # as for most files: only the number differs from the last such answer
                _pack_id_into(passes, 0, number)
                ioctl(listener, _SEND, passes)
            else:
                _pack_into(response, 0, number, value, failure, 0)
                ioctl(listener, _SEND, response)
        except OSError as error:
            if error.errno not in (ENOENT, EINVAL):  # ENOENT: the process was killed meanwhile
                raise
