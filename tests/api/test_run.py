"""`rootless.run` and `Popen` do what the documentation of subprocess says."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import rootless
from oci.config import default_config
from rootless.api.keyword_errors import name_keywords
from rootless.errors import RootlessError, advice
from tests.support.checkout import TIMEOUT
from tests.support.processes import LONGER_AND_LONGER, ends, long_sleep

PIPE = subprocess.PIPE


def output(args: Any, **keywords: Any) -> str:
    """Return what a program prints, after checking that it ends with 0."""
    return str(rootless.run(args, check=True, stdout=PIPE, text=True, **keywords).stdout)


def test_a_completed_process_is_subprocess_s(busybox_root: Path) -> None:
    done = rootless.run(["sh", "-c", "echo out; echo err >&2; exit 3"], rootfs=busybox_root, capture_output=True)
    assert isinstance(done, subprocess.CompletedProcess)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    assert done.args == ["sh", "-c", "echo out; echo err >&2; exit 3"]


def test_without_a_root_the_host_s_system_is_there_read_only() -> None:
    script = "id -u; pwd; touch /usr/x /etc/x 2>&1 | grep -c Read-only; touch /tmp/x $HOME/x && echo private; ls /home"
    assert output(script, shell=True) == f"{os.getuid()}\n/\n2\nprivate\n" + ("" if os.getuid() == 0 else "x\n")


def test_the_host_s_system_shows_no_file_of_the_user_and_no_process_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    script = f"ls {tmp_path} 2>/dev/null; ls /; ls -d /proc/[0-9]* | wc -l; grep -c : /proc/net/dev"
    lines = output(script, shell=True)
    names = lines.split()[:-2]
    assert set(names) <= {
        "bin", "dev", "etc", "gnu", "home", "lib", "lib32", "lib64", "libx32", "nix", "opt", "proc", "root", "run",
        "sbin", "tmp", "usr", "var",
    }  # fmt: skip
    assert lines.split()[-1] == "1"


def test_the_host_s_system_gives_no_rights() -> None:
    status = output(["cat", "/proc/self/status"])
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["NoNewPrivs"] == "1"
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    mounts = [line.split() for line in output(["cat", "/proc/self/mounts"]).splitlines()]
    # Of /dev the host decides, whose devices are mounted one by one.
    assert [m for m in mounts if not m[1].startswith("/dev/") and "nosuid" not in m[3].split(",")] == []


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="is about real root")
def test_root_s_secrets_in_etc_are_not_readable_inside() -> None:
    assert rootless.run(["cat", "/etc/shadow"], capture_output=True).stdout == b""


SECRETS = """
import ctypes, os, shutil, subprocess, sys
import rootless
place, kind = sys.argv[1:]
os.mkdir(place + "/etc")
os.mkdir(place + "/work")
if kind == "bind":
    subprocess.run(["cp", "-a", "/etc/passwd", "/etc/shadow", "/etc/ld.so.cache", place + "/etc"])
    subprocess.run(["mount", "--bind", place + "/etc", "/etc"], check=True)
else:  # a file system whose ids cannot be mapped
    options = f"lowerdir=/etc,upperdir={place}/etc,workdir={place}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", "/etc"], check=True)
def read(**keywords):
    script = "cat /etc/shadow /etc/later /etc/closed /etc/dir/file; cat /etc/open"
    return rootless.run(script, shell=True, stdout=-1, stderr=-3, text=True, **keywords).stdout
def write(name, mode):
    with open("/etc/" + name, "w", opener=lambda path, flags: os.open(path, flags, mode)) as file:
        file.write(name + "\\n")
