"""Names are checked in the form in which they are used: sysctls, paths below /proc, and links of an image."""

import errno
import os
from pathlib import Path

import pytest

from rootless.config_node import Node
from rootless.errors import SpecError
from rootless.kernel.host import Host
from rootless.kernel.paths import is_below, normal_path, tidy_path
from rootless.plan.namespaces import compile_namespaces
from rootless.plan.sysctl import compile_sysctl
from rootless.runtime import checkpoint
from rootless.steps.names import WriteSysctl

ALL = {"namespaces": [{"type": kind} for kind in ("user", "mount", "network", "ipc", "uts", "pid")]}
HOSTS = [
    "net.//.kernel.core_pattern", "net/../kernel/core_pattern", "net/./../kernel/core_pattern", "net..kernel.panic",
    "net.ipv4.//.//.kernel.core_pattern", "net//ipv4/ip_forward", "net/", "net.", "user.//.kernel.panic", "user.",
    "fs.mqueue.//.file-max", "fs/mqueue/../file-max", "fs.mqueue.", "fs.mqueue", "fs/mqueuex/a", "netx.ipv4",
    "kernel/./msgmax", "kernel.msgmax.//.panic", "kernel/msgmax/../panic", "/net/ipv4/ip_forward", "./net/x", "..",
    "kernel.hostname.//.panic", "kernel.hostname/../panic", ".net.ipv4", "net.ipv4.", "net/ipv4/..",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTS)
def test_a_sysctl_never_leaves_the_namespace_that_its_name_says(name) -> None:
    linux = Node({**ALL, "sysctl": {name: "1"}}, "/linux")
    namespaces = compile_namespaces(linux, Host(uid=0, is_root_here=True, in_userns=False))
    with pytest.raises(SpecError) as refused:
        compile_sysctl(linux, namespaces)
    assert refused.value.where.startswith("/linux/sysctl/") and refused.value.message().isprintable()


@pytest.mark.parametrize(
    ("name", "path"),
    [("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"), ("kernel/shmmax", "kernel/shmmax"),
     ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"), ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
     ("net/ipv4/conf/../all", None), ("net.ipv4.conf.a//b.x", "net/ipv4/conf/a..b/x")],
)  # fmt: skip
def test_a_dot_inside_a_component_stays_one(name, path) -> None:
    linux = Node({**ALL, "sysctl": {name: "1"}}, "/linux")
    namespaces = compile_namespaces(linux, Host(uid=0, is_root_here=True, in_userns=False))
    if path is None:
        with pytest.raises(SpecError):
            compile_sysctl(linux, namespaces)
    else:
        (step,) = compile_sysctl(linux, namespaces)
        assert isinstance(step, WriteSysctl) and step.name == path


@pytest.mark.parametrize("name", ["net.//.kernel.core_pattern", "net/../kernel/domainname", "user.//.kernel.panic"])
def test_the_hosts_sysctl_is_not_opened(container, rootless, name) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    result = container({"linux": {"sysctl": {name: "|/tmp/x"}}}).create()
    assert result.returncode == 1 and "/linux/sysctl/" in result.stderr and result.stderr.count("\n") == 1
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before
    assert rootless.ids() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root joins the host's namespaces")
@pytest.mark.parametrize(
    ("kind", "name", "file"),
    [("network", "net.ipv4.ip_forward", "net"), ("ipc", "kernel.msgmax", "ipc"), ("ipc", "fs.mqueue.msg_max", "ipc"),
     ("uts", "kernel.domainname", "uts")],
)  # fmt: skip
def test_the_callers_own_namespace_named_by_a_path_is_not_the_containers(container, rootless, kind, name, file) -> None:
    path = Path("/proc/sys") / name.replace(".", "/")
    before = path.read_text()
    c = container({"hostname": None, "linux": {"sysctl": {name: before.strip() if kind != "uts" else "evil"}}})
    others = [n for n in c.bundle.config["linux"]["namespaces"] if n["type"] != kind]
    c.bundle.patch({"linux": {"namespaces": [*others, {"type": kind, "path": f"/proc/self/../self/ns/{file}"}]}})
    result = c.create()
    assert result.returncode == 1 and f"the {kind} namespace is the caller's own" in result.stderr, result.stderr
    assert f"/linux/sysctl/{name}" in result.stderr and path.read_text() == before and rootless.ids() == []


def test_a_prefix_is_whole_components() -> None:
    assert is_below("/proc", "/proc") and is_below("/proc/sys", "/proc") and is_below("/a", "/")
    assert not is_below("/procsys", "/proc") and not is_below("/pro", "/proc")
    assert normal_path("proc/./../..//proc/sys/") == "/proc/sys"
    assert tidy_path("./rootfs//a/../b/", "/bundle") == "/bundle/rootfs/a/../b"


def mounted(tmp_path: Path, destination: str, **more: object) -> dict[str, object]:
    source = tmp_path / "volume"
    source.mkdir(exist_ok=True)
    (source / "own").touch()
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["bind"], **more}


