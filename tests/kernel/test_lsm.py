from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rootless import plan
from rootless.config_node import Node
from rootless.errors import RootlessError
from rootless.kernel import host, syscalls
from rootless.kernel.host import Host
from rootless.plan import Call
from rootless.process import lsm
from rootless.steps.file_systems import empty_tmpfs
from rootless.steps.masks import MaskPath
from tests.support import children, schema
from tests.support.full_config import FULL, ROOT

LABEL = "system_u:object_r:container_file_t:s0:c1,c2"
PROFILE_LEFT_OUT = "/process/apparmorProfile: AppArmor does not run here, the label p is left out"
LABEL_LEFT_OUT = "/process/selinuxLabel: SELinux does not run here, the label u:r:t:s0 is left out"


@pytest.fixture
def sys_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a /sys of a kernel that runs both modules, from which the facts about the host are read."""
    (tmp_path / "module/apparmor/parameters").mkdir(parents=True)
    (tmp_path / "module/apparmor/parameters/enabled").write_text("Y\n")
    (tmp_path / "fs/selinux").mkdir(parents=True)
    (tmp_path / "fs/selinux/enforce").write_text("1")

    def moved(path: str) -> str:
        return path.replace("/sys/", f"{tmp_path}/", 1)

    monkeypatch.setattr(host, "open", lambda path, mode: open(moved(path), mode), raising=False)
    monkeypatch.setattr(host.os.path, "exists", lambda path: os.path.exists(moved(path)))
    return tmp_path


def test_labels_of_modules_that_run(sys_path: Path) -> None:
    assert lsm.exec_labels("p", "u:r:t:s0", Host()) == ([("AppArmor", "p"), ("SELinux", "u:r:t:s0")], [])
    assert lsm.exec_labels("", "", Host()) == ([], [])


def test_labels_of_modules_that_do_not_run(sys_path: Path) -> None:
    (sys_path / "module/apparmor/parameters/enabled").write_text("N\n")
    assert lsm.exec_labels("p", "", Host()) == ([], [PROFILE_LEFT_OUT])
    shutil.rmtree(sys_path / "module")
    shutil.rmtree(sys_path / "fs")
    assert lsm.exec_labels("p", "u:r:t:s0", Host()) == ([], [PROFILE_LEFT_OUT, LABEL_LEFT_OUT])


def test_mount_context() -> None:
    assert lsm.mount_context(LABEL, "tmpfs", "context") == ("context", LABEL)
    assert lsm.mount_context(LABEL, "tmpfs", "rootcontext") == ("rootcontext", LABEL)
    assert lsm.mount_context(LABEL, "proc", "context") == ("", "")
    assert lsm.mount_context("", "tmpfs", "context") == ("", "")


def test_the_mount_label_is_every_new_file_systems_where_selinux_runs() -> None:
    config = schema.changed(FULL, ("linux", "mountLabel"), LABEL)
    config["mounts"] = [{"destination": "/a", "type": "tmpfs"}, {"destination": "/proc", "type": "proc"}]
    made = plan.compile(Node(config), Host(**ROOT), Call("/bundle"))
    assert [mount.context for mount in made.mounts()] == [("context", LABEL), ("", "")]
    assert [step.context for step in made.enter if isinstance(step, MaskPath)] == [("context", LABEL)]
    made = plan.compile(Node(config), Host(**{**ROOT, "selinux": False}), Call("/bundle"))
    assert [mount.context for mount in made.mounts()] == [("", ""), ("", "")]
    assert [step.context for step in made.enter if isinstance(step, MaskPath)] == [("", "")]
    assert f"/linux/mountLabel: SELinux does not run here, the label {LABEL} is left out" in made.warnings


def test_a_mount_label_that_the_kernel_refuses_is_named() -> None:
    """No module knows this label, whichever of them run."""

    def body() -> None:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
        with pytest.raises(RootlessError, match="context=no_such_label of a mount: /linux/mountLabel: EINVAL"):
            empty_tmpfs(("context", "no_such_label"))

    children.succeeds(body)


def fake_proc(tmp_path: Path, *names: str) -> tuple[int, Path]:
    """Return a directory like /proc, so that the test sees what is written to which file."""
    (tmp_path / "proc/7/attr/apparmor").mkdir(parents=True)
    (tmp_path / "proc/self").symlink_to("7")
    for name in names:
        (tmp_path / "proc/7/attr" / name).touch()
    return os.open(tmp_path / "proc", os.O_PATH | os.O_DIRECTORY), tmp_path / "proc/7/attr"


def test_apparmor_writes_its_own_file_first(tmp_path: Path) -> None:
    proc_fd, attr = fake_proc(tmp_path, "apparmor/exec", "exec")
    lsm.apply_exec_label(proc_fd, lsm.APPARMOR, "docker-default")
    assert (attr / "apparmor/exec").read_text() == "exec docker-default"
    assert (attr / "exec").read_text() == ""
    os.close(proc_fd)


def test_apparmor_falls_back_to_the_shared_file(tmp_path: Path) -> None:
    proc_fd, attr = fake_proc(tmp_path, "exec")
    lsm.apply_exec_label(proc_fd, lsm.APPARMOR, "p")
    assert (attr / "exec").read_text() == "exec p"
    os.close(proc_fd)


@pytest.mark.parametrize(
    ("current", "no_new_privs", "written"),
    [
        ("unconfined\n", True, "exec p"),
        ("unconfined_friend (enforce)\n", True, "stack p"),
        ("mine (enforce)\n", True, "stack p"),
        ("mine (enforce)\n", False, "exec p"),
    ],
)
def test_confined_with_no_new_privs_is_stacked(tmp_path: Path, current: str, no_new_privs: bool, written: str) -> None:
    proc_fd, attr = fake_proc(tmp_path, "apparmor/exec", "apparmor/current")
    (attr / "apparmor/current").write_text(current)
    lsm.apply_exec_label(proc_fd, lsm.APPARMOR, "p", no_new_privs=no_new_privs)
    assert (attr / "apparmor/exec").read_text() == written
    os.close(proc_fd)


def test_selinux_writes_the_label_alone(tmp_path: Path) -> None:
    proc_fd, attr = fake_proc(tmp_path, "exec")
    lsm.apply_exec_label(proc_fd, lsm.SELINUX, "u:r:t:s0")
    assert (attr / "exec").read_text() == "u:r:t:s0"
    os.close(proc_fd)


def test_a_link_out_of_proc_is_not_followed(tmp_path: Path) -> None:
    proc_fd, attr = fake_proc(tmp_path)
    outside = tmp_path / "outside"
    outside.touch()
    (attr / "exec").symlink_to(outside)
    with pytest.raises(RootlessError):
        lsm.apply_exec_label(proc_fd, lsm.SELINUX, "u:r:t:s0")
    assert outside.read_text() == ""
    os.close(proc_fd)


def test_a_mount_on_top_of_proc_is_not_followed(tmp_path: Path) -> None:
    """The attack of CVE-2019-16884: the label would be written to a file that accepts everything."""
    decoy = tmp_path / "decoy"
    decoy.touch()

    def body() -> None:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
        syscalls.mount(str(decoy), "/proc/self/attr/exec", None, syscalls.MS_BIND)
        proc_fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        with pytest.raises(RootlessError, match="/process/selinuxLabel: EXDEV"):
            lsm.apply_exec_label(proc_fd, lsm.SELINUX, "u:r:t:s0")
        assert decoy.read_text() == ""

    children.succeeds(body)


def test_the_kernels_refusal_is_told() -> None:
    """No module knows this label, whichever of them run, and the error is the kernel's."""
    proc_fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(RootlessError, match=r"cannot set the SELinux label no_such_label: /process/selinuxLabel: E"):
        lsm.apply_exec_label(proc_fd, lsm.SELINUX, "no_such_label")
    os.close(proc_fd)
