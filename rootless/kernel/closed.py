"""Find the directory that keeps this process from a path, so that a closed place is not said to be missing."""

from __future__ import annotations

import errno
import os

from rootless.errors import RootlessError, advice


def closed_above(path: str) -> RootlessError | None:
    """Return the error for the directory on the way to a path that cannot be entered, None if there is none."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.EACCES:
            place = os.path.realpath(path)
            while place != "/" and not os.path.isdir(place):
                place = os.path.dirname(place)
            is_bundle = os.path.basename(path) == "config.json" and place == os.path.realpath(os.path.dirname(path))
            what = f"cannot enter the {'bundle' if is_bundle else 'directory'}"
            is_others = is_bundle and os.stat(place).st_uid != os.geteuid()
            hint = advice("not-shared") if is_others else advice("closed-to-you", path=place)
            return RootlessError(what, place, errno.EACCES, hint)
    return None
