"""Errors for people: one line that says what failed, where, why, and what to do."""

from __future__ import annotations

import errno as _errno
import json
import os


class OciError(Exception):
    """A failure to show to the user.

    what: what is wrong ("a layer is missing"); where: the archive, member or path; errno: 0 or the kernel's
    answer; hint: what the user can do about it.
    """

    def __init__(self, what: str, where: object = "", errno: int = 0, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = printable(where)
        self.errno = errno
        self.hint = hint

    @classmethod
    def from_os(cls, error: OSError, what: str, where: object = "", hint: str = "") -> OciError:
        """Wrap an OSError; its file name serves as the place where none is given."""
        if not where and error.filename is not None:
            where = error.filename
        return cls(what, where, error.errno or 0, hint or _HINTS.get(error.errno or 0, ""))

    def message(self) -> str:
        """The line without the program's name: `what: where: ENOENT (no such file or directory); hint: ...`."""
        parts = [printable(self.what)]
        if self.where:
            parts.append(self.where)
        if self.errno:
            text = os.strerror(self.errno)
            parts.append(f"{_errno.errorcode.get(self.errno, self.errno)} ({text[:1].lower()}{text[1:]})")
        line = ": ".join(parts)
        return printable(f"{line}; hint: {self.hint}" if self.hint else line)

    __str__ = message


def unexpected(error: BaseException, what: str) -> OciError:
    """Return the error to show for any exception of a process beside the main one.

    what: what it was doing. Where in the code it happened is said of all but OciError, and OSError, which say enough.
    """
    if isinstance(error, OciError):
        return error
    if isinstance(error, OSError):
        return OciError.from_os(error, what)
    frame, place = error.__traceback__, ""
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if "/oci/" in file or not place:
            place = f"oci/{file.rpartition('/oci/')[2]}:{frame.tb_lineno} in {frame.tb_frame.f_code.co_name}()"
        frame = frame.tb_next
    if isinstance(error, MemoryError):
        return OciError(f"{what}: out of memory", place, hint="memory is short here (ulimit -v, a cgroup's limit)")
    text = printable(error)
    return OciError(
        f"{what}: internal error: {type(error).__name__}{': ' if text else ''}{text}", place,
        hint="please report this with what --debug prints",
    )  # fmt: skip


def dumped(error: OciError) -> bytes:
    """Return an error as the bytes that `loaded` takes, for another process."""
    return json.dumps([error.what, error.where, error.errno, error.hint]).encode()


def loaded(text: bytes) -> OciError:
    """Return the error that `dumped` was told of."""
    what, where, number, hint = json.loads(text)
    return OciError(what, where, number, hint)


_HINTS = {
    _errno.ENOSPC: "free space on that file system, or choose another one with --output",
    _errno.EDQUOT: "your disk quota is used up",
    _errno.EROFS: "choose a writable place with --output",
    _errno.ENAMETOOLONG: "the file system allows no longer names",
}


def printable(value: object) -> str:
    """A path or any other value as text that is safe on a terminal and on one line."""
    text = os.fsdecode(value) if isinstance(value, bytes) else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
