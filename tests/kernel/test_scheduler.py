from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from rootless.config_node import Node
from rootless.errors import RootlessError, SpecError
from rootless.kernel import syscalls
from rootless.process import scheduler as s
from tests.support import children

POINTER = "/p"
FIRST_CPU = min(os.sched_getaffinity(0))


def in_child(body: Callable[[], object]) -> str:
    """Return repr() of what `body` returns in a child, whose attributes no other process inherits."""
    return children.answer_of(body)[0]


def drop_capabilities() -> None:
    syscalls.capset(0, 0, 0)


# --- scheduler


def test_read_scheduler() -> None:
    assert s.read_scheduler(Node(None)) is None
    assert s.read_scheduler(Node({"policy": "SCHED_OTHER", "nice": -20})) == (0, 0, -20, 0, 0, 0, 0)
    flags = ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_UTIL_CLAMP_MAX"]
    assert s.read_scheduler(Node({"policy": "SCHED_RR", "priority": 99, "flags": flags})) == (2, 0x41, 0, 99, 0, 0, 0)
    times = {"runtime": 2000, "deadline": 3000, "period": 4000}
    assert s.read_scheduler(Node({"policy": "SCHED_DEADLINE", **times})) == (6, 0, 0, 0, 2000, 3000, 4000)
    kept = {"policy": "SCHED_FIFO", "flags": ["SCHED_FLAG_KEEP_PARAMS"]}
    assert s.read_scheduler(Node(kept)) == (1, 0x10, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([], ""),
        ({}, "/policy"),
        ({"policy": "SCHED_FAIR"}, "/policy"),
        ({"policy": "SCHED_OTHER", "nice": 20}, "/nice"),
        ({"policy": "SCHED_OTHER", "nice": 2**31}, "/nice"),
        ({"policy": "SCHED_OTHER", "priority": 1}, "/priority"),
        ({"policy": "SCHED_FIFO"}, "/priority"),
        ({"policy": "SCHED_FIFO", "priority": 100}, "/priority"),
        ({"policy": "SCHED_OTHER", "flags": ["RECLAIM"]}, "/flags/0"),
        ({"policy": "SCHED_BATCH", "period": 1}, "/period"),
        ({"policy": "SCHED_DEADLINE", "runtime": 1023, "deadline": 2000}, "/runtime"),
        ({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 1999}, "/deadline"),
        ({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 2001, "period": 2000}, "/period"),
        ({"policy": "SCHED_DEADLINE", "runtime": -1}, "/runtime"),
    ],
)
def test_bad_scheduler(value: object, place: str) -> None:
    with pytest.raises(SpecError) as error:
        s.read_scheduler(Node(value, POINTER))
    assert error.value.where == POINTER + place


@pytest.mark.parametrize("policy", ["SCHED_BATCH", "SCHED_IDLE", "SCHED_OTHER"])
def test_apply_scheduler(policy: str) -> None:
    wanted = s.read_scheduler(Node({"policy": policy, "nice": 19, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}))
    assert wanted is not None

    def body() -> tuple[int, int]:
        s.apply_scheduler(wanted)
        return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)

    reset_on_fork = 0x40000000
    nice = os.getpriority(os.PRIO_PROCESS, 0) if policy == "SCHED_IDLE" else 19
    assert in_child(body) == repr((s.POLICIES[policy] | reset_on_fork, nice))


def failure(call: Callable[[], None]) -> Callable[[], str]:
    def body() -> str:
        drop_capabilities()
        try:
            call()
        except RootlessError as error:
            return str(error)
        return "done"

    return body


def test_real_time_is_refused_to_an_ordinary_user() -> None:
    wanted = s.read_scheduler(Node({"policy": "SCHED_FIFO", "priority": 5}))
    assert wanted is not None
    text = in_child(failure(lambda: s.apply_scheduler(wanted)))
    assert "/process/scheduler: EPERM" in text
    assert "CAP_SYS_NICE" in text


def test_iso_does_not_exist() -> None:
    wanted = s.read_scheduler(Node({"policy": "SCHED_ISO"}))
    assert wanted is not None
    assert "never implemented" in in_child(failure(lambda: s.apply_scheduler(wanted)))


# --- I/O priority


def test_io_priority() -> None:
    assert s.read_io_priority(Node(None)) is None
    value = s.read_io_priority(Node({"class": "IOPRIO_CLASS_BE", "priority": 6}))
    assert value == 2 << 13 | 6

    def body() -> int:
        s.apply_io_priority(value)
        number = {"x86_64": 252, "aarch64": 31}[syscalls.MACHINE]  # ioprio_get
        return int(syscalls._syscall(number, 1, 0))

    assert in_child(body) == repr(value)


