"""Word errors for people: one line that says what failed, where, why, and what to do."""

from __future__ import annotations

import errno as _errno
import json
import os

from oci.hints import HINTS


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
        """Return the OciError for an OSError. Without `where` the place is the error's file name."""
        if not where and error.filename is not None:
            where = error.filename
        name = _HINTS.get(error.errno or 0, "")
        return cls(what, where, error.errno or 0, hint or (name and HINTS[name].text))

    def message(self) -> str:
        """Return the line without the program's name: `what: where: ENOENT (no such file or directory); hint: ...`."""
        parts = [printable(self.what)]
        if self.where:
            parts.append(self.where)
        if self.errno:
            text = os.strerror(self.errno)
            parts.append(f"{_errno.errorcode.get(self.errno, self.errno)} ({text[:1].lower()}{text[1:]})")
        line = ": ".join(parts)
        return printable(f"{line}; hint: {self.hint}" if self.hint else line)

    __str__ = message


def unexpected(error: BaseException, what: str, where: str = "") -> OciError:
    """Return the error to show for any exception that ends the reader or the writer.

    what: what the process was doing; where: the layer, "" if unknown. OciError and OSError say enough; of any other
    exception the place is the innermost line of code.
    """
    if isinstance(error, OciError):
        return error
    if isinstance(error, OSError):
        return OciError.from_os(error, what, where)
    what = f"{what}: {where}" if where else what
    frame, place = error.__traceback__, ""
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if "/oci/" in file or not place:
            place = f"oci/{file.rpartition('/oci/')[2]}:{frame.tb_lineno} in {frame.tb_frame.f_code.co_name}()"
        frame = frame.tb_next
    if isinstance(error, MemoryError):
        return OciError(f"{what}: out of memory", place, hint=HINTS["no-memory"].text)
    text = printable(error)
    return OciError(
        f"{what}: internal error: {type(error).__name__}{': ' if text else ''}{text}", place,
        hint="please report this with what --debug prints",
    )  # fmt: skip


def dumped(error: OciError) -> bytes:
    """Return an error as bytes, for another process. `loaded` reads them."""
    return json.dumps([error.what, error.where, error.errno, error.hint]).encode()


def loaded(text: bytes) -> OciError:
    """Return the error whose bytes `dumped` returned."""
    what, where, number, hint = json.loads(text)
    return OciError(what, where, number, hint)


_HINTS = {
    _errno.ENOSPC: "no-space",
    _errno.EDQUOT: "no-quota",
    _errno.EROFS: "read-only",
    _errno.ENAMETOOLONG: "long-name",
    _errno.ENOMEM: "no-memory",
}


def printable(value: object) -> str:
    """Return a path or any other value as text that is safe on a terminal and fits on one line.

    Escapes stand for control characters, with which a name from an archive could move the cursor or forge a line.
    """
    text = os.fsdecode(value) if isinstance(value, bytes) else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
