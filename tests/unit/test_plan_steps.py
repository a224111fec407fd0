"""config.json becomes steps as data, and a wrong config gives a RootlessError and no other exception."""

import copy
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci.config import default_config
from rootless import plan
from rootless.config_node import Node
from rootless.errors import RootlessError, SpecError
from rootless.kernel import syscalls as sc
from rootless.kernel.host import Host
from rootless.plan import Call
from rootless.plan.compiler import Plan
from rootless.plan.describe import describe
from rootless.steps import Step
from rootless.steps.devices import BindDevice, Device, Link, MakeDevice
from rootless.steps.masks import MaskPath
from rootless.steps.mounts import Mount
from tests.support.full_config import PLAIN

USER = {**PLAIN, "uid": 1000, "gid": 1000, "subuid": [(100000, 65536)], "subgid": [(100000, 65536)],
        "in_userns": False, "is_root_here": False, "all_capabilities": -1, "grantable": -1}  # fmt: skip
ROOT = {**USER, "uid": 0, "gid": 0, "is_root_here": True, "subuid": [], "subgid": []}


def compiled(config: dict[str, Any], **facts: Any) -> Plan:
    return plan.compile(Node(config), Host(**{**USER, **facts}), Call("/bundle", cgroup_manager="disabled"))


def config(**linux: Any) -> dict[str, Any]:
    made = default_config(True, 1000, 1000)
    made["linux"].update(linux)
    return made


def test_default_plan_in_order() -> None:
    assert [line.split()[1] for line in describe(compiled(config()))] == [
        "clone3", "uid_map", "gid_map", "propagation", "rootfs", *["mount"] * 7, *["device"] * 6, *["link"] * 5,
        "make_cwd", "hostname", "terminal", *["readonly_path"] * 5, *["mask"] * 10, "readonly_root", "pivot_root",
        "rlimit", "user", "umask", "cwd", *["capabilities"] * 3, "no_new_privs", "env", "execve",
    ]  # fmt: skip


def test_description_has_a_numbered_line_a_step_with_its_pointer() -> None:
    lines = describe(compiled(config()))
    assert lines[0].split()[:2] == ["1", "clone3"]
    assert all(line.endswith("]") and "[/" in line for line in lines)
    assert "  2 uid_map 0 1000 1 [/linux/uidMappings]" in lines


def test_default_map_is_the_user_and_its_range() -> None:
    made = compiled(config(uidMappings=None, gidMappings=None))
    assert made.namespaces.uid_map == [(0, 1000, 1), (1, 100000, 65536)]
    assert made.namespaces.map_is_default


def test_default_map_without_both_ranges_is_a_single_id() -> None:
    made = compiled(config(uidMappings=None, gidMappings=None), subgid=[])
    assert made.namespaces.uid_map == made.namespaces.gid_map == [(0, 1000, 1)]


def test_an_ordinary_user_gets_a_user_namespace_unasked() -> None:
    made = compiled({**config(namespaces=[{"type": "mount"}], uidMappings=None, gidMappings=None), "hostname": ""})
    assert made.namespaces.new & sc.CLONE_NEWUSER


def device_kinds(made: Plan) -> set[type]:
    return {type(step) for step in made.prepare if isinstance(step, Device)}


def test_root_gets_none_unasked() -> None:
    made = plan.compile(Node(default_config(False)), Host(**ROOT), Call("/b"))
    assert not made.namespaces.has(sc.CLONE_NEWUSER)
    assert made.namespaces.uid_map == []
    assert device_kinds(made) == {MakeDevice}


def test_devices_are_bound_for_a_user() -> None:
    assert device_kinds(compiled(config())) == {BindDevice}