LINKS = [
    ("procsys", "/proc/sys", "it leads into procfs"), ("proc-x", "proc/self", ""), ("data", "/proc", "it leads"),
    ("data", "/proc/sys", "it leads into procfs"), ("data", "/", "it leads to the root itself"),
    ("data", ".", "it leads to the root itself"), ("data", "../..", "it leads to the root itself"),
]  # fmt: skip


@pytest.mark.parametrize(("link", "leads", "said"), LINKS)
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_a_link_of_the_image_takes_no_mount_elsewhere(container, rootless, tmp_path, link, leads, said, kind) -> None:
    c = container()
    (c.bundle.rootfs / link).symlink_to(leads)
    mount = mounted(tmp_path, f"/{link}") if kind == "bind" else {"destination": f"/{link}", "type": "tmpfs"}
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], mount]})
    result = c.create()
    assert result.returncode == 1 and said in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert f"/mounts/{len(c.bundle.config['mounts']) - 1}" in result.stderr
    assert rootless.ids() == []


@pytest.mark.parametrize("leads", ["/proc", "/"])
def test_nor_before_proc_is_mounted(container, rootless, tmp_path, leads) -> None:
    """A volume may not be mounted there before /proc either: `exec` would take it for the container's root or /proc."""
    c = container()
    (c.bundle.rootfs / "data").symlink_to(leads)
    kept = [m for m in c.bundle.config["mounts"] if m["destination"] != "/proc"]
    c.bundle.patch({"mounts": [mounted(tmp_path, "/data"), *kept]})
    result = c.create()
    assert result.returncode == 1 and "it leads to" in result.stderr
    assert rootless.ids() == []


def test_a_masked_path_that_leads_to_the_root_is_refused(container, rootless) -> None:
    c = container({"linux": {"maskedPaths": ["/secret"]}})
    (c.bundle.rootfs / "secret").symlink_to("/")
    result = c.create()
    assert result.returncode == 1 and "it leads to the root itself" in result.stderr
    assert "/linux/maskedPaths/0" in result.stderr and rootless.ids() == []


def test_a_read_only_path_that_leads_to_the_root_holds_for_exec_and_the_program(container) -> None:
    script = "touch /x 2>/dev/null && echo writable; sleep 1000"
    c = container({"linux": {"readonlyPaths": ["/kept"]}, "root": {"readonly": False},
                   "process": {"args": ["sh", "-c", script]}})  # fmt: skip
    (c.bundle.rootfs / "kept").symlink_to("/")
    assert c.run_detached().returncode == 0
    inside = c.rootless("exec", c.id, "sh", "-c", "touch /y; ls /")
    assert "Read-only file system" in inside.stderr
    assert not (c.bundle.rootfs / "x").exists() and not (c.bundle.rootfs / "y").exists()
    assert "bin" in inside.stdout.split()


@pytest.mark.parametrize("place", ["dev/null", "dev/console"])
def test_a_device_is_not_laid_over_a_piece_of_procfs(container, rootless, place) -> None:
    """The image makes the place of a device a link into procfs (like CVE-2025-52565), and nothing is made or mounted
    there.
    """
    c = container({"process": {"terminal": False}})
    kept = [m for m in c.bundle.config["mounts"] if not m["destination"].startswith("/dev")]
    c.bundle.patch({"mounts": kept, "linux": {"devices": [{"path": f"/{place}", "type": "c", "major": 1, "minor": 3}]}})
    (c.bundle.rootfs / place).unlink(missing_ok=True)
    (c.bundle.rootfs / place).symlink_to("/proc/sys/kernel/hostname")
    result = c.create()
    if os.geteuid() == 0:  # mknod(2) takes the name itself, and not where it leads
        assert errno.errorcode[errno.EEXIST] in result.stderr
    else:
        assert "it leads into procfs" in result.stderr
    assert result.returncode == 1 and rootless.ids() == []


def test_the_rootfs_in_another_spelling_is_the_same(container, tmp_path) -> None:
    """`rootfs/` and `./rootfs` name the same directory, so a destination that the host names lies in it in both
    spellings.
    """
    c = container({"root": {"path": ".//rootfs/"}})
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], mounted(tmp_path, f"{c.bundle.rootfs}/tmp")]})
    assert c.output("ls", "/tmp") == "own\n"


def test_a_checkpoint_looks_a_mask_up_inside_the_root(tmp_path) -> None:
    """The target of an absolute link is looked up inside the root; through /proc/PID/root it would be looked up on the
    host.
    """
    (tmp_path / "host").symlink_to("/etc/passwd")
    (tmp_path / "inside").symlink_to("/file")
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    root = os.open(tmp_path, os.O_PATH)
    try:
        found = [checkpoint._is_file(root, name) for name in ("/host", "/inside", "/file", "/directory", "/none")]
        assert found == [False, True, True, False, False]
    finally:
        os.close(root)
