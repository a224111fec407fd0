"""On a kernel with SELinux a container, `exec` and mounts get their labels, and the policy refuses what it forbids."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.vm

CURRENT = ("cat", "/proc/self/attr/current")
NO_SUCH = (
    "cannot set the SELinux label u:r:nosuch_t: /process/selinuxLabel: EINVAL (invalid argument); hint: the loaded "
    "SELinux policy does not know the label\n"
)
NOT_ALLOWED = (
    "exec /bin/cat: operation not permitted: /process/args/0; hint: with noNewPrivileges the SELinux policy has to "
    "allow process2 nnp_transition to the label\n"
)


@pytest.fixture
def labelled(container, who):
    """Return `labelled(label, **process)`, which makes a container with a label."""
    if not os.path.exists("/sys/fs/selinux/enforce"):
        pytest.skip("this boot of the guest is one with AppArmor: tests/vm/run selinux")

    def make(label, **process):
        return container({"process": {"selinuxLabel": label, **process}})

    return make


@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_the_process_has_its_label(labelled, no_new_privileges):
    result = labelled("u:r:box_t", noNewPrivileges=no_new_privileges).run(*CURRENT)
    assert (result.stdout.strip("\0\n "), result.stderr) == ("u:r:box_t", "")


def test_exec_has_the_containers_label_or_one_of_its_own(labelled, rootless):
    box = labelled("u:r:box_t", args=["sleep", "1000"])
    assert box.run_detached().returncode == 0, (box.bundle.path / "stderr").read_text()
    assert rootless("exec", box.id, *CURRENT).stdout.strip("\0\n ") == "u:r:box_t"
    result = rootless("exec", "--process-label", "u:r:base_t", box.id, *CURRENT)
    assert result.stdout.strip("\0\n ") == "u:r:base_t"
    result = rootless("exec", "--process-label", "u:r:nosuch_t", box.id, "true")
    assert (result.returncode, result.stderr) == (255, f"rootless: exec failed: {NO_SUCH}")


def test_a_label_that_the_policy_does_not_know_is_refused(labelled, rootless):
    result = labelled("u:r:nosuch_t").run("true")
    assert (result.returncode, result.stderr) == (1, f"rootless: {NO_SUCH}")
    assert rootless.ids() == []


def test_a_policy_without_what_no_new_privileges_needs_is_named(labelled, rootless):
    result = labelled("u:r:bare_t", noNewPrivileges=True).run(*CURRENT)
    assert (result.returncode, result.stderr) == (1, f"rootless: {NOT_ALLOWED}")
    assert rootless.ids() == []
    assert labelled("u:r:bare_t", noNewPrivileges=False).run(*CURRENT).stdout.strip("\0\n ") == "u:r:bare_t"


def test_new_file_systems_have_the_mount_label(labelled, container):
    look = "grep -c context=u:object_r:boxfile_t /proc/self/mountinfo"
    assert container({"linux": {"mountLabel": "u:object_r:boxfile_t"}}).run("sh", "-c", look).stdout == "5\n"
    result = container({"linux": {"mountLabel": "u:object_r:nosuch_t"}}).run("true")
    assert result.returncode == 1
    assert "rootless: cannot set context=u:object_r:nosuch_t of a mount: /linux/mountLabel: EINVAL" in result.stderr
