"""`run IMAGE` unpacks an image once into the cache and runs it on a throw-away root; `cache` lists and prunes it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pty
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DOCKERS = 0xA80425FB  # CapEff of `docker run busybox grep CapEff /proc/self/status`


def tar_of(members: dict[str, bytes | str | None], mode: int = 0o755) -> bytes:
    """Return a tar of files (bytes), directories (None) and symbolic links (str)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.mode = mode
            if data is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
            else:
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data if isinstance(data, bytes) else b""))
    return out.getvalue()


def image_of(layer: bytes, config: dict[str, Any], **patch: Any) -> bytes:
    """Return an archive of `docker save` with one layer."""
    digest = "sha256:" + hashlib.sha256(layer).hexdigest()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    document = {"os": "linux", "architecture": machine, "config": config, **patch}
    document["rootfs"] = {"type": "layers", "diff_ids": [digest]}
    manifest = [{"Config": "1234.json", "RepoTags": ["box:1"], "Layers": ["layer.tar"]}]
    members = {"layer.tar": layer, "1234.json": json.dumps(document).encode()}
    return tar_of({**members, "manifest.json": json.dumps(manifest).encode()})


@pytest.fixture
def layer(busybox: Path) -> bytes:
    passwd = b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
    members: dict[str, bytes | str | None] = {"bin": None, "bin/busybox": busybox.read_bytes()}
    members |= {f"bin/{name}": "busybox" for name in ("sh", "echo", "id", "grep", "cat", "ls", "sleep", "test", "stty")}
    return tar_of({**members, "etc": None, "etc/passwd": passwd, "etc/group": b"root:x:0:\n", "root": None})


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a name of the test process's own, because cgroups are named after containers.

    The test gets a cache and a directory of its own, too.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    return f"image-{os.getpid()}"


@pytest.fixture
def archive(tmp_path: Path, name: str, layer: bytes) -> Path:
    path = tmp_path / f"{name}.tar"
    path.write_bytes(image_of(layer, {"Entrypoint": ["/bin/echo", "entry"], "Cmd": ["command"], "Env": ["FROM=image"]}))
    os.utime(path, (1, 1))
    return path


def bundles(tmp_path: Path) -> list[Path]:
    found = sorted((tmp_path / "cache/rootless/images").glob("*"))
    return [path for path in found if path.name != "index" and path.suffix != ".lock"]


def test_the_words_follow_the_entrypoint_as_dockers_do(rootless: Any, archive: Path) -> None:
    assert rootless("run", archive).stdout == "entry command\n"
    assert rootless("run", archive, "--", "a", "-b").stdout == "entry a -b\n"
    assert rootless("run", "--entrypoint", "/bin/sh", archive, "--", "-c", 'echo "$FROM"').stdout == "image\n"
    assert rootless("run", "--entrypoint", "", archive, "--", "/bin/echo", "none").stdout == "none\n"
    refused = rootless("run", "--entrypoint=", archive)
    assert refused.returncode == 1 and "no program is named: --entrypoint ''" in refused.stderr


def test_every_form_of_an_image(rootless: Any, archive: Path, tmp_path: Path, name: str) -> None:
    plain = archive.read_bytes()
    (tmp_path / f"{name}.tar.gz").write_bytes(gzip.compress(plain))
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            source = tar.extractfile(member)
            assert source
            (unpacked / member.name).write_bytes(source.read())
    for operand in (f"./{name}.tar", f"{name}.tar", f"{name}.tar.gz", "unpacked"):
        result = rootless("run", "--name", name, operand)
        assert (result.returncode, result.stdout) == (0, "entry command\n"), result.stderr
    command = rootless.command("run", "--name", name, "-")
    done = subprocess.run(command, input=plain, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"entry command\n"), done.stderr
    assert len(bundles(tmp_path)) == 1, "one image is unpacked once, whatever form it comes in"


def test_what_a_container_changes_is_gone_in_the_next(rootless: Any, archive: Path, tmp_path: Path) -> None:
    script = "ls /etc; echo x > /etc/new; echo y > /etc/passwd"
    for _ in range(2):
        result = rootless("run", "--entrypoint", "/bin/sh", archive, "--", "-c", script)
        assert (result.returncode, result.stdout) == (0, "group\npasswd\n"), result.stderr
    (bundle,) = bundles(tmp_path)
    assert sorted(os.listdir(bundle / "rootfs/etc")) == ["group", "passwd"]
    assert os.listdir(tmp_path / "cache/rootless/upper") == []


def test_standard_input_is_passed_on_if_asked_for_like_dockers(rootless: Any, archive: Path) -> None:
    words = ("--entrypoint", "/bin/cat", archive)
    assert rootless("run", *words, input="typed").stdout == ""
    assert rootless("run", "-i", *words, input="typed").stdout == "typed"
    assert rootless("run", "-t", *words, input="typed").stdout == "", "a loop over lines keeps its lines"


