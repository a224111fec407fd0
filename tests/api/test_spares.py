"""The launcher sets up a container ahead of a call that is repeated: a spare (api/spares.py)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import rootless
from rootless.api.client import launcher_pid
from tests.support.processes import has_ended, until

CHECKOUT = Path(__file__).resolve().parents[2]
PIPE = subprocess.PIPE


def children() -> list[int]:
    """Return the pids of the launcher's children that are no workers. While no container runs, they are spares."""
    if not (pid := launcher_pid()):
        rootless.run(["true"])
        pid = launcher_pid()
    pids = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid for pid in pids if name_of(pid) != "rootless:worker"]


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def init_of(container: rootless.Popen) -> int:
    """Return the process that the launcher has made for a container: the parent of the program."""
    return int(Path(f"/proc/{container.pid}/stat").read_text().rpartition(")")[2].split()[1])


def call(**keywords: Any) -> int:
    """Run one container to its end; the pid of its init, which may still be on its way out."""
    with rootless.Popen(["cat"], stdin=PIPE, stdout=PIPE, **keywords) as container:
        return init_of(container)


def make_spare(**keywords: Any) -> int:
    """Return the pid of a spare for `rootless.run(..., **keywords)`. It ends after a second if no call takes it."""
    assert until(lambda: not children())
    for _ in range(100):  # a busy machine may be too slow for calls in quick succession
        of_calls = {call(**keywords) for _ in range(3)}
        time.sleep(0.05)
        if found := set(children()) - of_calls:
            return found.pop()
    raise AssertionError("no spare was made")


def test_a_spare_takes_the_next_call_and_another_follows(busybox_root: Path) -> None:
    def takes_it() -> bool:
        """Return whether a call comes before the spare is too old for it; on a stopped machine it does not."""
        spare = make_spare(rootfs=busybox_root)
        taken = rootless.Popen(["sleep", "1000"], rootfs=busybox_root)
        is_taken = init_of(taken) == spare
        taken.kill()
        assert taken.wait() == -signal.SIGKILL
        return is_taken

    assert until(takes_it), "the container of the call is the spare"
    assert until(lambda: not children()), "a spare that nobody takes ends"


def test_one_call_or_two_make_none(busybox_root: Path) -> None:
    assert until(lambda: not children())
    of_calls = {call(rootfs=busybox_root, hostname="two") for _ in range(2)}
    time.sleep(0.2)
    assert set(children()) <= of_calls


