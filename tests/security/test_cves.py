"""Attacks on other runtimes that have a CVE number, made here as the image or the container would try them.

docs/security.md says which test stands for which number.
"""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from oci.config import COMMANDS, MASKED_PATHS, convert_annotations, convert_config, default_config
from rootless.cli.commands.features import main as features
from rootless.cli.options import parse
from rootless.config_node import Node
from rootless.errors import RootlessError
from rootless.kernel.host import Host
from rootless.plan import Call, compile
from rootless.runtime.checkpoint import external_mounts
from tests.support.checkout import LAUNCHER, TIMEOUT


def without_dev(c) -> None:
    """Change the container so that nothing is mounted over the image's own /dev."""
    kept = [m for m in c.bundle.config["mounts"] if not m["destination"].startswith("/dev")]
    c.bundle.patch({"mounts": kept, "root": {"readonly": False}})
    (c.bundle.rootfs / "dev").rmdir()


def replace_dev(c, name: str, target: Path | str) -> None:
    (c.bundle.rootfs / "dev").mkdir(exist_ok=True)
    (c.bundle.rootfs / "dev" / name).symlink_to(target)


def test_an_images_labels_command_no_runtime() -> None:
    """CVE-2024-3154, CVE-2026-94603: labels become annotations, but those that command a runtime are left out."""
    orders = {
        "org.systemd.property.SuccessAction": "'poweroff-force'", "org.criu.config": "/tmp/criu.conf",
        "run.oci.keep_original_groups": "1", "run.oci.hooks.stdout": "/home/user/.profile",
        "run.oci.pidfd_receiver": "/tmp/socket", "run.oci.seccomp_bpf_data": "BgAAAAAA/38=",
    }  # fmt: skip
    found = convert_annotations({"config": {"Labels": {**orders, "maintainer": "somebody", "org.example": "x"}}})
    assert found == {"maintainer": "somebody", "org.example": "x"}


def test_all_annotations_that_are_orders_are_known_to_the_converter(capfd) -> None:
    assert features(parse(["features"])) == 0
    named = json.loads(capfd.readouterr().out)["potentiallyUnsafeConfigAnnotations"]
    assert named and all(name.startswith(COMMANDS) for name in named)


@pytest.mark.parametrize("entry", ["SECRET", "SECRET*", "*", ""])
def test_an_images_environment_takes_nothing_from_the_callers(monkeypatch, entry) -> None:
    """CVE-2026-57231: an entry without a value, or with a pattern, takes no variable from the caller's environment."""
    monkeypatch.setenv("SECRET", "of the host")
    config = convert_config({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["sh"], "Env": ["A=1", entry]}})
    assert "A=1" in config["process"]["env"]
    assert not [variable for variable in config["process"]["env"] if "of the host" in variable or "SECRET" in variable]


@pytest.mark.parametrize("link", ["x]:/etc/x", "x]", "]:"])
def test_a_mounts_place_does_not_name_another_source_to_criu(tmp_path, link) -> None:
    """CVE-2026-119101, CVE-2026-115520: criu takes what stands before the first "]:" for the place, so a place with "]"
    is refused.
    """
    rootfs = tmp_path / "rootfs"
    (rootfs / link).mkdir(parents=True)
    (rootfs / "data").symlink_to(link)

    config = default_config(True, 1000, 1000)
    config["mounts"] = [{"destination": "/data", "type": "bind", "source": str(tmp_path)}]
    call = Call(str(tmp_path), cgroup_manager="disabled")
    plan = compile(Node(config), Host(uid=1000, gid=1000, is_root_here=False, in_userns=False), call)
    plan.prepare = plan.mounts()  # without the devices
    with pytest.raises(RootlessError, match="criu cannot store"):
        list(external_mounts(plan))
    (rootfs / "data").unlink()
    (rootfs / "data").mkdir()
    assert list(external_mounts(plan)) == [("/data", str(tmp_path))]


def test_dev_as_a_link_to_the_host_changes_nothing_there(container, tmp_path) -> None:
    """CVE-2026-41579, CVE-2026-47766: no device node or link is made where the image's /dev leads to."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o777)
    c = container()
    without_dev(c)
    (c.bundle.rootfs / "dev").symlink_to(os.path.relpath(outside, c.bundle.rootfs))
    c.run("true")
    assert os.listdir(outside) == []


@pytest.mark.parametrize("name", ["console", "null", "ptmx", "stdin"])
def test_a_link_in_dev_makes_no_file_of_the_host(container, tmp_path, name) -> None:
    """CVE-2025-52565, CVE-2026-88264: /dev/console is not made where the image's link of that name leads to."""
    outside = tmp_path / "made"
    c = container()
    without_dev(c)
    replace_dev(c, name, os.path.relpath(outside, c.bundle.rootfs / "dev"))
    c.bundle.patch({"process": {"terminal": True, "args": ["true"]}})
    master, slave = pty.openpty()
    c.run(stdin=slave)
    for fd in (master, slave):
        os.close(fd)
    assert not outside.exists()


