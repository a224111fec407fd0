"""When a directory is closed, read-only or of the wrong kind, errors and `doctor` say so."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from oci.image.platforms import host_platform
from rootless.errors import errno_text
from rootless.kernel.closed import closed_above
from rootless.kernel.hints import HINTS, ROOT, hint, hint_of
from rootless.kernel.host import read_id_map
from rootless.userns import refusals
from tests.doctor.taken import Make, error_says, is_of, run, same, without
from tests.doctor.test_doctor import USERS_OWN, examine
from tests.support import archives as a
from tests.support.containers import Rootless

TEMPORARY = ("/tmp", "/var/tmp")


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[Path]:
    """Return a directory that nobody may enter, in which lies `box`, a bundle."""
    place = tmp_path / "shut"
    (place / "box").mkdir(parents=True)
    (place / "box/config.json").write_text("{}")
    place.chmod(0)
    yield place
    place.chmod(0o700)


@USERS_OWN
def test_what_cannot_be_reached_is_not_said_to_be_missing(rootless: Rootless, shut: Path, container: Make) -> None:
    bind = ("--volume", f"{shut}/box:/mnt", "-b", container().bundle.path, "none")
    for command in (
        *(("run", each) for each in (f"{shut}/box", str(shut))),
        *(("explain", each) for each in (f"{shut}/box", str(shut))),
        ("remove", f"{shut}/box"),
        ("remove", shut),
        ("doctor", f"{shut}/box"),
        ("spec", "--validate", f"{shut}/box"),
        ("run", *bind),
    ):
        done = rootless(*command)
        error_says(done, "closed-to-you")
        assert f": {shut}: EACCES (permission denied)" in done.stderr and done.stderr.count("\n") == 1
    done = rootless("run", shut.name, cwd=shut.parent)
    error_says(done, "closed-to-you")


def test_what_is_missing_is_not_closed(tmp_path: Path) -> None:
    assert closed_above(str(tmp_path)) is closed_above(str(tmp_path / "nothing/there")) is None


@USERS_OWN
def test_the_cache_or_the_state_is_read_only(
    rootless: Rootless, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: Make
) -> None:
    own = host_platform()[1]
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x") + a.END], architecture=own))
    place = tmp_path / "place"
    place.mkdir(0o700)
    before = without(f"mount -t tmpfs -o ro,mode=700 none {place}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    found = examine(rootless, tmp_path / "image.tar", before=before)
    same(run([*before, *rootless.command("run", tmp_path / "image.tar")]), found, "archive", "cache-elsewhere")
    assert errno_text(errno.EROFS) in found["lines"]["cache"]["detail"] and found["code"] == 1

    rootless.state = place / "state"
    error = run([*before, *rootless.command("run", "-b", container().bundle.path, "none")])
    found = examine(rootless, before=before)
    for name in ("state", "run"):
        same(error, found, name, "state-elsewhere")
        line = found["lines"][name]
        assert errno_text(errno.EROFS) in line["detail"] and line["command"] == HINTS["state-elsewhere"].command


@USERS_OWN
def test_an_overlay_cannot_hold_the_changes_of_another(
    rootless: Rootless, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: Make
) -> None:
    """So it is in most containers, whose root is an overlay."""
    for name in ("lower", "place"):
        (tmp_path / name).mkdir()
    script = f"mount -t tmpfs none {tmp_path}/place && cd {tmp_path}/place && mkdir -m 700 upper work over"
    options = f"userxattr,lowerdir={tmp_path}/lower,upperdir=upper,workdir=work"
    before = without(f"{script} && mount -t overlay -o {options} none over && cd /")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "place/over"))
    error = run([*before, *rootless.command("run", "--ephemeral", "-b", container().bundle.path, "none")])
    same(error, examine(rootless, before=before), "cache", "cache-elsewhere")
    assert "is on overlay, which cannot hold an overlay's changes" in error.stderr


@USERS_OWN
def test_root_of_a_user_namespace_can_make_no_other(rootless: Rootless, container: Make) -> None:
    """A plain run needs none then, but a bundle with id maps does."""
    maps = [{"containerID": 0, "hostID": 0, "size": 1}]
    c = container({"linux": {"uidMappings": maps, "gidMappings": maps}})
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    before = ("unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh")
    error = run([*before, *rootless.command("run", "-b", c.bundle.path, "none")])
    found = examine(rootless, before=before)
    same(error, found, "user-namespaces", "userns-limit")
    assert found["code"] == 0 and found["lines"]["user-namespaces"]["who"] == ROOT
    found = examine(rootless, c.bundle.path, before=before)
    same(error, found, "config", "userns-limit")
    assert (found["code"], found["lines"]["config"]["command"]) == (1, HINTS["userns-limit"].command)


def test_the_words_of_an_error_find_the_command_that_mends_it() -> None:
    limit = hint("namespace-limit", kind="pid")
    found = hint_of(limit.text)
    assert (found.text, found.command, found.who) == (limit.text, "sysctl -w user.max_pid_namespaces=15000", ROOT)
    # The path of the program is not in the text, and these words are not in the table.
    for text in (hint("newuidmap-refuses", file="/etc/subuid", path="/bin/x").text, "something else"):
        found = hint_of(text)
        assert (found.text, found.command, found.who) == (text, "", "")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"os": "windows"}, "archive"),
        ({"architecture": "s390x"}, "platform"),
        ({}, ""),
    ],
)
def test_an_archive_that_run_refuses(rootless: Rootless, tmp_path: Path, changes: dict[str, str], line: str) -> None:
    changes = {"architecture": host_platform()[1], **changes}
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x") + a.END], **changes))
    found = examine(rootless, tmp_path / "image.tar")
    bad = [each for each in ("archive", "platform") if found["lines"].get(each, {}).get("status") == "missing"]
    assert bad == ([line] if line else []) and found["code"] == bool(line)


def test_a_bundle_without_an_image_is_not_taken_for_a_root(rootless: Rootless, tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    assert rootless("spec", "--bundle", tmp_path / "box").returncode == 0
    for command in (("inspect", tmp_path / "box"), ("convert", tmp_path / "box", "-o", tmp_path / "other")):
        done = rootless(*command)
        assert done.returncode == 1 and "this is a bundle already, not an image archive" in done.stderr, done


@USERS_OWN
def test_ids_that_do_not_exist_in_a_nested_namespace_are_not_an_administrators(
    rootless: Rootless, container: Make
) -> None:
    """They may well be in /etc/subuid; the namespace around the program lacks them."""
    for first in (os.geteuid(), 100000):
        maps = [{"containerID": 0 if first != 100000 else 1, "hostID": first, "size": 1}]
        c = container({"linux": {"uidMappings": maps, "gidMappings": maps}})
        before = ("unshare", "--user", "--map-user=5", "--map-group=5")
        error = run([*before, *rootless.command("run", "-b", c.bundle.path, "none")])
        error_says(error, "ids-not-here")
        assert f"the uids {first} do not exist in this user namespace, which has 5: " in error.stderr
        line = examine(rootless, c.bundle.path, before=before)["lines"]["config"]  # the last of two: the gids
        assert line["status"] == "missing" and is_of(line["hint"], "ids-not-here"), line


def test_a_map_that_is_refused_for_no_known_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "is_restricted_by_apparmor", lambda: False)
    first = read_id_map("/proc/self/uid_map")[0][0]
    words = refusals.explain(PermissionError(errno.EPERM, "refused"), "uid_map", [(0, first, 1)])
    assert words == hint("no-map-right", kind="UID").text


def test_the_hint_for_an_id_in_use_names_the_bundle_that_was_asked_for(rootless: Rootless, container: Make) -> None:
    one, two = container({"process": {"args": ["sleep", "1000"]}}), container()
    assert one.run_detached().returncode == 0
    done = rootless("run", "-b", two.bundle.path, one.id)
    error_says(done, "id-in-use")
    assert f"hint: rootless run -b {two.bundle.path} {one.id}2, " in done.stderr


def test_a_file_in_place_of_a_bundle(rootless: Rootless, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(b"")
    for command in ("run", "create"):
        done = rootless(command, "-b", tmp_path / "image.tar", "none")
        assert done.returncode == 1, done
        assert f"not a bundle but a file: {tmp_path}/image.tar; hint: rootless run " in done.stderr


@USERS_OWN
def test_nothing_can_be_written_but_the_state(
    rootless: Rootless, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: Make
) -> None:
    """doctor needs no temporary file, and an image that is in the cache has no place for its changes."""
    elsewhere = os.environ.get("XDG_RUNTIME_DIR", "/tmp")
    if elsewhere.startswith(TEMPORARY):
        pytest.skip("this user has no directory but the temporary ones")
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x") + a.END], architecture=host_platform()[1]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert rootless("cache", "add", tmp_path / "image.tar").returncode == 0
    c = container()
    read_only = [*TEMPORARY, str(tmp_path / "cache")]
    binds = (f"mount --bind {each} {each} && mount -o remount,bind,ro {each}" for each in read_only)
    before = without(" && ".join(binds))
    rootless.state = Path(elsewhere) / f"state-{os.getpid()}"
    try:
        found = examine(rootless, c.bundle.path, before=before, cwd="/")
        assert (found["code"], found["lines"]["config"]["status"]) == (0, "ok"), found
        error = run([*before, *rootless.command("run", tmp_path / "image.tar")], cwd="/")
        same(error, examine(rootless, before=before, cwd="/"), "cache", "cache-elsewhere")
    finally:
        shutil.rmtree(rootless.state, ignore_errors=True)


@USERS_OWN
@pytest.mark.parametrize("options", ["ro", "size=4k"])
def test_the_place_of_an_output_is_read_only_or_full(rootless: Rootless, tmp_path: Path, options: str) -> None:
    """The error is about the file that was asked for, not about a temporary one, and half a file does not stay."""
    layer = a.file("x", b"x" * 65536) + a.END
    (tmp_path / "image.tar").write_bytes(a.docker_archive([layer], architecture=host_platform()[1]))
    convert = ("convert", "--owners", "squash", tmp_path / "image.tar", "-o", tmp_path / "box")
    assert rootless(*convert).returncode == 0
    place = tmp_path / "place"
    place.mkdir()
    fill = "" if options == "ro" else f" && ! head -c 99999 /dev/zero >{place}/full 2>/dev/null"
    before = without(f"mount -t tmpfs -o {options},mode=700 none {place}{fill}")
    for words, what in (
        (("pack", tmp_path / "box", "-o", place / "new.tar"), f"cannot pack: {place}/new.tar: "),
        (("spec", "--bundle", place), f"cannot write config.json: {place}/config.json: "),
    ):
        error = run([*before, *rootless.command(*words)])
        assert error.returncode == 1 and f"rootless: {what}" in error.stderr, error
        assert errno_text(errno.EROFS if options == "ro" else errno.ENOSPC) in error.stderr


def test_a_packed_archive_needs_a_directory(rootless: Rootless, tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(a.docker_archive([a.file("x") + a.END]))
    assert rootless("convert", tmp_path / "image.tar", "-o", tmp_path / "box").returncode == 0
    done = rootless("pack", tmp_path / "box", "-o", tmp_path / "none/new.tar")
    assert f"cannot pack: the directory does not exist: {tmp_path}/none; hint: mkdir " in done.stderr


@USERS_OWN
def test_an_archive_has_no_room_in_the_cache(
    rootless: Rootless, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = a.file("x", b"x" * (2 << 20)) + a.END
    (tmp_path / "image.tar").write_bytes(a.docker_archive([layer], architecture=host_platform()[1]))
    place = tmp_path / "place"
    place.mkdir(0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    before = without(f"mount -t tmpfs -o size=1m,mode=700 none {place}")
    error = run([*before, *rootless.command("run", tmp_path / "image.tar")])
    found = examine(rootless, tmp_path / "image.tar", before=before)
    same(error, found, "archive", "cache-full")
    assert found["code"] == 1
