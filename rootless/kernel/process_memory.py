"""Read the memory of other processes: process_vm_readv(2)."""

from __future__ import annotations

from struct import pack

from rootless.kernel import syscalls as sc

_PAGE = 4096  # the smallest page of any architecture, and PATH_MAX
_SHORT = 256  # most paths are not longer


class Reader:
    """Reads memory of other processes. Its buffers are made once, because it is used for each system call."""

    __slots__ = ("_buffer", "_call", "_flags", "_length", "_ours", "_place", "_structs", "_theirs")

    def __init__(self) -> None:
        self._buffer, address = sc.pinned(bytes(_PAGE))
        # two of struct iovec: base, length
        self._structs, ours = sc.pinned(pack("4Q", address, _PAGE, 0, _SHORT))
        self._ours, self._theirs = sc.number(ours), sc.number(ours + 16)
        self._place, self._length = sc.number_at(ours + 16), sc.number_at(ours + 24)
        self._flags = sc.number(0)  # the seventh argument of syscall(2), of which ctypes writes 32 bits for an int
        self._call = sc.fast_call("process_vm_readv")

    def _read(self, pid: int, address: int, size: int) -> int:
        """Fill the buffer; return the number of bytes. Raises OSError."""
        self._place.value = address
        self._length.value = size
        try:
            count = self._call(pid, self._ours, 1, self._theirs, 1, self._flags)
            if count < 0:
                return sc.syscall("process_vm_readv", pid, self._ours, 1, self._theirs, 1, self._flags)
            return count
        finally:
            self._length.value = _SHORT  # what read_string expects

    def read(self, pid: int, address: int, size: int) -> bytes:
        """Return up to `size` bytes, at most a page; less if the memory ends before. Raises OSError."""
        count = self._read(pid, address, size)
        return bytes(self._buffer.raw[:count])

    def read_string(self, pid: int, address: int) -> bytes:
        """Return the bytes up to NUL, at most PATH_MAX. Raises OSError."""
        self._place.value = address
        count = self._call(pid, self._ours, 1, self._theirs, 1, self._flags)  # up to memory that is not mapped
        text: bytes = self._buffer.value  # up to NUL, or with bytes of an earlier call
        if len(text) < count:
            return text
        text = b""
        while len(text) < _PAGE:
            count = self._read(pid, address + len(text), _PAGE - len(text))
            piece: bytes = self._buffer.value
            if len(piece) < count:
                return text + piece
            text += piece[:count]
        return text