def test_rights_and_user_are_dockers(rootless: Any, archive: Path) -> None:
    script = "grep -E 'CapEff|NoNewPrivs' /proc/self/status; id -u"
    out = rootless("run", "--entrypoint", "/bin/sh", archive, "--", "-c", script).stdout.split()
    assert out == ["CapEff:", f"{DOCKERS:016x}", "NoNewPrivs:", "0", "0"]


def test_parallel_first_runs_unpack_once(rootless: Any, archive: Path, tmp_path: Path) -> None:
    started = [rootless.popen("run", archive, "--", str(number)) for number in range(8)]
    results = [(process.communicate(timeout=100), process.returncode) for process in started]
    assert [(out, code) for (out, _), code in results] == [(f"entry {n}\n", 0) for n in range(8)], results
    assert len(bundles(tmp_path)) == 1


def test_a_changed_archive_is_unpacked_again(rootless: Any, archive: Path, layer: bytes, tmp_path: Path) -> None:
    assert rootless("run", archive).stdout == "entry command\n"
    archive.write_bytes(image_of(layer, {"Entrypoint": ["/bin/echo", "other"]}))
    assert rootless("run", archive).stdout == "other\n"
    assert len(bundles(tmp_path)) == 2


def test_the_cache_lists_and_prunes_images(rootless: Any, archive: Path, tmp_path: Path, name: str) -> None:
    """An image that a container runs on is kept."""
    with open(os.devnull, "w") as null:
        options = {"capture_output": False, "stdout": null, "stderr": null}
        rootless("run", "-d", "--entrypoint", "/bin/sleep", archive, "100", **options)
    assert "box:1" in rootless("cache", "ls").stdout
    (entry,) = json.loads(rootless("cache", "ls", "--json").stdout)
    assert entry["kind"] == "image" and entry["names"] == ["box:1"] and entry["size"] > 0
    half = bundles(tmp_path)[0].parent / f".{entry['key']}.abcdef01"
    half.mkdir()
    assert "0 images removed" in rootless("cache", "prune").stdout and not half.exists()
    assert rootless("delete", "--force", name).returncode == 0
    assert "1 images removed" in rootless("cache", "prune").stdout and bundles(tmp_path) == []
    assert rootless("run", archive).stdout == "entry command\n"
    removed = json.loads(rootless("cache", "prune", "--json").stdout)
    assert removed["images"] == {"removed": 1, "bytes": entry["size"]} and removed["trees"] == {
        "removed": 0,
        "bytes": 0,
    }


@pytest.mark.parametrize("action", ["ls", "prune"])
def test_no_single_image_of_the_cache_can_be_named(rootless: Any, archive: Path, tmp_path: Path, action: str) -> None:
    """Who types `cache prune IMAGE` does not want all the others removed."""
    assert rootless("run", archive).returncode == 0
    done = rootless("cache", action, "box:1")
    assert done.returncode == 1 and f"cache {action}: unexpected argument 'box:1'" in done.stderr
    assert len(bundles(tmp_path)) == 1


def test_a_shell_gets_a_terminal_where_there_is_one(rootless: Any, archive: Path, layer: bytes) -> None:
    archive.write_bytes(image_of(layer, {"Cmd": ["/bin/sh"]}))
    for flags, wanted in ((["--tty=false", "-i"], ["ptmx"]), ([], ["0", "ptmx"])):
        pid, master = pty.fork()
        if pid == 0:
            command = rootless.command("run", *flags, archive)
            os.execv(command[0], command)
        os.write(master, b"ls /dev/pts; exit\n")
        out = b""
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:
                break
            out += piece
        os.waitpid(pid, 0)
        os.close(master)
        said = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", out.decode()).split("\n")
        assert [word for line in said for word in line.split() if word in ("0", "ptmx")] == wanted, out


def test_a_name_that_is_taken_and_one_that_no_id_may_have(rootless: Any, archive: Path, tmp_path: Path) -> None:
    odd = tmp_path / "my image (1).tar"
    shutil.copy(archive, odd)
    assert rootless("run", odd).stdout == "entry command\n"
    assert rootless("run", "--rm=false", odd).returncode == 0
    assert rootless("run", "--rm=false", odd).returncode == 0
    assert rootless.ids() == ["my-image--1-", "my-image--1--2"]
    for each in rootless.ids():
        rootless("delete", each)


