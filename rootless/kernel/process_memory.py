"""Read and write the memory of another process: process_vm_readv(2), and /proc/PID/mem."""

from __future__ import annotations

from struct import pack

from rootless.kernel import syscalls as sc

_PAGE = 4096  # the smallest page of any architecture, and PATH_MAX


class Reader:
    """Reads memory of other processes. Its buffers are made once, because it is used for each system call."""

    def __init__(self) -> None:
        self._buffer, self._address = sc.pinned(bytes(_PAGE))
        self._theirs, self._their_address = sc.pinned(bytes(16))

    def read(self, pid: int, address: int, size: int) -> bytes:
        """Return up to `size` bytes, at most a page; less if the memory ends before. Raises OSError."""
        # struct iovec: base, length
        self._theirs.raw = pack("QQ", address, size)
        ours = pack("QQ", self._address, size)
        count = sc.syscall("process_vm_readv", pid, ours, 1, self._their_address, 1, 0)
        return bytes(self._buffer.raw[:count])

    def read_string(self, pid: int, address: int) -> bytes:
        """Return the bytes up to NUL, at most PATH_MAX. Raises OSError."""
        text = b""
        while len(text) < _PAGE:
            size = _PAGE - address % _PAGE  # the next page may not be mapped
            piece = self.read(pid, address, size)
            end = piece.find(b"\0")
            if end >= 0:
                return text + piece[:end]
            text += piece
            address += len(piece)
            if len(piece) < size:
                break
        return text
