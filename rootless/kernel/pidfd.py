"""Ask how a process ended that is not a child of this one: PIDFD_GET_INFO of Linux 6.15 (linux/pidfd.h)."""

from __future__ import annotations

import fcntl
import select
from struct import pack, unpack_from

from rootless.kernel.waiting import wait_for

_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, struct pidfd_info), PIDFD_INFO_SIZE_VER0
_SIZE = 64
_PIDFD_INFO_EXIT = 1 << 3
_EXIT_CODE = 60  # offset in struct pidfd_info
_REAPED = 5000  # milliseconds to wait until the parent has reaped the process


def wait_status(pidfd: int) -> int | None:
    """Wait for a process's end; return its wait status, None if the kernel does not say.

    pidfd: opened while the process existed. The kernel says it only after the parent has reaped the process.
    """
    wait_for(pidfd)
    poller = select.poll()
    poller.register(pidfd, 0)  # POLLHUP: it has been reaped
    poller.poll(_REAPED)
    buffer = bytearray(pack("Q", _PIDFD_INFO_EXIT).ljust(_SIZE, b"\0"))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)
    except OSError:  # ENOTTY, EINVAL: an older kernel; ESRCH: it was not reaped
        return None
    if not unpack_from("Q", buffer)[0] & _PIDFD_INFO_EXIT:
        return None
    return int(unpack_from("i", buffer, _EXIT_CODE)[0])
