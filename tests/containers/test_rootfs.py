"""Mounts, paths and devices in a real rootfs, and links of the image that try to lead out of it."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import TIMEOUT

USER = os.geteuid() != 0


def with_mounts(container, *mounts: dict[str, Any], readonly: bool = False, **linux: Any):
    """Return a container with more mounts than the default ones."""
    c = container({"root": {"readonly": readonly}, "linux": linux})
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], *mounts]})
    return c


def mount_of(c, target: str) -> tuple[list[str], list[str], str]:
    """Return (options, superblock options, type) of the topmost mount at that target."""
    line = c.sh(f"awk '$5==\"{target}\"' /proc/self/mountinfo").splitlines()[-1]
    before, after = line.split(" - ")
    return before.split()[5].split(","), after.split()[2].split(","), after.split()[0]


# option: (what mountinfo shows with it, what it does not show)
ATTRIBUTES = {
    "ro": ("ro", "rw"), "nosuid": ("nosuid", ""), "nodev": ("nodev", ""), "noexec": ("noexec", ""),
    "nodiratime": ("nodiratime", ""), "noatime": ("noatime", "relatime"), "relatime": ("relatime", "noatime"),
    "strictatime": ("rw", "relatime"), "nosymfollow": ("nosymfollow", ""), "rw": ("rw", "ro"),
}  # fmt: skip


@pytest.mark.parametrize("option", ATTRIBUTES)
def test_attribute_of_a_tmpfs(container, option) -> None:
    shown, hidden = ATTRIBUTES[option]
    mount = {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": [option]}
    options, _, fstype = mount_of(with_mounts(container, mount), "/mnt")
    assert fstype == "tmpfs" and shown in options and hidden not in options


def bound(container, tmp_path, option: str):
    (tmp_path / "source").mkdir()
    mount = {"destination": "/mnt", "type": "bind", "source": str(tmp_path / "source"), "options": ["bind", option]}
    return with_mounts(container, mount)


@pytest.mark.parametrize("option", ["ro", "nosuid", "nodev", "noexec", "nosymfollow"])
def test_attribute_of_a_bind_mount(container, tmp_path, option) -> None:
    assert option in mount_of(bound(container, tmp_path, option), "/mnt")[0]


@pytest.mark.parametrize("option", ["readonly", "r0"])
def test_an_option_that_a_bind_mount_does_not_know_is_refused(container, rootless, tmp_path, option) -> None:
    result = bound(container, tmp_path, option).create()
    assert result.returncode == 1 and "/mounts/7/options/1" in result.stderr and option in result.stderr
    assert rootless.ids() == []


def test_data_of_a_bind_mount_has_no_effect_and_is_said_so(container, tmp_path) -> None:
    result = bound(container, tmp_path, "mode=755").run("true")
    assert (result.returncode, result.stderr.count("\n")) == (0, 1)
    assert "without effect" in result.stderr and "/mounts/7/options/1: mode=755" in result.stderr


@pytest.mark.parametrize("option", ["noatime", "nodiratime"])
def test_atime_of_a_bind_mount(container, tmp_path, option) -> None:
    """In a user namespace the atime flags of the host's mounts are locked (mount_namespaces(7))."""
    c = bound(container, tmp_path, option)
    has_it_already = os.statvfs(tmp_path).f_flag & {"noatime": os.ST_NOATIME, "nodiratime": os.ST_NODIRATIME}[option]
    if has_it_already or not USER:
        assert option in mount_of(c, "/mnt")[0]
        return
    result = c.create()
    assert result.returncode == 1 and "/mounts/7: /mnt: EPERM" in result.stderr and result.stderr.count("\n") == 1
    assert "hint: flags of the host's mounts are locked" in result.stderr


@pytest.mark.parametrize(
    ("options", "shown"), [(["ro", "rw"], "rw"), (["rw", "ro"], "ro"), (["noexec", "exec", "noexec"], "noexec")]
)
def test_the_later_option_wins(container, options, shown) -> None:
    mount = {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options}
    assert shown in mount_of(with_mounts(container, mount), "/mnt")[0]


