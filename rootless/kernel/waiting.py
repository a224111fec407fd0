"""Wait for a descriptor, whatever its number is and however long it takes.

select(2) refuses a descriptor above 1023, and the caller may have passed that many on. poll(2) waits at most 2^31 - 1
milliseconds, which is less than 25 days.
"""

from __future__ import annotations

import select
import time

_LONGEST = 2**31 - 1  # milliseconds; poll(2) takes an int


def wait_for(fd: int, seconds: float | None = None, event: int = select.POLLIN) -> bool:
    """Wait until a descriptor is ready, for at most that many seconds; return whether it is.

    seconds: None for any time. event: POLLIN or POLLOUT. An error or the other side's end counts as ready, too.
    """
    until = None if seconds is None else time.monotonic() + seconds
    poller = select.poll()
    poller.register(fd, event)
    while True:
        if poller.poll(None if until is None else milliseconds(until - time.monotonic())):
            return True
        if until is not None and time.monotonic() >= until:
            return False


def milliseconds(seconds: float) -> float:
    """Return what poll(2) takes for a number of seconds. It may be less, so the caller has to look at the clock."""
    return min(max(0.0, seconds) * 1000, _LONGEST)
