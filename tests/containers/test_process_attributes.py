"""All of `process`: ids, groups, capability sets, limits, lookups, descriptors, and what execve(2) refuses."""

import os
import resource
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import TIMEOUT
from tests.support.containers import USER, mapped, needs_range


def test_arguments_arrive_as_they_are(container) -> None:
    args = ["printf", "%s\n", "", "a b", "*", "$HOME", "é", "--", "-x", 'q"uote']
    out = container({"process": {"args": args}}).run().stdout
    assert out == "\n".join(args[2:]) + "\n"


def test_env_is_the_configs_alone(container) -> None:
    c = container({"process": {"env": ["PATH=/bin", "EMPTY=", "EQUALS=a=b", "HOME=/elsewhere"]}})
    out = c.output("env", env={**os.environ, "OF_THE_HOST": "1"})
    assert sorted(out.splitlines()) == ["EMPTY=", "EQUALS=a=b", "HOME=/elsewhere", "PATH=/bin"]


def test_no_env_gives_a_path(container) -> None:
    assert "PATH=/usr/local/sbin:" in container({"process": {"env": None}}).output("/bin/env")


@needs_range
@pytest.mark.parametrize(("uid", "home"), [(1000, "/home/user"), (4321, "/"), (0, "/root")])
def test_home_is_the_users_in_the_containers_passwd(container, uid, home) -> None:
    c = container(mapped({"process": {"user": {"uid": uid, "gid": 0}}}))
    assert c.sh("echo $HOME").strip() == home


@needs_range
def test_ids_and_groups(container) -> None:
    user = {"uid": 1000, "gid": 1001, "additionalGids": [5, 10, 1002]}
    out = container(mapped({"process": {"user": user}})).sh("grep -E '^(Uid|Gid|Groups)' /proc/self/status")
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert lines == {"Uid:": ["1000"] * 4, "Gid:": ["1001"] * 4, "Groups:": ["5", "10", "1002"]}


@needs_range
def test_no_groups_of_the_caller_are_left(container) -> None:
    out = container(mapped({})).sh("grep ^Groups /proc/self/status")
    assert out.split() == ["Groups:"]


@pytest.mark.skipif(not USER, reason="real root may have every id")
def test_an_id_beyond_the_map_names_the_file_to_edit(container, rootless) -> None:
    result = container({"process": {"user": {"uid": 1000, "gid": 0}}}).create()
    assert result.returncode == 1
    assert "/process/user/uid" in result.stderr and "/etc/subuid" in result.stderr
    assert rootless.ids() == []


@needs_range
def test_a_user_other_than_root_holds_no_capability_unless_ambient(container) -> None:
    sets = ("bounding", "permitted", "inheritable", "effective", "ambient")
    user = {"uid": 1000, "gid": 1000}
    plain = {**{kind: ["CAP_KILL"] for kind in sets[:2]}, "effective": []}
    out = container(mapped({"process": {"user": user, "capabilities": plain}})).sh("grep ^CapEff /proc/self/status")
    assert int(out.split()[1], 16) == 0
    ambient = {kind: ["CAP_KILL"] for kind in sets}
    out = container(mapped({"process": {"user": user, "capabilities": ambient}})).sh("grep ^CapEff /proc/self/status")
    assert int(out.split()[1], 16) == 1 << 5


def test_no_capabilities_at_all(container) -> None:
    for capabilities in (None, {}, {"bounding": []}):
        c = container()
        c.bundle.patch({"process": {"capabilities": None}})
        if capabilities is not None:
            c.bundle.patch({"process": {"capabilities": capabilities}})
        out = c.sh("grep ^Cap /proc/self/status")
        assert {line.split()[1] for line in out.splitlines()} == {"0" * 16}


def test_a_capability_that_is_not_bounding_cannot_be_regained(container) -> None:
    assert container().run("sh", "-c", "chroot / true 2>&1 || mount -t tmpfs x /mnt 2>&1").returncode != 0


LIMITS = {"AS": 9, "CORE": 4, "CPU": 0, "DATA": 2, "FSIZE": 1, "LOCKS": 10, "MEMLOCK": 8, "MSGQUEUE": 12, "NICE": 13,
          "NOFILE": 7, "NPROC": 6, "RSS": 5, "RTPRIO": 14, "RTTIME": 15, "SIGPENDING": 11, "STACK": 3}  # fmt: skip