write("open", 0o644)
write("closed", 0o644)
print(read().split())
box = rootless.Popen("read line; cat /etc/shadow /etc/later /etc/closed", shell=True, stdin=-1, stdout=-1, stderr=-3)
write("later", 0o600)
os.chmod("/etc/closed", 0o640)
os.mkdir("/etc/dir", 0o700)
write("dir/file", 0o644)
os.rename(shutil.copy("/etc/shadow", "/etc/shadow+"), "/etc/shadow")  # as passwd(1) does
print(read().split(), read(cap_add=["DAC_OVERRIDE"]).split(), read(name=f"etc-{os.getpid()}").split())
print(box.communicate(b"\\n")[0].split() if kind == "bind" else box.communicate(b"\\n")[0][:0])
"""


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="is about real root")
@pytest.mark.parametrize("kind", ["bind", "overlay"])
def test_secrets_that_appear_in_etc_later_are_not_readable_either(tmp_path: Path, kind: str) -> None:
    program = f"import sys; sys.path.insert(0, {str(Path(rootless.__file__).parents[1])!r})\n{SECRETS}"
    words = ["unshare", "--mount", sys.executable, "-c", program, str(tmp_path), kind]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=120)
    if kind == "overlay" and "mount:" in done.stderr:
        pytest.skip("the kernel mounts no overlay here")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["['closed', 'open']", "['open'] ['open'] ['open']"], done.stderr
    assert lines[2] in ("[]", "b''")


def test_user_root_is_root_inside_and_nobody_outside() -> None:
    assert output(["id", "-u"], user="root") == "0\n"
    assert rootless.run(["touch", "/etc/x"], user="root", stderr=subprocess.DEVNULL).returncode != 0


def test_an_environment_is_replaced_as_a_whole(busybox_root: Path) -> None:
    assert output(["env"], rootfs=busybox_root, env={"A": "ä"}) == "A=ä\n"
    assert "PATH=" in output(["env"], rootfs=busybox_root)
    names = {line.partition("=")[0] for line in output(["env"]).splitlines()}
    assert names == {"PATH", "HOME", "LANG", "TERM"}


def test_a_missing_program_is_both_errors(busybox_root: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        rootless.run(["nosuch"], rootfs=busybox_root)
    assert isinstance(caught.value, rootless.RootlessError)
    assert (caught.value.filename, caught.value.errno) == ("nosuch", 2)


def test_a_program_that_is_not_executable_is_both_errors(busybox_root: Path) -> None:
    with pytest.raises(PermissionError) as caught:
        rootless.run(["/etc/passwd"], rootfs=busybox_root)
    assert isinstance(caught.value, rootless.RootlessError)


def test_a_missing_working_directory_is_named(busybox_root: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        rootless.run(["true"], rootfs=busybox_root, cwd="/no/such")
    assert caught.value.filename == "/no/such"


def test_a_working_directory_that_is_a_file_is_the_same_error_as_in_subprocess() -> None:
    with pytest.raises(NotADirectoryError) as caught:
        rootless.run(["true"], cwd="/etc/passwd")
    assert caught.value.filename == "/etc/passwd"


@pytest.mark.parametrize("name", ["../up", "a/b", ".", "a b"])
def test_a_name_that_would_leave_the_state_root_is_refused(name: str) -> None:
    with pytest.raises(rootless.RootlessError, match="container ID"):
        rootless.run(["true"], name=name)


def test_a_program_below_the_home_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "tool"
    program.write_text("#!/bin/sh\necho here\n")
    program.chmod(0o755)
    with pytest.raises(FileNotFoundError, match="volumes=") as caught:
        rootless.run([program])
    assert f"{tmp_path}:{tmp_path}:ro" in str(caught.value)
    assert output([program], volumes=[f"{tmp_path}:{tmp_path}:ro"]) == "here\n"


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(ValueError, match="preexec_fn"):
        rootless.run(["true"], preexec_fn=print)
    with pytest.raises(ValueError, match="close_fds"):
        rootless.run(["true"], close_fds=False)
    with pytest.raises(TypeError, match="nosuch"):
        rootless.run(["true"], nosuch=1)
    wrong: dict[str, Any] = {"network": 5, "config": 5, "umask": "x", "process_group": "x"}
    for name, value in wrong.items():
        with pytest.raises(TypeError, match=name):
            rootless.run(["true"], **{name: value})
    with pytest.raises(TypeError, match="volumes"):
        rootless.run(["true"], volumes="/a:/b")
    with pytest.raises(ValueError, match="together"):
        rootless.run(["true"], bundle=".", rootfs=".")


def test_timeout_has_the_output_so_far_and_leaves_nothing() -> None:
    sleep = long_sleep()
    for seconds in LONGER_AND_LONGER:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            rootless.run(f"echo begun; sleep {sleep}", shell=True, capture_output=True, timeout=seconds)
        if caught.value.stdout:
            break
    assert caught.value.stdout == b"begun\n"
    assert ends(f"sleep\0{sleep}")


def test_check_raises_subprocess_s_error() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        rootless.run("echo no; exit 7", shell=True, check=True, stdout=PIPE)
    assert (caught.value.returncode, caught.value.output) == (7, b"no\n")


def test_text_modes_and_input() -> None:
    assert rootless.run(["cat"], input="é\n", text=True, stdout=PIPE).stdout == "é\n"
    assert rootless.run(["cat"], input="é", encoding="latin-1", stdout=PIPE).stdout == "é"
    assert rootless.run(["printf", r"a\r\nb"], stdout=PIPE, universal_newlines=True).stdout == "a\nb"
    assert rootless.run(["printf", r"\377"], stdout=PIPE, encoding="utf-8", errors="replace").stdout == "\ufffd"


def test_large_pipes_both_ways() -> None:
    data = os.urandom(3 << 20)
    assert rootless.run(["cat"], input=data, stdout=PIPE).stdout == data


def test_input_that_is_not_read_is_no_error() -> None:
    assert rootless.run(["true"], input=b"x" * (1 << 20)).returncode == 0


CLOSED = """
import os, sys
import rootless
for fd in map(int, sys.argv[2:]):
    os.close(fd)
