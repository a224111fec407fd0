"""Define the errors for people: one line that says what failed, where, why, and what to do.

Code raises RootlessError for every failure that it expects. Any other exception is a bug, or the machine has no memory
or descriptors left; `unexpected` turns it into a RootlessError.
"""

from __future__ import annotations

import errno as _errno

from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

EXIT_ERROR = 1  # runc's exit code for its own failures
EXIT_EXEC_ERROR = 255  # runc's exit code when `exec` itself fails

_REFERENCE = "\1"  # begins a hint that is a reference to the table
_instead = ""  # hint for a permission error of a process that was root and has become another user


class RootlessError(Exception):
    """Report a failure to the user.

    what: what was tried ("mount proc"); where: a path or a JSON pointer, "" for none; errno: the kernel's error number,
    0 for none; hint: what the user can do about it, "" for nothing.
    """

    def __init__(self, what: str, where: str = "", errno: int = 0, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.errno = errno
        self.raw_hint = hint

    @property
    def hint(self) -> str:
        """The hint as text. Init may not read it, because the table cannot be imported from the container's root."""
        if self.raw_hint[:1] != _REFERENCE:
            return self.raw_hint
        # By name and late, because this module stands below all packages, and the table is read for an error only.
        table = __import__("rootless.kernel.hints", None, None, ("text_of",))
        return str(table.text_of(self.raw_hint))

    @hint.setter
    def hint(self, text: str) -> None:
        self.raw_hint = text

    @classmethod
    def from_os(cls, error: OSError, what: str, where: str = "", hint: str = "") -> RootlessError:
        """Return an OSError as a RootlessError. Without `where`, the file name of the OSError is the place."""
        if not where and error.filename is not None:
            where = printable(error.filename)
        return cls(what, where, error.errno or 0, hint)

    def message(self) -> str:
        """Return the line, without the program's name: `what: where: ENOENT (no such file or directory); hint: ...`."""
        parts = [self.what]
        if self.where:
            parts.append(self.where)
        if self.errno:
            parts.append(errno_text(self.errno))
        line = ": ".join(parts)
        hint = self.hint
        if self.errno in _SHORT and _REPORT not in hint:  # then no other advice helps, such as another directory
            short = SHORTAGES[_SHORT[self.errno]]
            _, begins, command = f"; {hint}".rpartition("; rootless ")  # what is left must be removed
            hint = f"{short}; then rootless {command}" if begins else short
        if _instead and self.errno in (_errno.EPERM, _errno.EACCES, _errno.EROFS):
            hint = f"{hint}; {_instead}" if hint else _instead
        if hint:
            line += f"; hint: {hint}"
        return printable(line.replace("\n", " "))

    __str__ = message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle what the error says, so that it passes from one process to another (multiprocessing)."""
        return _restore, (type(self), self.args), self.__dict__


def _restore(kind: type[RootlessError], args: tuple[object, ...]) -> RootlessError:
    """Return an error without its attributes, whose constructor may have other arguments than Exception's."""
    return kind.__new__(kind, *args)


def advice(name: str, **words: object) -> str:
    """Return a reference to a hint of the table in kernel/hints.py, with the {words} to fill in.

    The table is read when somebody reads the error's hint. So the hot path does not carry the texts, and init can refer
    to them after pivot_root, when nothing can be imported any more.
    """
    return "\0".join([f"{_REFERENCE}{name}", *(f"{key}={value}" for key, value in words.items())])


def explain_permissions(hint: str) -> None:
    """Add a hint to every later error with EPERM, EACCES or EROFS, because this process is no longer root."""
    global _instead
    _instead = hint


def permissions_explained() -> str:
    """Return the hint that explain_permissions has set, "" for none."""
    return _instead


class SpecError(RootlessError):
    """Report a wrong value in config.json; `where` is a JSON pointer.

    file: the file's name, with which the line begins, because a pointer alone looks like a path. The command line sets
    it; "" names no file.
    """

    file = ""

    def message(self) -> str:
        """Return the line, with the file's name first."""
        line = super().message()
        return f"{printable(self.file)}: {line}" if self.file else line

    __str__ = message


class NoSuchContainer(RootlessError):
    """Report an ID that names no container. Clients look for the words "does not exist"."""

    def __init__(self, container_id: str) -> None:
        super().__init__(f'container "{container_id}" does not exist')
        self.container_id = container_id


class IdInUse(RootlessError):
    """Report an ID that a container has already. Clients look for the words "already exists"."""

    def __init__(self, container_id: str, path: str) -> None:
        super().__init__(f'container "{container_id}" already exists', path, hint=advice("id-taken", id=container_id))
        self.container_id = container_id
        self.root = path.rpartition("/")[0]


class ProgramError(RootlessError, OSError):  # type: ignore[misc]
    """Report a program that cannot be executed in the container. It is an OSError, too, like in subprocess."""

    def __init__(self, what: str, where: str = "", errno: int = 0, hint: str = "", filename: object = None) -> None:
        super().__init__(what, where, errno, hint)
        self.strerror = os.strerror(errno)
        self.filename = filename

    def __reduce__(self) -> tuple[object, ...]:
        arguments = self.what, self.where, self.errno, self.raw_hint, self.filename
        return type(self), arguments, self.__dict__


class ProgramNotFound(ProgramError, FileNotFoundError):  # type: ignore[misc]
    """Report that the program, its interpreter or its working directory does not exist."""


class ProgramNotExecutable(ProgramError, PermissionError):  # type: ignore[misc]
    """Report that the program or its working directory may not be used, or not with the ids that were asked for."""


class ProgramNotADirectory(ProgramError, NotADirectoryError):  # type: ignore[misc]
    """Report a working directory, or a component of the program's path, that is not a directory."""


class UnknownName(RootlessError, KeyError):
    """Report a user or group that the container does not name. It is a KeyError, too, like in subprocess."""


class LauncherError(RootlessError):
    """Report that the launcher has ended before the container, whose exit code is therefore unknown."""


_SOURCES = __file__.rpartition("/")[0].rpartition("/")[0] + "/"  # the directory of the packages rootless and oci
_REPORT = "please report this with what --debug prints"
# What has run out, and which limit to raise (getrlimit(2); ulimit in a shell). A part of the table in kernel/hints.py,
# and kept here, because the table cannot be imported where a process has no file or memory left.
SHORTAGES = {
    "no-files": "no open file is left (ulimit -n)",
    "no-files-at-all": "no open file is left on this machine (sysctl fs.file-max)",
    "no-memory": "memory is short here (ulimit -v, a cgroup's limit)",
    "no-code": "has this process too few files or memory (ulimit -n, ulimit -v), or is a package missing?",
}
_SHORT = {_errno.EMFILE: "no-files", _errno.ENFILE: "no-files-at-all", _errno.ENOMEM: "no-memory"}


def unexpected(error: BaseException) -> RootlessError:
    """Return the error to show for an exception that the code did not expect.

    It says what happened and where in the code, and asks for a report unless the machine is the reason. A failed system
    call with a file name keeps that name as its place. This function imports nothing, because an import may be what
    failed (EMFILE, ENOMEM).
    """
    if isinstance(error, RootlessError):
        return error
    text, place = printable(error), code_place(error.__traceback__)
    if isinstance(error, MemoryError):
        return RootlessError("out of memory", place, hint=f"{SHORTAGES['no-memory']}; else {_REPORT}")
    if isinstance(error, ModuleNotFoundError) and error.name in ("attr", "attrs"):
        return RootlessError("this command needs the Python package attrs", hint=advice("no-attrs"))
    if isinstance(error, ImportError):  # Python raises it, too, if it cannot list a module's directory
        return RootlessError(f"cannot load code: {text}", place, hint=f"{SHORTAGES['no-code']} Else {_REPORT}")
    if isinstance(error, OSError):
        what = (error.strerror or "failed").rpartition(": ")[
            0
        ] or "failed"  # a wrapper in kernel/syscalls.py puts the call's name before the colon
        hint = SHORTAGES.get(_SHORT.get(error.errno or 0, ""), "")
        if error.errno == _errno.ENOENT and error.filename is None and _directory_is_gone():
            return RootlessError("the working directory was removed", "", error.errno, "cd to another one")
        if error.errno == _errno.ENOENT and printable(error.filename).startswith("/proc/self/"):
            hint = advice("no-proc")
        if error.filename is not None and not isinstance(error.filename, int):  # a descriptor says nothing to people
            return RootlessError.from_os(error, what, hint=hint)
        what += "" if error.errno else f": {text}"
        return RootlessError(what, place, error.errno or 0, f"{hint}; else {_REPORT}" if hint else _REPORT)
    name = type(error).__name__
    return RootlessError(f"internal error: {name}: {text}" if text else f"internal error: {name}", place, hint=_REPORT)


def _directory_is_gone() -> bool:
    """Return whether the working directory was removed, because every relative path fails then."""
    try:
        os.getcwd()
    except OSError as error:
        return error.errno == _errno.ENOENT
    return False


def code_place(traceback: TracebackType | None) -> str:
    """Return the innermost place of our code in a traceback: `rootless/runtime/create.py:120 in create()`.

    Byte code of rootless/startup/leancode.py has no line numbers; then the place is only file and function.
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
    """Return an error number as `ENOENT (no such file or directory)`; clients match on the words."""
    name = _errno.errorcode.get(number, f"errno {number}")
    text = os.strerror(number)
    return f"{name} ({text[:1].lower()}{text[1:]})"


def printable(value: object) -> str:
    """Return a path or another value as text that is safe to print on a terminal, on one line.

    Text from a container, an image, a hook or a file name may hold control characters, which could move the cursor,
    set the window's title or make the terminal send input. This function replaces them, and all other characters that
    are not printable, by escapes. Errors, log lines and tables pass here last. A second pass changes nothing.
    """
    text = os.fsdecode(value) if isinstance(value, bytes) else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
