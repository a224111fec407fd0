"""Errors for people: one line that says what failed, where, why, and what to do.

Every failure with a user's reason is a `RootlessError`; anything else that escapes is a bug.
"""

from __future__ import annotations

import errno as _errno

from rootless import lean_os as os

EXIT_ERROR = 1  # runc's exit code for its own failures
EXIT_EXEC_ERROR = 255  # runc's exit code when `exec` itself fails


class RootlessError(Exception):
    """A failure to show to the user.

    what: what was tried ("mount proc"); where: the path or JSON pointer; errno: 0 or the kernel's answer;
    hint: what the user can do about it.
    """

    def __init__(self, what: str, where: str = "", errno: int = 0, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.errno = errno
        self.hint = hint

    @classmethod
    def from_os(cls, error: OSError, what: str, where: str = "", hint: str = "") -> RootlessError:
        """Wrap an OSError; its file name serves as the place where none is given."""
        if not where and error.filename is not None:
            where = printable(error.filename)
        return cls(what, where, error.errno or 0, hint)

    def message(self) -> str:
        """The line without the program's name: `what: where: ENOENT (no such file or directory); hint: ...`."""
        parts = [self.what]
        if self.where:
            parts.append(self.where)
        if self.errno:
            parts.append(errno_text(self.errno))
        line = ": ".join(parts)
        if self.hint:
            line += f"; hint: {self.hint}"
        return printable(line.replace("\n", " "))

    __str__ = message


class SpecError(RootlessError):
    """config.json does not hold what it should; `where` is a JSON pointer."""


class NoSuchContainer(RootlessError):
    """The id names no container. Clients look for the words "does not exist"."""

    def __init__(self, container_id: str) -> None:
        super().__init__(f'container "{container_id}" does not exist')


def errno_text(number: int) -> str:
    """`ENOENT (no such file or directory)`: the name, and the words that clients match on."""
    name = _errno.errorcode.get(number, f"errno {number}")
    text = os.strerror(number)
    return f"{name} ({text[:1].lower()}{text[1:]})"


def printable(value: object) -> str:
    """Return a path or any other value as text that is safe on a terminal and on one line.

    Text of a container, an image, a hook or a file name may hold control characters, with which it could move the
    cursor, retitle the window or answer for the user. Escapes stand for them, and for what else has no glyph. Whatever
    goes out as text passes here last: errors, log lines and tables; applied again it changes nothing.
    """
    text = os.fsdecode(value) if isinstance(value, bytes) else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
