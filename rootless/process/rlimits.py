"""Read, check and apply process.rlimits, the sixteen resource limits of Linux (getrlimit(2))."""

from __future__ import annotations

import errno

from rootless.errors import SpecError, advice
from rootless.kernel import syscalls
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.config_node import Node

    Rlimit = tuple[int, int, int, str]

# asm-generic/resource.h: the index is the number (x86 and ARM alike).
_NAMES = "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"
RLIMITS = {f"RLIMIT_{name}": number for number, name in enumerate(_NAMES.split())}

_NOFILE = RLIMITS["RLIMIT_NOFILE"]
_INFINITY = 2**64 - 1  # RLIM64_INFINITY, prlimit(2)


def read_rlimits(node: Node) -> list[Rlimit]:
    """Return process.rlimits as [(number, soft, hard, JSON pointer)]. 2**64-1 stands for unlimited.

    Raises SpecError for an unknown or repeated kind, and for a soft limit above the hard one.
    """
    limits: list[Rlimit] = []
    seen: dict[int, str] = {}
    for item in node.items():
        number = item["type"].choice(RLIMITS)
        if number in seen:
            raise item["type"].error(f"{name_of(number)} is set twice", hint=f"{seen[number]} sets it already")
        seen[number] = item.pointer
        soft = item["soft"].required().integer(low=0)
        hard = item["hard"].required().integer(low=0)
        if soft > hard:
            what = f"found {_value(soft)}, allowed is at most the hard limit, {_value(hard)}"
            item["soft"].refuse(what, about=item["hard"].pointer)
        limits.append((number, soft, hard, item.pointer))
    return limits


def check_rlimits(limits: list[Rlimit], hard_limit: Callable[[int], int]) -> None:
    """Refuse hard limits above our own, because raising one takes CAP_SYS_RESOURCE in the initial user namespace.

    hard_limit: returns our own hard limit for a number. Raises SpecError.
    """
    for number, _, hard, pointer in limits:
        own = hard_limit(number)
        if hard > own:
            name = name_of(number)
            raise SpecError(
                f"cannot raise the hard limit {name} to {_value(hard)}, it is {own} here",
                f"{pointer}/hard",
                errno.EPERM,
                hint=advice("rlimit-of-root", own=own, limit=name[7:]),
            )


def apply_rlimit(limit: Rlimit) -> None:
    """Set one limit of this process with prlimit(2). Raises OSError that names the limit, or SpecError."""
    number, soft, hard, _ = limit
    try:
        syscalls.prlimit(number, (soft, hard))
    except OSError as error:
        raise OSError(error.errno, f"{name_of(number)}: {error.strerror}") from None
    if number == _NOFILE:
        _check_start(limit)


def _check_start(limit: Rlimit) -> None:
    """Try whether RLIMIT_NOFILE leaves a descriptor, because init takes one for the connection that starts the program.

    Without one, init would wait for that connection for ever. Raises SpecError.
    """
    try:
        os.close(os.dup(2))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.EINVAL):  # EINVAL for 0, from fcntl(2)'s F_DUPFD_CLOEXEC
            what = f"RLIMIT_NOFILE is too low to start a program: {limit[1]}"
            raise SpecError(what, f"{limit[3]}/soft", hint=advice("few-descriptors")) from None


def name_of(number: int) -> str:
    """Return the name of a limit, such as RLIMIT_NOFILE for 7."""
    return next(name for name, n in RLIMITS.items() if n == number)


def _value(limit: int) -> str:
    return "unlimited" if limit == _INFINITY else str(limit)
