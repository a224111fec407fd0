"""Id-mapped mounts: idmap and ridmap, uidMappings and gidMappings of a mount (mount_setattr(2))."""

import os

import pytest

from tests.support.containers import RANGE, has_range

USER = os.geteuid() != 0
NO_USERNS = {"linux": {"namespaces": [{"type": t} for t in ("mount", "pid", "ipc", "uts", "network", "cgroup")]}}
SOURCE = "tmpfs"


def kernel_before(*version: int) -> bool:
    return tuple(int(word) for word in os.uname().release.split(".")[:2]) < version


needs_tmpfs = pytest.mark.skipif(kernel_before(6, 3), reason="this machine's kernel cannot map the ids of a tmpfs")


def mappings(*triples: tuple[int, int, int]):
    ids = [{"containerID": a, "hostID": b, "size": c} for a, b, c in triples]
    return {"uidMappings": ids, "gidMappings": ids}


def with_mount(container, mount, patch=None):
    c = container(patch)
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], mount]})
    (c.bundle.rootfs / "mnt").mkdir()
    return c


def own_id() -> int:
    return os.geteuid()


@pytest.mark.parametrize(("kind", "owner"), [("plain", "0"), ("userns", "65534"), ("idmap", "5")])
def test_a_source_in_the_rootfs_is_what_the_mounts_before_made_of_it(container, tmp_path, kind, owner) -> None:
    if USER and kind != "plain":
        pytest.skip("real root alone has the choice")
    source = tmp_path / "closed/source"
    source.mkdir(parents=True)
    (source / "file").write_text("seen\n")
    c = container()
    (c.bundle.rootfs / "mnt").mkdir()
    first = {"destination": "/mnt", "source": str(source), "options": ["bind"]}
    again = {"destination": "/again", "source": str(c.bundle.rootfs / "mnt"), "options": ["rbind"]}
    if kind == "userns":
        source.parent.chmod(0o700)  # so the container's root cannot reach it
        namespaces = [*c.bundle.config["linux"]["namespaces"], {"type": "user"}]
        c.bundle.patch({"linux": {"namespaces": namespaces, **mappings((0, 100000, 65536))}})
        (c.bundle.rootfs / "again").mkdir()
    elif kind == "idmap":
        again = {**again, "options": ["rbind", "idmap"], **mappings((0, 5, 1))}
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], first, again]})
    assert c.sh("cat /again/file; stat -c %u /again/file").split() == ["seen", owner]


# --- file systems of the container's own


@needs_tmpfs
@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_a_tmpfs_with_the_containers_own_map(container, option) -> None:
    """Without mappings, those of the container's user namespace are used, so each id stays the same."""
    mount = {"destination": "/mnt", "type": "tmpfs", "source": SOURCE, "options": [option]}
    patch = {"linux": {"namespaces": [*NO_USERNS["linux"]["namespaces"], {"type": "user"}]}}
    if not USER:
        patch["linux"].update(mappings((0, 100000, 1000)))
    c = with_mount(container, mount, patch)
    out = c.sh("touch /mnt/made; stat -c %u:%g /mnt/made; awk '$5==\"/mnt\"' /proc/self/mountinfo").splitlines()
    assert out[0] == "0:0" and "idmapped" in out[1].split()[5].split(",")


@needs_tmpfs
def test_a_tmpfs_with_mappings(container) -> None:
    """A file of the container's root has the id that the map turns into root's, and the container sees it as root's."""
    mount = {"destination": "/mnt", "type": "tmpfs", "source": SOURCE, "options": ["idmap", "uid=5,gid=5"]}
    mount |= mappings((5, own_id(), 1))
    if USER and not has_range():
        pytest.skip(RANGE)
    c = with_mount(container, mount, {"linux": {"uidMappings": None, "gidMappings": None}})
    assert c.output("stat", "-c", "%u:%g", "/mnt") == "0:0\n"


def test_ids_outside_of_the_containers_map(container, rootless) -> None:
    """hostID is an id of the host, and one that the container does not have is refused."""
    mount = {"destination": "/mnt", "type": "tmpfs", "source": SOURCE, "options": ["idmap"]}
    mount |= mappings((0, 4_000_000, 10))
    patch = {"linux": {"namespaces": [*NO_USERNS["linux"]["namespaces"], {"type": "user"}]}}
    if not USER:
        patch["linux"].update(mappings((0, 100000, 1000)))
    result = with_mount(container, mount, patch).create()
    assert result.returncode == 1 and "/mounts/7/uidMappings" in result.stderr and result.stderr.count("\n") == 1
    assert rootless.ids() == []