def test_every_argument_of_a_call_reaches_the_program(busybox_root: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    script = 'read word; echo "$0 $1 $word $VALUE $(pwd) $(umask)"; echo err >&2; echo passed >&$2; exit 7'
    for turn in range(12):
        os.set_inheritable(writer, True)
        done = rootless.run(
            ["sh", "-c", script, f"zero{turn}", "one", str(writer)], executable="/bin/sh", rootfs=busybox_root,
            env={"VALUE": str(turn), "PATH": "/bin"}, cwd="/etc", umask=0o37, input=f"in{turn}\n", pass_fds=[writer],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 7 and done.stderr == "err\n"
        assert done.stdout == f"zero{turn} one in{turn} {turn} /etc 0037\n"
        assert os.read(reader, 100) == b"passed\n"
    os.close(reader)
    os.close(writer)


def test_errors_signals_and_exec_are_those_of_any_container(busybox_root: Path) -> None:
    make_spare(rootfs=busybox_root)
    with pytest.raises(FileNotFoundError):
        rootless.run(["nosuch"], rootfs=busybox_root)
    make_spare(rootfs=busybox_root)
    assert rootless.run("kill -9 $$", shell=True, rootfs=busybox_root).returncode == -9
    make_spare(rootfs=busybox_root)
    with rootless.Popen(["sleep", "1000"], rootfs=busybox_root, stdin=PIPE) as box:
        assert box.exec(["echo", "inside"], stdout=PIPE).stdout == b"inside\n"
        box.terminate()
        assert box.wait() == -signal.SIGTERM
    make_spare(rootfs=busybox_root)
    with pytest.raises(subprocess.TimeoutExpired):
        rootless.run(["sleep", "1000"], rootfs=busybox_root, timeout=0.2)
    make_spare(rootfs=busybox_root)
    assert rootless.run("echo $$", shell=True, rootfs=busybox_root, init=False, stdout=PIPE).stdout == b"1\n"


@pytest.mark.parametrize("what", ["a directory", "a file", "the root"])
def test_what_was_replaced_meanwhile_is_seen(busybox_root: Path, tmp_path: Path, what: str) -> None:
    """A rename puts another inode at a path that the spare has mounted, and the spare is not used."""
    place, keywords = tmp_path / "place", {"rootfs": busybox_root}
    if what == "a file":
        place.write_text("old\n")
        keywords["volumes"] = [f"{place}:/tmp/seen:ro"]  # type: ignore[assignment]
    elif what == "a directory":
        place.mkdir()
        keywords["volumes"] = [f"{place}:/etc:ro"]  # type: ignore[assignment]
    else:
        shutil.copytree(busybox_root, place, symlinks=True)
        keywords["rootfs"] = place
    make_spare(**keywords)
    place.rename(tmp_path / "old")
    if what == "a file":
        place.write_text("new\n")
    else:
        shutil.copytree(busybox_root, place, symlinks=True) if what == "the root" else place.mkdir()
        seen = place / "etc/seen" if what == "the root" else place / "seen"
        seen.write_text("new\n")
    path = "/tmp/seen" if what == "a file" else "/etc/seen"
    done = rootless.run(["cat", path], stdout=PIPE, check=True, text=True, **keywords)  # type: ignore[call-overload]
    assert done.stdout == "new\n"


@pytest.mark.parametrize("place", ["proc", "dev", "tmp/a", "etc/hidden", "etc/fixed", "work"])
def test_a_rootfs_that_is_rebuilt_below_a_spare_is_seen(busybox_root: Path, tmp_path: Path, place: str) -> None:
    """The kernel detaches a mount when its place is removed, and a new directory may get the old one's inode number."""
    root, volume = tmp_path / "root", tmp_path / "volume"
    shutil.copytree(busybox_root, root, symlinks=True)
    for path in (root / "tmp/a", root / "work", volume / "of_volume"):
        path.mkdir(parents=True)
    for path in (root / "etc/hidden", root / "etc/fixed"):
        path.write_text("old\n")
    keywords: dict[str, Any] = {
        "rootfs": root, "volumes": [f"{volume}:/tmp/a"], "read_only": False,
        "config": {
            "linux": {"maskedPaths": ["/etc/hidden"], "readonlyPaths": ["/etc/fixed"]}, "process": {"cwd": "/work"},
        },
    }  # fmt: skip
    make_spare(**keywords)
    old = root / place
    if old.is_dir():
        old.rmdir()
        old.mkdir()
    else:
        new = tmp_path / "new"
        new.write_text("new\n")
        new.rename(old)
    script = "ls -d /proc/self /dev/null /tmp/a/of_volume; cat /etc/hidden; echo x >/etc/fixed; pwd && touch made"
    done = rootless.run(script, shell=True, stdout=PIPE, stderr=PIPE, text=True, **keywords)
    assert done.stdout.split() == ["/dev/null", "/proc/self", "/tmp/a/of_volume", "/work"]
    assert "Read-only file system" in done.stderr
    assert (root / "work/made").exists()


def test_a_program_that_writes_to_its_directory_still_gets_a_spare(busybox_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(busybox_root, root, symlinks=True)
    (root / "work").mkdir()
    keywords: dict[str, Any] = {"rootfs": root, "read_only": False, "config": {"process": {"cwd": "/work"}}}

    def takes_it() -> bool:
        spare = make_spare(**keywords)
        (root / "work" / str(spare)).touch()
        taken = rootless.Popen(["sleep", "1000"], **keywords)
        is_taken = init_of(taken) == spare
        taken.kill()
        taken.wait()
        return is_taken

    assert until(takes_it)


def test_nothing_comes_back_into_a_rootfs_that_is_removed(busybox_root: Path, tmp_path: Path) -> None:
    """A spare that is set up after the last call finds its mount points gone. It must not make them again."""
    for turn in range(25):
        root = tmp_path / str(turn)
        (root / "bin").mkdir(parents=True)
        os.link(busybox_root / "bin/busybox", root / "bin/true")
        for _ in range(3):
            rootless.run(["true"], rootfs=root, tmpfs=["/made/below"], check=True)
        shutil.rmtree(root / "made")
        time.sleep(0.05)
        assert not (root / "made").exists()
        shutil.rmtree(root)
    assert not list(tmp_path.iterdir())


def test_a_spare_opens_its_rootfs_for_writing_again(busybox_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(busybox_root, root, symlinks=True)
    make_spare(rootfs=root, read_only=False)
    rootless.run(["touch", "/etc/made"], rootfs=root, read_only=False, check=True)
    assert (root / "etc/made").exists()
    make_spare(rootfs=root)
    assert rootless.run(["touch", "/etc/other"], rootfs=root, stderr=PIPE).returncode == 1


def test_what_was_mounted_meanwhile_is_seen(busybox_root: Path, tmp_path: Path) -> None:
    """The host's mounts are those of the Python process, which the test runs in a mount namespace of its own."""
    volume = tmp_path / "volume"
    volume.mkdir()
    tmp_path.chmod(0o755)
    script = f"""
import subprocess, sys, time
sys.path.insert(0, {str(CHECKOUT)!r})
import rootless
def look():
    return rootless.run(["ls", "/tmp/volume"], rootfs={str(busybox_root)!r}, volumes=["{volume}:/tmp/volume"],
                        stdout=subprocess.PIPE, text=True, check=True).stdout
print([look() for _ in range(5)])
time.sleep(0.1)
subprocess.run(["mount", "-t", "tmpfs", "none", {str(volume)!r}], check=True)
open("{volume}/mounted", "w").close()
print(look())
"""
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "['', '', '', '', '']\nmounted\n\n", done.stderr


def test_a_spare_that_was_killed_is_missed_by_nobody(busybox_root: Path) -> None:
    for _ in range(3):
        pid = make_spare(rootfs=busybox_root)
        with contextlib.suppress(ProcessLookupError):  # it has ended after its second
            os.kill(pid, signal.SIGKILL)
        assert until(lambda: has_ended(pid))  # noqa: B023
        assert rootless.run(["echo", "well"], rootfs=busybox_root, stdout=PIPE).stdout == b"well\n"


def test_a_call_whose_spare_is_killed_before_its_program_begins_gets_another_container(busybox_root: Path) -> None:
    pid = make_spare(rootfs=busybox_root)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    done: list[Any] = []
    call = threading.Thread(
        target=lambda: done.append(rootless.run(["echo", "well"], rootfs=busybox_root, stdout=PIPE))
    )
    call.start()
    time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    call.join()
    assert done[0].stdout == b"well\n"


def test_a_spare_that_fails_as_its_call_comes_hides_no_error(busybox_root: Path, tmp_path: Path) -> None:
    """The call is in the spare's socket by then, and nobody reads it."""
    volume = tmp_path / "volume"
    volume.mkdir()
    keywords: dict[str, Any] = {"rootfs": busybox_root, "volumes": [f"{volume}:/tmp/volume"]}
    make_spare(**keywords)
    volume.rmdir()
    for _ in range(20):
        with pytest.raises(rootless.RootlessError, match="cannot open the source"):
            rootless.run(["true"], **keywords)


def test_an_overlay_and_a_limit_are_never_set_up_ahead(busybox_root: Path) -> None:
    assert until(lambda: not children())
    for keywords in ({"ephemeral": True}, {"memory": "64m", "limits": "best-effort"}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # there may be no cgroup
            of_calls = {call(rootfs=busybox_root, **keywords) for _ in range(5)}
        time.sleep(0.1)
        assert set(children()) <= of_calls


@pytest.mark.parametrize("victim", ["the launcher", "the Python process", "both"])
def test_a_spare_ends_with_what_it_serves(busybox_root: Path, victim: str) -> None:
    script = f"""
import os, sys, time
sys.path.insert(0, {str(CHECKOUT)!r})
import rootless
from rootless.api.client import launcher_pid
pid = launcher_pid() or (rootless.run(["true"], rootfs={str(busybox_root)!r}), launcher_pid())[1]
while not (spares := open(f"/proc/{{pid}}/task/{{pid}}/children").read()):
    for _ in range(3):
        rootless.run(["true"], rootfs={str(busybox_root)!r})
    time.sleep(0.05)
print(pid, spares, flush=True)
input()
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=PIPE, stdout=PIPE, text=True)
    assert process.stdout
    launcher, *spares = map(int, process.stdout.readline().split())
    if victim != "the Python process":
        os.kill(launcher, signal.SIGKILL)
    if victim != "the launcher":
        process.kill()
    assert spares and until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in spares))
    process.kill()
    process.wait()
    process.stdout.close()
    assert process.stdin
    process.stdin.close()