done = [rootless.run(["cat"], input=b"x", stdout=-1, stderr=-2).stdout for _ in range(2)]
done.append(rootless.run("ls /proc/self/fd; cat; echo on", shell=True, stdout=-1, stderr=-3).stdout)
os.write(int(sys.argv[1]), repr(done).encode())
"""


@pytest.mark.parametrize("closed", [(0,), (1,), (0, 1, 2)], ids=str)
def test_streams_that_the_caller_has_closed(closed: tuple[int, ...]) -> None:
    program = f"import sys; sys.path.insert(0, {str(Path(rootless.__file__).parents[1])!r})\n{CLOSED}"
    reader, writer = os.pipe()
    words = [sys.executable, "-c", program, str(writer), *map(str, closed)]
    subprocess.run(words, pass_fds=[writer], stdin=subprocess.DEVNULL, timeout=60, check=True)
    os.close(writer)
    with open(reader) as file:
        first, second, script = ast.literal_eval(file.read())
    assert (first, second) == (b"x", b"x")
    *numbers, last = script.split()  # ls itself has the lowest number that is free
    assert ({int(number) for number in numbers}, last) == ({0, 1, 2} if 0 in closed else {0, 1, 2, 3}, b"on")


def test_streams_to_files_and_to_each_other(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as file:
        rootless.run("echo a; echo b >&2", shell=True, stdout=file, stderr=subprocess.STDOUT)
    assert (tmp_path / "out").read_bytes() == b"a\nb\n"
    assert rootless.run(["cat"], stdin=subprocess.DEVNULL, stdout=PIPE).stdout == b""


def test_communicate_twice_and_after_a_timeout() -> None:
    reader, writer = os.pipe()
    script = f"import os, sys; print(end=sys.stdin.read(), flush=True); os.read({reader}, 1); print('more')"
    command = ["/usr/bin/python3", "-c", script]
    process = rootless.Popen(command, stdin=PIPE, stdout=PIPE, pass_fds=[reader])
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(b"in", timeout=0.2)
    os.close(writer)
    os.close(reader)
    assert process.communicate() == (b"inmore\n", None)
    assert process.communicate() == (b"", None) or process.returncode == 0


@pytest.mark.parametrize("init", [True, False])
def test_signals_end_it_as_outside(init: bool) -> None:
    process = rootless.Popen(["sleep", "1000"], init=init)
    process.kill()
    assert process.wait(TIMEOUT) == -signal.SIGKILL
    assert process.poll() == -signal.SIGKILL
    process.send_signal(signal.SIGTERM)  # it has ended: no error


def test_terminate_ends_a_plain_program_and_abort_is_seen() -> None:
    process = rootless.Popen(["sleep", "1000"])
    process.terminate()
    assert process.wait(TIMEOUT) == -signal.SIGTERM
    assert rootless.run(["/usr/bin/python3", "-c", "import os; os.abort()"], stderr=PIPE).returncode == -signal.SIGABRT


def test_os_kill_with_its_pid_reaches_the_program() -> None:
    process = rootless.Popen("trap 'exit 9' USR1; echo ready; while :; do sleep 0.1; done", shell=True, stdout=PIPE)
    assert process.stdout and process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGUSR1)
    assert process.wait(TIMEOUT) == 9
    process.stdout.close()


def test_what_the_program_leaves_behind_ends_with_it() -> None:
    sleep = long_sleep()
    assert rootless.run(f"sleep {sleep} & exit 0", shell=True).returncode == 0
    assert ends(f"sleep\0{sleep}")


def test_the_context_manager_waits_and_closes() -> None:
    with pytest.raises(KeyError), rootless.Popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
        raise KeyError
    assert process.returncode == 0
    assert process.stdout and process.stdout.closed


@pytest.mark.parametrize("how", ["run", "named", "exec"])
def test_pass_fds_keep_their_numbers(how: str) -> None:
    reader, writer = os.pipe()
    high = os.dup2(writer, 150, inheritable=False)
    os.close(writer)
    script = f"import os; os.write({high}, b'passed\\n'); print(*os.listdir('/proc/self/fd'))"
    command, name = ["/usr/bin/python3", "-c", script], f"passed-{os.getpid()}"
    if how == "exec":
        with rootless.Popen(["cat"], stdin=PIPE, stdout=PIPE, name=name) as process:
            done = process.exec(command, pass_fds=[high], stdout=PIPE, text=True)
    else:
        named = {"name": name} if how == "named" else {}
        done = rootless.run(command, pass_fds=[high], stdout=PIPE, text=True, **named)
    os.close(high)
    with open(reader) as file:
        assert file.read() == "passed\n"
    assert set(done.stdout.split()) == {"0", "1", "2", "3", "150"}  # 3 is ls's own


def test_pass_fds_may_name_the_streams_and_nothing_that_is_not_open() -> None:
    for run in (subprocess.run, rootless.run):
        done = run(["sh", "-c", "echo out; echo err >&2"], pass_fds=[2, 0, 1, 1], capture_output=True)
        assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
        with pytest.raises(ValueError, match="bad value"):
            run(["true"], pass_fds=[-1])
        with pytest.raises(OSError, match="Bad file descriptor"):
            run(["true"], pass_fds=[9999])


def test_nothing_else_is_open_in_it() -> None:
    assert set(output(["ls", "/proc/self/fd"]).split()) == {"0", "1", "2", "3"}


def test_umask_process_group_and_session() -> None:
    assert output("umask", shell=True, umask=0o027).strip() == "0027"
    script = "import os; print(os.getpid() == os.getpgrp(), os.getpid() == os.getsid(0))"
    assert output(["/usr/bin/python3", "-c", script], process_group=0) == "True False\n"
    assert output(["/usr/bin/python3", "-c", script], start_new_session=True) == "True True\n"


WAYS = ["plain", "pid 1", "named", "exec"]
SHOW = """
read -r pid _ _ _ group session _ </proc/self/stat
[ $group = $pid ] && echo leads its group || echo in a group
[ $session = $pid ] && echo leads a session || echo in one
echo $0 $(umask)
grep SigIgn /proc/$$/status
"""


def as_child(way: str, **keywords: Any) -> list[str]:
    """Return what SHOW prints about itself as the program of a container, with a name or
    without, or as one more in it.
    """
    args = ["argv0", "-c", SHOW]
    if way == "exec":
        with rootless.Popen(["sleep", "1000"]) as box:
            try:
                text = box.exec(args, stdout=PIPE, text=True, check=True, executable="/bin/sh", **keywords).stdout
            finally:
                box.kill()
    else:
        name = f"api-{os.getpid()}" if way == "named" else ""
        text = output(args, executable="/bin/sh", name=name, init=way != "pid 1", **keywords)
    *lines, signals = text.splitlines()
    ignored = int(signals.split()[1], 16) >> (signal.SIGPIPE - 1) & 1
    return [*lines, "SIGPIPE is ignored" if ignored else "SIGPIPE ends it"]


@pytest.mark.parametrize("way", WAYS)
def test_executable_group_session_umask_and_signals_in_every_way(way: str) -> None:
    alone = way in ("pid 1", "exec")  # it leads a session in any case
    own = ["leads its group", "leads a session"]
    assert as_child(way, umask=0o027) == [
        *(own if alone else ["in a group", "in one"]), "argv0 0027", "SIGPIPE ends it",
    ]  # fmt: skip
    group = as_child(way, process_group=0, restore_signals=False)
    assert (group[0], group[-1]) == ("leads its group", "SIGPIPE is ignored")
    assert as_child(way, start_new_session=True)[:2] == own
    with pytest.raises(PermissionError):
        as_child(way, process_group=4321)


@pytest.mark.parametrize("way", ["plain", "named", "async", "exec"])
def test_pipesize(way: str) -> None:
    import asyncio
    import fcntl

    keywords: dict[str, Any] = {"stdin": PIPE, "stdout": PIPE, "pipesize": 4096 * 4}
    if way == "async":

        async def main() -> int:
            process = await rootless.async_popen("cat", **keywords)
            transport: Any = process._transport  # type: ignore[attr-defined]
            size = fcntl.fcntl(transport.get_pipe_transport(1).get_extra_info("pipe"), fcntl.F_GETPIPE_SZ)
            await process.communicate(b"")
            return int(size)

        assert asyncio.run(main()) == 4096 * 4
    elif way == "exec":
        with rootless.Popen(["cat"], stdin=PIPE) as box:
            assert box.exec(["cat"], input=b"x", stdout=PIPE, pipesize=4096 * 4).stdout == b"x"
    else:
        with rootless.Popen(["cat"], name=f"api-{os.getpid()}" if way == "named" else "", **keywords) as process:
            assert fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ) == 4096 * 4  # type: ignore[arg-type]
            process.communicate(b"")


def test_arguments_may_stand_without_their_names() -> None:
    with rootless.Popen(["cat"], -1, None, PIPE, PIPE) as process:
        assert process.communicate(b"data") == (b"data", None)
    with pytest.raises(TypeError, match="stdin"):
        rootless.Popen(["cat"], -1, None, PIPE, stdin=PIPE)


def test_a_group_that_is_not_mapped_is_a_permission_error_as_in_subprocess() -> None:
    with pytest.raises(PermissionError) as caught:
        rootless.run(["true"], extra_groups=[54321])
    assert caught.value.filename is None
    for number in (-1, 2**64):
        with pytest.raises(ValueError, match=r"(?i)group id"):
            rootless.run(["true"], extra_groups=[number])


@pytest.mark.parametrize("way", ["plain", "named", "exec"])
def test_user_group_and_extra_groups_by_name(busybox_root: Path, tmp_path: Path, way: str) -> None:
    root = tmp_path / "root"
    shutil.copytree(busybox_root, root, symlinks=True)
    root.chmod(0o755)
    (root / "etc" / "group").write_text("root:x:0:\nuser:x:1000:\nmore:x:1001:\n")
    keywords: dict[str, Any] = {"user": "user", "group": "user", "extra_groups": ["more", 0]}
    about: dict[str, Any] = {"rootfs": root, "name": f"api-{os.getpid()}" if way == "named" else ""}
    script = "id -u; id -G"
    try:
        if way == "exec":
            with rootless.Popen(["sleep", "1000"], **about) as box:
                try:
                    text = box.exec(script, shell=True, stdout=PIPE, text=True, **keywords).stdout
                finally:
                    box.kill()
        else:
            text = output(script, shell=True, **about, **keywords)
    except PermissionError as error:
        assert os.getuid() != 0 and "not mapped" in str(error)  # a user without subordinate ids
        return
    assert text.split() == ["1000", "1000", "0", "1001"] or text.split() == ["1000", "1000", "1001", "0"]


def test_exec_takes_the_container_as_it_is() -> None:
    with rootless.Popen(["cat"], stdin=PIPE) as box:
        with pytest.raises(TypeError, match="memory"):
            box.exec(["true"], memory="1m")  # type: ignore[call-overload]
        with pytest.raises(KeyError, match="nosuch"):
            box.exec(["true"], user="nosuch")


def test_ignored_signals_are_restored_or_not() -> None:
    def ignored(**keywords: Any) -> int:
        return int(output("grep SigIgn /proc/self/status", shell=True, **keywords).split()[1], 16)

    assert ignored() >> (signal.SIGPIPE - 1) & 1 == 0
    assert ignored(restore_signals=False) >> (signal.SIGPIPE - 1) & 1 == 1


def test_executable_and_shell(busybox_root: Path) -> None:
    assert output(["name", "-c", "echo $0", "x"], executable="/bin/sh") == "x\n"
    assert output("echo $1", shell=True, rootfs=busybox_root) == "\n"
    assert output(["echo $0", "zero"], shell=True, rootfs=busybox_root) == "zero\n"


def test_a_bundle_s_config_with_arguments_on_top(bundle: Any) -> None:
    bundle.patch({"hostname": "from-config", "process": {"env": ["PATH=/bin", "A=1"]}})
    assert output("hostname; echo $A", shell=True, bundle=bundle.path) == "from-config\n1\n"
    assert output(["hostname"], bundle=bundle.path, hostname="changed") == "changed\n"
    bundle.patch({"hostname": "edited"})
    assert output(["hostname"], bundle=bundle.path) == "edited\n"


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"memory": "64q"}, "memory='64q'"),
        ({"volumes": ["/nonexistent:/d"]}, "volumes=['/nonexistent:/d']"),
        ({"volumes": ["/usr"]}, "tmpfs=['/usr'] for an empty directory"),
        ({"network": "bogus"}, "network='bogus'"),
        ({"ulimits": {"nosuch": 1}}, "ulimits=['nosuch=1']"),
        ({"cap_add": ["NOSUCH"]}, "cap_add=['NOSUCH']"),
        ({"no_host_loopback": True}, "no_host_loopback=True; hint: network='auto'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_error_names_the_keyword_and_not_the_flag(keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(rootless.RootlessError) as caught:
        rootless.run(["true"], **keywords)
    assert words in str(caught.value)
    assert "--" not in str(caught.value)


def test_a_memory_root_without_attributes_names_the_keyword() -> None:
    """Linux before 6.6 fails, and the hint for Python names a keyword where the command line's names a flag."""
    error = RootlessError("cannot", "--ephemeral=tmpfs", 95, advice("tmpfs-without-xattrs"))
    assert "ephemeral=True: ENOTSUP" in str(name_keywords(error))
    assert "ephemeral=False" in error.hint
    assert "--" not in str(error)


