"""Errors for people: one line that says what failed, where, why, and what to do.

Every failure with a user's reason is a `RootlessError`; anything else that escapes is a bug, or comes of a
machine without memory or descriptors: `unexpected` makes its line.
"""

from __future__ import annotations

import errno as _errno

from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

EXIT_ERROR = 1  # runc's exit code for its own failures
EXIT_EXEC_ERROR = 255  # runc's exit code when `exec` itself fails

_instead = ""  # what to say of a permission that root has and this process has given up


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
        hint = self.hint
        if _instead and self.errno in (_errno.EPERM, _errno.EACCES, _errno.EROFS):
            hint = f"{hint}; {_instead}" if hint else _instead
        if hint:
            line += f"; hint: {hint}"
        return printable(line.replace("\n", " "))

    __str__ = message


def explain_permissions(hint: str) -> None:
    """Add a hint to every error from now on that says EPERM, EACCES or EROFS: the process is no longer root."""
    global _instead
    _instead = hint


def permissions_explained() -> str:
    """The hint that explain_permissions has set, "" for none."""
    return _instead


class SpecError(RootlessError):
    """config.json does not hold what it should; `where` is a JSON pointer."""


class NoSuchContainer(RootlessError):
    """The id names no container. Clients look for the words "does not exist"."""

    def __init__(self, container_id: str) -> None:
        super().__init__(f'container "{container_id}" does not exist')


class IdInUse(RootlessError):
    """A container of that id exists. Clients look for the words "already exists"."""

    def __init__(self, container_id: str, path: str) -> None:
        super().__init__(f'container "{container_id}" already exists', path, hint="choose another ID or delete it")


_SOURCES = __file__.rpartition("/")[0].rpartition("/")[0] + "/"  # above the packages rootless and oci
_REPORT = "please report this with what --debug prints"
# What is short, and the limit to raise (getrlimit(2), ulimit in a shell).
_SHORT = {
    _errno.EMFILE: "open files are short here (ulimit -n)",
    _errno.ENFILE: "open files are short on this machine (sysctl fs.file-max)",
    _errno.ENOMEM: "memory is short here (ulimit -v, a cgroup's limit)",
}


def unexpected(error: BaseException) -> RootlessError:
    """Return the error to show for an exception that no code of ours has a line for.

    It says what happened and where in the code, and asks for a report, unless the machine is the reason: a failed
    system call with a file's name keeps that name as its place. Nothing is imported here, because an import may be
    what failed (EMFILE, ENOMEM).
    """
    if isinstance(error, RootlessError):
        return error
    text, place = printable(error), code_place(error.__traceback__)
    if isinstance(error, MemoryError):
        return RootlessError("out of memory", place, hint=f"{_SHORT[_errno.ENOMEM]}; else {_REPORT}")
    if isinstance(error, ImportError):  # also for a module whose directory could not be listed
        hint = f"are open files or memory short (ulimit -n, ulimit -v), or is a package missing? Else {_REPORT}"
        return RootlessError(f"cannot load code: {text}", place, hint=hint)
    if isinstance(error, OSError):
        what = (error.strerror or "failed").rpartition(": ")[0] or "failed"  # the wrappers of system calls name theirs
        hint = _SHORT.get(error.errno or 0, "")
        if error.filename is not None:
            return RootlessError.from_os(error, what, hint=hint)
        what += "" if error.errno else f": {text}"
        return RootlessError(what, place, error.errno or 0, f"{hint}; else {_REPORT}" if hint else _REPORT)
    name = type(error).__name__
    return RootlessError(f"internal error: {name}: {text}" if text else f"internal error: {name}", place, hint=_REPORT)


def code_place(traceback: TracebackType | None) -> str:
    """Return the innermost place of ours in a traceback, as `rootless/runtime/create.py:120 in create()`.

    The byte code that rootless/startup/leancode.py makes has no line numbers: then only file and function are named.
    """
    place = ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        file = code.co_filename.removeprefix(_SOURCES)
        if file.startswith(("rootless/", "oci/")) or not place:
            line = traceback.tb_lineno
            place = f"{file}:{line}" if line and line > 0 else file
            place += f" in {code.co_name}()" if code.co_name[:1] != "<" else ""
        traceback = traceback.tb_next
    return place


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
