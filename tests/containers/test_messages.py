"""For each kind of mistake of a new user, the line names what is wrong and what to type, and nothing is left."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import archives
from tests.support.checkout import LAUNCHER, TIMEOUT
from tests.support.containers import USER, Container, Result, Rootless


def said(result: Result, *words: str) -> str:
    """Return the only line of a command that failed, after checking that it holds all these words."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("rootless: warning: ")]
    assert result.returncode and len(lines) == 1, (result.returncode, result.stderr)
    for word in words:
        assert word in lines[0], lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("operand", "words"),
    [
        ("./nosuch", ["no such bundle: ./nosuch", "rootless convert IMAGE.tar -o ./nosuch"]),
        ("alpine", ["no bundle 'alpine' here", "nothing is pulled", "docker-archive:alpine.tar:alpine"]),
        ("alpine.tar", ["ENOENT", "nothing is pulled: skopeo copy docker://alpine docker-archive:alpine.tar:alpine"]),
        ("docker://alpine", ["skopeo copy docker://alpine docker-archive:alpine.tar:alpine"]),
        ("docker.io/library/alpine:3", ["skopeo copy docker://docker.io/library/alpine:3 ", ":alpine:3"]),
        ("docker-daemon:box:1", ["docker save -o box.tar box:1"]),
        ("containers-storage:box", ["podman save -o box.tar box"]),
        ("oci-archive:box.tar", ["the path alone is enough: box.tar"]),
        ("https://example.org/box.tar", ["curl -LO https://example.org/box.tar"]),
    ],
)
@pytest.mark.parametrize("command", ["run", "convert"])
def test_what_is_not_there(rootless: Rootless, tmp_path: Path, command: str, operand: str, words: list[str]) -> None:
    if command == "convert":
        words = [word for word in words if "bundle" not in word and "convert" not in word]
    said(rootless(command, operand, cwd=tmp_path), *words)
    assert rootless.ids() == []


@pytest.mark.parametrize("command", ["run", "explain", "remove", "pack"])
def test_a_mistyped_bundle(rootless: Rootless, container, command: str) -> None:
    c = container()
    (c.bundle.path / ".oci").mkdir()
    wrong = f"./{c.bundle.path.name}x"
    said(rootless(command, wrong, cwd=c.bundle.path.parent), f"did you mean ./{c.bundle.path.name}?")


@pytest.mark.parametrize("words", [("convert", "x.tar"), ("import", "x.tar"), ("pack", "b")], ids=lambda w: w[0])
def test_an_output_without_its_flag(rootless: Rootless, words: tuple[str, str]) -> None:
    said(rootless(*words, "there"), "unexpected argument 'there'", f"hint: rootless {' '.join(words)} --output there")