def test_a_rootfs_that_is_a_file_is_named() -> None:
    for path in ("/etc/passwd", "/nonexistent"):
        with pytest.raises(rootless.RootlessError, match=f"the rootfs is not a directory: {path}.*rootfs=") as caught:
            rootless.run(["true"], rootfs=path)
        assert not isinstance(caught.value, KeyError)


def test_volumes_are_relative_to_this_process(busybox_root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "file").write_text("content")
    monkeypatch.chdir(tmp_path)
    assert output(["cat", "file"], rootfs=busybox_root, volumes=["./src:/src:ro"], cwd="/src") == "content"
    with pytest.raises(rootless.RootlessError, match="does not exist"):
        rootless.run(["true"], rootfs=busybox_root, volumes=["./nosuch:/src"])


@pytest.mark.parametrize("name", ["", f"limited-{os.getpid()}"], ids=["no name", "a name"])
def test_a_limit_without_a_cgroup_is_refused_and_best_effort_warns(name: str) -> None:
    try:
        done = rootless.run(["true"], memory="64m", name=name)
    except rootless.RootlessError as error:
        assert 'limits="best-effort"' in str(error)
        assert str(error).count("hint:") == 1
        with pytest.warns(RuntimeWarning, match="limits") as warned:
            assert rootless.run(["true"], memory="64m", limits="best-effort", name=name).returncode == 0
        assert [warning.filename for warning in warned] == [__file__]  # the caller's line
    else:
        assert (done.returncode, done.oom_killed) == (0, False)


