"""Whatever JSON a reader gets, it returns data or raises a SpecError that has a place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.config_node import Node
from rootless.errors import SpecError
from rootless.kernel import caps
from rootless.plan.intel_rdt import read_intel_rdt
from rootless.plan.net_devices import read_net_devices
from rootless.process import rlimits, scheduler, seccomp

READERS: dict[str, tuple[Callable[[Node], object], str]] = {
    "caps": (lambda node: caps.read_capabilities(node, 2**41 - 1), "bounding ambient inheritable effective"),
    "rlimits": (rlimits.read_rlimits, "type soft hard"),
    "seccomp": (
        seccomp.read_seccomp,
        "defaultAction defaultErrnoRet syscalls names action errnoRet args index op value valueTwo flags architectures "
        "listenerPath listenerMetadata",
    ),
    "scheduler": (scheduler.read_scheduler, "policy nice priority flags runtime deadline period"),
    "io_priority": (scheduler.read_io_priority, "class priority"),
    "cpu_affinity": (scheduler.read_exec_cpu_affinity, "initial final"),
    "personality": (scheduler.read_personality, "domain flags"),
    "memory_policy": (scheduler.read_memory_policy, "mode nodes flags"),
    "rdt": (read_intel_rdt, "closID l3CacheSchema memBwSchema schemata enableMonitoring"),
    "net_devices": (lambda node: read_net_devices(node, private=True), "eth0 name"),
}
WORDS = [
    *caps.CAPABILITIES, *rlimits.RLIMITS, *seccomp.ACTIONS, *seccomp.OPERATORS, *seccomp.FLAGS, *scheduler.POLICIES,
    *scheduler.SCHEDULER_FLAGS, *scheduler.IO_CLASSES, *scheduler.MEMORY_MODES, *scheduler.MEMORY_FLAGS, "LINUX",
    "0-3,7", "sendmsg", "eth%d",
]  # fmt: skip


def values(keys: str) -> st.SearchStrategy[object]:
    text = st.one_of(st.sampled_from(WORDS), st.text(st.characters(exclude_categories=()), max_size=8))
    leaf = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(0, 9), st.floats(), text)
    names = st.one_of(st.sampled_from(keys.split()), st.text(st.characters(exclude_categories=()), max_size=4))
    return st.recursive(
        leaf, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner)), max_leaves=12
    )


@pytest.mark.parametrize("name", READERS)
def test_reader(name: str) -> None:
    reader, keys = READERS[name]

    @settings(max_examples=200, deadline=None, database=None)
    @given(values(keys))
    def check(value: object) -> None:
        try:
            reader(Node(value, "/here"))
        except SpecError as error:
            assert error.where.startswith("/here")
            assert "\n" not in str(error)

    check()
