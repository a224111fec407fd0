"""`cp` copies files out of a container and into it, as files and as tar streams, also if the container attacks it."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


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
        result = rootless("cp", f"{c.id}:{path}", "stolen")
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
    for members in ([("../../x", None)], [("l", str(victim)), ("l/x", None)]):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, link in members:
                info = tarfile.TarInfo(name)
                if link:
                    info.type, info.linkname = tarfile.SYMTYPE, link
                archive.addfile(info, io.BytesIO())
        subprocess.run(
            rootless.command("cp", "-", f"{c.id}:/tmp"), input=out.getvalue(), capture_output=True, check=False
        )
        assert os.listdir(victim) == [] and not (tmp_path / "x").exists()


def test_a_stopped_container_and_a_pipe(container: Callable[..., Any], rootless: Any, tmp_path: Path) -> None:
    c = container({"process": {"args": ["true"]}})
    os.mkfifo(c.bundle.rootfs / "pipe")
    (c.bundle.rootfs / "f").write_text("x")
    assert c.create().returncode == 0 and c.start().returncode == 0
    c.wait()
    run(rootless, f"{c.id}:/f", tmp_path / "f")
    assert (tmp_path / "f").read_text() == "x"
    result = rootless("cp", f"{c.id}:/pipe", tmp_path / "pipe")
    assert result.returncode == 0 and "not copied" in result.stderr and not (tmp_path / "pipe").exists()


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