def test_best_effort_finds_the_root_of_a_bundle(busybox_root: Path, tmp_path: Path) -> None:
    config = default_config(os.geteuid() != 0, os.geteuid(), os.getegid())
    config["root"]["path"] = os.path.relpath(busybox_root, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert rootless.run(["true"], bundle=tmp_path, memory="64m", limits="best-effort").returncode == 0


def test_importing_the_package_loads_neither_subprocess_nor_asyncio() -> None:
    program = "import sys; import rootless; print(sorted({'subprocess', 'asyncio', 're'} & set(sys.modules)))"
    root = Path(rootless.__file__).parents[1]
    done = subprocess.run([sys.executable, "-IS", "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {program}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == "[]\n"


STATUS = "grep -E '^(Uid|Gid|Groups|NoNewPrivs|Seccomp|Sig(Ign|Blk|Cgt)|Cap.*):' /proc/self/status; ulimit -n"


@pytest.mark.parametrize(
    "keywords",
    [
        {}, {"cap_add": ["SYS_PTRACE", "NET_ADMIN"]}, {"cap_add": ["ALL"]}, {"cap_drop": ["ALL"]},
        {"no_new_privileges": True}, {"no_new_privileges": False, "cap_add": ["SYS_ADMIN"]}, {"seccomp": "default"},
        {"seccomp": "default", "no_new_privileges": False}, {"ulimits": ["nofile=64"]}, {"ulimits": ["nproc=500"]},
        {"user": 0}, {"user": 5000, "limits": "best-effort"},
        {"config": {"process": {"capabilities": {"permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]}}}},
    ],
)  # fmt: skip
def test_a_program_has_the_same_rights_in_every_way(busybox_root: Path, keywords: dict[str, Any]) -> None:
    """The program runs below the small init, which may start it by posix_spawn(3), and as pid 1, which always executes
    it.
    """
    seen = []
    for init in (True, False):
        try:
            text = output(STATUS, shell=True, rootfs=busybox_root, init=init, **keywords)
        except rootless.RootlessError as error:
            assert keywords.get("user") == 5000  # who may be unmapped, or may not enter pytest's directories
            seen.append(str(error))
        else:
            assert "CapBnd" in text
            # glibc's posix_spawn has the child ignore its two internal signals, 32 and 33, as in every `system(3)`
            seen.append(text.replace("SigIgn:\t0000000180000000", "SigIgn:\t0000000000000000"))
    assert seen[0] == seen[1]


def test_a_variable_without_a_name_is_refused_as_one_with_an_equals_sign() -> None:
    for name in ("", "A=B"):
        with pytest.raises(ValueError, match="illegal environment variable name"):
            rootless.run(["true"], env={name: "x"})


def test_an_interrupted_run_waits_for_its_container_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CPython's test_run_keyboardinterrupt_no_kill asks for: two waits at most, and none without a limit."""
    waits: list[tuple[rootless.Popen[Any], float | None]] = []

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def wait(self: rootless.Popen[Any], timeout: float | None) -> int:
        waits.append((self, timeout))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rootless.Popen, "_communicate", interrupt)
        patch.setattr(rootless.Popen, "_wait", wait)
        with pytest.raises(KeyboardInterrupt):
            rootless.run(["sleep", "100"], timeout=5)
    assert len(waits) == 2 and all(timeout for _, timeout in waits)
    assert waits[0][0].wait(timeout=20) == -9
