"""Clone a process that shares this one's memory until it executes a program (clone(2), CLONE_VM and CLONE_VFORK).

A fork copies the page tables, and later each page that one of the two writes to; Python writes to every page that it
reads. Here nothing is copied. This process waits meanwhile, so both never run at once. This process sees what the new
one does to Python's objects. Descriptors, the working directory, ids, namespaces and signals are the new one's own.

The new process runs a Python function on a stack of its own. The function must return, because Python's own records of
what it is executing are in the shared memory. C code goes on then: contexts of makecontext(3) follow each other by
`uc_link`, so that fexecve(3) is called when Python has left. This needs the GNU C library and a Python that does not
check on which stack it runs, as 3.14 does.
"""

from __future__ import annotations

import sys

from rootless.kernel import syscalls as sc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_CONTEXT_SIZE = 2048  # bytes; ucontext_t has 968 on x86-64
_LINK, _STACK, _STACK_SIZE = 8, 16, 32  # offsets in ucontext_t of uc_link, uc_stack.ss_sp and uc_stack.ss_size
_PYTHON_STACK = 1 << 20  # bytes; only those that are used become memory
_C_STACK = 1 << 16
_CLONE_VM, _CLONE_VFORK = 0x100, 0x4000
_SIGCHLD = 17
_PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS = 3, 0x22


def is_possible() -> bool:
    """Return whether this interpreter and this C library can do it."""
    if sys.version_info >= (3, 14) or sys.implementation.name != "cpython":
        return False
    try:
        for name in ("clone", "getcontext", "makecontext", "setcontext", "fexecve", "_exit"):
            sc.address_of(name)
    except OSError:
        return False
    return True


class Vfork:
    """Clone processes, each of which runs a Python function and then executes the same program.

    program: its fd; name: its argv[0]; returned: whether the last process came to the end of its function; if not,
    Python's records are wrong, and this process should end. The new processes, and the program, begin with the signal
    mask that this thread has when this object is made. No signal may be unblocked for which Python has a handler.
    """

    def __init__(self, program: int, name: bytes) -> None:
        self.program = program
        self._name, address = sc.pinned(name + b"\0")
        self._arguments, self._argv = _pointers([address])
        self._life: Callable[[], list[bytes] | None]
        self.returned = True
        self._environment: list[Any] = []  # keeps the memory that the program's environment is in
        self._callback, self._entry = sc.callback(self._enter)
        self._python, self._execute, self._leave = _Context(_PYTHON_STACK), _Context(_C_STACK), _Context(_C_STACK)
        self._top = sc.number(_map_stack(_C_STACK) + _C_STACK)
        self._pidfd, self._pidfd_address = sc.pinned(bytes(8))
        self._clone = sc.c_function("clone")
        self._begin = sc.number(sc.address_of("setcontext"))

    def clone(self, flags: int, life: Callable[[], list[bytes] | None]) -> tuple[int, int]:
        """Clone a process that runs `life` and then executes the program. Return (pid, pidfd). Raises OSError.

        It returns when the program runs or the process has ended. life: returns the program's environment, or None to
        end with exit code 1. It must not end the process itself.
        """
        self._life = life
        self.returned = False
        self._leave.make("_exit", [1], None)
        self._execute.make("_exit", [1], None)  # until `life` has returned an environment
        self._python.make(self._entry, [], self._execute)
        flags |= sc.CLONE_PIDFD | _CLONE_VM | _CLONE_VFORK | _SIGCHLD
        pidfd = sc.number(self._pidfd_address)
        pid = self._clone(self._begin, self._top, sc.number(flags), sc.number(self._python.address), pidfd)
        if pid < 0:
            self.returned = True  # there was no process
            sc.fail("clone")
        return pid, sc.number_at(self._pidfd_address).value & 0x7FFFFFFF

    def _enter(self) -> None:
        """Run `life` in the new process, and have C execute the program when this has returned."""
        environment = None
        try:
            environment = self._life()
        except BaseException:  # an exception has nowhere to go from here
            pass
        if environment is not None:
            strings = [sc.pinned(entry + b"\0") for entry in environment]
            array, envp = _pointers([address for _, address in strings])
            self._environment = [strings, array]
            self._execute.make("fexecve", [self.program, self._argv, envp], self._leave)
        self.returned = True


class _Context:
    """A stack, and what makecontext(3) has prepared to run on it."""

    def __init__(self, size: int) -> None:
        self._memory, self.address = sc.pinned(bytes(_CONTEXT_SIZE))
        stack = _map_stack(size)
        self._make = sc.c_function("makecontext")
        sc.c_function("getcontext")(sc.number(self.address))
        sc.number_at(self.address + _STACK).value = stack
        sc.number_at(self.address + _STACK_SIZE).value = size

    def make(self, function: str | int, arguments: list[int], after: _Context | None) -> None:
        """Prepare a call. function: the name of one of the C library, or an address; after: what follows its return.

        A call uses up what was prepared. On x86-64 the arguments may be pointers (makecontext(3), NOTES).
        """
        sc.number_at(self.address + _LINK).value = after.address if after else 0
        address = sc.address_of(function) if isinstance(function, str) else function
        words = [sc.number(each) for each in arguments]
        self._make(sc.number(self.address), sc.number(address), len(words), *words)


def _map_stack(size: int) -> int:
    """Return the address of memory that takes none until it is used, and that this process keeps (mmap(2)).

    Raises OSError.
    """
    address = sc.c_function("mmap")(None, size, _PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS, -1, sc.number(0))
    if address == -1:
        sc.fail("mmap")
    return address


def _pointers(addresses: list[int]) -> tuple[Any, int]:
    """Return (object, address) of an array of pointers that NULL ends."""
    return sc.pinned(b"".join(each.to_bytes(8, "little") for each in [*addresses, 0]))