def test_in_a_bundles_directory_a_word_without_a_slash_is_an_id(
    rootless: Any, archive: Path, make_bundle: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bundle = make_bundle("box", {"process": {"args": ["echo", "bundle"]}})
    shutil.copy(archive, bundle.path / name)
    monkeypatch.chdir(bundle.path)
    assert rootless("run", name).stdout == "bundle\n"
    assert "invalid character '/' in container ID" in rootless("run", "this/is/no-id").stderr
    assert rootless("run", f"./{name}").stdout == "entry command\n"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path, layer: None, "ENOENT"), (lambda path, layer: path.write_bytes(b"no tar"), "broken tar"),
        (lambda path, layer: path.write_bytes(layer), "`import` takes it"),
        (lambda path, layer: path.write_bytes(image_of(layer, {}, architecture="mips")), "--platform"),
        (lambda path, layer: path.write_bytes(image_of(layer, {}, os="windows")), "not for Linux"),
        (lambda path, layer: path.write_bytes(image_of(layer, {})[:-9000]), "truncated"),
    ],
)  # fmt: skip
def test_bad_images_are_one_line_and_leave_nothing(
    rootless: Any, tmp_path: Path, name: str, layer: bytes, make: Callable[[Path, bytes], Any], words: str
) -> None:
    path = tmp_path / f"{name}.tar"
    make(path, layer)
    result = rootless("run", path)
    assert result.returncode == 1 and words in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert rootless.ids() == [] and bundles(tmp_path) == []


def test_a_directory_that_is_neither_a_bundle_nor_an_image_is_named(
    rootless: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    result = rootless("run", name, "true")
    words = f"rootless: the directory holds neither a bundle (config.json) nor an image (oci-layout): {name}; hint: "
    assert result.returncode == 1 and result.stderr.startswith(words) and result.stderr.count("\n") == 1


def test_a_wrong_tag_lists_what_there_is(rootless: Any, archive: Path) -> None:
    result = rootless("run", archive, "--tag", "other:1")
    assert result.returncode == 1 and "it holds box:1" in result.stderr


@pytest.mark.parametrize("part", ["config.json", ".oci/image.json", "rootfs"])
def test_a_damaged_image_in_the_cache_is_unpacked_again(
    rootless: Any, archive: Path, tmp_path: Path, part: str
) -> None:
    """A power cut, or a person who cleans up, has damaged it.

    `run` says so once, and nothing of the old image is left.
    """
    assert rootless("run", archive, "--", "true").returncode == 0
    (place,) = bundles(tmp_path)
    (place / part).rename(tmp_path / "taken")
    if part == "config.json":
        (place / part).touch()
    result = rootless("run", archive, "--", "echo", "hello")
    assert result.stdout == "entry echo hello\n" and "damaged, so it is unpacked again" in result.stderr, result.stderr
    assert bundles(tmp_path) == [place] and not list(place.parent.glob(f".{place.name}*"))
    assert rootless("run", archive, "--", "echo", "hello").stderr == ""


def test_a_cache_of_another_users_or_full_is_named(rootless: Any, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "cache/rootless").mkdir(parents=True)
    (tmp_path / "cache/rootless/images").mkdir(mode=0o777)
    (tmp_path / "cache/rootless/images").chmod(0o777)
    result = rootless("run", archive)
    assert result.returncode == 1 and "its group or others may write it" in result.stderr
    assert "XDG_CACHE_HOME" in result.stderr


def test_an_archive_may_be_a_pipe(rootless: Any, archive: Path, tmp_path: Path) -> None:
    """Such as a shell's <(...), which can be read only once, and not at a place of one's choice."""
    for _ in range(2):
        with subprocess.Popen(["cat", archive], stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            pipe = writer.stdout.fileno()
            assert rootless("run", f"/dev/fd/{pipe}", pass_fds=[pipe]).stdout == "entry command\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "ARCHIVE"], ""), (["run", "-v", "/tmp:/root", "ARCHIVE"], ""),
        (["run", "-v", "./x:/root", "ARCHIVE"], "the working directory was removed: --volume ./x:/root; hint: cd"),
        (["run", "--mount", "type=bind,src=x,dst=/root", "ARCHIVE"], "the working directory was removed: --mount "),
        (["run", "--mount-cwd", "ARCHIVE"], "the working directory was removed: --mount-cwd; hint: cd"),
        (["convert", "ARCHIVE"], "the working directory was removed: ENOENT"),
        (["run", "--save-changes", "new.tar", "ARCHIVE"], "the working directory was removed: ENOENT"),
        (["create", "made"], "the working directory was removed: ENOENT"),
    ],
)  # fmt: skip
def test_in_a_directory_that_was_removed(rootless: Any, archive: Path, words: list[str], told: str) -> None:
    """What needs no relative path works, and the rest says why it does not."""
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()
    result = rootless(*[archive if word == "ARCHIVE" else word for word in words])
    assert told in result.stderr and result.stderr.count("\n") == bool(told), result.stderr
    assert (result.returncode, result.stdout) == ((1, "") if told else (0, "entry command\n"))
    assert rootless.ids() == []


