"""Convert every fixture with a static binary or a shell, and run it at once, in every owner mode."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

import pytest

from tests.support.commands import IMAGES, rootless

SHELLS = [
    "busybox.tar", "busyboxtest-v1.tar", "legacy-alpine-3.10.tar.gz", "manifest-alpine-3.10.tar.gz",
    "legacy-dive.tar", "manifest-dive.tar", "hybrid-dive.tar", "busybox-rootfs.tar", "rootfs-amd64.tar.gz",
]  # fmt: skip
HELLO = ["legacy-hello-world.tar", "manifest-hello-world.tar", "oci-amd64.tar"]  # the hybrid one is for arm64

pytestmark = [
    pytest.mark.skipif(not os.path.isdir(IMAGES), reason="the shared image archives are not on this machine"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the programs in the archives are for x86_64"),
]


def output(work: Path, archive: str, *command: str, owners: str = "") -> str:
    how = "import" if archive.startswith(("busybox-rootfs", "rootfs-", "bundle-")) else "convert"
    flags = ["--owners", owners] if owners else []
    converted = rootless(how, "-q", IMAGES / archive, "-o", "bundle", *flags, cwd=work)
    assert converted.returncode == 0, converted.stderr
    try:
        container = f"c-{secrets.token_hex(4)}"
        done = rootless("--root", work / "state", "run", "-b", "bundle", container, *command, cwd=work)
    finally:
        removed = rootless("remove", "bundle", cwd=work)
    assert removed.returncode == 0, removed.stderr
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("archive", SHELLS)
def test_shell_runs(archive: str, tmp_path: Path) -> None:
    assert output(tmp_path, archive, "--", "/bin/sh", "-c", "echo $((6*7)) $$").split() == ["42", "1"]


@pytest.mark.parametrize("archive", HELLO)
def test_program_of_the_image_runs(archive: str, tmp_path: Path) -> None:
    assert "Hello from Docker" in output(tmp_path, archive)


def test_shell_of_a_tree_below_the_root_runs(tmp_path: Path) -> None:
    shown = output(tmp_path, "bundle-youki.tar.gz", "--", "/bundle/rootfs/bin/sh", "-c", "echo $((6*7)) $$")
    assert shown.split() == ["42", "1"]


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_volumes_hold_what_the_image_has_there_and_can_be_written(kind: str, tmp_path: Path) -> None:
    changes = ["--change", 'VOLUME ["/data", "/etc"]', "--volumes", kind]
    converted = rootless("import", "-q", IMAGES / "busybox-rootfs.tar", "-o", "made", *changes, cwd=tmp_path)
    assert converted.returncode == 0, converted.stderr
    (tmp_path / "made").rename(tmp_path / "moved")
    script = "echo new > /data/new; touch /etc/new; ls /data /etc/passwd /etc/new"
    command = ["run", "-b", "moved", f"c-{secrets.token_hex(4)}", "--", "/bin/sh", "-ec", script]
    done = rootless("--root", tmp_path / "state", *command, cwd=tmp_path)
    made = (tmp_path / "moved/rootfs/etc/new").exists(), (tmp_path / "moved/volumes/0/new").exists()
    rootless("remove", "moved", cwd=tmp_path)
    assert done.stdout.split() == ["/etc/new", "/etc/passwd", "/data:", "new"], done.stderr
    assert made == (False, kind == "bind")


@pytest.mark.parametrize("owners", ["xattr", "squash"])
@pytest.mark.parametrize("archive", [*SHELLS[1:], *HELLO])
def test_every_owner_mode_runs(archive: str, owners: str, tmp_path: Path) -> None:
    if archive in HELLO:
        assert "Hello from Docker" in output(tmp_path, archive, owners=owners)
    else:
        command = ["--", "/bin/sh", "-c", "echo $((6*7)) $$"]
        assert output(tmp_path, archive, *command, owners=owners).split() == ["42", "1"]


@pytest.mark.parametrize("owners", ["xattr", "squash"])
def test_bundle_without_a_map_runs(owners: str, tmp_path: Path) -> None:
    shown = output(tmp_path, "busybox.tar", "--", "/bin/sh", "-c", "id -u; cat /proc/self/uid_map", owners=owners)
    assert shown.splitlines()[0] == "0"
    if os.geteuid():
        assert shown.split()[1:] == ["0", str(os.geteuid()), "1"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root has all ids: this is about a user with one")
def test_user_of_the_image_runs_with_a_single_id(tmp_path: Path) -> None:
    converted = rootless("convert", "-q", IMAGES / "busybox.tar", "-o", "b", "--owners", "squash", cwd=tmp_path)
    assert converted.returncode == 0, converted.stderr
    config = json.loads((tmp_path / "b/config.json").read_text())
    for ids in ("uidMappings", "gidMappings"):
        config["linux"][ids][0]["containerID"] = 33
    config["process"] |= {
        "user": {"uid": 33, "gid": 33},
        "args": ["/bin/sh", "-c", "id -u; echo x > /f; stat -c %u /f"],
    }
    (tmp_path / "b/config.json").write_text(json.dumps(config))
    done = rootless("--root", tmp_path / "state", "run", "-b", "b", f"c-{secrets.token_hex(4)}", cwd=tmp_path)
    rootless("remove", "b", cwd=tmp_path)
    assert done.stdout.split() == ["33", "33"], done.stderr