def test_dev_null_as_a_link_gets_no_stream_and_no_owner(container, tmp_path) -> None:
    """CVE-2026-88265, CVE-2025-31133: what lies at the image's /dev/null is neither opened, nor bound over masked
    paths, nor given away.
    """
    volume = tmp_path / "volume"
    volume.mkdir(mode=0o755)
    kept = volume / "kept"
    kept.write_text("kept")
    kept.chmod(0o644)
    before = kept.stat()
    c = container({"process": {"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", "echo overwritten; cat /proc/keys"]}})
    without_dev(c)
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"],
                               {"destination": "/volume", "type": "bind", "source": str(volume)}]})  # fmt: skip
    replace_dev(c, "null", "/volume/kept")
    result = c.run()
    after = kept.stat()
    assert kept.read_text() == "kept"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert "kept" not in result.stdout


def test_a_root_cannot_be_kept_writable_by_the_image(container) -> None:
    """CVE-2026-115521: the image's /proc/self/fd does not lead the read-only remount of the root to another mount."""
    c = container()
    c.bundle.patch({"root": {"readonly": True}})
    (c.bundle.rootfs / "proc/self/fd").mkdir(parents=True)
    for number in range(3, 20):
        (c.bundle.rootfs / f"proc/self/fd/{number}").symlink_to("/tmp")
    assert "Read-only file system" in c.run("touch", "/written").stderr
    assert not (c.bundle.rootfs / "written").exists()


def test_one_sysctl_is_no_list_of_them(container) -> None:
    """CVE-2022-0811: a `+` in a sysctl's value does not begin another sysctl, which nobody has checked."""
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    result = container({"linux": {"sysctl": {"kernel.shm_rmid_forced": "1+kernel.core_pattern=|/tmp/x"}}}).create()
    assert result.returncode == 1 and "kernel.shm_rmid_forced" in result.stderr
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_the_callers_environment_stays_outside(container) -> None:
    """CVE-2020-14370, CVE-2021-21334, CVE-2021-3602: the program gets no variable of the caller or of another
    container.
    """
    secret = {**os.environ, "SECRET": "of the host"}
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached(env=secret).returncode == 0
    assert "of the host" not in c.rootless("exec", c.id, "sh", "-c", "cat /proc/1/environ; env", env=secret).stdout


def test_the_callers_terminal_is_not_the_containers(container) -> None:
    """CVE-2017-5226: TIOCSTI cannot type into the caller's shell, because the caller's terminal is not the session's
    (ioctl_tty(2)).
    """
    master, slave = pty.openpty()
    try:
        stat = container().output("cat", "/proc/self/stat", stdin=slave)
        fields = stat.rpartition(") ")[2].split()
        session, tty = int(fields[3]), int(fields[4])
    finally:
        os.close(master)
        os.close(slave)
    assert session == 1 and tty == 0


def test_ps_is_the_hosts(container) -> None:
    """CVE-2022-1227: `ps` runs the host's ps(1) and does not enter the container, where `top` of podman ran the image's
    program.
    """
    c = container({"process": {"args": ["sleep", "1000"]}, "root": {"readonly": False}})
    (c.bundle.rootfs / "bin/ps").unlink()
    (c.bundle.rootfs / "bin/ps").write_text("#!/bin/sh\ntouch /ran\n")
    (c.bundle.rootfs / "bin/ps").chmod(0o755)
    assert c.run_detached().returncode == 0
    c.rootless("ps", c.id)
    assert not (c.bundle.rootfs / "ran").exists()


def test_no_socket_of_ours_has_an_abstract_name(container) -> None:
    """CVE-2020-15257: there is no abstract socket, to which everybody in the same network namespace could connect
    (unix(7)).
    """
    c = container({"process": {"args": ["sleep", "1000"]}})
    kinds = [n for n in c.bundle.config["linux"]["namespaces"] if n["type"] != "network"]
    c.bundle.patch({"linux": {"namespaces": kinds}})
    c.bundle.patch({"mounts": [m for m in c.bundle.config["mounts"] if m["destination"] != "/sys"]})
    created = c.create()
    assert created.returncode == 0, created.stderr
    pid = c.state()["pid"]
    held = {os.readlink(path)[8:-1] for path in Path(f"/proc/{pid}/fd").iterdir() if "socket:" in os.readlink(path)}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]]
    named = [row[7] for row in rows if row[6] in held and len(row) > 7]
    assert named and not [name for name in named if name.startswith("@")]