def test_a_relative_place_for_caches_is_none(
    rootless: Any, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The XDG Base Directory Specification wants it ignored."""
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    assert rootless("run", archive).returncode == 0
    assert not Path("here").exists() and list(Path("home/.cache/rootless/images").glob("*/config.json"))


def test_changes_are_saved_as_one_more_layer(rootless: Any, archive: Path, tmp_path: Path) -> None:
    """The new image has what was added, changed and removed, and the old one's format and config."""
    script = "echo new > /etc/new; echo 'root:x:0:0::/:' > /etc/passwd; exit 6"
    words = ["--entrypoint", "/bin/sh", archive, "--", "-c", script]
    result = rootless("run", "--save-changes", "new.tar", *words)
    assert (result.returncode, result.stderr) == (6, "")
    with tarfile.open("new.tar") as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json") or io.BytesIO())
        assert len(manifest["Layers"]) == 2 and manifest["RepoTags"] == ["box:1"]
    script = "cat /etc/new /etc/passwd; ls /etc"
    out = rootless("run", "--entrypoint", "/bin/sh", "new.tar", "--", "-c", script).stdout
    assert out.split() == ["new", "root:x:0:0::/:", "group", "new", "passwd"]
    assert rootless("run", "new.tar").stdout == "entry command\n"
    assert os.listdir(tmp_path / "cache/rootless/upper") == []


def test_changes_are_compressed_as_the_name_says(rootless: Any, archive: Path) -> None:
    assert rootless("run", "--save-changes", "new.tar.gz", archive).returncode == 0
    with tarfile.open("new.tar.gz", "r:gz") as tar:
        assert "manifest.json" in tar.getnames()
    assert rootless("run", "new.tar.gz").stdout == "entry command\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--save-changes", "image.tar", "--ephemeral=tmpfs"], "no throw-away root on disk"),
        (["--save-changes", "state"], "the output exists already"), (["--save-changes", "no/x.tar"], "does not exist"),
        (["--save-changes", "x.tar", "--detach"], "no command waits"), (["--save-changes="], "a value is missing"),
        (["--save-changes", "-"], "standard output is the program's"),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_is_refused_before(rootless: Any, archive: Path, flags: list[str], words: str) -> None:
    Path("state").mkdir(0o700, exist_ok=True)
    result = rootless("run", *flags, archive)
    assert result.returncode == 1 and words in result.stderr and result.stdout == "" and rootless.ids() == []


def test_the_hosts_own_system(rootless: Any, name: str, tmp_path: Path) -> None:
    """The system is read-only, the caller's ids are kept, and only a volume shows the caller's files."""
    script = (
        f"id -u; touch /usr/x 2>/dev/null || echo denied; ls /home /root /tmp; ls {tmp_path} 2>/dev/null; echo $HOME"
    )
    out = rootless("run", "--name", name, "--host", "--", "sh", "-c", script).stdout.split()
    assert out[:2] == [str(os.geteuid()), "denied"] and name not in " ".join(out)
    (tmp_path / "data").write_text("seen")
    flags = ["--name", name, "--host", "-v", "./data:/data:ro", "-u", "root", "-w", "/tmp"]
    result = rootless("run", *flags, "--", "sh", "-c", "cat /data; id -u; pwd")
    assert result.stdout == "seen0\n/tmp\n", result.stderr
    assert rootless("run", "--host", "--bundle", "x").returncode == 1


def test_cache_add_unpacks_an_image_ahead_of_its_first_run(rootless: Any, archive: Path, tmp_path: Path) -> None:
    added = rootless("cache", "add", archive)
    assert (added.returncode, added.stderr) == (0, "")
    assert [Path(added.stdout.strip())] == bundles(tmp_path)
    assert rootless("cache", "add", archive).stdout == added.stdout
    assert json.loads(rootless("cache", "add", "--json", archive).stdout) == {"bundle": added.stdout.strip()}
    assert rootless("run", archive).stdout == "entry command\n"
    assert [Path(added.stdout.strip())] == bundles(tmp_path)


@pytest.mark.parametrize(
    ("operands", "wanted"),
    [
        ([], "the image is missing; hint: rootless cache add"),
        (["none.tar"], "cannot open the archive: none.tar: ENOENT"),
        (["/dev/null"], "not an image archive: /dev/null; hint: a file,"),
    ],
)
def test_cache_add_names_what_it_cannot_add(rootless: Any, name: str, operands: list[str], wanted: str) -> None:
    done = rootless("cache", "add", *operands)
    assert (done.returncode, done.stderr.partition(wanted)[0]) == (1, "rootless: ")
