"""When a config asks for what does not exist or is not this user's, the error and `doctor
BUNDLE` have the same hint.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.taken import V2_ALONE, Make, both_say, changed, error_says, filtered, filters, is_of, run, without
from tests.doctor.test_doctor import USERS_OWN, examine, hint_of, parse
from tests.support.containers import USER, Rootless, mapped, needs_libseccomp, needs_range


def ids(name: str, own: int) -> dict[str, Any]:
    return {f"{name}Mappings": [{"containerID": 0, "hostID": own if USER else 5, "size": 1}]}


IDS = {**ids("uid", os.geteuid()), **ids("gid", os.getegid())}


def bound(source: str, **mapping: Any) -> dict[str, Any]:
    return {"mounts": [{"destination": "/mnt", "type": "bind", "source": source, "options": ["bind"], **mapping}]}


def rule(*, allow: bool) -> dict[str, Any]:
    return {"allow": allow, "type": "c", "major": 1, "minor": 3, "access": "rwm"}


USERS: dict[str, dict[str, Any]] = {
    "device-filter": {"linux": {"resources": {"devices": [rule(allow=False)]}}},
    "idmap-of-root": bound("/usr", **IDS),
    "net-device-of-host": {"linux": {"netDevices": {"lo": {"name": "lo2"}}}},
}


@USERS_OWN
@pytest.mark.parametrize("name", USERS)
def test_a_config_asks_for_what_is_roots(rootless: Rootless, container: Make, name: str) -> None:
    both_say(rootless, container(USERS[name]), name)


@USERS_OWN
def test_no_queues_are_mounted_on_the_host(rootless: Rootless, container: Make) -> None:
    kinds = [{"type": kind} for kind in ("mount", "pid", "user", "uts", "network")]  # no ipc
    c = container({"linux": {"namespaces": kinds}, "mounts": [{"destination": "/mnt", "type": "mqueue"}]})
    keep = "null zero full random urandom tty"
    before = without(
        f"mount -t tmpfs none /mnt && for n in {keep}; do touch /mnt/$n && mount --bind /dev/$n /mnt/$n; done && "
        "ln -s /proc/self/fd /mnt/fd && mount --rbind /mnt /dev"
    )
    both_say(rootless, c, "no-mqueue", before)


def test_a_terminal_without_its_file_system(rootless: Rootless, container: Make) -> None:
    c = container({"process": {"terminal": True}, "mounts": []})
    both_say(rootless, c, "no-devpts")


@needs_range
def test_the_rootfs_is_closed_to_the_programs_ids(rootless: Rootless, container: Make) -> None:
    c = container(mapped({"process": {"user": {"uid": 3, "gid": 3}}}))
    c.bundle.rootfs.chmod(0o700)
    try:
        both_say(rootless, c, "closed-rootfs")
    finally:
        c.bundle.rootfs.chmod(0o755)


@pytest.mark.root
def test_a_file_system_whose_ids_cannot_be_mapped(rootless: Rootless, container: Make) -> None:
    if USER:
        pytest.skip("only root maps ids of the host's file systems")
    both_say(rootless, container(bound("/sys/kernel", **IDS)), "no-idmap")


@filters
@pytest.mark.root
def test_the_kernel_has_no_bpf_for_cgroups(rootless: Rootless, container: Make) -> None:
    if USER:
        pytest.skip("only root's containers have a filter of devices")
    c = container({"linux": {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}})
    program = filtered(bpf=errno.EINVAL)
    error_says(run([*V2_ALONE, *changed(program, rootless, "run", "-b", c.bundle.path, "none")]), "no-cgroup-bpf")
    doctor = changed(program, rootless, "doctor", "--json", c.bundle.path)
    line = parse(run([*V2_ALONE, *doctor]))["lines"]["config"]
    assert is_of(line["hint"], "no-cgroup-bpf"), line


def test_too_few_descriptors_to_start_a_program(rootless: Rootless, container: Make) -> None:
    """Init notices it when it becomes the program, which doctor never starts."""
    c = container({"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}]}})
    error_says(run(rootless.command("run", "-b", c.bundle.path, "none")), "few-descriptors")


@needs_libseccomp
@USERS_OWN
def test_a_finite_limit_of_locks(rootless: Rootless, container: Make) -> None:
    """Only a flag of `run` asks for this, and a bundle has no such property, so doctor cannot know."""
    c = container({"process": {"rlimits": [{"type": "RLIMIT_LOCKS", "soft": 100, "hard": 100}]}})
    words = ("run", "--root-emulation=notify", "-b", c.bundle.path, "none")
    error_says(run(rootless.command(*words)), "finite-locks")


def test_none_of_the_cpus_of_exec_is_there(rootless: Rootless, container: Make) -> None:
    """Only `exec` uses execCPUAffinity, so `doctor` cannot try it without running a program."""
    c = container({"process": {"args": ["sleep", "1000"], "execCPUAffinity": {"initial": "8000"}}})
    assert c.create().returncode == 0
    assert c.start().returncode == 0
    error_says(rootless("exec", c.id, "true"), "no-such-cpu")


# The file system of resctrl, played by a directory on a file system of the test's own.
PLAYED = "from rootless.kernel import host; host.Host.resctrl = {place!r}\n"


@USERS_OWN
@pytest.mark.parametrize("name", ["resctrl-of-root", "resctrl-full"])
def test_resctrl_is_roots_or_full(rootless: Rootless, container: Make, tmp_path: Path, name: str) -> None:
    place = tmp_path / "resctrl"
    place.mkdir()
    options = "mode=555" if name == "resctrl-of-root" else "mode=755,nr_inodes=1"
    before = without(f"mount -t tmpfs -o {options} none {place}")
    c = container({"linux": {"intelRdt": {"l3CacheSchema": "L3:0=f"}}})
    program = PLAYED.format(place=str(place))
    error = run([*before, *changed(program, rootless, "run", "-b", c.bundle.path, "none")])
    assert is_of(hint_of(error.stderr), name), error.stderr
    assert rootless.ids() == []


@USERS_OWN
def test_doctor_moves_no_network_device(rootless: Rootless, container: Make) -> None:
    """A trial by root of the network namespace would move the device, so doctor makes none."""
    c = container({"linux": {"netDevices": {"lo": {"name": "lo2"}}}})
    line = examine(rootless, c.bundle.path, before=("unshare", "-Urn"))["lines"]["config"]
    assert line["status"] == "ok", line
