"""overlay as a mount of config.json and as the root itself, and a rootfs on other file systems."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

USER = os.geteuid() != 0
PROBE = "cat /m/below; echo new > /m/below; rm /m/gone; mkdir /m/dir2; rm -r /m/dir; mkdir /m/dir; ls /m"


@pytest.fixture
def layers(tmp_path):
    """Return {lowerdir, upperdir, workdir} as directories; the lower one has files."""
    made = {name: tmp_path / "layers" / name for name in ("lowerdir", "upperdir", "workdir")}
    for directory in made.values():
        directory.mkdir(parents=True)
    (made["lowerdir"] / "below").write_text("from below\n")
    (made["lowerdir"] / "gone").write_text("")
    (made["lowerdir"] / "dir").mkdir()
    (made["lowerdir"] / "dir/file").write_text("")
    return made


def overlay(destination: str, layers: dict[str, Path]) -> dict[str, object]:
    options = [f"{name}={path}" for name, path in layers.items()]
    return {"destination": destination, "type": "overlay", "source": "overlay", "options": options}


def test_an_overlay_mount(container, layers) -> None:
    """The upper directory gets what is changed, removed and made anew, also a user's opaque directories (userxattr)."""
    c = container({"root": {"readonly": False}})
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], overlay("/m", layers)]})
    out = c.sh(PROBE)
    assert out.split("\n") == ["from below", "below", "dir", "dir2", ""]
    assert (layers["lowerdir"] / "below").read_text() == "from below\n"
    assert (layers["upperdir"] / "below").read_text() == "new\n"
    assert sorted(os.listdir(layers["upperdir"])) == ["below", "dir", "dir2", "gone"]
    assert c.sh("ls /m; ls /m/dir") == "below\ndir\ndir2\n"  # without the removed files of the lower one


def test_an_overlay_of_lower_directories_alone(container, layers, tmp_path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top/below").write_text("from the top\n")
    mount = {"destination": "/m", "type": "overlay", "source": "overlay",
             "options": [f"lowerdir={tmp_path}/top:{layers['lowerdir']}"]}  # fmt: skip
    c = container({"root": {"readonly": False}})
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], mount]})
    assert c.sh("cat /m/below; ls /m; touch /m/x 2>&1; true").split("\n")[:2] == ["from the top", "below"]


def test_an_overlay_as_the_root(container, layers) -> None:
    """The bundle's rootfs does not change, because it is the lower directory of the first mount, on `/`."""
    c = container({"root": {"readonly": False}})
    root = overlay("/", {**layers, "lowerdir": c.bundle.rootfs})
    c.bundle.patch({"mounts": [root, *c.bundle.config["mounts"]]})
    assert c.sh("echo x > /etc/new; rm /etc/passwd; cat /etc/new; awk '$5==\"/\" {print $9}' /proc/self/mountinfo"
                ).split() == ["x", "overlay"]  # fmt: skip
    assert (c.bundle.rootfs / "etc/passwd").exists() and not (c.bundle.rootfs / "etc/new").exists()
    assert (layers["upperdir"] / "etc/new").read_text() == "x\n"


def test_paths_that_do_not_fit_in_a_page_of_options(container, rootless, layers, tmp_path) -> None:
    """mount(2) would cut them off, and say that a directory does not exist."""
    deep = tmp_path.joinpath(*["x" * 200] * 8, "a:b,c\\d")
    deep.mkdir(parents=True)
    moved = {name: path.rename(deep / name) for name, path in layers.items()}
    escaped = {}
    for name, path in moved.items():
        escaped[name] = str(path).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
    (tmp_path / "top").mkdir()
    escaped["lowerdir"] = f"{tmp_path}/top:{escaped['lowerdir']}"
    c = container({"root": {"readonly": False}})
    mounts = c.bundle.config["mounts"]
    c.bundle.patch({"mounts": [*mounts, overlay("/m", escaped)]})
    assert c.sh("cat /m/below; echo new > /m/below") == "from below\n"
    assert (moved["upperdir"] / "below").read_text() == "new\n"
    many = ":".join([str(tmp_path / "top")] * 300)
    c.bundle.patch({"mounts": [*mounts, overlay("/m", {**escaped, "lowerdir": many})]})
    result = rootless("run", "-b", c.bundle.path, c.id)
    assert "options of the mount on /m are longer than the 4095 bytes that mount(2) takes" in result.stderr


def test_a_layer_that_is_not_there_is_named(container, rootless, layers) -> None:
    layers["lowerdir"] = Path("/no/such/layer")
    c = container()
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], overlay("/tmp", layers)]})
    result = c.create()
    assert result.returncode == 1 and "/mounts/7" in result.stderr and result.stderr.count("\n") == 1
    assert rootless.ids() == []


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="this machine lacks a tmpfs at /dev/shm")
def test_a_rootfs_on_a_tmpfs_without_devices_and_set_user_id(container) -> None:
    """/dev/shm is mounted nosuid and nodev, as network file systems are; the container's own /dev is not."""
    c = container()
    rootfs = Path(f"/dev/shm/{c.id}")
    shutil.copytree(c.bundle.rootfs, rootfs, symlinks=True)
    try:
        rootfs.chmod(0o755)
        c.bundle.patch({"root": {"path": str(rootfs)}})
        assert c.sh("echo x > /dev/null; head -c 3 /dev/zero | wc -c") == "3\n"
    finally:
        shutil.rmtree(rootfs)


@pytest.mark.skipif(not shutil.which("unshare"), reason="this machine lacks unshare(1)")
def test_a_rootfs_on_overlay(container, layers, rootless) -> None:
    """The overlay is in the caller's own mount namespace, as podman and buildah have it."""
    c = container({"process": {"args": ["cat", "/below"]}})
    if USER:
        for key in ("uidMappings", "gidMappings"):
            del c.bundle.config["linux"][key]
        kinds = c.bundle.config["linux"]["namespaces"]
        c.bundle.config["linux"]["namespaces"] = [n for n in kinds if n["type"] != "user"]
    merged = layers["upperdir"].parent / "merged"
    merged.mkdir()
    layers["lowerdir"] = f"{layers['lowerdir']}:{c.bundle.rootfs}"
    options = ",".join([f"{name}={path}" for name, path in layers.items()] + ["userxattr"] * USER)
    c.bundle.patch({"root": {"path": str(merged)}})
    argv = ["unshare", *(["--user", "--map-root-user"] * USER), "--mount", "sh", "-c"]
    argv += [f'mount -t overlay overlay -o "$0" {merged} && exec "$@"', options]
    argv += rootless.command("run", "-b", c.bundle.path, c.id)
    result = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "from below\n"), result.stderr
