"""`run` accepts the config.json that `convert` writes, whatever the image says."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci.config import IMAGE_CAPABILITIES, convert_config, default_config, volume_paths
from oci.errors import OciError
from oci.passwd import find_user
from oci.root import Root
from rootless.errors import RootlessError
from rootless.runtime.exec import parse_user
from tests.support import archives as a
from tests.support.commands import rootless

PASSWD = (
    b"root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/root:/bin/sh\nweb:x:33:44:web:/srv/web:/bin/sh\n"
    b"high:x:4294967295:0::/:/bin/sh\nbroken:x:34:group::/:/bin/sh\n"
    b"chat:x:35:35:my\xe2\x80\xa8evil\x0b:/:/bin/sh\nother:x:1234:1235::/home/other:/bin/sh\n"
)
GROUP = b"root:x:0:\n7:x:0:\nweb:x:44:\nstaff:x:50:other,web\nwide:x:4000000000:wide\n"
ROOTFS = (
    a.directory("etc") + a.file("etc/passwd", PASSWD) + a.file("etc/group", GROUP) + a.directory("proc")
    + a.directory("data") + a.symlink("p", "proc") + a.symlink("q", "/../proc/nothing") + a.symlink("d", "../dev/sub")
    + a.symlink("top", "data/..") + a.symlink("e", "data")
)  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for entry in os.listdir(tmp_path):
        if (tmp_path / entry / "config.json").exists():
            assert rootless("remove", entry, cwd=tmp_path).returncode == 0


def convert(
    work: Path, image: dict[str, Any], *flags: str, rootfs: bytes = ROOTFS, **patch: Any
) -> subprocess.CompletedProcess[str]:
    (work / "image.tar").write_bytes(a.docker_archive([rootfs + a.END], image, **patch))
    return rootless("convert", "image.tar", "-o", "b", *flags, cwd=work)


def config_of(work: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((work / "b/config.json").read_text())
    return document


def has_range() -> bool:
    shown = rootless("unshare", "cat", "/proc/self/uid_map", cwd=Path("/")).stdout
    return os.geteuid() == 0 or shown.count("\n") > 1


# User: numbers are ids, CVE-2016-3697


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(PASSWD)
    (tmp_path / "etc/group").write_bytes(GROUP)
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    opened = Root(fd)
    yield opened
    opened.close()
    os.close(fd)


@pytest.mark.parametrize(
    ("wanted", "uid", "gid", "more_groups", "home"),
    [
        ("1000", 1000, 0, (), ""),
        ("1000:1000", 1000, 1000, (), ""),
        ("01000", 1000, 0, (), ""),
        ("web:7", 33, 7, (), "/srv/web"),
        ("5:7", 5, 7, (), ""),
        ("1234", 1234, 1235, (50,), "/home/other"),
        ("00000000000001234:000000000000000", 1234, 0, (), "/home/other"),
        ("0", 0, 0, (), "/root"),
        ("4294967294:4294967294", 4294967294, 4294967294, (), ""),
    ],
)
def test_number_is_never_looked_up_as_a_name(
    root: Root, wanted: str, uid: int, gid: int, more_groups: tuple[int, ...], home: str
) -> None:
    user = find_user(root, wanted)
    assert (user.uid, user.gid, user.groups, user.home) == (uid, gid, (gid, *more_groups), home)


@pytest.mark.parametrize(
    "wanted",
    [
        "4294967295", "4294967296", "99999999999999999999", "9" * 5000, "-1", "+5", "1:-1", "web:4294967295",
        "0:4294967296", "web:+7", "high", "broken", "evil", "nobody", "web:nobody", "1000x", " 1000", "１０００",
    ],
)  # fmt: skip
def test_number_out_of_range_and_unknown_name_are_refused(root: Root, wanted: str) -> None:
    with pytest.raises(OciError) as caught:
        find_user(root, wanted)
    assert "\n" not in caught.value.message()


@pytest.mark.parametrize("how", ["convert", "import"])
def test_image_cannot_make_root_of_a_number(work: Path, how: str) -> None:
    if how == "convert":
        done = convert(work, {"User": "1000:7"})
    else:
        (work / "r.tar").write_bytes(ROOTFS + a.END)
        done = rootless("import", "r.tar", "-o", "b", "--change", "USER 1000:7", cwd=work)
    assert done.returncode == 0, done.stderr
    user = config_of(work)["process"]["user"]
    assert (user["uid"], user["gid"]) == (1000, 7)


@pytest.mark.parametrize("user", ["4294967295", "0:4294967295", "4294967296", "-1", "1:+2", "9" * 5000])
def test_number_out_of_range_is_refused_by_every_command(work: Path, user: str) -> None:
    (work / "r.tar").write_bytes(ROOTFS + a.END)
    assert convert(work, {}).returncode == 0
    for command in (["import", "r.tar"], ["pack", "b"]):
        done = rootless(*command, "-o", "c", "--change", f"USER {user}", cwd=work)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and not (work / "c").exists(), done.stderr
    with pytest.raises(RootlessError, match="invalid"):
        parse_user(user)


@pytest.mark.parametrize("ids", [{"uid": 2**32 - 1, "gid": 0}, {"uid": 0, "gid": 2**32 - 1}, {"uid": -1, "gid": 0}])
def test_minus_one_of_setresuid_is_not_an_id_for_run(work: Path, ids: dict[str, int]) -> None:
    """setresuid(2) takes it for no change, so the program would stay root."""
    assert convert(work, {}).returncode == 0
    config = config_of(work)
    for user in (ids, {"uid": 0, "gid": 0, "additionalGids": [2**32 - 1]}):
        config["process"]["user"] = user
        for kind in ("uidMappings", "gidMappings"):
            config["linux"].pop(kind, None)
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "user"]
        (work / "b/config.json").write_text(json.dumps(config))
        checked = rootless("spec", "--validate", "b", cwd=work)
        assert checked.returncode == 1 and "/process/user/" in checked.stderr and "4294967294" in checked.stderr


def test_user_beyond_the_range_is_refused_with_a_way_out(work: Path) -> None:
    if os.geteuid() == 0 or not has_range():
        pytest.skip("this is about a user with a range in /etc/subuid")
    refused = convert(work, {"User": "3000000000"})
    assert refused.returncode == 1 and "3000000000:0 is beyond your range" in refused.stderr
    assert "--owners xattr" in refused.stderr and refused.stderr.count("\n") == 1 and os.listdir(work) == ["image.tar"]
    assert convert(work, {"User": "3000000000"}, "--owners", "xattr").returncode == 0


def test_group_beyond_the_range_is_left_out_and_told(work: Path) -> None:
    if os.geteuid() == 0 or not has_range():
        pytest.skip("this is about a user with a range in /etc/subuid")
    rootfs = a.directory("etc") + a.file("etc/passwd", b"wide:x:5:5::/:/bin/sh\n") + a.file("etc/group", GROUP)
    done = convert(work, {"User": "wide"}, rootfs=rootfs)
    assert done.returncode == 0 and "left out: 4000000000" in done.stderr
    assert config_of(work)["process"]["user"]["additionalGids"] == [5]


# The program


@pytest.mark.parametrize(
    ("image", "args"),
    [
        ({"Cmd": "/bin/prog --flag"}, ["/bin/prog --flag"]),
        ({"Entrypoint": "/entry", "Cmd": "one word"}, ["/entry", "one word"]),
        ({"Entrypoint": "/entry", "Cmd": ["a"]}, ["/entry", "a"]),
        ({"Entrypoint": [""], "Cmd": ["/a"]}, ["/a"]),
        ({"Entrypoint": "", "Cmd": [""]}, ["/bin/sh"]),
        ({"Entrypoint": None, "Cmd": []}, ["/bin/sh"]),
    ],
)
def test_one_string_is_a_list_of_one(image: dict[str, Any], args: list[str]) -> None:
    assert convert_config({"config": image})["process"]["args"] == args


def test_docker_capabilities_and_new_privileges_for_images_alone() -> None:
    process = convert_config({})["process"]
    assert len(set(IMAGE_CAPABILITIES)) == 14
    assert process["capabilities"] == {k: IMAGE_CAPABILITIES for k in ("bounding", "effective", "permitted")}
    assert "noNewPrivileges" not in process
    for spec in (default_config(True)["process"], default_config(False)["process"]):
        assert spec["noNewPrivileges"] is True
        assert spec["capabilities"]["bounding"] == ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


@pytest.mark.skipif(os.geteuid() != 0, reason="without root there are no device nodes to be denied")
def test_root_who_may_make_device_nodes_is_denied_their_devices(work: Path) -> None:
    assert convert(work, {}).returncode == 0
    assert config_of(work)["linux"]["resources"] == {"devices": [{"allow": False, "access": "rwm"}]}


# What run would refuse

REFUSED: list[dict[str, Any]] = [
    {"Env": ["A=b\0c"]}, {"Env": "A=1"}, {"Env": ["A=\ud800"]}, {"Env": [5]},
    {"Cmd": ["a\0b"]}, {"Cmd": ["", "x"]}, {"Cmd": {"a": 1}},
    {"Entrypoint": ["\ud800"]}, {"WorkingDir": "/a\0b"}, {"WorkingDir": 5}, {"WorkingDir": "/\udfff"},
    {"Hostname": "a\0"}, {"Hostname": ["h"]}, {"Domainname": "\ud800"}, {"User": ["root"]}, {"User": True},
    {"User": "a\0b"}, {"Labels": ["a=b"]}, {"Labels": "a"}, {"Cmd": ["/\0"]},
]  # fmt: skip


@pytest.mark.parametrize("image", REFUSED)
def test_config_that_run_would_refuse_is_refused(work: Path, image: dict[str, Any]) -> None:
    done = convert(work, image)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "\0" not in done.stderr, done.stderr
    assert os.listdir(work) == ["image.tar"]


REPAIRED: list[tuple[dict[str, Any], str]] = [
    ({"Env": ["=x", "NOVALUE", "", "A=1"]}, "left out of the environment"),
    ({"Labels": {"a": "x\0y", "b\0": "c", "": "empty", "d": "\ud800", "ok": "1"}}, "labels left out"),
    ({"Labels": {"ok": "1", "null": None, "number": 5, "list": ["a"]}}, ""),
    ({"Hostname": "ü" * 60, "Domainname": "é" * 64}, ""),
    ({"Hostname": "h" * 63 + "ü"}, ""),
    ({"Labels": {"run.oci.handler": "wasm", "ok": "1"}}, "command the runtime: run.oci.handler"),
    ({"Labels": {"run.oci.keep_original_groups": "1"}}, "run.oci.keep_original_groups"),
    ({"Labels": {"org.systemd.property.TimeoutStopUSec": "bad"}}, "org.systemd.property.TimeoutStopUSec"),
    ({"Labels": {"org.criu.config": "/etc/shadow"}}, "org.criu.config"),
    ({"Labels": {"org.rootless.network": "auto"}}, "org.rootless.network"),
    ({"Labels": {"org.rootless.root-emulation": "none"}}, "org.rootless.root-emulation"),
    ({"StopSignal": "SIG\0", "ExposedPorts": {"80\0": {}}}, "labels left out"),
    ({"Volumes": "/one", "ExposedPorts": ["80/tcp"]}, ""),
    ({"WorkingDir": "../../x"}, ""),
]


@pytest.mark.parametrize(("image", "told"), REPAIRED)
def test_config_that_run_would_refuse_is_repaired_and_told(work: Path, image: dict[str, Any], told: str) -> None:
    done = convert(work, image)
    assert done.returncode == 0, done.stderr
    assert told in done.stderr if told else not done.stderr.count("left out"), done.stderr
    assert "\0" not in done.stderr
    checked = rootless("spec", "--validate", "b", cwd=work)
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr
    annotations = config_of(work).get("annotations", {})
    assert not [
        key
        for key in annotations
        if key.startswith(("run.oci.", "org.systemd.", "org.criu.", "org.rootless.network", "org.rootless.root"))
    ]
    if "ok" in image.get("Labels", {}):
        assert annotations["ok"] == "1"


def test_config_larger_than_run_reads_is_refused(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a, "dumped", lambda document: json.dumps(document, ensure_ascii=False).encode())
    done = convert(work, {"Labels": {"a": "ü" * 3_000_000}})  # six characters each in config.json
    assert done.returncode == 1 and "16 MiB" in done.stderr and os.listdir(work) == ["image.tar"]


# Volumes

VOLUMES = ["/proc", "/proc/acpi", "//proc/.", "/sys", "/sys/fs/cgroup", "/dev", "/dev/shm", "/p", "/q", "/d/x", "/top"]


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_volumes_on_proc_sys_and_dev_are_left_out_and_told(work: Path, kind: str) -> None:
    image = {"Volumes": {key: {} for key in [*VOLUMES, "/e", "/data/", "/data", "/process"]}}
    done = convert(work, image, "--volumes", kind)
    assert done.returncode == 0 and done.stderr.count("\n") == 1, done.stderr
    added = config_of(work)["mounts"][len(default_config(True)["mounts"]) :]
    assert [mount["destination"] for mount in added] == ["/data", "/e", "/process"]
    for path in volume_paths({"config": {"Volumes": {key: {} for key in VOLUMES}}}):
        assert path in done.stderr, path
    assert "/p (which is /proc)" in done.stderr and "/d/x (which is /dev/sub/x)" in done.stderr


def test_image_with_a_volume_on_proc_runs_with_the_kernels(work: Path) -> None:
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        pytest.skip("this machine lacks /bin/busybox (Debian: busybox-static)")
    rootfs = ROOTFS + a.directory("bin") + a.file("bin/busybox", busybox.read_bytes(), mode=0o755)
    done = convert(work, {"Volumes": {"/proc": {}, "/p": {}}}, "--volumes", "tmpfs", rootfs=rootfs)
    assert done.returncode == 0, done.stderr
    command = ["run", "-b", "b", f"c-{secrets.token_hex(4)}", "--", "/bin/busybox", "cat", "/proc/sys/kernel/ostype"]
    ran = rootless("--root", work / "state", *command, cwd=work)
    assert (ran.returncode, ran.stdout) == (0, "Linux\n"), ran.stderr


# Docker's capabilities at work

SETUP = """
set -e
touch /f && chown 100 /f && chown :50 /f && stat -c %u:%g /f
chmod 4755 /f && stat -c %a /f
su -s /bin/sh web -c 'busybox id -u; busybox id -g'
mkdir -m 700 /lock && chown 33 /lock && echo x > /lock/status-new && mv /lock/status-new /lock/status
ln /lock/status /lock/status-old && chown -R 33:44 /lock && chmod u+s,g+s /lock/status && cat /lock/status
chroot / /bin/busybox true && echo chroot
mkfifo /pipe && chown web:web /pipe && rm -r /lock /pipe && echo end
"""


@pytest.mark.parametrize("how", ["convert", "import"])
def test_package_managers_calls_and_su_work_in_a_range(work: Path, how: str) -> None:
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        pytest.skip("this machine lacks /bin/busybox (Debian: busybox-static)")
    if not has_range():
        pytest.skip("this user has no range in /etc/subuid")
    rootfs = (
        ROOTFS + a.directory("bin") + a.file("bin/busybox", busybox.read_bytes(), mode=0o4755) + a.directory("sbin")
    )
    rootfs += a.file("etc/shells", b"/bin/busybox\n")
    if how == "convert":
        done = convert(work, {"User": "0"}, rootfs=rootfs)
    else:
        (work / "r.tar").write_bytes(rootfs + a.END)
        done = rootless("import", "r.tar", "-o", "b", cwd=work)
    assert done.returncode == 0, done.stderr
    script = "/bin/busybox --install -s /bin; export PATH=/bin;" + SETUP
    command = ["run", "-b", "b", f"c-{secrets.token_hex(4)}", "--", "/bin/busybox", "sh", "-c", script]
    ran = rootless("--root", work / "state", *command, cwd=work)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["100:50", "4755", "33", "44", "x", "chroot", "end"], ran.stdout


def test_set_user_id_program_gains_privileges_in_the_container(work: Path) -> None:
    """As with docker, because su and sudo would fail with noNewPrivileges."""
    busybox = Path("/bin/busybox")
    if not busybox.exists() or not has_range():
        pytest.skip("this needs /bin/busybox, and a range in /etc/subuid")
    rootfs = ROOTFS + a.directory("bin") + a.file("bin/busybox", busybox.read_bytes(), mode=0o755)
    assert convert(work, {"User": "web"}, rootfs=rootfs).returncode == 0
    script = "/bin/busybox grep -E '^(NoNewPrivs|CapEff|CapBnd):' /proc/self/status"
    command = ["run", "-b", "b", f"c-{secrets.token_hex(4)}", "--", "/bin/busybox", "sh", "-c", script]
    ran = rootless("--root", work / "state", *command, cwd=work)
    assert ran.stdout.split() == ["CapEff:", "0" * 16, "CapBnd:", "00000000a80425fb", "NoNewPrivs:", "0"], ran
