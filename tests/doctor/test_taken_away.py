"""When something is taken away by an ordinary user's means, the error message and `doctor` have the same hint."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rootless.kernel.find_program import find_program
from rootless.kernel.hints import HINTS
from rootless.process.libseccomp import library_version
from rootless.runtime.caches import cache_directory
from tests.doctor.taken import FILTERED, Make, Words, both_say, changed, error_says, filters, is_of, run, same, without
from tests.doctor.test_doctor import USERS_OWN, examine, hint_of, parse
from tests.support import archives as a
from tests.support.containers import USER, Rootless, needs_libseccomp, needs_range

# ------------------------------------------------------------------------------------------- what a config asks for

MEMFD_NOEXEC = "/proc/sys/vm/memfd_noexec"
ME, OUR_GROUP = os.geteuid(), os.getegid()
KINDS = [{"type": kind} for kind in ("mount", "pid", "user", "uts", "ipc", "network")]


def maps(*entries: tuple[int, int, int]) -> dict[str, Any]:
    ranges = [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in entries]
    return {"linux": {"uidMappings": ranges, "gidMappings": ranges}}


def mount(kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"mounts": [{"destination": "/mnt", "type": kind, "source": source, "options": list(options)}]}


USERS_CONFIGS: dict[str, dict[str, Any]] = {
    "others-bundle": maps((0, 4242, 1)),
    "others-ids": maps((0, ME, 1), (1, 5, 10)),
    "block-device": mount("ext4", "/dev/nosuch"),
    "not-in-userns": mount("debugfs", "debugfs"),
    "locked-mounts": mount("bind", "/sys", "bind"),
    "oom-score": {"process": {"oomScoreAdj": -500}},
    "no-sys-nice": {"process": {"scheduler": {"policy": "SCHED_FIFO", "priority": 5}}},
    "ioprio-rt": {"process": {"ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 1}}},
    "rlimit-of-root": {"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1 << 30, "hard": 1 << 30}]}},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "sched-iso": {"process": {"scheduler": {"policy": "SCHED_ISO"}}},
    "numa-mode": {"linux": {"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "900"}}},
    "no-net-cls": {"linux": {"resources": {"network": {"classID": 5}}}},
    "no-resctrl": {"linux": {"intelRdt": {"l3CacheSchema": "L3:0=f"}}},
}


@USERS_OWN
@pytest.mark.parametrize("name", USERS_CONFIGS)
def test_a_config_asks_for_what_a_user_cannot_have(rootless: Rootless, container: Make, name: str) -> None:
    if name == "block-device" and "\text4\n" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no ext4")
    both_say(rootless, container(USERS_CONFIGS[name]), name)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_asks_for_what_this_machine_lacks(rootless: Rootless, container: Make, name: str) -> None:
    if name == "no-resctrl" and Path("/sys/fs/resctrl/schemata").exists():
        pytest.skip("this machine has resctrl")
    if name == "numa-mode" and not Path("/sys/devices/system/node").exists():
        name = "no-numa"
    both_say(rootless, container(CONFIGS.get(name, CONFIGS["numa-mode"])), name)


@pytest.mark.parametrize("args", [["x"], ["/bin/x"]], ids=" ".join)
def test_the_program_is_not_executable(rootless: Rootless, container: Make, args: list[str]) -> None:
    c = container({"process": {"args": args}})
    (c.bundle.rootfs / "bin/x").write_text("#!/bin/sh\n")
    both_say(rootless, c, "none-executable" if args == ["x"] else "not-executable")


@USERS_OWN
def test_a_directory_of_the_program_is_closed(rootless: Rootless, container: Make) -> None:
    c = container({"process": {"args": ["/closed/sh"]}})
    closed = c.bundle.rootfs / "closed"
    closed.mkdir()
    (closed / "sh").hardlink_to(c.bundle.rootfs / "bin/busybox")
    closed.chmod(0)
    try:
        both_say(rootless, c, "closed-directory")
    finally:
        closed.chmod(0o755)


@USERS_OWN
def test_the_bundles_file_system_is_noexec(rootless: Rootless, container: Make, tmp_path: Path) -> None:
    c = container({"process": {"args": ["/bin/busybox", "true"]}})
    rootfs = c.bundle.rootfs
    before = without(f"mount --bind {rootfs} {rootfs} && mount -o remount,bind,noexec {rootfs}")
    both_say(rootless, c, "noexec", before)
    whole = without(f"mount --bind {c.bundle.path} {c.bundle.path} && mount -o remount,bind,noexec {c.bundle.path}")
    assert is_of(examine(rootless, c.bundle.path, before=whole)["lines"]["bundle"]["hint"], "noexec")


def test_doctor_leaves_hooks_cgroups_and_namespaces_of_others_alone(rootless: Rootless, container: Make) -> None:
    """To create the container would run the hook, so doctor only checks what the plan says."""
    c = container({"process": {"args": ["nosuch"]}})
    mark = c.bundle.path / "mark"
    c.bundle.patch({"hooks": {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"touch {mark}"]}]}})
    line = examine(rootless, c.bundle.path)["lines"]["config"]
    assert line["status"] == "ok" and line["detail"].endswith("no container was created, because it has hooks")
    assert not mark.exists()
    c.bundle.patch({"hooks": None})
    assert "nosuch" in examine(rootless, c.bundle.path)["lines"]["config"]["detail"]
    assert rootless.ids() == []


# ------------------------------------------------------------------------------------------------- the surroundings


@USERS_OWN
def test_a_user_without_subordinate_ids(rootless: Rootless, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x") + a.END]))
    before = without("mount --bind /dev/null /etc/subuid && mount --bind /dev/null /etc/subgid")
    convert = rootless.command("convert", "--owners", "map", "image.tar", "-o", "b")
    same(run([*before, *convert], cwd=tmp_path), examine(rootless, before=before), "subordinate-ids", "no-subids")


@USERS_OWN
@pytest.mark.skipif(not find_program("pasta") or not os.path.isdir("/dev/net"), reason="needs pasta and /dev/net")
def test_tun_is_not_there(rootless: Rootless) -> None:
    before = without("mount -t tmpfs none /dev/net")
    error = run([*before, *rootless.command("run", "--network", "pasta", "--host", "--", "true")])
    same(error, examine(rootless, before=before), "tun", "no-tun")


NO_PROGRAMS = """
import os
os.environ["PATH"] = "/nowhere"
from rootless.kernel import find_program
find_program._USUAL = ""
"""


def test_no_network_engine_and_no_ps_are_installed(rootless: Rootless, container: Make) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    found = parse(run(changed(NO_PROGRAMS, rootless, "doctor", "--json")))
    error = run(changed(NO_PROGRAMS, rootless, "run", "--network", "pasta", "--host", "--", "/bin/true"))
    same(error, found, "network-engines", "no-engine")
    error_says(
        run(changed(NO_PROGRAMS, rootless, "run", "--network", "slirp4netns", "--host", "--", "true")), "no-slirp4netns"
    )
    same(run(changed(NO_PROGRAMS, rootless, "ps", c.id)), found, "ps", "no-ps")


def test_the_cgroup_cannot_be_written(rootless: Rootless, container: Make) -> None:
    if not os.path.exists("/sys/fs/cgroup/cgroup.procs"):
        pytest.skip("cgroup v2 is not mounted at /sys/fs/cgroup")
    # Root's own cgroup is read-only for root, too.
    before = without("mount --bind /sys/fs/cgroup /sys/fs/cgroup && mount -o remount,bind,ro /sys/fs/cgroup")
    error = run([*before, *rootless.command("run", "-m", "64m", "-b", container().bundle.path, "none")])
    same(error, examine(rootless, before=before), "cgroup-delegation", "no-own-cgroup")


@USERS_OWN
def test_jeepney_is_not_installed_where_systemd_runs(rootless: Rootless, container: Make) -> None:
    program = 'sys.modules["jeepney"] = None'
    before = without("mount -t tmpfs none /run && mkdir -p /run/systemd/system")
    c = container()
    words = ("--cgroup-manager", "systemd", "run", "-b", c.bundle.path, "none")
    found = parse(run([*before, *changed(program, rootless, "doctor", "--json")]))
    same(run([*before, *changed(program, rootless, *words)]), found, "systemd", "no-jeepney")
    assert HINTS["no-jeepney"].text in found["lines"]["packages"]["hint"]


def test_proc_is_not_mounted(rootless: Rootless) -> None:
    before = (
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs none /proc; exec "$@"',
        "sh",
    )
    error = run([*before, *rootless.command("run", "--host", "--", "true")])
    done = run([*before, *rootless.command("doctor")])
    assert error.returncode and is_of(hint_of(error.stderr), "no-proc"), error.stderr
    assert done.returncode and "Traceback" not in done.stderr
    assert HINTS["no-proc"].text in done.stdout + done.stderr


@filters
@pytest.mark.parametrize(("before", "name"), [((), "seccomp-blocks"), (("setarch", "--uname-2.6"), "old-kernel")])
def test_a_filter_refuses_clone3(rootless: Rootless, container: Make, before: Words, name: str) -> None:
    words = ("run", "-b", container().bundle.path, "none")
    found = parse(run([*before, *changed(FILTERED, rootless, "doctor", "--json")]))
    same(run([*before, *changed(FILTERED, rootless, *words)]), found, "user-namespaces", name)
    assert found["code"] == 1
    if before:  # personality(2): the kernel calls itself 2.6
        assert found["lines"]["kernel"]["hint"] == HINTS[name].text


@needs_libseccomp
def test_libseccomp_is_not_installed(rootless: Rootless, container: Make) -> None:
    assert library_version()
    libraries = [*Path("/lib").glob("*/libseccomp.so.2"), *Path("/usr/lib64").glob("libseccomp.so.2")]
    before = without(" && ".join(f"mount --bind /dev/null {library.resolve()}" for library in libraries))
    rules = [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": os.getpid() % 4000}]
    deny = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}  # the cache has no such filter
    c = container({"linux": {"seccomp": deny}})
    error = run([*before, *rootless.command("run", "-b", c.bundle.path, "none")])
    same(error, examine(rootless, before=before), "seccomp", "no-libseccomp")


# --------------------------------------------------------------------------------------------------------- packages


@pytest.mark.parametrize(
    ("module", "words", "name"),
    [
        ("click", ("run", "--help"), "no-click"),
        ("attrs", ("cache", "ls"), "no-attrs"),
        ("lz4", ("convert", "lz4.tar", "-o", "b"), "no-lz4"),
        ("backports", ("convert", "zstd.tar", "-o", "b"), "no-zstd"),
        ("cloudpickle", (), "no-tasks"),
    ],
)
def test_a_package_is_not_installed(rootless: Rootless, tmp_path: Path, module: str, words: Words, name: str) -> None:
    program = f"import site; site.main(); sys.modules[{module!r}] = None"  # the others are found
    for kind, magic in (("lz4", b"\x04\x22\x4d\x18"), ("zstd", b"\x28\xb5\x2f\xfd")):
        (tmp_path / f"{kind}.tar").write_bytes(a.docker_archive([magic + b"x" * 600]))
    if words:
        error = run(changed(program, rootless, *words), cwd=tmp_path)
        assert error.returncode and hint_of(error.stderr) == HINTS[name].text, error.stderr
    line = parse(run(changed(program, rootless, "doctor", "--json")))["lines"]["packages"]
    assert line["status"] == "limited" and HINTS[name].text in line["hint"].split("; ")


# ------------------------------------------------------------------------------------------------------ directories


@pytest.mark.skipif(USER, reason="only root may change the setting, and only root's containers could write the file")
@pytest.mark.skipif(not os.path.exists(MEMFD_NOEXEC), reason="a kernel before 6.3 has no such setting")
def test_no_file_in_memory_may_be_executed(rootless: Rootless, container: Make) -> None:
    """The setting is a pid namespace's own (Documentation/admin-guide/sysctl/vm.rst)."""
    set_it = f'echo 2 >{MEMFD_NOEXEC}; exec "$@"'
    before = ("unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", set_it, "sh")
    error = run([*before, *rootless.command("run", "-b", container().bundle.path, "none")])
    same(error, examine(rootless, before=before), "interpreter", "memfd-noexec")


