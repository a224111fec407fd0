"""The working directory is entered before and after the change of ids, and only if both fail is it an error.

runc, crun and docker do so: an image with `WORKDIR /root` and `USER 1000` runs.
"""

from __future__ import annotations

import pytest

from tests.support.containers import with_user

OTHER = 1000


@pytest.mark.parametrize("command", ["run", "create", "exec"])
def test_a_directory_that_the_user_may_not_enter(container, command) -> None:
    c = container(with_user(OTHER))
    (c.bundle.rootfs / "root").chmod(0o700)
    process = {"cwd": "/root", "args": ["sh", "-c", "pwd -P; ls . 2>&1; id -u"]}
    if command == "exec":
        c.bundle.patch({"process": {"args": ["sleep", "1000"], "user": {"uid": 0, "gid": 0}}})
        assert c.run_detached().returncode == 0
        result = c.rootless("exec", "--user", str(OTHER), "--cwd", "/root", c.id, *process["args"])
        assert result.returncode == 0, result.stderr
        said = result.stdout
    else:
        c.bundle.patch({"process": process})
        if command == "run":
            said = c.output()
        else:
            assert c.create().returncode == 0
            assert c.start().returncode == 0
            c.wait()
            said = (c.bundle.path / "stdout").read_text()
    where, listing, uid = said.splitlines()
    assert (where, uid) == ("/root", str(OTHER))
    assert "Permission denied" in listing


def test_without_the_capability_to_pass(container) -> None:
    """With a single id, root of the container enters a directory of mode 0 before it gives its capabilities up."""
    c = container({"process": {"cwd": "/closed", "capabilities": {"bounding": [], "permitted": [], "effective": []}}})
    (c.bundle.rootfs / "closed").mkdir()
    (c.bundle.rootfs / "closed").chmod(0)
    try:
        assert c.output("sh", "-c", "pwd").strip() == "/closed"
        assert c.sh("ls . 2>&1 | grep -c denied").strip() == "1"
    finally:
        (c.bundle.rootfs / "closed").chmod(0o700)


def test_one_that_nobody_can_enter_is_an_error(container) -> None:
    c = container({"process": {"cwd": "/file"}})
    (c.bundle.rootfs / "file").touch()
    result = c.run("true")
    assert result.returncode == 1 and "/file" in result.stderr and result.stderr.count("\n") == 1
    assert 'chdir to cwd ("/file")' in result.stderr or "ENOTDIR" in result.stderr


def test_it_is_made_where_it_is_missing_and_belongs_to_root(container) -> None:
    c = container({"process": {"cwd": "/new/place"}, "root": {"readonly": False}})
    assert c.output("pwd") == "/new/place\n"


@pytest.mark.parametrize("through", ["/proc/self/fd/{}", "/link{}"])
def test_one_outside_of_the_root_is_refused(container, through) -> None:
    """CVE-2024-21626: the first of the two attempts, which has all capabilities, refuses it too."""
    for number in range(3, 10):
        c = container({"process": {"cwd": through.format(number)}})
        (c.bundle.rootfs / f"link{number}").symlink_to(f"/proc/self/fd/{number}")
        result = c.run("pwd")
        assert result.returncode == 1 and result.stdout == ""
