"""Check the arguments of subprocess's functions, and turn them into what the launcher takes (api/wire.py)."""

from __future__ import annotations

import errno
import os

from rootless.errors import ProgramNotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def words_of(
    args: list[Any],
    executable: Any,
    *,
    env: Any,
    cwd: Any,
    umask: int = -1,
    restore: bool = True,
    session: bool = False,
    group: int = -1,
    pid1: bool = False,
    closed: Iterable[int] = (),
    passed: Iterable[int] = (),
) -> tuple[Any, ...]:
    """Return a call as the launcher takes it (init/launched.py, Call). Raises TypeError; ValueError for a NUL byte."""
    for name, number in (("umask", umask), ("process_group", group)):
        if not isinstance(number, int):
            raise TypeError(f"{name} must be an integer, not {type(number).__name__}")
        if not -(2**31) <= number < 2**31:
            raise OverflowError(f"{name} is larger than a C int")
    words = [os.fsencode(arg) for arg in args]
    place = b"" if cwd is None else os.fsencode(cwd)
    program = os.fsencode(executable)
    if any(b"\0" in word for word in (place, program, *words)):
        raise ValueError("embedded null byte")
    if not place and cwd is not None:  # chdir(2)
        raise ProgramNotFound("cannot enter the working directory", "/process/cwd", errno.ENOENT, filename=cwd)
    numbers = int(umask), restore, session, int(group), pid1
    return words, program, environment(env), place, *numbers, [*closed], [*passed]


def command(args: Any, executable: Any, *, shell: bool) -> tuple[list[Any], Any]:
    """Return (argv, executable) as subprocess makes them; the shell is the container's /bin/sh."""
    if isinstance(args, (str, bytes)):
        words: list[Any] = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        words = [args]
    else:
        words = list(args)
    if shell:
        words = ["/bin/sh", "-c", *words]
        if executable:
            words[0] = executable
    if not words:
        raise IndexError("list index out of range")
    return words, words[0] if executable is None else executable


def environment(env: Any) -> list[bytes] | None:
    if env is None:
        return None
    entries = []
    for name, value in env.items():
        name, value = os.fsencode(name), os.fsencode(value)
        if not name or b"=" in name:
            raise ValueError("illegal environment variable name")
        if b"\0" in name or b"\0" in value:
            raise ValueError("embedded null byte")
        entries.append(name + b"=" + value)
    return entries


def passed_fds(fds: Iterable[Any]) -> list[int]:
    """Return pass_fds in order, each once. Raises ValueError, TypeError, and OSError for one that is not open."""
    numbers = sorted({int(fd) for fd in fds})
    if numbers and not 0 <= numbers[0] <= numbers[-1] < 2**31:
        raise ValueError("bad value(s) in fds_to_keep")
    for number in numbers:
        os.fstat(number)
    return numbers


def streams(stdin: int, stdout: int, stderr: int, passed: Iterable[int] = ()) -> tuple[list[int], list[int]]:
    """Return (which of 0, 1 and 2 are closed in the program, the fds of the others): -1 is the caller's own.

    If the caller has closed one of its own, its number may be a pipe of this very call by now. Such a pipe is not
    inheritable, so execve(2) would close it in subprocess's child, unless pass_fds (`passed`) names it.
    """
    closed, fds = [], []
    for number, fd in enumerate((stdin, stdout, stderr)):
        if fd != -1:
            os.fstat(fd)
            fds.append(fd)
        elif number in passed or _is_inheritable(number):
            fds.append(number)
        else:
            closed.append(number)
    return closed, fds


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:  # EBADF: closed
        return False


def check_ids(user: Any, group: Any, groups: Any) -> None:
    """Check the types as subprocess does; the names are the container's own."""
    for word, value in (("user", user), ("group", group)):
        if value is None or isinstance(value, str):
            continue
        if not isinstance(value, int):
            raise TypeError(f"{word.capitalize()} must be a string or an integer, not {type(value)}")
        _check_range(word, value)
    if isinstance(groups, str):
        raise ValueError("Groups must be a list, not a string")
    for value in groups or ():
        if not isinstance(value, (str, int)):
            raise TypeError(f"Items in extra_groups must be a string or integer, not {type(value)}")
        if isinstance(value, int) and value < 0:
            raise ValueError(f"Group ID cannot be negative, got {value}")
        if isinstance(value, int) and value >= 2**32:
            raise ValueError(f"invalid group id {value}")


def _check_range(word: str, value: int) -> None:
    if value < 0:
        raise ValueError(f"{word.capitalize()} ID cannot be negative, got {value}")
    if value >= 2**32:
        raise OverflowError(f"{word} id is larger than 32 bits")
