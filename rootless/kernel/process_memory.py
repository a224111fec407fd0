"""Read the memory of other processes: process_vm_readv(2)."""

from __future__ import annotations

from struct import pack, pack_into

from rootless.kernel import syscalls as sc

_PAGE = 4096  # the smallest page of any architecture, and PATH_MAX
_SHORT = 256  # most paths are not longer


class Reader:
    """Reads memory of other processes. Its buffers are made once, because it is used for each system call."""

    def __init__(self) -> None:
        self._call = sc.fast_call("process_vm_readv", 6)
        self._buffer, address = sc.pinned(bytes(_PAGE))
        # struct iovec: base, length
        self._ours, self._our_address = sc.pinned(pack("QQ", address, _PAGE))
        self._theirs, self._their_address = sc.pinned(bytes(16))

    def _read(self, pid: int, address: int, size: int) -> int:
        """Fill the buffer; return the number of bytes. Raises OSError."""
        pack_into("QQ", self._theirs, 0, address, size)
        count = self._call(pid, self._our_address, 1, self._their_address, 1, 0)
        if count < 0:
            sc.fail("process_vm_readv")
        return count

    def read(self, pid: int, address: int, size: int) -> bytes:
        """Return up to `size` bytes, at most a page; less if the memory ends before. Raises OSError."""
        count = self._read(pid, address, size)
        return bytes(self._buffer.raw[:count])

    def read_string(self, pid: int, address: int) -> bytes:
        """Return the bytes up to NUL, at most PATH_MAX. Raises OSError."""
        text = b""
        while len(text) < _PAGE:
            size = min(_SHORT, _PAGE - address % _PAGE)  # the next page may not be mapped
            count = self._read(pid, address, size)
            piece: bytes = self._buffer.value  # up to NUL, or with bytes of an earlier call
            if len(piece) < count:
                return text + piece
            text += piece[:count]
            address += count
            if count < size:
                break
        return text
