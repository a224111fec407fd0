"""`cp` copies files out of a container and into it, as files and as tar streams, also if the container attacks it."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.kernel.host import Host
from rootless.userns.run import default_maps


@pytest.fixture
def c(container: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a running container with a tree in it; the test runs in its own directory."""
    monkeypatch.chdir(tmp_path)
    made = container({"process": {"args": ["sleep", "100"]}, "root": {"readonly": False}})
    tree = made.bundle.rootfs / "tree/sub"
    tree.mkdir(parents=True)
    (tree / "file").write_text("content")
    (tree / "file").chmod(0o640)
    (tree / "link").symlink_to("/etc/passwd")
    assert made.run_detached().returncode == 0
    yield made


def run(rootless: Any, *words: str | Path, **options: Any) -> Any:
    result = rootless("cp", *words, **options)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return result


def test_out_of_a_container(c: Any, rootless: Any, tmp_path: Path) -> None:
    """As with docker, a copy goes into an existing directory, else it gets the new name; `/.` copies the contents."""
    (tmp_path / "there").mkdir()
    run(rootless, f"{c.id}:/tree", "there")
    run(rootless, f"{c.id}:/tree", "new")
    run(rootless, f"{c.id}:/tree/.", "there")
    run(rootless, f"{c.id}:tree/sub/file", "copy")
    for place in ("there/tree/sub/file", "new/sub/file", "there/sub/file", "copy"):
        assert (tmp_path / place).read_text() == "content" and (tmp_path / place).stat().st_mode & 0o777 == 0o640
        assert (tmp_path / place).stat().st_uid == os.geteuid()
    assert os.readlink(tmp_path / "new/sub/link") == "/etc/passwd"


def test_into_a_container(c: Any, rootless: Any, tmp_path: Path) -> None:
    (tmp_path / "dir/sub").mkdir(parents=True)
    (tmp_path / "dir/sub/f").write_text("mine")
    run(rootless, "dir", f"{c.id}:/tmp")
    run(rootless, "dir/sub/f", f"{c.id}:/root/renamed")
    out = rootless("exec", c.id, "sh", "-c", "cat /tmp/dir/sub/f /root/renamed; stat -c %u /root/renamed").stdout
    assert out == "minemine0\n"