# In groups, each of which can be asked for at once; the last of two that exclude each other counts.
OPTIONS = {
    "plain": "async atime defaults dev diratime exec loud nolazytime nomand norelatime noiversion nostrictatime "
             "relatime rw suid symfollow remount",
    "set": "dirsync iversion lazytime mand noatime nodev nodiratime noexec nosuid nosymfollow ro silent sync "
           "strictatime",
    "recursive": "rro rrw rnosuid rsuid rnodev rdev rnoexec rexec rnodiratime rdiratime rnoatime ratime rrelatime "
                 "rnorelatime rstrictatime rnostrictatime rnosymfollow rsymfollow",
    "propagation": "shared rshared slave rslave private rprivate unbindable runbindable",
}  # fmt: skip


@pytest.mark.parametrize("group", OPTIONS)
@pytest.mark.parametrize("fstype", ["tmpfs", "overlay"])
def test_every_option_of_the_specification_is_taken(container, tmp_path, group, fstype) -> None:
    """One mount uses fsconfig(2) and mount_setattr(2), the other mount(2): both accept the options
    (config.md#linux-mount-options).
    """
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    layers = [f"{name}dir={tmp_path}/{name}" for name in ("lower", "upper", "work")] if fstype == "overlay" else []
    mount = {"destination": "/mnt", "type": fstype, "source": fstype, "options": [*OPTIONS[group].split(), *layers]}
    options, superblock, found = mount_of(with_mounts(container, mount), "/mnt")
    assert found == fstype
    if group == "set":
        assert {"ro", "nosuid", "nodev", "noexec", "nodiratime", "nosymfollow"} <= set(options)
        assert {"sync", "dirsync", "lazytime"} <= set(superblock)


@pytest.mark.parametrize(("options", "shown"), [(["async", "sync"], True), (["sync", "async"], False)])
def test_the_later_option_of_a_superblock_wins(container, options, shown) -> None:
    mount = {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options}
    assert ("sync" in mount_of(with_mounts(container, mount), "/mnt")[1]) is shown


def test_recursive_readonly_reaches_what_lies_below(container, tmp_path) -> None:
    """rro makes the submounts read-only too, and ro does not."""
    (tmp_path / "source/below").mkdir(parents=True)
    source = str(tmp_path / "source")
    first = {"destination": "/a", "type": "tmpfs", "source": "tmpfs"}
    below = {"destination": "/a/below", "type": "tmpfs", "source": "tmpfs"}
    assert "rw" in mount_of(with_mounts(container, first, below), "/a/below")[0]
    bind = {"destination": "/b", "type": "bind", "source": source, "options": ["rbind", "rro", "rnosuid", "rnoexec"]}
    options = mount_of(with_mounts(container, bind), "/b")[0]
    assert {"ro", "nosuid", "noexec"} <= set(options)


def test_data_of_a_tmpfs(container) -> None:
    mount = {
        "destination": "/mnt",
        "type": "tmpfs",
        "source": "shm",
        "options": ["size=4k", "mode=1777", "nr_inodes=9"],
    }
    c = with_mounts(container, mount)
    _, data, _ = mount_of(c, "/mnt")
    assert {"size=4k", "nr_inodes=9"} <= set(data)
    assert c.sh("stat -c %a /mnt").strip() == "1777"


def test_an_option_that_the_file_system_does_not_know_is_refused(container, rootless) -> None:
    mount = {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["nosuchoption"]}
    result = with_mounts(container, mount).create()
    assert result.returncode == 1 and "/mounts/7: /mnt: EINVAL" in result.stderr
    assert "tmpfs: Unknown parameter 'nosuchoption'" in result.stderr
    assert result.stderr.count("\n") == 1
    assert rootless.ids() == []


def test_a_readonly_tmpfs_gets_what_is_mounted_in_it(container) -> None:
    dev = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "mode=755"]}
    c = container()
    mounts = [dev if m["destination"] == "/dev" else m for m in c.bundle.config["mounts"]]
    c.bundle.patch({"mounts": mounts})
    out = c.sh("echo x >/dev/null && ls /dev/pts/ptmx; touch /dev/new 2>/dev/null || echo ro").split()
    assert out == ["/dev/pts/ptmx", "ro"]


