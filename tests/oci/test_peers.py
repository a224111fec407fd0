"""An archive that we convert and that umoci and podman unpack gives equal trees, and they run what we pack."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from oci.owners import decode
from oci.pack import FORMATS
from tests.support import archives as a
from tests.support.checkout import CHECKOUT
from tests.support.commands import IMAGES, pack, rootless, tree

MODERN = ["manifest-dive.tar", "manifest-opaque.tar", "manifest-whiteout-dir.tar", "manifest-whiteout.tar"]
LEGACY = ["semantics.tar", "chain-60.tar"]
FIXTURES = pytest.mark.skipif(not os.path.isdir(IMAGES), reason="the shared image archives are not on this machine")
OWN = "made-here"


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def modern_archive(name: str, work: Path) -> Path:
    """Return a docker archive that others read: we pack legacy ones again, from the converted bundle."""
    if name == OWN:
        how = {"uid": 3, "gid": 4, "mode": 0o4755}  # of the link too: podman takes a link's header for the file
        lower = a.directory("d") + a.file("d/f", b"f", **how) + a.hard_link("d/g", "d/f", **how)
        upper = (
            a.symlink("l", "d/f") + a.file("d/.wh.g", b"") + a.file("n" * 99, bytes(5000)) + a.directory("e", 0o1777)
        )
        path = work / "own.tar"
        path.write_bytes(a.docker_archive([lower + a.END, upper + a.END]))
        return path
    if name in LEGACY:
        run(CHECKOUT / "bin/rootless", "convert", "-q", IMAGES / name, "-o", "packed", cwd=work)
        packed = pack(work / "packed", work / "packed.tar", format="docker", tag="test:1")
        assert packed.returncode == 0, packed.stderr
        rootless("remove", "packed", cwd=work)
        return work / "packed.tar"
    return IMAGES / name


def ours(archive: Path, work: Path) -> dict[str, list[str]]:
    run(CHECKOUT / "bin/rootless", "convert", "-q", archive, "-o", "ours", cwd=work)
    rows = {row.split("\t")[0]: row.split("\t") for row in tree(work / "ours")}
    rootless("remove", "ours", cwd=work)
    return rows


def differences(mine: dict[str, list[str]], theirs: dict[str, list[str]], owners: bool) -> list[object]:
    """Return the entries that differ in path, type, mode, size, digest, links, attributes, owner or (except for
    directories) time.
    """
    found: list[object] = sorted(set(mine) ^ set(theirs))
    for path in set(mine) & set(theirs):
        fields = [1, 2, 5, 6, 8, 9] + ([3, 4] if owners else []) + ([7] if mine[path][1] != "d" else [])
        if path != "." and any(mine[path][i] != theirs[path][i] for i in fields):
            found.append((mine[path], theirs[path]))
    return found


@FIXTURES
@pytest.mark.skipif(not shutil.which("umoci") or not shutil.which("skopeo"), reason="umoci or skopeo is not installed")
@pytest.mark.parametrize("name", [*MODERN, *LEGACY, OWN])
def test_umoci_unpacks_the_same_tree(name: str, tmp_path: Path) -> None:
    archive = modern_archive(name, tmp_path)
    run("skopeo", "--insecure-policy", "copy", f"docker-archive:{archive}", "oci:layout:v1", cwd=tmp_path)
    run("umoci", "unpack", "--rootless", "--image", "layout:v1", "theirs", cwd=tmp_path)
    rootfs = tmp_path / "theirs/rootfs"
    theirs = {row.split("\t")[0]: row.split("\t") for row in tree(tmp_path / "theirs")}
    mine = ours(archive, tmp_path)
    for row in theirs.values():
        row[9] = ";".join(x for x in row[9].split(";") if not x.startswith("user.rootlesscontainers=")) or "-"
    assert differences(mine, theirs, owners=False) == []
    for path, row in mine.items():
        names = os.listxattr(rootfs / path, follow_symlinks=False) if row[1] in "fd" and "\\" not in path else []
        if "user.rootlesscontainers" in names:
            value = os.getxattr(rootfs / path, "user.rootlesscontainers")
            assert decode(value) == (int(row[3]), int(row[4])), path


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return podman with storage and run-time files of its own, so that it neither sees nor changes the user's."""
    short = tempfile.mkdtemp(prefix="rootless-")  # podman refuses a runroot of more than 50 characters
    monkeypatch.setenv("XDG_RUNTIME_DIR", short)
    command = ["podman", "--root", f"{tmp_path}/storage", "--runroot", f"{short}/run", "--tmpdir", f"{short}/tmp"]
    yield [*command, "--storage-driver", "vfs"]
    for path in Path(short).rglob("pause.pid"):  # what keeps its user namespace
        os.kill(int(path.read_text()), signal.SIGKILL)
    for left in (f"{tmp_path}/storage", short):
        rootless("unshare", "rm", "-rf", left, cwd=tmp_path)


