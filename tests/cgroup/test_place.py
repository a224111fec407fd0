"""Where a container's cgroup goes, which manager makes it, and which device rules an ordinary user may have. Pure."""

from __future__ import annotations

import errno

import pytest

from rootless import cgroup
from rootless.cgroup import bpf, devices, properties, systemd
from rootless.config_node import Node
from rootless.errors import RootlessError, SpecError


class Host:
    def __init__(self, uid=1000, mount="/sys/fs/cgroup", own="/user.slice/app.scope", in_userns=False):
        self.uid, self.cgroup_mount, self.own_cgroup, self.in_userns = uid, mount, own, in_userns


def compiled(linux=None, manager="", annotations=None, **host):
    return cgroup.compile(Node(linux or {}, "/linux"), container_id="box", manager=manager, host=Host(**host),
                          annotations=Node(annotations, "/annotations"))  # fmt: skip


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "/sys/fs/cgroup/user.slice/box"),
        ("deep/name", "/sys/fs/cgroup/user.slice/deep/name"),
        ("/machine/name", "/sys/fs/cgroup/machine/name"),
    ],
)
def test_roots_cgroup_is_beside_its_own_or_where_the_path_says(path, expected):
    record = compiled({"cgroupsPath": path}, uid=0)
    assert (record["manager"], record["path"]) == ("cgroupfs", expected)
    assert "choices" not in record


def test_a_users_choices_in_order():
    choices = compiled()["choices"]
    assert [(c["manager"], c["condition"]) for c in choices] == [
        ("cgroupfs", "delegated"),
        ("cgroupfs", "delegated"),
        ("systemd", "session"),
        ("cgroupfs", "writable"),
        ("cgroupfs", "writable"),
    ]
    assert choices[0]["path"] == "/sys/fs/cgroup/user.slice/app.scope/box"
    assert choices[1]["path"] == choices[4]["path"] == "/sys/fs/cgroup/user.slice/box"  # a slice is systemd's own
    assert compiled(own="/mine/session")["choices"][3]["path"] == "/sys/fs/cgroup/mine/box"


def test_a_triple_prefers_systemd_and_a_leaf_is_no_base():
    assert compiled({"cgroupsPath": "user.slice:libpod:abc"})["choices"][0]["unit"] == "libpod-abc.scope"
    assert compiled(own="/a/rootless-leaf")["choices"][0]["path"] == "/sys/fs/cgroup/a/box"


@pytest.mark.parametrize("own", ["", "/../../other"])
def test_without_a_cgroup_of_our_own_there_is_no_directory(own):
    assert [c["manager"] for c in compiled(own=own)["choices"]] == ["systemd"]
    assert compiled(own=own, manager="cgroupfs").get("choices") is None


@pytest.mark.parametrize(
    ("path", "uid", "unit", "slice_"),
    [
        ("", 1000, "rootless-box.scope", "user.slice"),
        ("", 0, "rootless-box.scope", "system.slice"),
        ("machine.slice:podman:x", 0, "podman-x.scope", "machine.slice"),
        ("::x", 0, "x.scope", "system.slice"),
        (":p:x.scope", 0, "x.scope", "system.slice"),
    ],
)
def test_scopes(path, uid, unit, slice_):
    record = compiled({"cgroupsPath": path}, "systemd", uid=uid)
    assert (record["manager"], record["unit"], record["slice"], record["user"]) == ("systemd", unit, slice_, uid != 0)


@pytest.mark.parametrize("path", ["/a/b", "a:b", "nodots:p:x", "s.slice:p:", "../x", "/a/../../b"])
def test_paths_that_systemd_cannot_take(path):
    with pytest.raises(SpecError) as refused:
        compiled({"cgroupsPath": path}, "systemd")
    assert refused.value.where == "/linux/cgroupsPath"


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("path", ["/", "//", "/.", ".", "./"])
def test_a_cgroup_that_others_are_in_is_refused(path, uid):
    """A container may not take a cgroup with other processes in it, because its `delete` would kill them."""
    with pytest.raises(SpecError) as refused:
        compiled({"cgroupsPath": path}, uid=uid)
    assert refused.value.where == "/linux/cgroupsPath"


def test_disabled_has_no_cgroup_and_refuses_limits():
    assert cgroup.open(compiled(manager="disabled")).fd == -1
    with pytest.raises(RootlessError, match=r"memory\.max") as refused:
        cgroup.open(compiled({"resources": {"memory": {"limit": 5000000}}}, "disabled"))
    assert refused.value.where == "/linux/resources/memory/limit"
    assert refused.value.hint
    with pytest.raises(RootlessError, match="unknown cgroup manager"):
        compiled(manager="lxcfs")


USUAL = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
    {"allow": True, "type": "c", "access": "m"},
]


@pytest.mark.parametrize("rules", [[], USUAL[:1], USUAL, [{"allow": True, "access": "rwm"}]])
def test_a_user_may_have_the_usual_rules_or_wider(rules):
    assert compiled({"resources": {"devices": rules}})["devices"] == []


@pytest.mark.parametrize(
    ("rules", "own"),
    [
        ([{"allow": False, "type": "c", "major": 1, "minor": 3, "access": "w"}], []),
        ([{"allow": False, "access": "rwm"}], [{"type": "c", "major": 10, "minor": 229, "path": "/dev/fuse"}]),
    ],
)
def test_a_user_may_not_have_narrower_rules(rules, own):
    with pytest.raises(SpecError, match="needs root") as refused:
        compiled({"resources": {"devices": rules}, "devices": own})
    assert "hint" in str(refused.value)
    assert refused.value.where == "/linux/resources/devices/0"


