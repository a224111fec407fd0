"""When a part of the kernel, the machine or its programs is taken away, the error and `doctor` have the same hint."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from rootless.kernel.hints import HINTS
from tests.doctor.taken import (
    Make,
    Words,
    changed,
    error_says,
    filtered,
    filters,
    run,
    same,
    without,
)
from tests.doctor.test_doctor import USERS_OWN, examine, hint_of, parse
from tests.support import archives as a
from tests.support.checkout import CHECKOUT
from tests.support.containers import USER, Rootless

# --------------------------------------------------------------------------------------------------- user namespaces

# A kernel whose /proc/sys/kernel has the switches of Debian and Ubuntu, and which refuses as they do.
REFUSING = filtered(clone3=errno.EPERM, unshare=errno.EPERM)


def switches(place: Path, **values: str) -> Words:
    """Return a prefix that covers /proc/sys/kernel by a copy with these sysctls."""
    place.mkdir()
    for name in ("overflowuid", "overflowgid", "osrelease", "pid_max", "cap_last_cap"):
        (place / name).write_text(Path("/proc/sys/kernel", name).read_text())
    for name, value in values.items():
        (place / name).write_text(f"{value}\n")
    return without(f"mount --bind {place} /proc/sys/kernel")


@filters
@USERS_OWN
@pytest.mark.parametrize(
    ("sysctl", "value", "name"),
    [
        ("apparmor_restrict_unprivileged_userns", "1", "apparmor-userns"),
        ("unprivileged_userns_clone", "0", "userns-restricted"),
    ],
)
def test_the_kernel_restricts_user_namespaces(
    rootless: Rootless, container: Make, tmp_path: Path, sysctl: str, value: str, name: str
) -> None:
    before = switches(tmp_path / "sysctls", **{sysctl: value})
    found = parse(run([*before, *changed(REFUSING, rootless, "doctor", "--json")]))
    words = ("run", "-b", container().bundle.path, "none")
    same(run([*before, *changed(REFUSING, rootless, *words)]), found, "user-namespaces", name)
    assert (found["code"], found["lines"]["user-namespaces"]["who"]) == (1, "root")


@USERS_OWN
def test_a_sandbox_refuses_user_namespaces(rootless: Rootless, container: Make) -> None:
    """In a chroot clone(2) gives EPERM, and neither a sysctl nor a filter says why."""
    script = 'mount --rbind / /mnt && exec /usr/sbin/chroot /mnt setpriv --ambient-caps=-all --inh-caps=-all "$@"'
    before = ("unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "sh", "-c", script, "sh")
    error = run([*before, *rootless.command("run", "-b", container().bundle.path, "none")])
    same(error, examine(rootless, before=before), "user-namespaces", "userns-unknown")


# ------------------------------------------------------------------------------------------------ devices and ports


@USERS_OWN
@pytest.mark.parametrize(("path", "name"), [("/dev/fuse", "no-fuse"), ("/dev/net/tun", "no-tun")])
def test_a_device_node_is_not_there(rootless: Rootless, container: Make, path: str, name: str) -> None:
    keep = "null zero full random urandom tty"
    before = without(
        f"mount -t tmpfs none /mnt && for n in {keep}; do touch /mnt/$n && mount --bind /dev/$n /mnt/$n; done && "
        "ln -s /proc/self/fd /mnt/fd && mount --rbind /mnt /dev"
    )
    error = run([*before, *rootless.command("run", "--device", path, "-b", container().bundle.path, "none")])
    same(error, examine(rootless, before=before), path.rpartition("/")[2], name)


@USERS_OWN
def test_low_ports_are_roots(rootless: Rootless) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first <= 80 or not shutil.which("pasta"):
        pytest.skip("any user may have port 80, or pasta is missing")
    error = run(rootless.command("run", "--network", "pasta", "--publish", "80:80", "--host", "--", "true"))
    same(error, examine(rootless), "low-ports", "low-port")


def test_the_kernel_has_no_vsyscall_page(rootless: Rootless, tmp_path: Path) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("only x86-64 has it")
    maps = tmp_path / "maps"
    maps.write_text("")  # the pid stays the same until the program reads its own maps
    before = (*without(f"mount --bind {maps} /proc/$$/maps"),)
    line = examine(rootless, before=before)["lines"]["vsyscall"]
    assert (line["status"], line["hint"]) == ("limited", HINTS["no-vsyscall"].text)


# ----------------------------------------------------------------------------------------------------- file systems


@filters
@USERS_OWN
def test_a_tmpfs_without_attributes(rootless: Rootless, container: Make) -> None:
    """Linux before 6.6 has no attributes there; the guest of tests/vm has such a kernel."""
    program = filtered(setxattr=errno.EOPNOTSUPP, fsetxattr=errno.EOPNOTSUPP)
    words = ("run", "--ephemeral=tmpfs", "-b", container().bundle.path, "none")
    found = parse(run(changed(program, rootless, "doctor", "--json")))
    same(run(changed(program, rootless, *words)), found, "tmpfs-attributes", "tmpfs-without-xattrs")


@filters
def test_the_quota_is_used_up(rootless: Rootless, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x") + a.symlink("y", "x") + a.END]))
    program = "import site; site.main()\n" + filtered(symlink=errno.EDQUOT, symlinkat=errno.EDQUOT)
    error_says(
        run(changed(program, rootless, "convert", "--owners", "squash", "image.tar", "-o", "b"), cwd=tmp_path),
        "no-quota",
    )


def test_a_name_that_is_too_long(rootless: Rootless, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.pax({"path": "x" * 256}) + a.file("x") + a.END]))
    error_says(run(rootless.command("convert", "image.tar", "-o", "b"), cwd=tmp_path), "long-name")


# --------------------------------------------------------------------------------------------------------- programs


@USERS_OWN
def test_a_user_makes_no_checkpoints(rootless: Rootless, container: Make) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    same(rootless("checkpoint", c.id), examine(rootless), "criu", "criu-as-root")


@pytest.mark.root
@pytest.mark.parametrize("name", ["no-criu", "criu-check"])
def test_criu_is_missing_or_does_not_work(rootless: Rootless, container: Make, name: str) -> None:
    if USER:
        pytest.skip("a user makes no checkpoints")
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    assert c.start().returncode == 0
    if name == "criu-check":
        error_says(rootless("--criu", "/bin/false", "checkpoint", c.id, cwd=c.bundle.path), name)
        return
    environment = {**os.environ, "PATH": "/nowhere"}
    same(rootless("checkpoint", c.id, env=environment), examine(rootless, env=environment), "criu", name)


def test_a_trial_that_hangs(rootless: Rootless) -> None:
    program = "from rootless.cli.doctor import trial\ntrial._PATIENCE = 0.001\n"
    line = parse(run(changed(program, rootless, "doctor", "--json")))["lines"]["run"]
    assert (line["status"], line["hint"]) == ("missing", HINTS["trial-hangs"].text)


def test_a_slow_launcher(rootless: Rootless) -> None:
    command = [sys.executable, "-m", "rootless", "--root", str(rootless.state), "doctor", "--json"]
    line = parse(run(command, cwd=CHECKOUT))["lines"]["launcher"]
    assert (line["status"], line["hint"]) == ("limited", HINTS["slow-launcher"].text)


def test_too_few_open_files(rootless: Rootless, container: Make) -> None:
    """Whatever fails because of it names the limit. Below 4 the interpreter does not start."""
    c = container({"process": {"rlimits": []}})
    shortage = (HINTS["no-files"].text, HINTS["no-code"].text)
    for count in range(4, 11):
        before = ("prlimit", f"--nofile={count}")
        error = run([*before, *rootless.command("run", "-b", c.bundle.path, "none")])
        assert error.returncode and hint_of(error.stderr).startswith(shortage), error
        line = examine(rootless, before=before)["lines"]["run"]
        assert line["status"] == "missing" and line["hint"].startswith(shortage), line
        rootless("delete", "--force", "none")