def test_a_mistyped_archive(rootless: Rootless, tmp_path: Path) -> None:
    (tmp_path / "image.tar").touch()
    for command in ("run", "convert", "import", "inspect"):
        said(rootless(command, "imgae.tar", cwd=tmp_path), "did you mean ./image.tar?")
    said(rootless("run", "image", cwd=tmp_path), "did you mean ./image.tar?")


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"PK\3\4" + b"x" * 100, "a zip file"),
        (b"FROM alpine\nRUN ls\n", "a Dockerfile"),
        (b"\x7fELF" + b"\1" * 1000, "a program"),
        (b"<!DOCTYPE html>", "HTML"),
        (b'{"a": 1}', "a JSON file"),
        (b"hsqs" + b"\0" * 1000, "squashfs"),
    ],
)
@pytest.mark.parametrize("name", ["image.tar", "image"])
def test_what_is_not_an_archive(rootless: Rootless, tmp_path: Path, name: str, head: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(head)
    for command in ("run", "convert", "import", "inspect"):
        said(rootless(command, name, cwd=tmp_path), "not a tar archive: it looks like", what)
    assert sorted(os.listdir(tmp_path)) == [name]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--log-level", "loud", "list"), ["unknown log-level 'loud'", "trace, debug, info, warning or error"]),
        (("doctor", "./bundle2"), ["no such bundle or image archive: ./bundle2", "did you mean ./bundle?"]),
        (("spec", "--validate", "./bundle2"), ["no such bundle: ./bundle2", "did you mean ./bundle?"]),
        (("convert", "bundle"), ["this is a bundle already, not an image archive", "rootless run bundle"]),
        (("run", "--cap-add", "FOO", "./bundle"), ["unknown capability", "capabilities(7) lists them"]),
        (("run", "--cap-add", "sys_ptrac", "./bundle"), ["unknown capability", "did you mean 'CAP_SYS_PTRACE'?"]),
        (("kill", "none", "WINCHX"), ["unknown signal 'WINCHX'", "did you mean 'WINCH'?"]),
        (("kill", "none", "xyzzy"), ["unknown signal 'xyzzy'", "a name such as TERM"]),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_a_word_that_is_nearly_right(
    container, rootless: Rootless, words: tuple[str, ...], expected: list[str]
) -> None:
    c = container()
    c.bundle.path.parent.joinpath("bundle").symlink_to(c.bundle.path)
    said(rootless(*words, cwd=c.bundle.path.parent), *expected)


def test_a_place_in_which_no_directory_can_be_made(rootless: Rootless, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(archives.docker_archive([archives.file("x") + archives.END]))
    line = said(
        rootless("convert", "image.tar", "-o", "/proc/b", cwd=tmp_path), "no directory can be made there: /proc"
    )
    assert "does not exist" not in line


def test_an_overlay_of_what_is_not_there(container) -> None:
    mount = {"destination": "/mnt", "type": "overlay", "source": "overlay", "options": ["lowerdir=/nosuch"]}
    line = said(container({"mounts": [mount]}).create(), "cannot mount overlay overlay on /mnt: /mounts/0: ENOENT")
    assert "lowerdir, upperdir and workdir have to exist" in line and "/proc/self/fd" not in line


def test_an_output_in_a_missing_directory(rootless: Rootless, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").touch()
    subprocess.run(["tar", "-C", root, "-cf", tmp_path / "root.tar", "."], check=True)
    place = tmp_path / "nosuch"
    said(rootless("import", "root.tar", "-o", place / "b", cwd=tmp_path), f"{place} does not exist")
    (tmp_path / "file").touch()
    said(rootless("import", "root.tar", "-o", "file", cwd=tmp_path), "there is a file where the bundle would be")


@pytest.mark.parametrize("config", ["{}", '{"ociVersion": "1.0.2", "root": {}}', '{"ociVersion": 1}'])
def test_an_error_of_the_config_names_the_file(container, config: str) -> None:
    c: Container = container()
    (c.bundle.path / "config.json").write_text(config)
    assert said(c.create()).startswith("rootless: config.json: ")
    (c.bundle.path / "other.json").write_text(config)
    other = c.bundle.path / "other.json"
    assert said(c.create("--config", str(other))).startswith(f"rootless: {other}: ")


def test_a_missing_root(container) -> None:
    said(container({"root": None}).create(), 'config.json: "root" is missing')


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-v", "/tmp:/etc/passwd"], "source /tmp is a directory, destination /etc/passwd is a file"),
        (["-v", "/etc/passwd:/tmp"], "source /etc/passwd is a file, destination /tmp is a directory"),
        (["--mount", "type=bind,src=/tmp,dst=/etc/passwd"], "source /tmp is a directory"),
        (["--tmpfs", "/etc/passwd"], "the destination /etc/passwd is a file"),
        (["--tmpfs", "/etc/passwd/x"], "/etc/passwd is a file, not a directory"),
        (["-v", "/tmp:/etc/passwd/x"], "/etc/passwd is a file, not a directory"),
    ],
)
def test_a_mount_on_something_of_another_kind(container, flags: list[str], words: str) -> None:
    said(container().run("true", flags=tuple(flags)), words, "/mounts/")


@pytest.mark.skipif(not USER, reason="root may mount them")
def test_a_block_device(container) -> None:
    fstypes = [line.strip() for line in Path("/proc/filesystems").read_text().splitlines() if line[0] == "\t"]
    if not fstypes:
        pytest.skip("this kernel has no file system for block devices")
    mount = {"destination": "/mnt", "type": fstypes[0], "source": "/dev/nosuch"}
    words = f"cannot mount {fstypes[0]} /dev/nosuch on /mnt: only root may mount block devices"
    said(container({"mounts": [mount]}).create(), words, "EPERM")


def test_an_id_in_use(container, rootless: Rootless) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    bundle = os.path.relpath(c.bundle.path, c.bundle.path.parent)
    again = rootless("create", "-b", bundle, c.id, cwd=c.bundle.path.parent)
    words = (f"rootless create -b {bundle} {c.id}2", f"rootless exec {c.id}", f"rootless delete -f {c.id}")
    said(again, "already exists: it is running since ", *words)


@pytest.mark.parametrize("command", [["state"], ["kill"], ["delete"], ["start"], ["exec", "true"], ["stop"], ["pause"]])
def test_a_mistyped_id(container, rootless: Rootless, command: list[str]) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    said(rootless(command[0], c.id[:-2], *command[1:]), "does not exist", f"did you mean '{c.id}'?")


@pytest.mark.parametrize("words", [["ID", "-9"], ["-9", "ID"], ["-KILL", "ID"], ["ID", "-SIGKILL"]])
def test_kill_takes_a_signal_with_a_dash(container, rootless: Rootless, words: list[str]) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    done = rootless("kill", *(c.id if word == "ID" else word for word in words))
    assert done.returncode == 0, done.stderr
    c.wait()


def test_limits_with_cgroups_disabled(container, rootless: Rootless) -> None:
    c = container()
    flags = ("--cgroup-manager", "disabled", "run", "-m", "5m", "-b", c.bundle.path, c.id)
    said(rootless(*flags), "cgroups are disabled by --cgroup-manager")
    assert rootless.ids() == []


def test_update_without_a_cgroup_has_the_hint_of_create(container, rootless: Rootless) -> None:
    c = container({"process": {"args": ["sleep", "1000"]}})
    assert rootless("--cgroup-manager", "disabled", "create", "-b", c.bundle.path, c.id, **_quiet()).returncode == 0
    line = said(rootless("update", c.id, "--pids-limit", "100"), "the container has no cgroup")
    from rootless.cgroup import without_cgroup

    assert line.endswith(f"hint: {without_cgroup().text}")


def _quiet() -> dict[str, object]:
    return {"capture_output": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.mark.skipif(not USER, reason="root may enter every directory")
def test_a_rootfs_that_cannot_be_entered(container) -> None:
    c = container({"process": {"args": ["/bin/sh"]}})
    c.bundle.rootfs.chmod(0)
    try:
        result = c.create()
    finally:
        c.bundle.rootfs.chmod(0o755)
    if result.returncode:  # root of a user namespace enters it all the same where its files are mapped
        said(result, "rootfs")


@pytest.mark.skipif(not USER, reason="the test's mounts are made in a user namespace")
def test_a_noexec_file_system(container, rootless: Rootless) -> None:
    c = container({"process": {"args": ["/bin/busybox", "true"]}})
    place = c.bundle.path.parent / "noexec"
    place.mkdir()
    c.bundle.patch({"linux": {"uidMappings": None, "gidMappings": None}})
    script = (
        'mount -t tmpfs -o noexec none "$1" && cp -a "$2" "$1/b" && cd "$1" && '
        'exec "$3" -IS "$4" --root "$1/state" run ./b'
    )
    command = ["unshare", "-rm", "sh", "-c", script, "sh", place, c.bundle.path, sys.executable, LAUNCHER]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if "unshare" in done.stderr:
        pytest.skip("no user namespace can be made here")
    assert done.returncode and "noexec" in done.stderr.splitlines()[-1], done.stderr
    assert "put the bundle elsewhere" in done.stderr
    shutil.rmtree(place)


@pytest.mark.skipif(not USER, reason="the limits are those of a user namespace")
@pytest.mark.parametrize("kind", ["user", "mnt", "pid", "net", "ipc", "uts"])
def test_the_limit_of_namespaces_that_is_reached_is_named(container, kind: str) -> None:
    c = container()
    command = f'echo 0 >/proc/sys/user/max_{kind}_namespaces && exec "$@"'
    state = str(c.bundle.path.parent / "state2")
    words = [sys.executable, "-IS", str(LAUNCHER), "--root", state]
    ran = [*words, "run", "-b", str(c.bundle.path), "x"]
    done = subprocess.run(
        ["unshare", "-r", "sh", "-c", command, "sh", *ran], capture_output=True, text=True, check=False
    )
    if "unshare" in done.stderr or "can't create" in done.stderr:
        pytest.skip("no user namespace can be made here")
    line = done.stderr.splitlines()[-1]
    if kind == "user" and "id map" in line:
        return
    assert f"the limit of {kind} namespaces is reached: sysctl user.max_{kind}_namespaces" in line, done.stderr


def test_a_directory_or_a_file_that_is_not_a_bundle(rootless: Rootless, container, tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    said(rootless("run", "box", cwd=tmp_path), "neither a bundle (config.json)", "rootless spec --bundle box")
    said(rootless("create", "box", cwd=tmp_path), "no config.json in the bundle: box", "rootless spec --bundle box")
    said(rootless("run", "-b", "nosuch", "x", cwd=tmp_path), f"no such bundle: {tmp_path}/nosuch: ENOENT")
    said(rootless("create", "-b", "box", "x", cwd=tmp_path), "no config.json: ", "rootless spec writes one")
    file = container().bundle.path / "config.json"
    said(rootless("run", file, cwd=tmp_path), "it looks like a JSON file", "a bundle is the directory that holds it")
    said(rootless("doctor", "alpine", cwd=tmp_path), "nothing is pulled")
    said(rootless("spec", "--bundle", "nosuch", cwd=tmp_path), "ENOENT", "hint: mkdir nosuch")


def test_no_directory_is_made_for_a_device_that_is_not_there(container) -> None:
    c = container()
    assert "hint" not in said(c.run("true", flags=("-v", "/dev/nosuch:/x")), "the source does not exist: /dev/nosuch")
    assert "hint: mkdir ./nosuch" in said(c.run("true", flags=("-v", "./nosuch:/x")))


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_a_program_that_is_not_a_regular_file(container, kind: str) -> None:
    """An image may have a FIFO there: whoever looked into it for the reason would wait for its writer for ever."""
    c = container({"process": {"args": ["/program"]}})
    place = c.bundle.rootfs / "program"
    if kind == "fifo":
        os.mkfifo(place)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place))
    place.chmod(0o777)
    line = "exec /program: permission denied: /process/args/0; hint: it is not a regular file\n"
    assert c.run(timeout=TIMEOUT).stderr == f"rootless: {line}"
    c.bundle.patch({"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    assert c.rootless("exec", c.id, "/program", timeout=TIMEOUT).stderr == f"rootless: exec failed: {line}"