@pytest.mark.parametrize(
    ("options", "there", "mode"),
    [([], 0o712, "712"), (["size=4k"], 0o1755, "1755"), (["mode=1777"], 0o700, "1777"), ([], None, "1777")],
)
def test_a_tmpfs_has_the_mode_of_the_directory_it_hides(container, options, there, mode) -> None:
    c = with_mounts(container, {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options})
    if there is not None:
        (c.bundle.rootfs / "mnt").mkdir()
        (c.bundle.rootfs / "mnt").chmod(there)
    assert c.sh("stat -c %a /mnt") == f"{mode}\n"


def linked(container, tmp_path, *options: str):
    """Return a bind mount on /target whose source is a link to a file; /target dangles in the image."""
    (tmp_path / "file").write_text("content\n")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    mount = {"destination": "/target", "type": "bind", "source": str(tmp_path / "link"), "options": ["bind", *options]}
    c = with_mounts(container, mount)
    (c.bundle.rootfs / "target").symlink_to("nowhere")
    return c


def test_dest_nofollow_mounts_on_the_link(container, tmp_path) -> None:
    c = linked(container, tmp_path, "dest-nofollow")
    assert c.sh("cat /target; test -e /nowhere || echo untouched") == "content\nuntouched\n"
    assert os.readlink(c.bundle.rootfs / "target") == "nowhere"


def test_src_nofollow_mounts_the_link_itself(container, tmp_path) -> None:
    c = linked(container, tmp_path, "dest-nofollow", "src-nofollow")
    assert c.output("readlink", "/target") == f"{tmp_path}/file\n"


def test_copy_symlink(container, tmp_path) -> None:
    """The container has the same link, and the bundle's next container finds it there."""
    c = linked(container, tmp_path, "copy-symlink")
    result = c.create()
    assert result.returncode == 1 and "/mounts/7: /target: EEXIST" in result.stderr
    (c.bundle.rootfs / "target").unlink()
    for _ in range(2):
        assert c.output("readlink", "/target") == f"{tmp_path}/file\n"


def test_copy_symlink_goes_alone(container, tmp_path) -> None:
    result = linked(container, tmp_path, "copy-symlink", "src-nofollow").create()
    assert result.returncode == 1 and "/mounts/7/options" in result.stderr


