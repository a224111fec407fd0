"""Test the lines of doctor for other machines: each fact is replaced, and the error message compared."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from pathlib import Path

import pytest

from rootless.cgroup import without_cgroup
from rootless.cgroup.place import candidates
from rootless.cli.commands.convert import choose_owners
from rootless.cli.doctor import cgroups, installation, machine, places, trial, users
from rootless.cli.doctor.line import LIMITED, MISSING, OK, Line
from rootless.config_node import Node
from rootless.errors import RootlessError
from rootless.kernel.cgroup_view import View
from rootless.kernel.hints import HINTS, ROOT, USER
from rootless.kernel.host import Host
from rootless.userns import hints

CHECKOUT = Path(__file__).resolve().parents[2]


def ordinary(**facts: object) -> Host:
    """Return a user of an initial user namespace who is not root."""
    one = [(0, 0, 2**32 - 1)]
    known = {"uid": 1000, "gid": 1000, "uid_map": one, "gid_map": one, "is_root_here": False, "is_root_on_host": False}
    return Host(**{**known, "subuid": [], "subgid": [], **facts})


def by_name(lines: list[Line]) -> dict[str, Line]:
    return {line.name: line for line in lines}


@pytest.mark.parametrize("failing", ["spec", "--dry-run", "create"])
def test_a_trial_that_is_killed_without_a_word_is_not_ok(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    (tmp_path / "config.json").write_text('{"linux": {"namespaces": [{"type": "mount"}]}}')
    script = tmp_path / "rootless"
    script.write_text(f'#!/bin/sh\ncase " $* " in *" {failing} "*) kill -KILL $$;; esac\n')
    script.chmod(0o755)
    monkeypatch.setattr(trial, "itself", lambda: [str(script)])
    (line,) = trial.config(str(tmp_path), str(tmp_path / "states"))
    assert (line.status, line.name) == (MISSING, "config")
    assert "ended with exit code -9" in line.detail


def test_a_user_without_a_range_of_ids() -> None:
    line = by_name(list(users.subordinate_ids(ordinary())))["subordinate-ids"]
    with pytest.raises(RootlessError) as error:
        choose_owners(ordinary(), "map")
    assert (line.status, line.who) == (LIMITED, ROOT)
    assert line.hint == error.value.hint
    assert line.command.startswith("usermod --add-subuids ")


def test_a_range_that_is_too_small() -> None:
    host = ordinary(subuid=[(100000, 1000)], subgid=[(100000, 1000)])
    line = next(iter(users.subordinate_ids(host)))
    assert line.status == LIMITED and "1000" in line.detail


def test_a_new_range_lies_above_those_of_others() -> None:
    taken = []
    for file in ("/etc/subuid", "/etc/subgid"):
        if os.path.exists(file):
            fields = [line.split(":") for line in Path(file).read_text().split()]
            taken += [int(first) + int(count) for _, first, count in fields]
    line = next(iter(users.subordinate_ids(ordinary())))
    first = int(line.command.split()[2].partition("-")[0])
    assert first >= max(taken, default=100000)


@pytest.mark.parametrize(
    ("name", "forbids", "allows"),
    [
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ],
)
def test_the_command_sets_the_sysctl_that_forbids(tmp_path: Path, name: str, forbids: str, allows: str) -> None:
    file = tmp_path / name
    file.parent.mkdir()
    file.write_text(f"{forbids}\n")
    hint = hints.hint_of_refusal(errno.EPERM, str(tmp_path))
    assert hint is not None and (hint.command, hint.who) == (f"sysctl -w {allows}", ROOT)
    assert hint.text == hints.explain_refusal(errno.EPERM, str(tmp_path))


def test_where_apparmor_restricts_them_a_profile_is_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "kernel/apparmor_restrict_unprivileged_userns"
    file.parent.mkdir()
    file.write_text("1\n")
    hint = hints.hint_of_refusal(errno.EPERM, str(tmp_path))
    assert hint is not None and hint.text == hints.explain_refusal(errno.EPERM, str(tmp_path))
    profile = re.search("contrib/apparmor/[a-z]+", hint.command)
    assert profile and (CHECKOUT / profile[0]).exists() and profile[0] in hint.text
    file.parent.joinpath("unprivileged_userns_clone").write_text("0\n")  # now both switches forbid it
    both = hints.hint_of_refusal(errno.EPERM, str(tmp_path))
    assert both is not None and both.command == (
        "sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0"
    )


def test_the_kernel_refuses_a_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "try_namespaces", lambda _host: errno.ENOSPC)
    line = next(iter(users.user_namespaces(ordinary())))
    assert line.status == MISSING and line.hint == hints.explain_refusal(errno.ENOSPC)


def test_a_kernel_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "5.4.0-150-generic", "", "x86_64")))
    line = next(iter(machine.kernel(ordinary())))
    assert line.status == MISSING and line.hint == hints.explain_refusal(errno.ENOSYS)


def test_no_cgroup_of_version_2() -> None:
    host = ordinary(cgroup_view=View("", ""))
    assert candidates(Node(None), "x", "", host, root=False) == []
    (line,) = cgroups.cgroups(host)
    assert line.status == LIMITED and line.hint == without_cgroup().text and "limits are refused" in line.cost


def test_devices_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: str, _flags: int) -> int:
        raise PermissionError(errno.EACCES, "closed", path)

    monkeypatch.setattr(os, "open", closed)
    lines = by_name(list(machine.devices(ordinary())))
    for name in ("tun", "fuse"):
        assert lines[name].status == LIMITED and "EACCES" in lines[name].detail and lines[name].who == ROOT


def test_no_network_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_program", lambda _name: "")
    line = by_name(list(machine.devices(ordinary())))["network-engines"]
    assert line.status == LIMITED and line.command == "apt install passt"


def test_an_interpreter_that_roots_of_containers_could_write(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.stat("/proc/self/exe").st_uid
    host = ordinary(uid=owner)
    (line,) = installation.interpreter(host)
    assert line.status == LIMITED and line.hint == HINTS["own-interpreter"].text


def test_pip_gets_the_flags_without_which_a_distributions_python_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(installation.sysconfig, "get_path", lambda _name: str(tmp_path))
    monkeypatch.setattr(installation.sys, "executable", f"{tmp_path}/bin/python3")
    monkeypatch.setattr(installation, "_found", lambda name: name != "lz4")
    said = []
    for file in ("none", "EXTERNALLY-MANAGED", "pyvenv.cfg"):
        (tmp_path / file).touch()
        (line,) = installation.packages(ordinary())
        said.append(line.command.partition(" -m pip install ")[2])
    assert said == ["lz4", "--user --break-system-packages lz4", "lz4"]


@pytest.mark.parametrize(
    ("kind", "flags", "status", "word"),
    [
        ("ext4", 0, OK, "ext4"),
        ("ext4", os.ST_NOEXEC, LIMITED, "noexec"),
        ("nfs4", 0, LIMITED, "nfs4"),
        ("overlay", 0, LIMITED, "overlay"),
    ],
)
def test_the_file_system_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, flags: int, status: str, word: str
) -> None:
    class Flags:
        f_flag, f_bavail, f_frsize, f_files, f_favail = flags, 1 << 20, 4096, 0, 0

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(places, "file_system", lambda _path: kind)
    monkeypatch.setattr(os, "statvfs", lambda _path: Flags)
    line = by_name(list(places.cache(ordinary())))["cache"]
    assert line.status == status and word in line.detail
    assert line.hint == ("" if status == OK else HINTS["cache-elsewhere"].text)


def test_a_mount_covers_the_one_below_it(tmp_path: Path) -> None:
    assert places.file_system("/proc/self") == "proc"
    assert places.file_system(str(tmp_path / "not/there")) == places.file_system(str(tmp_path))


def test_every_command_names_who_types_it() -> None:
    assert all(bool(hint.command) == (hint.who in (ROOT, USER)) for hint in HINTS.values())


def test_the_command_for_grub_adds_a_kernel_parameter(tmp_path: Path) -> None:
    grub = tmp_path / "grub"
    grub.write_text('GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX="console=tty0"\n')
    for name in ("cgroup-v1", "no-controller-for-root", "no-vsyscall"):
        first, *others = HINTS[name].command.split("; ")
        assert others == ["update-grub", "reboot"]
        subprocess.run(["sh", "-c", first.replace("/etc/default/grub", str(grub))], check=True)
    added = "vsyscall=xonly systemd.unified_cgroup_hierarchy=1 systemd.unified_cgroup_hierarchy=1 console=tty0"
    assert grub.read_text().splitlines()[1:] == ['GRUB_CMDLINE_LINUX_DEFAULT="quiet"', f'GRUB_CMDLINE_LINUX="{added}"']
