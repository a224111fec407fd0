"""linux.resources become files: the whole table of runtime-spec 1.3. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.cgroup.files import (
    asks_nothing,
    compile_files,
    controller,
    is_default,
    required,
    weight_of_shares,
    without_bfq,
)
from rootless.config_node import Node
from rootless.errors import SpecError

RESOURCES = "/linux/resources"

# resources, the (file, value) pairs in the order of writing
TABLE = [
    ({}, []),
    ({"memory": {}, "cpu": {"shares": 0}, "blockIO": {"weight": 0}, "pids": {}}, []),  # docker's
    ({"memory": {"limit": 1048576}}, [("memory.max", "1048576")]),
    ({"memory": {"limit": 1048576, "swap": 1048576}}, [("memory.swap.max", "0"), ("memory.max", "1048576")]),
    ({"memory": {"limit": 100, "swap": 250}}, [("memory.swap.max", "150"), ("memory.max", "100")]),
    ({"memory": {"limit": 100, "swap": -1}}, [("memory.swap.max", "max"), ("memory.max", "100")]),
    ({"memory": {"limit": -1}}, [("memory.swap.max", "max"), ("memory.max", "max")]),
    ({"memory": {"reservation": 4096}}, [("memory.low", "4096")]),
    ({"memory": {"kernel": 5, "kernelTCP": 5, "swappiness": 60, "disableOOMKiller": True}}, []),
    ({"cpu": {"shares": 1024}}, [("cpu.weight", "100")]),
    ({"cpu": {"shares": 2}}, [("cpu.weight", "1")]),
    ({"cpu": {"shares": 262144}}, [("cpu.weight", "10000")]),
    ({"cpu": {"quota": 50000}}, [("cpu.max", "50000 100000")]),
    ({"cpu": {"quota": -1, "period": 50000}}, [("cpu.max", "max 50000")]),
    ({"cpu": {"period": 50000}}, [("cpu.max", "max 50000")]),
    (
        {"cpu": {"quota": 50000, "burst": 10000}},
        [("cpu.max.burst", "0"), ("cpu.max", "50000 100000"), ("cpu.max.burst", "10000")],
    ),
    ({"cpu": {"burst": 10000}}, [("cpu.max.burst", "10000")]),
    ({"cpu": {"idle": 1, "shares": 512}}, [("cpu.idle", "1")]),  # the kernel refuses a weight there
    ({"cpu": {"cpus": "0-1", "mems": "0"}}, [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")]),
    ({"cpu": {"realtimeRuntime": 0, "realtimePeriod": 0}}, []),
    ({"pids": {"limit": 5}}, [("pids.max", "5")]),
    ({"pids": {"limit": -1}}, [("pids.max", "max")]),
    ({"pids": {"limit": 0}}, []),
    ({"blockIO": {"weight": 500}}, [("io.bfq.weight", "500")]),
    ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 300}]}}, [("io.bfq.weight", "8:0 300")]),
    (
        {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 1000}]}},
        [("io.max", "8:1 rbps=1000")],
    ),
    ({"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 1, "rate": 0}]}}, [("io.max", "8:1 wiops=max")]),
    (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]},
        [("hugetlb.2MB.max", "0"), ("hugetlb.2MB.rsvd.max", "0")],
    ),
    ({"rdma": {"mlx5_1": {"hcaHandles": 3}}}, [("rdma.max", "mlx5_1 hca_handle=3 hca_object=max")]),
    ({"network": {"classID": 0, "priorities": []}}, []),
    ({"unified": {"memory.high": "max"}}, [("memory.high", "max")]),
]

# resources, the place of the complaint
REFUSED = [
    ({"memory": {"limit": -2}}, "/memory/limit"),
    ({"memory": {"limit": "1g"}}, "/memory/limit"),
    ({"memory": {"swap": 100}}, "/memory/swap"),
    ({"memory": {"limit": 200, "swap": 100}}, "/memory/swap"),
    ({"cpu": {"realtimeRuntime": 1000}}, "/cpu/realtimeRuntime"),
    ({"cpu": {"idle": 2}}, "/cpu/idle"),
    ({"cpu": {"quota": 1000, "burst": 2000}}, "/cpu/burst"),
    ({"blockIO": {"weight": 5}}, "/blockIO/weight"),
    ({"blockIO": {"leafWeight": 100}}, "/blockIO/leafWeight"),
    ({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0}]}}, "/blockIO/throttleReadBpsDevice/0/rate"),
    ({"hugepageLimits": [{"pageSize": "2MiB", "limit": 1}]}, "/hugepageLimits/0/pageSize"),
    ({"hugepageLimits": [{"pageSize": "../../x", "limit": 1}]}, "/hugepageLimits/0/pageSize"),
    ({"network": {"classID": 1}}, "/network/classID"),
    ({"network": {"priorities": [{"name": "eth0", "priority": 5}]}}, "/network/priorities/0"),
    ({"rdma": {"a b": {}}}, "/rdma/a b"),
    ({"unified": {"../x.max": "1"}}, "/unified/..~1x.max"),
    ({"unified": {"memory": "1"}}, "/unified/memory"),
    ({"unified": {"cgroup.procs": "1"}}, "/unified/cgroup.procs"),
    ({"unified": {"memory.max": 5}}, "/unified/memory.max"),
]


def compiled(resources):
    return compile_files(Node(resources, RESOURCES))


@pytest.mark.parametrize(("resources", "expected"), TABLE, ids=str)
def test_each_resource_has_its_file(resources, expected):
    assert [(file, value) for file, value, _ in compiled(resources)] == expected
    assert all(pointer.startswith(RESOURCES) for _, _, pointer in compiled(resources))


@pytest.mark.parametrize(("resources", "place"), REFUSED, ids=str)
def test_what_cannot_be_is_refused_at_its_place(resources, place):
    with pytest.raises(SpecError) as refused:
        compiled(resources)
    assert refused.value.where == RESOURCES + place


@pytest.mark.parametrize(
    ("file", "value", "nothing"),
    [
        ("memory.max", "max", True), ("memory.max", "1", False), ("cpu.weight", "100", True),
        ("cpu.max", "max 50000", True), ("cpu.max", "1000 50000", False), ("pids.max", "max", True),
        ("io.max", "8:0 rbps=max", True), ("io.max", "8:0 rbps=1", False), ("memory.swap.max", "0", False),
        ("cpu.idle", "0", True), ("cpuset.cpus", "0", False), ("hugetlb.2MB.max", "0", False),
    ],
)  # fmt: skip
def test_what_asks_for_nothing(file, value, nothing):
    assert asks_nothing(file, value) is nothing


def test_a_period_without_a_quota_is_written_and_needs_no_controller():
    entries = [["cpu.max", "max 50000", ""], ["pids.max", "5", ""]]
    assert [is_default(file, value) for file, value, _ in entries] == [False, False]
    assert is_default("cpu.max", "max 100000")
    assert required(entries) == entries[1:]


@pytest.mark.parametrize(("bfq", "plain"), [("10", "default 1"), ("1000", "default 10000"), ("8:0 500", "8:0 4950")])
def test_weights_without_the_bfq_scheduler(bfq, plain):
    assert without_bfq(bfq) == plain


def test_controllers_of_files():
    assert [controller(f) for f in ("memory.max", "io.bfq.weight", "cgroup.max.depth")] == ["memory", "io", ""]


@given(st.integers(2, 262144))
def test_weights_stay_in_the_kernels_range_and_grow_with_the_shares(shares):
    assert 1 <= weight_of_shares(shares) <= weight_of_shares(min(shares + 1, 262144)) <= 10000


leaf = st.none() | st.booleans() | st.integers(-3, 2**65) | st.text(max_size=4) | st.floats()
tree = st.recursive(leaf, lambda t: st.lists(t, max_size=2) | st.dictionaries(st.text(max_size=3), t, max_size=3))
sections = ["memory", "cpu", "pids", "blockIO", "hugepageLimits", "rdma", "network", "unified", "limit", "shares"]


@given(st.dictionaries(st.sampled_from(sections), tree, max_size=4))
def test_anything_is_compiled_or_refused_with_its_place(resources):
    try:
        entries = compiled(resources)
    except SpecError as error:
        assert error.where.startswith(RESOURCES)
    else:
        assert all("/" not in file and "\0" not in value for file, value, _ in entries)
