"""Only a sysctl that a namespace of the container isolates is set, never one of the host."""

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("name", "value"),
    [("net.ipv4.ip_forward", "1"), ("net.ipv4.ping_group_range", "0 0"), ("kernel.msgmax", "16384"),
     ("kernel.shmmni", "2048"), ("fs.mqueue.msg_max", "20"), ("net/ipv4/conf/lo/forwarding", "1"),
     ("net.ipv4.conf.lo.forwarding", "1"), ("kernel.domainname", "example.org"), ("kernel.hostname", "name")],
)  # fmt: skip
def test_it_is_set_inside_and_not_outside(container, name, value) -> None:
    path = Path("/proc/sys") / (name if "/" in name.partition(".")[0] else name.replace(".", "/"))
    before = path.read_text()
    out = container({"hostname": None, "linux": {"sysctl": {name: value}}}).output("cat", str(path))
    assert out.split() == value.split()
    assert path.read_text() == before


@pytest.mark.parametrize("name", ["vm.swappiness", "kernel.panic", "fs.file-max", "kernel.core_pattern", "debug.x",
                                  "net", "net.../../kernel/panic", "/kernel/panic", "", "dev.cdrom.debug"])  # fmt: skip
def test_the_hosts_are_refused(container, rootless, name) -> None:
    result = container({"linux": {"sysctl": {name: "1"}}}).create()
    assert result.returncode == 1 and "/linux/sysctl/" in result.stderr and result.stderr.count("\n") == 1
    assert rootless.ids() == []


@pytest.mark.parametrize(("name", "kind"), [("net.ipv4.ip_forward", "network"), ("kernel.msgmax", "ipc")])
def test_without_the_namespace_it_is_refused(container, rootless, name, kind) -> None:
    c = container({"linux": {"sysctl": {name: "1"}}})
    kept = [n for n in c.bundle.config["linux"]["namespaces"] if n["type"] != kind]
    c.bundle.patch({"linux": {"namespaces": kept}})
    result = c.create()
    assert result.returncode == 1 and f"needs a {kind} namespace" in result.stderr
    assert rootless.ids() == []


def test_the_hostname_is_set_by_its_system_call(container) -> None:
    c = container({"hostname": None, "linux": {"sysctl": {"kernel.hostname": "inner"}}})
    assert c.output("hostname") == "inner\n"


@pytest.mark.parametrize("key", ["hostname", "domainname"])
@pytest.mark.parametrize(("name", "code"), [("example.org", 0), ("example.com", 1), ("x" * 65, 1)])
def test_a_name_twice_must_be_the_same(container, key, name, code) -> None:
    c = container({key: "example.org", "linux": {"sysctl": {f"kernel.{key}": name}}})
    result = c.run("cat", f"/proc/sys/kernel/{key}")
    assert result.returncode == code and (code or result.stdout == "example.org\n")
    assert not code or f"/linux/sysctl/kernel.{key}" in result.stderr


def test_one_that_the_kernel_does_not_know(container, rootless) -> None:
    result = container({"linux": {"sysctl": {"net.ipv4.nosuch": "1"}}}).create()
    assert result.returncode == 1 and "net.ipv4.nosuch" in result.stderr and "ENOENT" in result.stderr
    assert rootless.ids() == []


def test_a_value_that_the_kernel_refuses(container, rootless) -> None:
    result = container({"linux": {"sysctl": {"net.ipv4.ip_forward": "many"}}}).create()
    assert result.returncode == 1 and "EINVAL" in result.stderr and result.stderr.count("\n") == 1
    assert rootless.ids() == []