# --- the host's file systems


def host_mount(tmp_path, *options: str, **more):
    (tmp_path / "private/source").mkdir(parents=True)
    (tmp_path / "private/source/file").touch()
    (tmp_path / "private").chmod(0o700)
    source = str(tmp_path / "private/source")
    return {"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind", *options], **more}


def test_the_hosts_file_systems_are_roots(container, rootless, tmp_path) -> None:
    if not USER:
        pytest.skip("an ordinary user is refused")
    result = with_mount(container, host_mount(tmp_path, "idmap")).create()
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "/mounts/7: " in result.stderr and "EPERM" in result.stderr and "the host's" in result.stderr
    assert rootless.ids() == []


@pytest.mark.parametrize(
    ("option", "ids"),
    [("idmap", mappings((0, 1000, 10))), ("ridmap", mappings((0, 1000, 10))), ("nosuid", mappings((0, 1000, 10))),
     ("idmap=uids=0-1000-10;gids=0-1000-10", {})],
)  # fmt: skip
def test_root_maps_the_hosts_file_systems(container, tmp_path, option, ids) -> None:
    if USER:
        pytest.skip("real root alone")
    c = with_mount(container, host_mount(tmp_path, option, **ids))
    assert c.output("stat", "-c", "%u:%g", "/mnt/file") == "1000:1000\n"


@pytest.mark.parametrize(("option", "below"), [("idmap", "0"), ("ridmap", "1000")])
def test_ridmap_reaches_what_lies_below(container, tmp_path, option, below) -> None:
    if USER:
        pytest.skip("real root alone")
    from rootless.kernel import syscalls as sc

    mount = host_mount(tmp_path, option, **mappings((0, 1000, 10)))
    (tmp_path / "private/source/below").mkdir()
    sc.mount(str(tmp_path / "private/source/below"), str(tmp_path / "private/source/below"), None, sc.MS_BIND)
    try:
        out = with_mount(container, mount).output("stat", "-c", "%u", "/mnt/file", "/mnt/below")
    finally:
        sc.umount2(str(tmp_path / "private/source/below"))
    assert out.split() == ["1000", below]


@pytest.mark.parametrize("ids", [{}, mappings((0, 200000, 10))])
def test_root_gives_a_user_namespace_its_files(container, tmp_path, ids) -> None:
    """Root's files belong to the container's root, by the container's own map or by one that is the same."""
    if USER:
        pytest.skip("real root alone")
    namespaces = [*NO_USERNS["linux"]["namespaces"], {"type": "user"}]
    patch = {"linux": {"namespaces": namespaces, **mappings((0, 200000, 1000))}}
    c = with_mount(container, host_mount(tmp_path, "idmap", **ids), patch)
    assert c.sh("stat -c %u:%g /mnt/file; touch /mnt/new") == "0:0\n"
    assert (tmp_path / "private/source/new").stat().st_uid == 0


# --- what is refused


def test_no_mapping_at_all(container, tmp_path, rootless) -> None:
    if USER:
        pytest.skip("an ordinary user's container has a user namespace")
    result = with_mount(container, host_mount(tmp_path, "idmap"), NO_USERNS).create()
    assert result.returncode == 1 and "/mounts/7" in result.stderr and "uidMappings" in result.stderr
    assert rootless.ids() == []


@pytest.mark.parametrize(
    ("mount", "place"),
    [({"options": ["idmap"], "uidMappings": []}, "/mounts/7"), ({"options": ["idmap=uids=0-1"]}, "/mounts/7/options"),
     ({"options": ["idmap=uids=0-1-1"]}, "/mounts/7/options"),
     ({"options": [], **mappings((0, 0, 5), (3, 10, 1))}, "/mounts/7/uidMappings"),
     ({"type": "sysv", **mappings((0, own_id(), 1))}, "/mounts/7")],
)  # fmt: skip
def test_what_is_no_mapping(container, rootless, mount, place) -> None:
    result = with_mount(container, {"destination": "/mnt", "type": "tmpfs", "source": SOURCE, **mount}).create()
    assert result.returncode == 1 and f"{place}" in result.stderr and result.stderr.count("\n") == 1
    assert rootless.ids() == []