def test_real_time_io_is_refused_to_an_ordinary_user() -> None:
    assert "/process/ioPriority: EPERM" in in_child(failure(lambda: s.apply_io_priority(1 << 13)))


@pytest.mark.parametrize(
    ("value", "place"),
    [({}, "/class"), ({"class": "RT"}, "/class"), ({"class": "IOPRIO_CLASS_BE", "priority": 8}, "/priority")],
)
def test_bad_io_priority(value: object, place: str) -> None:
    with pytest.raises(SpecError) as error:
        s.read_io_priority(Node(value, POINTER))
    assert error.value.where == POINTER + place


# --- affinity


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", []), ("  ", []), ("0", [0]), ("0-3,7", [0, 1, 2, 3, 7]), (" 2 , 0 - 1", [0, 1, 2]), ("3,3,2-3", [2, 3])],
)
def test_list(text: str, numbers: list[int]) -> None:
    assert s.read_numbers(Node(text), 8) == numbers


@pytest.mark.parametrize("text", ["8", "3-2", "-1", "1-", "a", ",", "1,", "1-2-3", "0x1", "99999999999", "²", "1\t"])
def test_bad_list(text: str) -> None:
    with pytest.raises(SpecError):
        s.read_numbers(Node(text), 8)


def test_cpu_affinity() -> None:
    assert s.read_exec_cpu_affinity(Node(None)) is None
    wanted = s.read_exec_cpu_affinity(Node({"initial": str(FIRST_CPU)}))
    assert wanted == ([FIRST_CPU], [])

    def body() -> set[int]:
        s.apply_cpu_affinity(wanted[0], "initial")
        s.apply_cpu_affinity(wanted[1], "final")
        return os.sched_getaffinity(0)

    assert in_child(body) == repr({FIRST_CPU})
    text = in_child(failure(lambda: s.apply_cpu_affinity([8191], "final")))
    assert "/process/execCPUAffinity/final: EINVAL" in text


# --- personality


def test_personality() -> None:
    assert s.read_personality(Node(None)) is None
    value = s.read_personality(Node({"domain": "LINUX32", "flags": []}))
    assert value == 8

    def body() -> str:
        s.apply_personality(8)
        return os.uname().machine

    assert in_child(body) == repr({"x86_64": "i686", "aarch64": "armv8l"}[syscalls.MACHINE])


@pytest.mark.parametrize(
    ("value", "place"),
    [({}, "/domain"), ({"domain": "BSD"}, "/domain"), ({"domain": "LINUX", "flags": ["SHORT_INODE"]}, "/flags/0")],
)
def test_bad_personality(value: object, place: str) -> None:
    with pytest.raises(SpecError) as error:
        s.read_personality(Node(value, POINTER))
    assert error.value.where == POINTER + place


# --- memory policy


def test_read_memory_policy() -> None:
    assert s.read_memory_policy(Node(None)) is None
    value = {"mode": "MPOL_INTERLEAVE", "nodes": "2-3", "flags": ["MPOL_F_STATIC_NODES"]}
    assert s.read_memory_policy(Node(value)) == (3 | 1 << 15, [2, 3])
    assert s.read_memory_policy(Node({"mode": "MPOL_PREFERRED"})) == (1, [])


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({}, "/mode"),
        ({"mode": "MPOL_BEST"}, "/mode"),
        ({"mode": "MPOL_BIND"}, "/nodes"),
        ({"mode": "MPOL_LOCAL", "nodes": "0"}, "/nodes"),
        ({"mode": "MPOL_BIND", "nodes": "1024"}, "/nodes"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["STATIC"]}, "/flags/0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}, "/flags"),
    ],
)
def test_bad_memory_policy(value: object, place: str) -> None:
    with pytest.raises(SpecError) as error:
        s.read_memory_policy(Node(value, POINTER))
    assert error.value.where == POINTER + place


@pytest.mark.skipif(not os.path.exists("/proc/self/numa_maps"), reason="the kernel is built without CONFIG_NUMA")
def test_apply_memory_policy() -> None:
    def body() -> bool:
        s.apply_memory_policy(*(s.read_memory_policy(Node({"mode": "MPOL_BIND", "nodes": "0"})) or (0, [])))
        with open("/proc/self/numa_maps") as file:
            return "bind:0" in file.read()

    assert in_child(body) == "True"
    assert "EINVAL" in in_child(failure(lambda: s.apply_memory_policy(2, [1000])))
