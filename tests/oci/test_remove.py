"""`remove` refuses mounts and running containers before it removes anything."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oci.errors import OciError
from oci.mounts import refuse_mounts
from oci.remove import remove_tree
from tests.support import archives as a
from tests.support.checkout import CHECKOUT, LAUNCHER
from tests.support.commands import Result, rootless

ROOTFS = a.directory("bin") + a.directory("data") + a.file("data/old") + a.file("file", b"data")
BUSYBOX = Path("/bin/busybox")


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    """Return a bundle beside a directory whose contents must not change."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis").write_text("years of work")
    (tmp_path / "image.tar").write_bytes(a.docker_archive([ROOTFS + a.END]))
    done = rootless("convert", "image.tar", "-o", "b", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    yield tmp_path / "b"
    if (tmp_path / "b").exists():
        assert rootless("remove", "b", cwd=tmp_path).returncode == 0


def in_namespace(script: str, work: Path) -> Result:
    """Return a shell that may mount, in mount and user namespaces of its own; $R is the program."""
    command = ["unshare", "--map-root-user", "--mount", "--propagation", "private", "sh", "-ec", script]
    done = subprocess.run(
        command, cwd=work, capture_output=True, text=True, check=False, env={**os.environ, "R": LAUNCHER}
    )
    if "unshare: " in done.stderr:
        pytest.skip("no user namespace can be made by unshare here")
    return done


def check_kept(bundle: Path) -> None:
    assert (bundle.parent / "mine/thesis").read_text() == "years of work"
    assert (bundle / "rootfs/data/old").exists() and (bundle / "config.json").exists()
    assert sorted(os.listdir(bundle.parent)) == ["b", "image.tar", "mine"], "nothing else is left"


@pytest.mark.parametrize(
    ("mount", "place"),
    [
        ("mount --bind mine b/rootfs/data", "b/rootfs/data"),
        ("mount --bind mine/thesis b/rootfs/file", "b/rootfs/file"),
        ("mount -t tmpfs none b/rootfs/bin", "b/rootfs/bin"),
        ("mount --bind b/rootfs/bin b/rootfs/data", "b/rootfs/data"),
        ("mkdir 'b/rootfs/bin/a b'; mount --bind mine 'b/rootfs/bin/a b'", "b/rootfs/bin/a b"),
        ("mount --bind b b", "b"),
        ("mount --bind mine b/rootfs/data; mkdir -p b/rootfs/bin/x; mount --bind mine b/rootfs/bin/x", "b/rootfs/"),
    ],
)
@pytest.mark.parametrize("command", ["remove b", "convert image.tar -o b --force", "remove --force ./b/"])
def test_mount_inside_is_refused_before_anything_is_removed(bundle: Path, mount: str, place: str, command: str) -> None:
    done = in_namespace(f"{mount}; set +e; $R {command}; echo code $?; ls mine", bundle.parent)
    assert done.stdout.split() == ["code", "1", "thesis"], done
    assert f"{bundle.parent}/{place}" in done.stderr and "EBUSY" in done.stderr and done.stderr.count("\n") == 1, done
    assert "umount" in done.stderr
    check_kept(bundle)


def test_mount_that_is_seen_by_another_path_is_refused(bundle: Path) -> None:
    script = "mkdir view; mount --bind . view; mount --bind mine b/rootfs/data; set +e; $R remove view/b; echo code $?"
    done = in_namespace(script, bundle.parent)
    (bundle.parent / "view").rmdir()
    assert done.stdout == "code 1\n" and f"{bundle.parent}/view/b/rootfs/data" in done.stderr, done
    check_kept(bundle)


def test_mount_of_another_namespace_is_refused_with_its_process(bundle: Path) -> None:
    script = "mount --bind mine b/rootfs/data && echo mounted && exec sleep 600"
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
    with subprocess.Popen(
        command, cwd=bundle.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        if other.stdout.readline() != "mounted\n":
            pytest.skip("no user namespace can be made by unshare here")
        try:
            for command in (["remove", "b"], ["convert", "image.tar", "-o", "b", "--force"]):
                done = rootless(*command, cwd=bundle.parent)
                assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
                assert f"process {other.pid} " in done.stderr and f"{bundle}/rootfs/data" in done.stderr, done.stderr
                check_kept(bundle)
        finally:
            other.kill()


@pytest.mark.skipif(not shutil.which("fuse-overlayfs"), reason="fuse-overlayfs is not installed")
def test_users_own_fuse_mount_is_refused_with_the_way_to_undo_it(bundle: Path) -> None:
    os.makedirs(bundle.parent / "lower")
    (bundle.parent / "lower/f").write_text("x")
    mounted = subprocess.run(
        ["fuse-overlayfs", "-o", "lowerdir=lower", "b/rootfs/data"], cwd=bundle.parent, capture_output=True, check=False
    )
    if mounted.returncode:
        (bundle.parent / "lower/f").unlink()
        (bundle.parent / "lower").rmdir()
        pytest.skip("this user may not mount FUSE file systems here")
    try:
        done = rootless("remove", "b", cwd=bundle.parent)
        assert done.returncode == 1 and f"fusermount3 -u {bundle}/rootfs/data" in done.stderr, done.stderr
        assert (bundle / "rootfs/data/f").read_text() == "x" and (bundle / "config.json").exists()
    finally:
        subprocess.run(["fusermount3", "-u", "b/rootfs/data"], cwd=bundle.parent, check=True)
        shutil.rmtree(bundle.parent / "lower")


@pytest.mark.parametrize("command", ["prune", "prune --max-size 1"])
def test_mount_in_the_cache_is_refused(bundle: Path, command: str) -> None:
    place = bundle.parent / "cache/rootless/trees"
    env = {**os.environ, "XDG_CACHE_HOME": str(bundle.parent / "cache")}
    assert rootless("convert", "image.tar", "-o", "c", "--cache", cwd=bundle.parent, env=env).returncode == 0
    assert rootless("remove", "c", cwd=bundle.parent).returncode == 0
    (tree,) = (name for name in os.listdir(place) if not name.startswith("."))
    (place / ".left.1234").mkdir()
    script = (
        f"export XDG_CACHE_HOME=$PWD/cache; mount --bind mine {place}/{tree}/rootfs/data; set +e; $R cache {command}"
    )
    done = in_namespace(script + "; echo code $?", bundle.parent)
    assert done.stdout == "code 1\n" and f"{place}/{tree}/rootfs/data" in done.stderr, done
    assert (bundle.parent / "mine/thesis").exists() and (place / tree / "tree.json").exists()
    assert (place / ".left.1234").exists(), "nothing was removed before"
    assert rootless("cache", "prune", cwd=bundle.parent, env=env).returncode == 0
    shutil.rmtree(bundle.parent / "cache")


def test_mount_that_comes_after_the_look_is_not_entered(tmp_path: Path) -> None:
    """The test leaves out the first search for mounts, so the removal itself has to stop at a mount."""
    script = (
        f"import sys, os; sys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from oci import remove\n"
        "remove.refuse_mounts = lambda path: None\n"
        "try:\n    remove.remove_tree('b')\nexcept Exception as error:\n    print(error)\n"
        "print(os.listdir('mine'))\n"
    )
    (tmp_path / "b/in").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis").write_text("x")
    (tmp_path / "script").write_text(script)
    done = in_namespace(f"mount --bind mine b/in; {sys.executable} script", tmp_path)
    assert "mounted here meanwhile" in done.stdout and "['thesis']" in done.stdout, done


def test_tree_without_mounts_and_a_missing_one_are_removed(tmp_path: Path) -> None:
    refuse_mounts(str(tmp_path / "missing"), elsewhere=True)
    remove_tree(str(tmp_path / "missing"))
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    refuse_mounts(str(tmp_path / "a"), elsewhere=True)
    remove_tree(str(tmp_path / "link"))
    assert os.listdir(tmp_path) == ["a"]
    remove_tree(str(tmp_path / "a"))
    assert os.listdir(tmp_path) == []
    with pytest.raises(OciError, match="EBUSY"):
        refuse_mounts("/proc")


def test_image_in_the_bundle_that_it_would_replace_is_kept(bundle: Path) -> None:
    (bundle / "image.tar").write_bytes((bundle.parent / "image.tar").read_bytes())
    done = rootless("convert", "b/image.tar", "-o", "b", "--force", cwd=bundle.parent)
    assert done.returncode == 1 and "would replace" in done.stderr and (bundle / "image.tar").exists(), done.stderr


# Running containers


@pytest.fixture
def running(bundle: Path) -> Iterator[tuple[Path, str]]:
    """Return (the bundle, the id of a container that runs in it)."""
    if not BUSYBOX.exists():
        pytest.skip("this machine lacks /bin/busybox (Debian: busybox-static)")
    work, name = bundle.parent, f"c-{secrets.token_hex(4)}"
    layer = ROOTFS + a.file("bin/busybox", BUSYBOX.read_bytes(), mode=0o755) + a.END
    (work / "image.tar").write_bytes(a.docker_archive([layer], {"Cmd": ["/bin/busybox", "sleep", "600"]}))
    assert rootless("convert", "image.tar", "-o", "b", "--force", cwd=work).returncode == 0
    command = [LAUNCHER, "--root", "state", "run", "--detach", "-b", "b", name]
    with (work / "out").open("w") as out:
        started = subprocess.run(command, cwd=work, stdout=out, stderr=out, stdin=subprocess.DEVNULL, check=False)
    assert started.returncode == 0, (work / "out").read_text()
    yield bundle, name
    rootless("--root", "state", "delete", "--force", name, cwd=work)


def test_bundle_of_a_running_container_is_refused_with_its_id(running: tuple[Path, str]) -> None:
    bundle, name = running
    work = bundle.parent
    for command in (["remove", "b"], ["convert", "image.tar", "-o", "b", "--force"], ["remove", "./b/"]):
        done = rootless("--root", "state", *command, cwd=work)
        assert done.returncode == 1 and f'"{name}"' in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert (bundle / "rootfs/bin/busybox").exists()
    state = rootless("--root", "state", "state", name, cwd=work)
    assert json.loads(state.stdout)["status"] == "running"
    done = rootless("--root", "state", "remove", "--force", "b", cwd=work)
    assert done.returncode == 0, done.stderr
    assert not bundle.exists() and rootless("--root", "state", "state", name, cwd=work).returncode == 1


def test_container_of_another_state_directory_is_seen_by_its_mounts(running: tuple[Path, str]) -> None:
    bundle, name = running
    done = rootless("--root", "elsewhere", "remove", "b", cwd=bundle.parent)
    pid = json.loads(rootless("--root", "state", "state", name, cwd=bundle.parent).stdout)["pid"]
    assert done.returncode == 1 and f"process {pid} " in done.stderr, done.stderr
    assert (bundle / "rootfs/bin/busybox").exists()