@FIXTURES
@pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed")
@pytest.mark.parametrize("name", [*MODERN, *LEGACY, OWN])
def test_podman_unpacks_the_same_tree(name: str, podman: list[str], tmp_path: Path) -> None:
    archive = modern_archive(name, tmp_path)
    image = run(*podman, "load", "-q", "-i", archive, cwd=tmp_path).strip().rpartition(" ")[2]
    listing = f"{sys.executable} {CHECKOUT}/tests/support/listing.py"
    # the mount is gone with the shell's mount namespace for a user; root's vfs driver mounts nothing
    script = f"{listing} $({' '.join(podman)} image mount {image})"
    inside = ["sh", "-c", script] if os.geteuid() == 0 else [*podman, "unshare", "sh", "-c", script]
    theirs = {row.split("\t")[0]: row.split("\t") for row in run(*inside, cwd=tmp_path).splitlines()}
    for path in ("hard/s", "hard/s2"):
        if path in theirs:
            theirs[path][8] = "hard/s"  # its vfs driver copies layers and forgets that links are linked
    assert differences(ours(archive, tmp_path), theirs, owners=True) == []


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[list[str]]:
    """Return docker with a daemon of its own, which changes no network and says by sd_notify(3) when it is ready."""
    short = tempfile.mkdtemp(prefix="rootless-")  # the path of a socket has at most 107 bytes, unix(7)
    own = [f"--data-root={tmp_path}/data", f"--exec-root={short}/e", f"--pidfile={short}/pid", "--storage-driver=vfs"]
    own += ["--iptables=false", "--ip6tables=false", "--bridge=none", f"--containerd-namespace={short[5:]}"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, open(tmp_path / "log", "wb") as log:
        ready.bind(f"{short}/ready")
        environment = {**os.environ, "NOTIFY_SOCKET": f"{short}/ready"}
        command = ["unshare", "--mount", "dockerd", "-H", f"unix://{short}/s", *own]
        daemon = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            ready.settimeout(120)
            while b"READY=1" not in ready.recv(4096):
                pass
            yield ["docker", "-H", f"unix://{short}/s"]
        finally:
            daemon.terminate()
            daemon.wait()
            shutil.rmtree(short)


@FIXTURES
@pytest.mark.client
@pytest.mark.root
@pytest.mark.skipif(not shutil.which("dockerd") or os.geteuid() != 0, reason="needs root and docker's daemon")
def test_docker_loads_what_was_packed(docker: list[str], tmp_path: Path) -> None:
    run(CHECKOUT / "bin/rootless", "convert", "-q", IMAGES / "busyboxtest-v1.tar", "-o", "b", cwd=tmp_path)
    (tmp_path / "b/rootfs/new").write_text("changed")
    for layout in FORMATS:
        packed = pack(tmp_path / "b", tmp_path / f"{layout}.tar", format=layout, tag=f"packed:{layout}")
        assert packed.returncode == 0, packed.stderr
        run(*docker, "load", "-i", f"{layout}.tar", cwd=tmp_path)
        made = run(*docker, "create", "--network=none", f"packed:{layout}", cwd=tmp_path).strip()
        run(*docker, "cp", f"{made}:/new", tmp_path / layout, cwd=tmp_path)
        assert (tmp_path / layout).read_text() == "changed"
        run(*docker, "rm", made, cwd=tmp_path)


@FIXTURES
@pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed")
@pytest.mark.parametrize("layout", ["oci", "docker"])
def test_podman_runs_what_was_packed(
    layout: str, podman: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """podman uses our own runtime, because crun refuses the cgroups of some machines and
    runc those of ordinary users.
    """
    run(CHECKOUT / "bin/rootless", "convert", "-q", IMAGES / "busybox.tar", "-o", "b", cwd=tmp_path)
    inside = rootless("unshare", "sh", "-c", "echo changed > b/rootfs/new; rm b/rootfs/bin/arch", cwd=tmp_path)
    assert inside.returncode == 0, inside.stderr
    packed = pack(tmp_path / "b", tmp_path / "packed.tar", format=layout, tag="packed:1", change=["ENV A=b"])
    assert packed.returncode == 0, packed.stderr
    rootless("remove", "b", cwd=tmp_path)
    (tmp_path / "containers.conf").write_text(
        "[engine]\nruntime_supports_nocgroup = ['rootless']\nruntime_supports_json = ['rootless']\n"
        f"events_logger = 'file'\n[engine.runtimes]\nrootless = ['{CHECKOUT}/bin/rootless']\n"
    )
    monkeypatch.setenv("CONTAINERS_CONF", f"{tmp_path}/containers.conf")
    run(*podman, "load", "-q", "-i", tmp_path / "packed.tar", cwd=tmp_path)
    options = [
        "--rm",
        "--cgroups=disabled",
        "--network=none",
        "--ulimit=nofile=1024:1024",
        "--ulimit=nproc=30000:30000",
    ]
    script = "cat /new; test -e /bin/arch || echo gone; echo $A"
    command = [*podman, "--runtime=rootless", "run", *options, "localhost/packed:1", "/bin/sh", "-c", script]
    assert run(*command, cwd=tmp_path).split() == ["changed", "gone", "b"]
