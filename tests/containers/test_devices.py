"""A real rootfs has the default devices and those of linux.devices."""

import os

import pytest

USER = os.geteuid() != 0
DEFAULT = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}


def writable(container, device):
    """Return a container with a writable root and one device of its own."""
    return container({"root": {"readonly": False}, "linux": {"devices": [device]}})


def test_default_devices(container) -> None:
    out = container().sh(f"cd /dev; stat -c '%n %t:%T %F' {' '.join(DEFAULT)}")
    for line, (name, numbers) in zip(out.splitlines(), DEFAULT.items(), strict=True):
        major, minor = numbers.split(":")
        assert line == f"{name} {int(major):x}:{int(minor):x} character special file"


def test_links_in_dev(container) -> None:
    out = container().sh("cd /dev; for name in fd stdin stdout stderr ptmx; do readlink $name; done").split()
    assert out == ["/proc/self/fd", *(f"/proc/self/fd/{n}" for n in range(3)), "pts/ptmx"]


def test_a_fifo_as_a_device(container) -> None:
    fifo = {"type": "p", "path": "/dev/pipe", "fileMode": 0o640, "uid": 0, "gid": 0}
    assert container({"linux": {"devices": [fifo]}}).sh("stat -c '%F %a' /dev/pipe") == "fifo 640\n"


@pytest.mark.root
def test_roots_nodes_in_a_user_namespace(container) -> None:
    """mknod(2) is EPERM in the user namespace, so the runtime makes the nodes outside of it, with mode and owner, and
    they work.
    """
    if USER:
        pytest.skip("real root alone")
    ids = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    c = container()
    devices = [
        {"type": "b", "path": "/dev/disk", "major": 7, "minor": 99, "fileMode": 0o640, "uid": 4, "gid": 5},
        {"type": "c", "path": "/root/nil", "major": 1, "minor": 3, "fileMode": 0o622, "uid": 10},
    ]
    kinds = [*c.bundle.config["linux"]["namespaces"], {"type": "user"}]
    c.bundle.patch({"linux": {"devices": devices, "namespaces": kinds, "uidMappings": ids, "gidMappings": ids}})
    for path in ("dev", "root"):
        os.chown(c.bundle.rootfs / path, 100000, 100000)
    out = c.sh("stat -c '%F %t:%T %a %u:%g' /dev/disk /root/nil; echo x > /root/nil && wc -c < /dev/null")
    assert out.splitlines() == ["block special file 7:63 640 4:5", "character special file 1:3 622 10:0", "0"]


@pytest.mark.skipif(not USER, reason="real root makes the node as it is asked for")
@pytest.mark.parametrize(("mode", "warned"), [(0o666, False), (None, False), (0o622, True)])
def test_a_bound_device_keeps_its_mode_and_says_so(container, mode, warned) -> None:
    device = {"type": "c", "path": "/dev/nil", "major": 1, "minor": 3, **({"fileMode": mode} if mode else {})}
    result = writable(container, device).run("stat", "-c", "%a", "/dev/nil")
    assert (result.returncode, result.stdout) == (0, "666\n"), result.stderr
    assert ("/linux/devices/0/fileMode" in result.stderr) is warned and result.stderr.count("\n") == warned


@pytest.mark.skipif(not USER, reason="real root makes the node as it is asked for")
def test_a_bound_device_keeps_its_owner_and_says_so(container) -> None:
    device = {"type": "c", "path": "/dev/nil", "major": 1, "minor": 3, "gid": 5}
    result = writable(container, device).run("true")
    assert result.returncode == 0 and "not 0:5: /linux/devices/0/uid" in result.stderr


def test_a_device_that_the_host_does_not_have(container, rootless) -> None:
    if not USER:
        pytest.skip("real root makes its nodes itself")
    device = {"type": "c", "path": "/dev/none", "major": 4000, "minor": 12345}
    result = container({"linux": {"devices": [device]}}).create()
    assert result.returncode == 1 and "/dev/none" in result.stderr and result.stderr.count("\n") == 1
    assert rootless.ids() == []