def test_as_tar_streams(c: Any, rootless: Any, tmp_path: Path) -> None:
    out = subprocess.run(rootless.command("cp", f"{c.id}:/tree", "-"), capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        assert archive.getnames() == ["tree", "tree/sub", "tree/sub/file", "tree/sub/link"]
    subprocess.run(rootless.command("cp", "-", f"{c.id}:/tmp"), input=out, check=True)
    assert rootless("exec", c.id, "cat", "/tmp/tree/sub/file").stdout == "content"


def test_a_file_with_two_names_is_one_file_again(c: Any, rootless: Any, tmp_path: Path) -> None:
    """A copy in and a copy out keep both names, as a tree and as a tar stream, such as GNU tar writes it."""
    (tmp_path / "d/sub").mkdir(parents=True)
    (tmp_path / "d/f").write_text("two names")
    (tmp_path / "d/sub/g").hardlink_to(tmp_path / "d/f")
    run(rootless, "d", f"{c.id}:/tmp")
    run(rootless, f"{c.id}:/tmp/d", "out")
    out = subprocess.run(rootless.command("cp", f"{c.id}:/tmp/d", "-"), capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        assert [m.name for m in archive if m.islnk()] == ["d/sub/g"]
    made = subprocess.run(["tar", "-c", "d"], capture_output=True, check=True).stdout
    for stream in (out, made, made):  # the second time over what is there
        subprocess.run(rootless.command("cp", "-", f"{c.id}:/root"), input=stream, check=True)
    script = "for d in /tmp /root; do stat -c %h $d/d/f; cat $d/d/sub/g; done"
    assert rootless("exec", c.id, "sh", "-c", script).stdout == "2\ntwo names2\ntwo names"
    assert (tmp_path / "out/f").samefile(tmp_path / "out/sub/g")


def test_a_link_at_the_end_of_the_source_is_copied_as_one(c: Any, rootless: Any, tmp_path: Path) -> None:
    """docker's rule, both ways; -L and a slash follow it. Where it leads does not matter."""
    (tmp_path / "link").symlink_to("/nowhere")
    (tmp_path / "real").mkdir()
    (tmp_path / "real/f").write_text("x")
    (tmp_path / "dir").symlink_to("real")
    run(rootless, "link", f"{c.id}:/tmp/in")
    run(rootless, "dir", f"{c.id}:/tmp/one")
    run(rootless, "dir/", f"{c.id}:/tmp/two")
    run(rootless, "-L", "dir", f"{c.id}:/tmp/three")
    script = "readlink /tmp/in; readlink /tmp/one; ls /tmp/two /tmp/three"
    assert rootless("exec", c.id, "sh", "-c", script).stdout.split() == [
        "/nowhere", "real", "/tmp/three:", "f", "/tmp/two:", "f",
    ]  # fmt: skip
    run(rootless, f"{c.id}:/tree/sub/link", "out")
    assert os.readlink(tmp_path / "out") == "/etc/passwd"
    run(rootless, "--follow-link", f"{c.id}:/tree/sub/link", "followed")
    assert "root:" in (tmp_path / "followed").read_text()


def test_pipes_are_made_and_devices_are_never_replaced(c: Any, rootless: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o640)
    run(rootless, "pipe", f"{c.id}:/tmp/pipe")
    out = subprocess.run(rootless.command("cp", f"{c.id}:/tmp/pipe", "-"), capture_output=True, check=True).stdout
    subprocess.run(rootless.command("cp", "-", f"{c.id}:/root"), input=out, check=True)
    script = "test -p /tmp/pipe && stat -c %A /root/pipe"
    assert rootless("exec", c.id, "sh", "-c", script).stdout == "prw-r-----\n"
    (tmp_path / "f").write_text("x")
    result = rootless("cp", "f", f"{c.id}:/dev/null")
    assert result.returncode == 1 and "neither a file nor a directory" in result.stderr
    assert rootless("exec", c.id, "test", "-c", "/dev/null").returncode == 0


def test_a_copy_that_fails_leaves_no_part_of_a_file(c: Any, rootless: Any, tmp_path: Path) -> None:
    """Here because of a limit of the size of files."""
    (tmp_path / "big").write_bytes(os.urandom(200_000))
    stream = subprocess.run(["tar", "-c", "big"], capture_output=True, check=True).stdout
    for words, data in ((["big", f"{c.id}:/dev/shm/big"], None), (["-", f"{c.id}:/dev/shm"], stream)):
        limited = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", *rootless.command("cp", *words)]
        result = subprocess.run(limited, input=data, capture_output=True, check=False)
        assert result.returncode == 1 and b"EFBIG" in result.stderr and result.stderr.count(b"\n") == 1
        assert rootless("exec", c.id, "ls", "/dev/shm").stdout == ""


def test_a_whole_root_is_copied_without_what_the_kernel_shows_in_it(c: Any, rootless: Any, tmp_path: Path) -> None:
    """docker's copy has empty /proc, /sys and /dev, too. A file of /proc can still be asked for."""
    run(rootless, f"{c.id}:/", "root")
    assert [os.listdir(tmp_path / "root" / name) for name in ("proc", "sys", "dev")] == [[], [], []]
    assert (tmp_path / "root/tree/sub/file").read_text() == "content"
    out = subprocess.run(rootless.command("cp", f"{c.id}:/.", "-"), capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        names = archive.getnames()
    assert "./tree/sub/file" in names and "./proc" in names and not any(n.startswith("./proc/") for n in names)
    run(rootless, f"{c.id}:/proc/version", "version")
    assert (tmp_path / "version").read_text().startswith("Linux")


@pytest.mark.parametrize("ids", [{}, {"uidMappings": [], "gidMappings": []}])
def test_a_tar_stream_keeps_its_owners_where_there_are_other_ids(
    container: Callable[..., Any], rootless: Any, tmp_path: Path, ids: dict[str, list[object]]
) -> None:
    """docker's rule; with one id, which the test's configuration asks for, all belongs to root."""
    c = container({"process": {"args": ["sleep", "100"]}, "root": {"readonly": False}, "linux": ids})
    assert c.run_detached().returncode == 0
    (tmp_path / "f").write_text("x")
    words = ["tar", "-C", tmp_path, "-c", "--owner=33", "--group=44", "f"]
    stream = subprocess.run(words, capture_output=True, check=True).stdout
    subprocess.run(rootless.command("cp", "-", f"{c.id}:/tmp"), input=stream, check=True)
    has_others = os.geteuid() == 0 or (ids and len(default_maps(Host())[0]) > 1)
    wanted = "33:44\n" if has_others else "0:0\n"
    assert rootless("exec", c.id, "stat", "-c", "%u:%g", "/tmp/f").stdout == wanted


def test_modes_are_kept_where_that_is_safe(c: Any, rootless: Any, tmp_path: Path) -> None:
    """All bits in a container, as with docker. On the host no set-user-ID bit, because the caller owns the copy."""
    modes = {"d": 0o2775, "t": 0o1777, "s": 0o4755}
    (tmp_path / "m/d").mkdir(parents=True)
    (tmp_path / "m/t").mkdir()
    (tmp_path / "m/s").touch()
    for name, mode in modes.items():
        (tmp_path / "m" / name).chmod(mode)
    run(rootless, "m", f"{c.id}:/root")
    stream = subprocess.run(["tar", "-c", "m"], capture_output=True, check=True).stdout
    subprocess.run(rootless.command("cp", "-", f"{c.id}:/tmp"), input=stream, check=True)
    for place in ("/root/m", "/tmp/m"):
        out = rootless("exec", c.id, "sh", "-c", f"cd {place}; stat -c '%n %a' *").stdout
        assert out.split() == ["d", "2775", "s", "4755", "t", "1777"], place
    run(rootless, f"{c.id}:/tmp/m", "out")
    assert [(tmp_path / "out" / name).stat().st_mode & 0o7777 for name in modes] == [0o775, 0o1777, 0o755]


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no emulation")
def test_a_tar_stream_keeps_its_owners_under_root_emulation(
    container: Callable[..., Any], rootless: Any, tmp_path: Path
) -> None:
    """With one id `cp` records owners and devices as a program in the container does, and `pack` reads them."""
    (tmp_path / "probe").touch()
    try:
        os.setxattr(tmp_path / "probe", "user.rootless.test", b"")
    except OSError:
        pytest.skip("this file system has no extended attributes for users")
    annotations = {"org.rootless.root-emulation": "notify"}
    process = {"args": ["sleep", "100"]}
    c = container({"process": process, "root": {"readonly": False}, "annotations": annotations})
    made = c.run_detached()
    if made.returncode:
        pytest.skip(made.stderr)
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("x")
    words = ["tar", "-C", tmp_path, "-c", "--owner=33", "--group=44", "d"]
    stream = subprocess.run(words, capture_output=True, check=True).stdout
    subprocess.run(rootless.command("cp", "-", f"{c.id}:/tmp"), input=stream, check=True)
    script = "stat -c %u:%g /tmp/d /tmp/d/f; mknod /tmp/d/null c 1 3; chown 7 /tmp/d/f"
    assert rootless("exec", c.id, "sh", "-c", script).stdout == "33:44\n33:44\n"
    out = subprocess.run(rootless.command("cp", f"{c.id}:/tmp/d", "-"), capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        members = {member.name: member for member in archive}
    assert [(m.uid, m.gid) for m in (members["d"], members["d/f"])] == [(33, 44), (7, 44)]
    null = members["d/null"]
    assert (null.type, null.devmajor, null.devminor) == (tarfile.CHRTYPE, 1, 3)


def test_a_link_of_the_container_leads_nowhere_else(c: Any, rootless: Any, tmp_path: Path) -> None:
    """The attack: links in the container lead to a path of the host, on the way and at the end.

    Nothing is read or written there.
    """
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("of the host")
    for link, target in (("dir", str(secret)), ("up", "../../../../../.." + str(secret)), ("end", f"{secret}/key")):
        (c.bundle.rootfs / "tmp" / link).symlink_to(target)
    for path in ("/tmp/dir/key", "/tmp/up/key", "/tmp/end"):
        result = rootless("cp", "-L", f"{c.id}:{path}", "stolen")
        assert result.returncode == 1 and not (tmp_path / "stolen").exists(), path
    (tmp_path / "evil").write_text("evil")
    for path in ("/tmp/dir/key", "/tmp/up/key", "/tmp/end"):
        rootless("cp", "evil", f"{c.id}:{path}")
        assert (secret / "key").read_text() == "of the host", path
    assert sorted(os.listdir(secret)) == ["key"]


def test_a_tar_stream_leads_nowhere_else(c: Any, rootless: Any, tmp_path: Path) -> None:
    """The attack: a member with `..`, and a member below a link that an earlier member has made."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "key").write_text("of the host")
    symbolic, hard = tarfile.SYMTYPE, tarfile.LNKTYPE
    for members in (
        [("../../x", "", b"")], [("l", str(victim), symbolic), ("l/x", "", b"")], [("h", f"{tmp_path}/key", hard)],
        [("l", str(tmp_path), symbolic), ("h", "l/key", hard)], [("h", "../../key", hard)],
    ):  # fmt: skip
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, link, kind in members:
                info = tarfile.TarInfo(name)
                if link:
                    info.type, info.linkname = kind, link
                archive.addfile(info, io.BytesIO())
        subprocess.run(
            rootless.command("cp", "-", f"{c.id}:/tmp"), input=out.getvalue(), capture_output=True, check=False
        )
        assert os.listdir(victim) == [] and not (tmp_path / "x").exists()
        assert (tmp_path / "key").stat().st_nlink == 1


def test_a_stopped_container_and_a_socket(container: Callable[..., Any], rootless: Any, tmp_path: Path) -> None:
    c = container({"process": {"args": ["true"]}})
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(c.bundle.rootfs / "s"))
    (c.bundle.rootfs / "f").write_text("x")
    assert c.create().returncode == 0 and c.start().returncode == 0
    c.wait()
    run(rootless, f"{c.id}:/f", tmp_path / "f")
    assert (tmp_path / "f").read_text() == "x"
    result = rootless("cp", f"{c.id}:/s", tmp_path / "s")
    assert result.returncode == 0 and "not copied" in result.stderr and not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a", "b"], "one of the two has to be"), (["ID:/a", "ID:/b"], "only one of the two"),
        (["nosuch:/a", "b"], "does not exist"), (["ID:/none", "b"], "no such file"),
        (["none", "ID:/tmp"], "no such file"),
        (["ID:/etc/passwd", "no/dir/"], "cannot open"), (["ID:/tree", "file"], "cannot copy"),
        (["-", "ID:/etc/passwd"], "needs a directory"), (["-", "ID:/tmp"], "not a tar stream"),
    ],
)  # fmt: skip
def test_bad_input(c: Any, rootless: Any, tmp_path: Path, words: list[str], text: str) -> None:
    (tmp_path / "file").write_text("")
    result = rootless("cp", *(word.replace("ID:", f"{c.id}:") for word in words), input="no tar at all" * 100)
    assert result.returncode == 1 and text in result.stderr and result.stderr.count("\n") == 1, result.stderr


@pytest.mark.parametrize("mtime", ["1e300", "-1e300", "nan", "inf", "-9223372036854775808"])
def test_any_time_and_any_owner_in_a_tar_stream_is_taken(c: Any, rootless: Any, mtime: str) -> None:
    """The file gets the nearest time that its file system has, and an owner that there is."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("f")
        member.pax_headers = {"mtime": mtime, "uid": str(1 << 40), "gid": "-5"}
        archive.addfile(member, io.BytesIO())
    done = subprocess.run(
        rootless.command("cp", "-", f"{c.id}:/tmp"), input=out.getvalue(), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rootless("exec", c.id, "stat", "-c", "%u", "/tmp/f").stdout == "0\n"


def test_a_failure_names_the_file_that_could_not_be_copied(c: Any, rootless: Any, tmp_path: Path) -> None:
    """Also in a tree and in a tar stream, where the words of the command name only the top."""
    (tmp_path / "new/sub/file").mkdir(parents=True)
    result = rootless("cp", f"{c.id}:/tree/.", "new")
    where = f"{c.id}:/tree/./sub/file to new/sub/file"
    assert result.stderr == f"rootless: cannot copy: {where}: EISDIR (is a directory)\n"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"), io.BytesIO())
        archive.addfile(tarfile.TarInfo("file/below"), io.BytesIO())
    done = subprocess.run(
        rootless.command("cp", "-", f"{c.id}:/tmp"), input=out.getvalue(), capture_output=True, check=False
    )
    assert done.stderr == f"rootless: cannot unpack: {c.id}:/tmp/file/below: ENOTDIR (not a directory)\n".encode()


def test_a_directory_is_not_copied_into_itself(c: Any, rootless: Any) -> None:
    result = rootless("cp", c.bundle.rootfs / "tree", f"{c.id}:/tree/sub/copy")
    assert result.returncode == 1 and "cannot be copied into itself" in result.stderr
    assert not (c.bundle.rootfs / "tree/sub/copy/sub/copy/sub").exists()


def test_no_file_of_the_container_is_written_to_a_terminal(c: Any, rootless: Any) -> None:
    """As a tar stream it could hold sequences that a terminal obeys."""
    master, slave = os.openpty()
    done = subprocess.run(
        rootless.command("cp", f"{c.id}:/tree", "-"), stdout=slave, stderr=subprocess.PIPE, check=False
    )
    os.close(slave)
    os.close(master)
    assert done.returncode == 1 and b"does not go to a terminal" in done.stderr