def test_tmpcopyup_keeps_what_the_tmpfs_hides(container) -> None:
    c = with_mounts(container, {"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]})
    (c.bundle.rootfs / "etc/link").symlink_to("passwd")
    (c.bundle.rootfs / "etc/deep/er").mkdir(parents=True)
    (c.bundle.rootfs / "etc/deep/er/file").write_text("deep\n")
    (c.bundle.rootfs / "etc/deep/er/file").chmod(0o640)
    script = "head -c 4 /etc/link; echo; cat /etc/deep/er/file; stat -c %a /etc/deep/er/file; echo new > /etc/passwd"
    assert c.sh(script).split() == ["root", "deep", "640"]
    assert (c.bundle.rootfs / "etc/passwd").read_text().startswith("root:")


def test_targets_are_made_and_a_relative_one_is_below_the_root(container, tmp_path) -> None:
    (tmp_path / "file").write_text("content\n")
    c = with_mounts(
        container,
        {"destination": "made/for/it", "type": "bind", "source": str(tmp_path / "file"), "options": ["bind"]},
        {"destination": "/made/../other", "type": "tmpfs", "source": "tmpfs"},
    )
    assert c.sh("cat /made/for/it; grep -c ' /other ' /proc/self/mountinfo") == "content\n1\n"


def test_a_relative_source_is_in_the_bundle(container) -> None:
    c = with_mounts(container, {"destination": "/mnt", "type": "bind", "source": "data", "options": ["bind"]})
    (c.bundle.path / "data").mkdir()
    (c.bundle.path / "data/file").write_text("ours\n")
    assert c.sh("cat /mnt/file") == "ours\n"


def test_a_socket_can_be_bound(container, tmp_path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as sock:
        here = os.open(tmp_path, os.O_PATH)
        sock.bind(f"/proc/self/fd/{here}/sock")
        os.close(here)
        mount = {"destination": "/run/sock", "type": "bind", "source": str(tmp_path / "sock"), "options": ["bind"]}
        assert with_mounts(container, mount).sh("test -S /run/sock && echo socket") == "socket\n"


def test_a_later_mount_lies_on_the_earlier_one(container) -> None:
    first = {"destination": "/mnt", "type": "tmpfs", "source": "first", "options": ["size=4k"]}
    second = {"destination": "/mnt", "type": "tmpfs", "source": "second", "options": ["size=8k"]}
    assert "size=8k" in mount_of(with_mounts(container, first, second), "/mnt")[1]


def test_proc_options(container) -> None:
    c = container()
    proc = {"destination": "/proc", "type": "proc", "source": "proc", "options": ["hidepid=2"]}
    c.bundle.patch({"mounts": [proc if m["destination"] == "/proc" else m for m in c.bundle.config["mounts"]]})
    assert "hidepid=invisible" in mount_of(c, "/proc")[1]


# --- attacks: what an image may hold

ESCAPES = ["/", "../../../../../..", "/proc/self/root", "/proc/1/root", "/host"]


@pytest.mark.parametrize("link", ESCAPES)
def test_a_target_through_a_link_of_the_image_stays_inside(container, tmp_path, link) -> None:
    """CVE-2021-30465: /link leads to the root of the container, never to the host's."""
    name = f"rootless-{os.getpid()}"
    c = with_mounts(container, {"destination": f"/link/{name}", "type": "tmpfs", "source": "tmpfs"})
    (c.bundle.rootfs / "link").symlink_to(link)
    result = c.run("sh", "-c", f"grep -c /{name} /proc/self/mountinfo")
    assert not Path(f"/{name}").exists()
    assert name not in Path("/proc/self/mountinfo").read_text()
    if result.returncode:
        assert result.stderr.startswith("rootless: ") and result.stderr.count("\n") == 1
    else:
        assert result.stdout == "1\n"


@pytest.mark.parametrize("directory", ["proc", "sys", "dev"])
def test_proc_sys_and_dev_as_links(container, tmp_path, directory) -> None:
    """CVE-2019-19921, CVE-2025-52881: the image makes /proc a link, and nothing of the host is mounted over."""
    (tmp_path / "outside").mkdir()
    c = container()
    (c.bundle.rootfs / directory).rmdir()
    (c.bundle.rootfs / directory).symlink_to(tmp_path / "outside")
    result = c.run("true")
    assert list((tmp_path / "outside").iterdir()) == []
    assert result.returncode == 0 or result.stderr.count("\n") == 1


def test_dev_as_a_link_is_no_place_for_devices(container, rootless, tmp_path) -> None:
    """Without a mount on /dev the nodes go into the image's directory, and never to where a link of it leads."""
    c = container({"mounts": [{"destination": "/proc", "type": "proc"}]})
    (c.bundle.rootfs / "dev").rmdir()
    (c.bundle.rootfs / "dev").symlink_to(tmp_path)
    result = c.create()
    assert result.returncode == 1 and "/linux/devices: /dev: ENOTDIR" in result.stderr
    assert rootless.ids() == []


def test_a_bind_mount_on_the_root_is_the_root(container, tmp_path) -> None:
    c = container()
    other = container()
    (other.bundle.rootfs / "other").touch()
    mount = {"destination": "/", "type": "bind", "source": str(other.bundle.rootfs), "options": ["rbind"]}
    c.bundle.patch({"mounts": [mount, *c.bundle.config["mounts"]]})
    assert c.sh("ls -d /other /proc/self; touch /new 2>/dev/null || echo ro").split() == ["/other", "/proc/self", "ro"]
    c.bundle.patch({"root": {"readonly": False}})
    assert c.sh("touch /new && echo rw", flags=("--no-pivot",)) == "rw\n"
    assert (other.bundle.rootfs / "new").exists() and not (c.bundle.rootfs / "new").exists()


SHARED = """
mount --make-rshared /
mount -t tmpfs tmpfs $1 && mount --make-shared $1 && mkdir $1/below || exit 99
before=$(cut -d' ' -f5,7 /proc/self/mountinfo); shift
"$@" || exit
echo outside $(grep -c '/below ' /proc/self/mountinfo)
umount $(awk '/\\/below / {print $5}' /proc/self/mountinfo) 2>/dev/null
[ "$before" = "$(cut -d' ' -f5,7 /proc/self/mountinfo)" ] && echo same
"""


@pytest.mark.root
@pytest.mark.parametrize(
    ("rootfs", "flags", "seen"),
    [("rshared", (), "1"), ("rslave", (), "0"), ("rprivate", (), "0"), ("rshared", ("--no-pivot",), "0")],
)
def test_a_shared_mount_brings_the_containers_mounts_out(container, tmp_path, rootfs, flags, seen) -> None:
    """With rootfsPropagation rshared and an rshared bind mount the container's mounts appear outside (Kubernetes'
    Bidirectional), and nothing else changes there.
    """
    if USER:
        pytest.skip("real root alone")
    (tmp_path / "shared").mkdir()
    mount = {"destination": "/mnt", "type": "bind", "source": str(tmp_path / "shared"), "options": ["rbind", "rshared"]}
    c = with_mounts(container, mount, rootfsPropagation=rootfs)
    c.bundle.patch(
        {"process": {"capabilities": {k: ["CAP_SYS_ADMIN"] for k in ("bounding", "effective", "permitted")}}}
    )
    command = c.rootless.command(
        "run", *flags, "-b", c.bundle.path, c.id, "--", "mount", "-t", "tmpfs", "x", "/mnt/below"
    )
    argv = [
        "unshare",
        "--mount",
        "--propagation",
        "shared",
        "sh",
        "-c",
        SHARED,
        "sh",
        str(tmp_path / "shared"),
        *command,
    ]
    result = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert result.stdout.splitlines() == [f"outside {seen}", "same"], result.stderr


@pytest.mark.parametrize("fstype", ["tmpfs", "bind"])
def test_a_link_into_proc_is_no_target(container, tmp_path, fstype) -> None:
    """CVE-2019-16884: a link of the image cannot put a mount onto /proc/self/attr."""
    c = with_mounts(container, {"destination": "/link/sys", "type": fstype, "source": str(tmp_path)})
    (c.bundle.rootfs / "link").symlink_to("proc")
    result = c.create()
    assert result.returncode == 1 and "/mounts/7: /link/sys: EXDEV" in result.stderr


def test_a_loop_of_links_is_an_error_in_one_line(container, rootless) -> None:
    c = with_mounts(container, {"destination": "/loop/mnt", "type": "tmpfs", "source": "tmpfs"})
    (c.bundle.rootfs / "loop").symlink_to("loop")
    result = c.create()
    assert result.returncode == 1 and "ELOOP" in result.stderr and result.stderr.count("\n") == 1
    assert rootless.ids() == []


def test_a_file_target_that_dangles_out_is_made_inside(container, tmp_path) -> None:
    (tmp_path / "source").write_text("x")
    mount = {"destination": "/etc/resolv.conf", "type": "bind", "source": str(tmp_path / "source"), "options": ["bind"]}
    c = with_mounts(container, mount)
    (c.bundle.rootfs / "etc/resolv.conf").symlink_to(f"{tmp_path}/made")
    assert c.sh("cat /etc/resolv.conf") == "x"
    assert not (tmp_path / "made").exists()


def test_masks_and_readonly_paths_through_links(container, tmp_path) -> None:
    """If the image makes a masked path a link, the mask lies where the link leads inside the root, and nothing outside
    is masked.
    """
    (tmp_path / "outside").write_text("seen\n")
    c = container({"linux": {"maskedPaths": ["/a", "/nowhere/at/all", "/b"], "readonlyPaths": ["/c", "/nope"]}})
    (c.bundle.rootfs / "a").symlink_to(tmp_path / "outside")
    (c.bundle.rootfs / "b").symlink_to("/etc/passwd")
    (c.bundle.rootfs / "c").symlink_to("/tmp")
    c.bundle.patch({"root": {"readonly": False}})
    assert c.sh("wc -c < /etc/passwd; touch /tmp/x 2>/dev/null || echo ro").split() == ["0", "ro"]
    assert (tmp_path / "outside").read_text() == "seen\n"


def test_a_masked_directory_is_empty_and_readonly(container) -> None:
    c = container({"root": {"readonly": False}, "linux": {"maskedPaths": ["/etc"], "readonlyPaths": []}})
    assert c.sh("ls -A /etc | wc -l; touch /etc/x 2>/dev/null || echo ro").split() == ["0", "ro"]


def test_masks_cannot_be_taken_off(container) -> None:
    """Without CAP_SYS_ADMIN umount(2) is EPERM, and the mask stays."""
    out = container().run("sh", "-c", "umount /proc/keys /sys/firmware /proc/sys 2>&1; cat /proc/keys | wc -c")
    assert out.stdout.split()[-1] == "0" and "not permitted" in out.stdout


def test_what_is_below_proc_is_not_mounted_over(container, rootless) -> None:
    """CVE-2019-16884, CVE-2023-27561: `create` refuses such a mount."""
    for target in ("/proc/self/attr", "/proc/sys", "/proc/../proc/1"):
        mount = {"destination": target, "type": "tmpfs", "source": "tmpfs"}
        result = with_mounts(container, mount).create()
        assert result.returncode == 1 and "/mounts/7/destination" in result.stderr
    assert rootless.ids() == []


# --- the root itself


def test_a_rootfs_by_absolute_path_and_through_a_link(container, tmp_path) -> None:
    c = container()
    (tmp_path / "link").symlink_to(c.bundle.rootfs)
    for path in (str(c.bundle.rootfs), str(tmp_path / "link")):
        c.bundle.patch({"root": {"path": path}})
        assert c.output("echo", "hello") == "hello\n"


def test_what_is_written_is_in_the_rootfs(container) -> None:
    c = container({"root": {"readonly": False}})
    c.sh("echo written > /new")
    assert (c.bundle.rootfs / "new").read_text() == "written\n"


def test_devpts_is_the_containers_own(container) -> None:
    c = container()
    out = c.run("sh", "-c", "ls /dev/pts; tty", flags=("--tty",)).stdout.split()
    assert out == ["0", "ptmx", "/dev/pts/0"]


@pytest.mark.root
@pytest.mark.parametrize("userns", [False, True])
def test_a_bind_mount_with_flags_keeps_what_a_user_namespace_locks(container, tmp_path, userns) -> None:
    """As with runc, the mount has only the config's flags without a user namespace, and also the host's in one."""
    if os.geteuid():
        pytest.skip("real root alone")
    source = tmp_path / "source"
    source.mkdir()
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    c = container({"process": {"args": ["sh", "-c", "grep ' /mnt ' /proc/mounts"]}})
    (c.bundle.rootfs / "mnt").mkdir()
    if userns:
        namespaces = [*c.bundle.config["linux"]["namespaces"], {"type": "user"}]
        c.bundle.patch({"linux": {"namespaces": namespaces, "uidMappings": ids, "gidMappings": ids}})
    mount = {"destination": "/mnt", "source": str(source), "type": "bind", "options": ["bind", "noexec"]}
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], mount]})
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", source], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro,nosuid,nodev", source], check=True)
        flags = set(c.output().split()[3].split(","))
    finally:
        subprocess.run(["umount", source], check=True)
    assert "noexec" in flags
    assert flags & {"ro", "rw", "nosuid", "nodev"} == ({"ro", "nosuid", "nodev"} if userns else {"rw"})