def test_every_kind_of_limit(container) -> None:
    """prlimit(2) of pid 1 returns what config.json asks for, for all 16 limits, just below the caller's own."""
    wanted = {}
    for name, number in LIMITS.items():
        _, hard = resource.getrlimit(number)
        hard = 2**63 - 1 if hard == resource.RLIM_INFINITY else max(hard - 1, 0)
        wanted[name] = (hard // 2, hard)
    rlimits = [{"type": f"RLIMIT_{k}", "soft": soft, "hard": hard} for k, (soft, hard) in wanted.items()]
    c = container({"process": {"rlimits": rlimits, "args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    assert c.start().returncode == 0
    pid = c.state()["pid"]
    assert {name: resource.prlimit(pid, number) for name, number in LIMITS.items()} == wanted


@pytest.mark.skipif(not USER, reason="real root may raise its limits")
def test_a_hard_limit_above_the_callers_is_refused(container, rootless) -> None:
    limit = {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 2**40}
    result = container({"process": {"rlimits": [limit]}}).create()
    assert result.returncode == 1 and "/process/rlimits/0" in result.stderr and result.stderr.count("\n") == 1
    assert rootless.ids() == []


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_limit_that_leaves_no_descriptor_is_refused(container, rootless, number: int) -> None:
    """Init would wait for `start` and never get the descriptor of its connection."""
    limit = {"type": "RLIMIT_NOFILE", "soft": number, "hard": number}
    result = container({"process": {"rlimits": [limit]}}).create()
    assert result.returncode == 1 and "/process/rlimits/0/soft" in result.stderr and result.stderr.count("\n") == 1
    assert rootless.ids() == []


@pytest.mark.skipif(not USER, reason="real root may lower it")
def test_a_lower_oom_score_is_refused_with_the_reason(container, rootless) -> None:
    result = container({"process": {"oomScoreAdj": -1000}}).create()
    assert result.returncode == 1 and "/process/oomScoreAdj" in result.stderr and "only raise" in result.stderr
    assert rootless.ids() == []


def test_the_default_umask(container) -> None:
    assert container().sh("umask").strip() == "0022"


def test_cwd_is_made_and_a_file_as_cwd_is_refused(container, rootless) -> None:
    c = container({"process": {"cwd": "/etc/passwd"}})
    result = c.create()
    assert result.returncode == 1 and "/etc/passwd" in result.stderr and "ENOTDIR" in result.stderr
    assert rootless.ids() == []


def test_cwd_through_a_link_stays_inside(container, tmp_path) -> None:
    c = container({"process": {"cwd": "/link/made"}, "root": {"readonly": False}})
    (c.bundle.rootfs / "link").symlink_to(tmp_path)
    c.run("pwd")
    assert not (tmp_path / "made").exists()


def test_cwd_by_a_descriptor_of_the_host_is_refused(container) -> None:
    """CVE-2024-21626: a cwd of /proc/self/fd/N never leads to a directory of the host."""
    c = container()
    for number in range(3, 12):
        c.bundle.patch({"process": {"cwd": f"/proc/self/fd/{number}"}})
        result = c.run("true")
        assert result.returncode == 1 and result.stderr.count("\n") == 1, (number, result.stderr)


def test_the_path_is_the_containers(container) -> None:
    c = container({"process": {"env": ["PATH=/opt:/bin"]}})
    (c.bundle.rootfs / "opt").mkdir()
    (c.bundle.rootfs / "opt/hello").write_text("#!/bin/sh\necho from opt\n")
    (c.bundle.rootfs / "opt/hello").chmod(0o755)
    assert c.output("hello") == "from opt\n"


def test_a_directory_is_no_program(container) -> None:
    result = container({"process": {"args": ["/bin"]}}).create()
    assert result.returncode == 1 and "is a directory" in result.stderr


def test_a_file_in_path_that_is_not_executable_is_named(container) -> None:
    c = container({"process": {"args": ["plain"]}})
    (c.bundle.rootfs / "bin/plain").write_text("x")
    result = c.create()
    assert result.returncode == 1 and "/bin/plain" in result.stderr and "permission denied" in result.stderr


ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00\x01\x00\x00\x00"
BROKEN = {
    "other architecture": (ELF.replace(b"\x3e\x00", b"\x08\x00"), "exec format error", "another architecture"),
    "no format": (b"\1\2\3\4", "exec format error", "#!"),
    "empty": (b"", "exec format error", "hint"),
    "no interpreter": (b"#!/nowhere/python -x\n", "no such file or directory", "/nowhere/python"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_execve_refuses_is_explained(container, rootless, kind) -> None:
    content, reason, hint = BROKEN[kind]
    c = container()
    (c.bundle.rootfs / "bin/broken").write_bytes(content)
    (c.bundle.rootfs / "bin/broken").chmod(0o755)
    result = c.run("broken")
    assert result.returncode == 1
    assert reason in result.stderr and hint in result.stderr and result.stderr.count("\n") == 1
    assert rootless.ids() == []


def test_a_missing_loader_is_explained(container) -> None:
    """A dynamic program lacks its ld-linux: execve(2) says ENOENT although the file is there, and the hint says why."""
    with open("/bin/ls", "rb") as file:
        content = file.read()
    if b"ld-linux" not in content[:4096]:
        pytest.skip("this machine lacks a dynamically linked /bin/ls")
    c = container()
    (c.bundle.rootfs / "bin/dynamic").write_bytes(content)
    (c.bundle.rootfs / "bin/dynamic").chmod(0o755)
    result = c.run("dynamic")
    assert result.returncode == 1
    assert "no such file or directory" in result.stderr and "interpreter" in result.stderr


@pytest.mark.parametrize("code", [0, 1, 2, 126, 127, 255])
def test_exit_codes_come_through(container, code) -> None:
    assert container().run("sh", "-c", f"exit {code}").returncode == code


def test_sigpipe_ends_a_writer_as_anywhere(container) -> None:
    """If SIGPIPE were ignored, `yes` would complain and end with 1."""
    result = container().run("sh", "-c", "{ yes; echo $? >&2; } | head -n 1")
    assert (result.stdout, result.stderr) == ("y\n", f"{128 + 13}\n")


def test_no_descriptor_beyond_those_that_are_preserved(container, tmp_path) -> None:
    """--preserve-fds 1 keeps 3 and closes 4, whatever the caller left open."""
    c = container()
    for name in ("three", "four"):
        (tmp_path / name).write_text(name)
    words = c.rootless.command("run", "--preserve-fds", "1", "-b", c.bundle.path, c.id, "--", "ls", "/proc/self/fd")
    script = 'exec 3<"$0/three" 4<"$0/four"; exec "$@"'
    done = subprocess.run(["/bin/sh", "-c", script, str(tmp_path), *words], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "1", "2", "3", "4"], done.stderr  # 4 is the directory that ls reads
    words = c.rootless.command("run", "-b", c.bundle.path, c.id, "--", "sh", "-c", "cat <&4")
    done = subprocess.run(["/bin/sh", "-c", script, str(tmp_path), *words], capture_output=True, text=True, check=False)
    assert "four" not in done.stdout and done.returncode != 0


def test_preserve_fds_that_are_not_open(container, rootless) -> None:
    result = container().run("true", flags=("--preserve-fds", "9"))
    assert result.returncode == 1 and "--preserve-fds" in result.stderr and result.stderr.count("\n") == 1
    assert rootless.ids() == []


def test_closed_standard_descriptors_do_not_confuse(container) -> None:
    """The runtime is started with 0, 1 and 2 closed, and its own sockets do not become the program's streams."""
    c = container({"root": {"readonly": False}})
    script = "for fd in 0 1 2; do readlink /proc/self/fd/$fd; done > /out 2>&1; ls /proc/self/fd >> /out"
    words = c.rootless.command("run", "-b", c.bundle.path, c.id, "--", "sh", "-c", script)
    done = subprocess.run(["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words], check=False)
    out = (c.bundle.rootfs / "out").read_text()
    assert done.returncode == 0
    assert "socket:" not in out and "anon_inode" not in out and "/proc" not in out


def test_tty_does_not_hand_in_the_callers(container) -> None:
    """CVE-2017-5226: TIOCSTI on the caller's terminal is impossible, because the container never has it."""
    out = container().run("sh", "-c", "readlink /proc/self/fd/0; tty", flags=("--tty",)).stdout.split()
    assert out == ["/dev/pts/0", "/dev/pts/0"]


def test_a_terminal_for_a_detached_one_is_refused(container, rootless) -> None:
    # This error comes before others in config.json, such as the wrong type of `args`.
    result = container({"process": {"terminal": True, "args": [1]}}).create()
    assert result.returncode == 1 and "/process/terminal" in result.stderr and "--console-socket" in result.stderr
    assert rootless.ids() == []


def test_console_socket_gets_the_master(container, tmp_path) -> None:
    import array
    import socket

    c = container({"process": {"terminal": True, "args": ["sh", "-c", "stty size; tty"],
                               "consoleSize": {"height": 11, "width": 22}}})  # fmt: skip
    listener = socket.socket(socket.AF_UNIX)
    here = os.open(tmp_path, os.O_PATH)
    listener.bind(f"/proc/self/fd/{here}/console")
    os.close(here)
    listener.listen(1)
    assert c.create("--console-socket", str(tmp_path / "console")).returncode == 0
    peer, _ = listener.accept()
    _, ancillary, _, _ = peer.recvmsg(100, socket.CMSG_LEN(4))
    fds = array.array("i", ancillary[0][2])
    assert c.start().returncode == 0
    output = b""
    while b"pts" not in output:
        output += os.read(fds[0], 1000)
    assert output.split()[:2] == [b"11", b"22"]
    for sock in (peer, listener):
        sock.close()
    os.close(fds[0])
    c.wait()


def test_input_of_a_pipe_reaches_the_terminal(container) -> None:
    result = container().run("sh", "-c", "read line; echo got $line", flags=("--tty",), input="words\n")
    assert "got words" in result.stdout


def test_much_output_through_a_terminal_is_whole(container) -> None:
    out = container().run("seq", "20000", flags=("--tty",)).stdout.split()
    assert out == [str(n) for n in range(1, 20001)]


# --- groups and streams


@needs_range
@pytest.mark.parametrize("value", ["1", "0"])
def test_the_original_groups_are_kept_where_the_annotation_says_so(container, value) -> None:
    """crun's run.oci.keep_original_groups works for `run` and `exec`.

    A group that is not mapped shows the overflow gid.
    """
    options = {} if USER else {"extra_groups": [11, 12]}
    kept = (len(os.getgroups()) if USER else 2) if value == "1" else 0
    annotations = {"run.oci.keep_original_groups": value}
    c = container(mapped({"annotations": annotations, "process": {"args": ["sleep", "1000"]}}))
    assert c.run_detached(**options).returncode == 0
    status = f"/proc/{c.state()['pid']}/status"
    inside = c.rootless("exec", c.id, "cat", "/proc/self/status", **options).stdout
    for text in (Path(status).read_text(), inside):
        groups = next(line for line in text.splitlines() if line.startswith("Groups:"))
        assert len(groups.split()) - 1 == kept


@needs_range
def test_a_user_owns_its_standard_streams(container, tmp_path) -> None:
    """The program can open /dev/stdout again, as images do for their logs."""
    c = container(mapped({"process": {"user": {"uid": 5, "gid": 6}}}))
    with (tmp_path / "out").open("w") as out:
        result = c.run("sh", "-c", "echo first; echo second >> /dev/stdout", stdout=out, capture_output=False)
    assert result.returncode == 0 and (tmp_path / "out").read_text() == "first\nsecond\n"
    if not USER:
        assert (tmp_path / "out").stat().st_uid == 5


@pytest.mark.parametrize("flags", [(), ("--tty",)])
def test_closed_standard_streams_are_the_null_device(container, flags) -> None:
    program = 'for fd in 0 1 2; do [ "$(stat -Lc %t:%T /proc/$$/fd/$fd)" = 1:3 ] || exit 4; done; exit 5'
    c = container()
    command = c.rootless.command("run", *flags, "-b", c.bundle.path, c.id, "--", "sh", "-c", program)
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]
    done = subprocess.run(closed, timeout=TIMEOUT, check=False)
    assert done.returncode == (4 if flags else 5)  # a terminal is one


@pytest.mark.parametrize(("closed", "said"), [("", "does not exist"), ("<&-", "/dev/null: ENOENT")])
def test_without_a_null_device(rootless, closed, said) -> None:
    """In a chroot without /dev only a command that needs the null device fails."""
    script = f'mount -t tmpfs none /dev && exec "$@" {closed}'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", *rootless.command("state", "none")]
    done = subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1 and said in done.stderr
    assert len(done.stderr.splitlines()) == 1