def test_what_is_known_to_leak_is_masked_by_default() -> None:
    """CVE-2017-16539 (/proc/scsi), CVE-2018-10892 (/proc/acpi), and the keyrings of others: all of them are masked."""
    assert {"/proc/acpi", "/proc/scsi", "/proc/keys", "/proc/timer_list"} <= set(MASKED_PATHS)


def test_what_is_made_is_closed_to_other_users(container, tmp_path) -> None:
    """CVE-2021-41091, CVE-2021-41103, CVE-2024-25621: other users cannot reach set-user-ID files of an image."""
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    assert (c.rootless.state / c.id).stat().st_mode & 0o077 == 0
    assert c.rootless.state.stat().st_mode & 0o077 == 0
    for path in (c.rootless.state / c.id).iterdir():
        assert path.is_symlink() or path.is_socket() or path.stat().st_mode & 0o077 == 0, path


def test_cgroup_v1_is_never_mounted(container) -> None:
    """CVE-2022-0492: only cgroup v1 has release_agent, a program that the host's kernel runs as root, and v1 is never
    mounted.
    """
    c = container()
    out = c.output("cat", "/proc/self/mountinfo")
    assert not [line for line in out.splitlines() if " - cgroup " in line]


@pytest.mark.skipif(os.geteuid() == 0, reason="an ordinary user's cgroup is what the attack is about")
def test_sys_without_a_cgroup_namespace_leaves_no_cgroup_writable(container) -> None:
    """CVE-2023-25809: if /sys is bound from the host and there is no cgroup namespace, the user's own cgroup is
    read-only.
    """
    script = "mkdir $(find /sys/fs/cgroup -type d -user 0 -maxdepth 3 | tail -1)/made && echo writable; echo tried"
    c = container({"process": {"args": ["sh", "-c", script]}})
    kinds = [n for n in c.bundle.config["linux"]["namespaces"] if n["type"] != "cgroup"]
    kept = [m for m in c.bundle.config["mounts"] if not m["destination"].startswith("/sys")]
    options = ["rbind", "nosuid", "noexec", "nodev", "ro"]
    bound = {"destination": "/sys", "type": "bind", "source": "/sys", "options": options}
    c.bundle.patch({"linux": {"namespaces": kinds}, "mounts": [*kept, bound]})
    result = c.run()
    assert result.stdout.endswith("tried\n"), result.stderr
    assert "writable" not in result.stdout


def test_a_long_config_does_not_reach_the_wire_in_pieces(container) -> None:
    """CVE-2021-43784: a length of 16 bits let a config's bytes be read as the next message; here a message has no
    length.
    """
    c = container({"process": {"env": ["PATH=/bin"] + [f"LONG{n}=" + "x" * 65537 for n in range(8)], "args": ["true"]}})
    assert c.run().returncode == 0
    c = container({"process": {"args": ["/" + "x" * 70000]}})
    result = c.run()
    assert result.returncode == 1 and result.stderr.count("\n") == 1


def test_nothing_of_ours_has_the_set_user_id_bit() -> None:
    """CVE-2016-8659, CVE-2020-5291, CVE-2026-41163: no file of ours is set-user-ID root, as bubblewrap could be."""
    top = LAUNCHER.parent.parent
    for directory in (top / "bin", top / "rootless", top / "oci"):
        for path in directory.rglob("*"):
            assert not path.stat().st_mode & 0o6000, path
    assert subprocess.run([LAUNCHER, "--version"], capture_output=True, timeout=TIMEOUT, check=False).returncode == 0


def test_no_module_comes_from_the_container(container) -> None:
    """CVE-2019-14271: a process that has entered the root imports no module, because it would be the image's."""
    c = container({"process": {"args": ["sleep", "1000"]}, "root": {"readonly": False}})
    top = LAUNCHER.parent.parent
    planted = 'import posix\nposix.close(posix.open("/loaded", posix.O_CREAT | posix.O_WRONLY))\n'
    for place in {*sys.path, str(top)} - {""}:
        directory = c.bundle.rootfs / place.lstrip("/")
        if place.startswith("/") and not place.endswith(".zip"):
            directory.mkdir(parents=True, exist_ok=True)
            for name in sys.stdlib_module_names:
                (directory / f"{name}.py").write_text(planted)
            for package in ("rootless", "oci"):
                (directory / package).mkdir(exist_ok=True)
                (directory / package / "__init__.py").write_text(planted)
    assert c.run("/nosuch").returncode == 1
    assert c.run_detached().returncode == 0
    assert c.rootless("exec", c.id, "/nosuch").returncode == 255
    assert c.rootless("exec", "--cwd", "/nosuch/../bin", c.id, "true").returncode in (0, 255)
    assert not (c.bundle.rootfs / "loaded").exists()