@pytest.mark.root
def test_a_mount_of_a_container_with_a_user_namespace_stays_in_it(container, tmp_path) -> None:
    """Root makes a bind mount that the container's root could not make.

    Mounts in the container do not reach the host, though the source is shared.
    """
    if os.geteuid():
        pytest.skip("real root alone")
    source = tmp_path / "source"
    source.mkdir()
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    script = "mount -t tmpfs tmpfs /mnt/inside && touch /mnt/inside/file && ls /mnt/inside"
    sets = {key: ["CAP_SYS_ADMIN"] for key in ("bounding", "effective", "permitted")}
    c = container({"process": {"args": ["sh", "-c", script], "capabilities": sets}, "linux": {"seccomp": None}})
    (c.bundle.rootfs / "mnt").mkdir()
    namespaces = [*c.bundle.config["linux"]["namespaces"], {"type": "user"}]
    c.bundle.patch({"linux": {"namespaces": namespaces, "uidMappings": ids, "gidMappings": ids}})
    mount = {"destination": "/mnt", "source": str(source), "type": "bind", "options": ["rbind"]}
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], mount]})
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", source], check=True)
    try:
        subprocess.run(["mount", "--make-shared", source], check=True)
        (source / "inside").mkdir()
        assert c.output() == "file\n"
        assert os.listdir(source / "inside") == []
        assert f"{source}/inside" not in Path("/proc/self/mountinfo").read_text()
    finally:
        subprocess.run(["umount", "-R", source], check=True)