@pytest.mark.parametrize("how", ["another's", "writable"])
def test_the_state_root_is_not_private(rootless: Rootless, container: Make, how: str) -> None:
    rootless.state.mkdir(parents=True, exist_ok=True)
    if how == "writable":
        rootless.state.chmod(0o777)
    elif USER:
        rootless = Rootless(Path("/usr"))
    else:
        pytest.skip("root becomes the user whose states these are: tests/security")
    error = run(rootless.command("run", "-b", container().bundle.path, "none"))
    found = examine(rootless)
    same(error, found, "state", "state-writable" if how == "writable" else "own-state-root")
    rootless.state.chmod(0o700) if how == "writable" else None


@pytest.mark.parametrize("how", ["nowhere", "writable", "link"])
def test_the_cache_is_not_private(
    rootless: Rootless, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x") + a.END]))
    place = tmp_path / "cache"
    images = place / "rootless/images"
    images.mkdir(parents=True)
    for directory in (place, place / "rootless", images):
        directory.chmod(0o777 if how == "writable" else 0o700)
    if how == "link":
        images.rmdir()
        (tmp_path / "elsewhere").mkdir()
        images.parent.rmdir()
        images.parent.symlink_to(tmp_path / "elsewhere")
        images.parent.unlink()
        images.parent.write_text("a file")
    if how == "nowhere" and not USER:
        pytest.skip("root may write almost everywhere")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere" if how == "nowhere" else str(place))
    error = run(rootless.command("run", "image.tar"), cwd=tmp_path)
    same(error, examine(rootless), "cache", "cache-elsewhere")


def test_a_user_without_a_home_has_no_cache_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a uid that passwd(5) does not have
    monkeypatch.chdir(tmp_path)
    assert cache_directory("images") == "/.cache/rootless/images"


@USERS_OWN
def test_no_space_is_left_for_the_cache(rootless: Rootless, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x", b"x" * (4 << 20)) + a.END]))
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = without(f"mount -t tmpfs -o size=1m none {tmp_path}/cache")
    error = run([*before, *rootless.command("run", "image.tar")], cwd=tmp_path)
    same(error, examine(rootless, before=before), "cache-space", "cache-full")


@USERS_OWN
def test_the_place_of_a_bundle_is_read_only_or_full(rootless: Rootless, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x", b"x" * (4 << 20)) + a.END]))
    (tmp_path / "place").mkdir()
    for options, name in (("ro", "read-only"), ("size=1m", "no-space")):
        before = without(f"mount -t tmpfs -o {options} none {tmp_path}/place")
        error = run([*before, *rootless.command("convert", "image.tar", "-o", "place/b")], cwd=tmp_path)
        assert error.returncode and is_of(hint_of(error.stderr), name), error.stderr


@USERS_OWN
def test_a_file_system_without_attributes(rootless: Rootless, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x", uid=5, gid=5) + a.END]))
    (tmp_path / "place").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "place"))
    before = without(f"mount -t ramfs none {tmp_path}/place && chmod 700 {tmp_path}/place")
    done = run([*before, *rootless.command("convert", "--owners", "xattr", "image.tar", "-o", "place/b")], cwd=tmp_path)
    line = examine(rootless, before=before)["lines"]["cache-attributes"]
    assert done.returncode == 0 and "warning" in done.stderr  # no error: the owners are in the bundle's record
    assert hint_of(done.stderr) == line["hint"] == HINTS["no-attributes"].text and line["status"] == "limited"


def test_an_image_of_another_machine(rootless: Rootless, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x") + a.END], architecture="s390x"))
    error = run(rootless.command("run", "image.tar"), cwd=tmp_path)
    same(error, examine(rootless, tmp_path / "image.tar"), "platform", "other-architecture")


@USERS_OWN
@needs_range
def test_a_file_system_that_is_mounted_nosuid_has_no_newuidmap(rootless: Rootless) -> None:
    bind = "mount --bind /usr/bin /usr/bin && mount -o remount,bind,nosuid /usr/bin"
    before = without(bind)
    line = examine(rootless, before=before)["lines"]["newuidmap"]
    assert is_of(line["hint"], "newuidmap-refuses") and "nosuid" in line["detail"]
    assert line["command"] == "mount -o remount,suid /usr/bin"


@USERS_OWN
@needs_range
def test_a_nested_user_namespace_without_the_range_is_like_one_id(rootless: Rootless, tmp_path: Path) -> None:
    before = ("unshare", "--user", "--map-current-user")
    line = examine(rootless, before=before)["lines"]["subordinate-ids"]
    assert line["hint"] == HINTS["range-elsewhere"].text and line["status"] == "limited"
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x") + a.END]))
    done = run([*before, *rootless.command("convert", "image.tar", "-o", "b")], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "b/config.json").read_text())
    assert [entry["size"] for entry in config["linux"].get("uidMappings", [])] in ([], [1])