@pytest.mark.parametrize(
    ("linux", "pointer"),
    [
        ({"namespaces": []}, "/linux/namespaces"),
        ({"namespaces": [{"type": "mount", "path": "relative"}]}, "/linux/namespaces/0/path"),
        ({"uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}, "/linux/uidMappings/0"),
        ({"uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65537}]}, "/linux/uidMappings/0"),
        ({"uidMappings": [{"containerID": 0, "hostID": 1000, "size": 0}]}, "/linux/uidMappings/0/size"),
        ({"gidMappings": [{"containerID": 0, "hostID": 1000}]}, "/linux/gidMappings/0/size"),
        ({"uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}] * 2}, "/linux/uidMappings"),
        ({"gidMappings": None}, "/linux"),
        ({"devices": [{"type": "x", "path": "/dev/x"}]}, "/linux/devices/0/type"),
        ({"devices": [{"type": "c", "path": "/dev/x", "major": 1}]}, "/linux/devices/0/minor"),
        ({"sysctl": {"net.ipv4.ip_forward": 1}}, "/linux/sysctl/net.ipv4.ip_forward"),
        ({"sysctl": {"net.../x": "1"}}, "/linux/sysctl/net...~1x"),
        ({"seccomp": {"defaultAction": 1}}, "/linux/seccomp"),
    ],
)
def test_wrong_linux_is_refused_at_its_place(linux: dict[str, Any], pointer: str) -> None:
    with pytest.raises(RootlessError) as caught:
        compiled(config(**linux))
    assert caught.value.where.startswith(pointer)


@pytest.mark.parametrize(
    ("key", "value"),
    [("scheduler", {"policy": "SCHED_FIFO"}), ("ioPriority", {"class": "IOPRIO_CLASS_IDLE"}),
     ("apparmorProfile", "x"), ("selinuxLabel", "x")],
)  # fmt: skip
def test_what_is_not_read_is_never_ignored(key: str, value: Any) -> None:
    """Each property leads to a step of the plan or of its process, or is refused by its pointer."""
    made = config()
    before = describe(compiled(made))
    made["process"][key] = value
    try:
        after = compiled(made)
    except SpecError as error:
        assert error.where.startswith(f"/process/{key}")
    else:
        assert describe(after) != before


@pytest.mark.parametrize(
    ("uid", "gid", "groups", "pointer"),
    [(5, 0, [], "uid"), (0, 5, [], "gid"), (0, 0, [5], "additionalGids/0"), (2**32, 0, [], "uid"), (-1, 0, [], "uid")],
)
def test_an_id_that_is_not_mapped_is_refused(uid: int, gid: int, groups: list[int], pointer: str) -> None:
    made = config()
    made["process"]["user"] = {"uid": uid, "gid": gid, "additionalGids": groups}
    with pytest.raises(SpecError) as caught:
        compiled(made)
    assert caught.value.where == f"/process/user/{pointer}"


@pytest.mark.parametrize("version", ["1.0.0", "1.3.0", "1.0.2-dev", "1.0.0-rc5", "1.99.0", "1.2.0+dev"])
def test_versions_that_are_taken(version: str) -> None:
    compiled({**config(), "ociVersion": version})


@pytest.mark.parametrize("version", ["2.0.0", "0.9.0", "1", "1.0", "", "one", "1.0.0.0", 1, None, "1..0", "1.x.0"])
def test_versions_that_are_not(version: Any) -> None:
    with pytest.raises(SpecError):
        compiled({**config(), "ociVersion": version})


def test_unknown_keys_are_extensions() -> None:
    compiled({**config(), "org.example": {"a": 1}, "annotations": {"org.example.k": "v"}})


@pytest.mark.parametrize("name", ["handler", "seccomp.plugins", "systemd.force_cgroup_v1"])
def test_an_annotation_of_cruns_that_must_not_be_passed_over_is_refused(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        compiled({**config(), "annotations": {f"run.oci.{name}": "x"}})
    assert caught.value.where == f"/annotations/run.oci.{name}" and caught.value.hint


def test_annotations_without_effect_are_warned_of() -> None:
    given = {"run.oci.delegate-cgroup": "x", "run.oci.keep_original_groups": "1", "org.example.a": "b"}
    made = compiled({**config(), "annotations": given})
    assert made.warnings == ["annotation without effect: /annotations/run.oci.delegate-cgroup"]
    assert made.annotations == given


# --- fuzz

_JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(allow_nan=False), st.text(max_size=6),
    st.sampled_from(["", "/", "..", "../..", "/proc", "/dev/../../etc", "a\0b", "\ud800", "x" * 300, "1.0.0",
                     "bind", "rbind", "ro", "mount", "user", "-1", "net.ipv4.x", "CAP_KILL", "RLIMIT_CPU"]),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3)), max_size=3),
    st.dictionaries(st.text(max_size=5), st.one_of(st.none(), st.integers(), st.text(max_size=3)), max_size=3),
)  # fmt: skip


def rich_config() -> dict[str, Any]:
    made = config(
        devices=[{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}],
        sysctl={"net.ipv4.ip_forward": "1", "kernel.msgmax": "8192"},
        rootfsPropagation="rslave",
        resources={"memory": {}, "cpu": {"shares": 0}},
    )
    made["mounts"].append({"destination": "/mnt", "source": "/srv", "type": "bind", "options": ["rbind", "rro"]})
    made["hooks"] = {"prestart": [{"path": "/bin/true", "args": ["true"], "env": ["A=1"], "timeout": 3}]}
    made["annotations"] = {"a": "b"}
    made["domainname"] = "example.org"
    made["process"].update(consoleSize={"height": 1, "width": 2}, oomScoreAdj=10)
    made["process"]["user"].update(umask=18, additionalGids=[0])
    return made


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in pairs:
        found += places(below, (*at, key))
    return found


PLACES = [place for place in places(rich_config()) if place]


def mutated(mutations: list[tuple[tuple[Any, ...], Any]]) -> dict[str, Any]:
    made = copy.deepcopy(rich_config())
    for place, value in mutations:
        target: Any = made
        try:
            for key in place[:-1]:
                target = target[key]
            target[place[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier mutation took it away
    return made


@given(st.lists(st.tuples(st.sampled_from(PLACES), _JUNK), min_size=1, max_size=4), st.booleans())
def test_any_config_gives_a_plan_or_a_rootless_error(mutations: list[Any], privileged: bool) -> None:
    made = mutated(mutations)
    try:
        found = compiled(made, **(ROOT if privileged else {}))
        lines = describe(found)
    except RootlessError as error:
        assert "\n" not in error.message()
        return
    assert lines
    for step in found.prepare + found.enter:
        _check_step_stays_inside(step)


def _check_step_stays_inside(step: Step) -> None:
    """Check that targets are clean absolute paths: they are looked up below the root's
    fd, out of which no path leads.
    """
    if isinstance(step, (Mount, Device, Link, MaskPath)):
        target = step.target if isinstance(step, Mount) else step.path
        assert target.startswith("/") and ".." not in target.split("/") and "\0" not in target
        assert target == os.path.normpath("/" + target.lstrip("/"))


def test_fuzz_has_a_valid_seed() -> None:
    assert describe(compiled(rich_config()))