@pytest.mark.parametrize("kind", ["bind", "file", "tmpfs", "link"])
@pytest.mark.parametrize("place", ["/data/sub", "/data/one/two/three"])
def test_a_mount_below_a_read_only_bind_names_the_whole_path(container, rootless, tmp_path, kind, place) -> None:
    c = container()
    for name in ("data", "source"):
        (c.bundle.path / name).mkdir()
    (c.bundle.path / "file").touch()
    (c.bundle.path / "link").symlink_to("/x")
    data = {"destination": "/data", "type": "bind", "source": "data", "options": ["bind", "ro"]}
    inner = {
        "bind": {"destination": place, "type": "bind", "source": "source"},
        "file": {"destination": place, "type": "bind", "source": "file"},
        "tmpfs": {"destination": place, "type": "tmpfs"},
        "link": {"destination": place, "type": "bind", "source": "link", "options": ["bind", "copy-symlink"]},
    }[kind]
    mounts = [*c.bundle.config["mounts"], data, inner]
    c.bundle.patch({"mounts": mounts})
    result = c.create()
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert f"/mounts/{len(mounts) - 1}: {place}: EROFS" in result.stderr, result.stderr
    assert rootless.ids() == []


def test_a_device_below_a_read_only_bind_names_the_whole_path(container, rootless) -> None:
    c = container({"linux": {"devices": [{"path": "/data/one/null", "type": "c", "major": 1, "minor": 3}]}})
    (c.bundle.path / "data").mkdir()
    data = {"destination": "/data", "type": "bind", "source": "data", "options": ["bind", "ro"]}
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], data]})
    result = c.create()
    assert result.returncode == 1 and "/linux/devices/0: /data/one" in result.stderr and "EROFS" in result.stderr
    assert rootless.ids() == []


FSTAB = ["nofail", "_netdev", "x-systemd.automount", "x-systemd.requires=/mnt", "X-mount.mkdir", "noauto", "comment=a"]


@pytest.mark.parametrize("kind", ["bind", "tmpfs", "proc"])
def test_options_of_fstab_are_taken(container, kind) -> None:
    """Options that only mount(8) reads are accepted, because docker and Kubernetes pass on what a user wrote."""
    c = container()
    (c.bundle.path / "data").mkdir()
    mount = {"destination": "/x", "type": kind, "source": "data" if kind == "bind" else kind, "options": ["ro", *FSTAB]}
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], mount]})
    result = c.run("grep", " /x ", "/proc/self/mountinfo")
    assert (result.returncode, result.stderr) == (0, "") and " ro," in result.stdout


def test_a_misspelt_option_of_a_bind_mount_is_still_refused(container) -> None:
    c = container()
    (c.bundle.path / "data").mkdir()
    mount = {"destination": "/x", "type": "bind", "source": "data", "options": ["readonly", "nofial"]}
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], mount]})
    result = c.create()
    assert result.returncode == 1 and "/options/0" in result.stderr
