from __future__ import annotations

import errno
import os
import resource

import pytest

from rootless.config_node import Node
from rootless.errors import SpecError
from rootless.kernel import syscalls
from rootless.kernel.host import Host
from rootless.process import rlimits

POINTER = "/process/rlimits"


def limit(kind: object = "RLIMIT_NOFILE", soft: object = 10, hard: object = 20) -> dict[str, object]:
    return {"type": kind, "soft": soft, "hard": hard}


def read(value: object) -> list[tuple[int, int, int, str]]:
    return rlimits.read_rlimits(Node(value, POINTER))


def test_table_agrees_with_the_c_library() -> None:
    assert len(rlimits.RLIMITS) == 16
    known = {name: getattr(resource, name) for name in rlimits.RLIMITS if hasattr(resource, name)}
    assert len(known) > 10
    assert known.items() <= rlimits.RLIMITS.items()


def test_read() -> None:
    assert read(None) == []
    assert read([limit(), limit("RLIMIT_CORE", 0, 2**64 - 1)]) == [
        (7, 10, 20, f"{POINTER}/0"),
        (4, 0, 2**64 - 1, f"{POINTER}/1"),
    ]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([limit("RLIMIT_NOFILES")], "/0/type"),
        ([limit(None)], "/0/type"),
        ([limit(), limit()], "/1/type"),
        ([limit(soft=21)], "/0/soft"),
        ([limit(hard=-1)], "/0/hard"),
        ([limit(hard=2**64)], "/0/hard"),
        ([limit(hard=None)], "/0/hard"),
        ([7], "/0"),
        ({}, ""),
    ],
)
def test_bad_input_names_its_place(value: object, place: str) -> None:
    with pytest.raises(SpecError) as error:
        read(value)
    assert error.value.where == POINTER + place


def test_hard_limits_above_ones_own_are_refused() -> None:
    own = syscalls.prlimit(rlimits.RLIMITS["RLIMIT_MEMLOCK"])[1]
    if own == 2**64 - 1:
        own = 2**40
        syscalls.prlimit(rlimits.RLIMITS["RLIMIT_MEMLOCK"], (own, own))
    rlimits.check_rlimits(read([limit("RLIMIT_MEMLOCK", own, own)]), Host().hard_limit)
    with pytest.raises(SpecError, match=f"ask for at most {own}") as error:
        rlimits.check_rlimits(read([limit("RLIMIT_MEMLOCK", 1, 2**64 - 1)]), Host().hard_limit)
    assert error.value.where == f"{POINTER}/0/hard"


def test_apply() -> None:
    def child() -> bytes:
        for each in read([limit("RLIMIT_NOFILE", 500, 600), limit("RLIMIT_CORE", 0, 0)]):
            rlimits.apply_rlimit(each)
        try:
            syscalls.syscall("capset", b"\x22\x05\x08\x20\0\0\0\0", bytes(24))  # CAP_SYS_RESOURCE, where there is one
            rlimits.apply_rlimit(read([limit("RLIMIT_NOFILE", 700, 700)])[0])
        except OSError as error:
            assert error.errno == errno.EPERM
            assert "RLIMIT_NOFILE" in str(error)
            return repr((syscalls.prlimit(7), syscalls.prlimit(4))).encode()
        return b"raised"

    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write_end, child())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end) as file:
        assert file.read() == "((500, 600), (0, 0))"
    os.waitpid(pid, 0)