def test_roots_rules_end_with_the_default_devices():
    rules = compiled({"resources": {"devices": USUAL[:1]}}, uid=0)["devices"]
    assert rules[0] == [False, "a", -1, -1, "rwm"]
    assert len(rules) == 1 + len(devices.DEFAULTS)


def test_the_device_program_decides_as_the_rules_do():
    rules = devices.compile_rules(Node([*USUAL, {"allow": False, "type": "b", "major": 8, "access": "w"}]))
    program = bpf.compile_program(rules)
    for kind, major, minor in (("c", 1, 3), ("c", 1, 1), ("c", 136, 7), ("b", 8, 0), ("c", 10, 229)):
        for access in ("r", "w", "m", "rw", "rwm"):
            expected = all(_allowed(rules, kind, major, minor, letter) for letter in access)
            assert _execute(program, kind, major, minor, access) == expected, (kind, major, minor, access)


def _allowed(rules, kind, major, minor, letter):
    return next((r[0] for r in reversed(rules) if devices.covers(r, kind, major, minor, letter)), False)


def _execute(program, kind, major, minor, access):
    """Execute a device filter for one access: the few instructions of eBPF that it uses. Return its answer."""
    import struct

    wanted = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
    context = {0: wanted << 16 | {"b": 1, "c": 2}[kind], 4: major, 8: minor}
    code = list(struct.iter_unpack("=BBhI", program))
    registers, at = {}, 0
    while True:
        op, regs, offset, value = code[at]
        dst, src = regs & 15, regs >> 4
        at += 1
        if op == 0x61:
            registers[dst] = context[offset]
        elif op == 0xB4:
            registers[dst] = value
        elif op == 0xBC:
            registers[dst] = registers[src]
        elif op == 0x54:
            registers[dst] &= value
        elif op == 0x74:
            registers[dst] >>= value
        elif op == 0x56:
            at += offset if registers[dst] != value else 0
        elif op == 0x16:
            at += offset if registers[dst] == value else 0
        elif op == 0x95:
            return registers[0] == 1
        else:
            raise AssertionError(hex(op))


def test_properties_say_what_the_files_say():
    entries = [["memory.max", "max", ""], ["pids.max", "7", ""], ["cpu.max", "33333 100000", ""],
               ["cpuset.cpus", "0-2,8", ""], ["memory.oom.group", "1", ""]]  # fmt: skip
    assert systemd.translate(entries) == [
        ("MemoryMax", ("t", 2**64 - 1)),
        ("TasksMax", ("t", 7)),
        ("CPUQuotaPerSecUSec", ("t", 333330)),
        ("CPUQuotaPeriodUSec", ("t", 100000)),
        ("AllowedCPUs", ("ay", b"\x07\x01")),
    ]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("TimeoutStopUSec", "uint64 5000000", ["TimeoutStopUSec", "t", 5000000]),
        ("TimeoutStopSec", "2.5", ["TimeoutStopUSec", "t", 2500000]),
        ("CollectMode", "'inactive'", ["CollectMode", "s", "inactive"]),
        ("SendSIGHUP", "true", ["SendSIGHUP", "b", True]),
        ("After", "['a.service', 'b.service']", ["After", "as", ["a.service", "b.service"]]),
    ],
)
def test_systemd_property_annotations(name, text, expected):
    assert properties.compile_properties(Node({f"org.systemd.property.{name}": text, "other": "x"})) == [expected]


@pytest.mark.parametrize(("name", "text"), [("X", "uint64 x"), ("X", "__import__('os')"), ("a b", "true"), ("X", "")])
def test_bad_property_annotations(name, text):
    with pytest.raises(SpecError):
        properties.compile_properties(Node({f"org.systemd.property.{name}": text}, "/annotations"))


@pytest.mark.parametrize(
    ("cgroup", "unit", "below"),
    [
        ("/c/user.slice/user-7.slice/user@7.service/user.slice/rootless-x.scope", "rootless-x.scope", ""),
        ("/c/user.slice/user-7.slice/user@7.service/a.slice/b.slice/run-1.scope/rootless-x/sub", "run-1.scope",
         "/rootless-x/sub"),
        ("/c/user@7.service/app.slice/own.service/x", "own.service", "/x"),
    ],
)  # fmt: skip
def test_systemd_is_asked_for_the_unit_that_holds_the_cgroup(monkeypatch, cgroup, unit, below):
    asked = []

    class Manager:
        def __init__(self, user):
            assert user

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def call(self, *words):
            asked.append(words)

    monkeypatch.setattr(systemd, "session_bus", lambda: "/run/user/7/bus")
    monkeypatch.setattr(systemd, "_Manager", Manager)
    systemd.adopt(cgroup, 42)
    assert asked == [("AttachProcessesToUnit", "ssau", (unit, below, [42]))]


@pytest.mark.parametrize(
    ("cgroup", "bus"),
    [("/c/slurm/job_1", "/bus"), ("/c/user@7.service/user.slice/x", "/bus"), ("/c/user@7.service/x.scope", "")],
)
def test_a_cgroup_that_nobody_can_be_asked_for(monkeypatch, cgroup, bus):
    monkeypatch.setattr(systemd, "session_bus", lambda: bus)
    with pytest.raises(RootlessError, match="cannot enter the container's cgroup from this session") as caught:
        systemd.adopt(cgroup, 42)
    assert caught.value.errno == errno.EACCES and caught.value.where == cgroup and "session" in caught.value.hint
