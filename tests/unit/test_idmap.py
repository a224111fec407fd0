from __future__ import annotations

import pytest

from rootless.config_node import Node
from rootless.errors import RootlessError, SpecError
from rootless.kernel.host import Host, read_id_map
from rootless.plan.idmaps import compile_idmaps
from rootless.plan.mounts import compile_mounts
from rootless.plan.namespaces import compile_namespaces
from rootless.userns import idmap, mount_userns, refusals

OWN = [(0, 1000, 1), (1, 100000, 65536)]  # a user's container
IDS = [{"containerID": 0, "hostID": 100000, "size": 10}]


@pytest.mark.parametrize(
    ("wanted", "nested"),
    [(None, [(0, 0, 1), (1, 1, 65536)]), ([(5, 1000, 1)], [(5, 0, 1)]), ([(0, 100009, 2)], [(0, 10, 2)]),
     ([(0, 1000, 1), (7, 100000, 3)], [(0, 0, 1), (7, 1, 3)])],
)  # fmt: skip
def test_a_map_below_ones_own(wanted, nested) -> None:
    assert mount_userns.nested_map(OWN, wanted) == nested


@pytest.mark.parametrize("wanted", [[(0, 0, 1)], [(0, 1000, 2)], [(0, 165535, 2)]])
def test_ids_that_one_does_not_have(wanted) -> None:
    with pytest.raises(RootlessError, match="not mapped in the container"):
        mount_userns.nested_map(OWN, wanted)


@pytest.mark.parametrize(("inside", "outside"), [(0, 1000), (1, 100000), (65536, 165535), (65537, 65534)])
def test_the_id_outside(inside, outside) -> None:
    assert idmap.outer_id(OWN, inside) == outside


def compiled(mount, *, userns=True, privileged=True, path=""):
    kinds = [{"type": "mount"}] + ([{"type": "user", **({"path": path} if path else {})}] if userns else [])
    maps = {"uidMappings": IDS, "gidMappings": IDS} if userns and not path else {}
    host = Host(uid=0 if privileged else 1000, gid=0, is_root_here=privileged, in_userns=False, subuid=[(100000, 10)],
                subgid=[(100000, 10)])  # fmt: skip
    namespaces = compile_namespaces(Node({"namespaces": kinds, **maps}, "/linux"), host)
    mounts = Node([{"destination": "/mnt", **mount}], "/mounts")
    steps = compile_mounts(mounts, "/bundle", "/bundle/rootfs", [])
    compile_idmaps(mounts, steps, namespaces, host)
    return steps[0]


BIND = {"type": "bind", "source": "/srv"}


def test_root_maps_a_bind_mount_outside_by_the_containers_map() -> None:
    mount = compiled({**BIND, "options": ["ridmap"]})
    assert mount.outside and mount.id_map.recursive
    assert mount.id_map.uid_map == [(0, 100000, 10)] and mount.id_map.userns == ""


def test_the_map_of_a_namespace_by_path_is_that_namespace() -> None:
    mount = compiled({**BIND, "options": ["idmap"]}, path="/proc/1/ns/user")
    assert mount.id_map.userns == "/proc/1/ns/user" and mount.id_map.uid_map is None


def test_what_is_not_outside() -> None:
    assert not compiled({**BIND, "options": ["idmap"]}, privileged=False).outside
    assert not compiled({"type": "tmpfs", "options": ["idmap"]}).outside


def test_mappings_of_the_mount_win() -> None:
    ids = [{"containerID": 3, "hostID": 7, "size": 2}]
    mount = compiled({**BIND, "options": ["idmap"], "uidMappings": ids, "gidMappings": ids})
    assert mount.id_map.uid_map == mount.id_map.gid_map == [(3, 7, 2)]
    mount = compiled({**BIND, "options": ["ridmap=uids=3-7-2#9-20-1;gids=0-0-1"]})
    assert mount.id_map.uid_map == [(3, 7, 2), (9, 20, 1)] and mount.id_map.recursive


@pytest.mark.parametrize(
    ("mount", "userns"),
    [({"options": ["idmap"]}, False), ({"options": ["idmap=uids=1"]}, True), ({"options": ["idmap=uids=0-0-1"]}, True),
     ({"options": ["idmap"], "uidMappings": IDS}, True), ({"options": ["idmap=uids=0-0-2#1-9-1;gids=0-0-1"]}, True)],
)  # fmt: skip
def test_what_is_no_mapping(mount, userns) -> None:
    with pytest.raises(SpecError) as error:
        compiled({**BIND, **mount}, userns=userns)
    assert error.value.where.startswith("/mounts/0")


def test_only_ids_that_are_missing_are_named() -> None:
    """The kernel takes adjoining ranges for one, and a map that is allowed gets no hint."""
    first = read_id_map("/proc/self/uid_map")[0][0]
    assert refusals.explain_missing("uid_map", [(7, first, 1)]) == ""
    assert "do not exist" in refusals.explain_missing("uid_map", [(7, first, 1), (8, 2**32 - 2, 9)])
    assert refusals._inside([(1, 100000, 65536), (0, 1000, 1)]) == [(0, 0, 65537)]
    assert refusals._inside([(0, 0, 1), (5, 9, 2)]) == [(0, 0, 1), (0, 5, 2)]
    assert refusals.explain_missing("nosuch_map", [(0, 0, 1)]) == ""
