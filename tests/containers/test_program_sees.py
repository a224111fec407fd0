"""`process` and the terminal, as the program sees them."""

import os
import pty
import subprocess

import pytest


def test_env_cwd_and_home(container) -> None:
    patch = {"process": {"cwd": "/not/there/yet", "env": ["PATH=/bin", "A=1", "A=2"]}, "root": {"readonly": False}}
    assert container(patch).sh("pwd; echo $A; echo $HOME").split() == ["/not/there/yet", "2", "/root"]


def test_capabilities_are_as_configured(container) -> None:
    names = ["CAP_KILL", "CAP_CHOWN"]
    patch = {"process": {"capabilities": {kind: names for kind in ("bounding", "effective", "permitted")}}}
    out = container(patch).sh("grep ^Cap /proc/self/status")
    sets = {line.split()[0]: int(line.split()[1], 16) for line in out.splitlines()}
    wanted = 1 << 5 | 1 << 0
    assert sets == {"CapInh:": 0, "CapPrm:": wanted, "CapEff:": wanted, "CapBnd:": wanted, "CapAmb:": 0}


def test_unknown_capability_is_warned_of(container) -> None:
    result = container({"process": {"capabilities": {"bounding": ["CAP_FLY"]}}}).run("true")
    assert result.returncode == 0 and "CAP_FLY" in result.stderr and "warning" in result.stderr


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(container, wanted) -> None:
    out = container({"process": {"noNewPrivileges": wanted}}).sh("grep NoNewPrivs /proc/self/status")
    assert out.split()[1] == str(int(wanted))


def test_rlimits_umask_and_oom_score(container) -> None:
    patch = {"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}], "oomScoreAdj": 500,
                         "user": {"uid": 0, "gid": 0, "umask": 0o077}}}  # fmt: skip
    out = container(patch).sh("ulimit -Sn; ulimit -Hn; umask; cat /proc/self/oom_score_adj").split()
    assert out == ["100", "200", "0077", "500"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can map other ids without newuidmap")
def test_oom_score_in_a_user_namespace_of_other_ids(container) -> None:
    """dockerd with userns-remap asks for this: the file does not belong to the container's root (proc(5))."""
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    c = container({"process": {"oomScoreAdj": 300}, "linux": {"uidMappings": ids, "gidMappings": ids}})
    c.bundle.config["linux"]["namespaces"].append({"type": "user"})
    c.bundle.write()
    assert c.sh("id -u; cat /proc/self/oom_score_adj").split() == ["0", "300"]


def test_null_can_be_written_to(container) -> None:
    """The program can write to standard output, although containerd's shim passes /dev/null open for reading."""
    c = container({"process": {"args": ["sh", "-c", "echo unseen && echo unseen >&2"]}})
    with open(os.devnull, "rb") as null:
        result = c.rootless("run", "-b", c.bundle.path, c.id, capture_output=False, stdout=null, stderr=null)
    assert result.returncode == 0


def test_only_stdio_is_open(container) -> None:
    """CVE-2016-9962, CVE-2024-21626: no descriptor of the host reaches the program."""
    out = container().sh("ls /proc/self/fd; readlink /proc/self/cwd; readlink /proc/1/root").split()
    assert out == ["0", "1", "2", "3", "/", "/"]  # 3 is the directory that ls reads


def test_preserved_fds(container, tmp_path) -> None:
    c = container()
    (tmp_path / "given").write_text("through\n")
    words = c.rootless.command("run", "--preserve-fds", "1", "-b", c.bundle.path, c.id, "--", "sh", "-c", "cat <&3")
    shell = ["/bin/sh", "-c", 'exec 3<"$0"; exec "$@"', str(tmp_path / "given"), *words]
    done = subprocess.run(shell, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert (done.returncode, done.stdout) == (0, "through\n"), done.stderr


def test_signals_are_default(container) -> None:
    """The program does not inherit that CPython ignores SIGPIPE and SIGXFSZ (execve(2))."""
    out = container().output("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status").split()
    libc = 3 << 31  # 32 and 33 belong to the C library, whose sigaction(3) sets nobody
    assert [int(out[1], 16) & ~libc, int(out[3], 16) & ~libc] == [0, 0]


def test_devices_work(container) -> None:
    script = "echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; ls -l /dev/fd /dev/ptmx"
    out = container().sh(script)
    assert out.split()[:2] == ["4", "4"] and "/proc/self/fd" in out and "pts/ptmx" in out


def test_masked_and_readonly_paths(container) -> None:
    script = (
        "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; echo 1 2>/dev/null >/proc/sys/net/ipv4/ip_forward || echo ro"
    )
    assert container().sh(script).split() == ["0", "0", "ro"]


def test_readonly_root(container) -> None:
    assert container({"root": {"readonly": True}}).sh("touch /x 2>/dev/null || echo ro").split() == ["ro"]
    assert container({"root": {"readonly": False}}).sh("touch /x && echo rw").split() == ["rw"]


def test_bind_mounts(container, tmp_path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("of the host\n")
    c = container()
    c.bundle.patch({"mounts": [
        *c.bundle.config["mounts"],
        {"destination": "/mnt/dir", "source": str(tmp_path / "source"), "type": "bind", "options": ["rbind", "rro"]},
        {"destination": "/mnt/file", "source": str(tmp_path / "source/file"), "type": "bind", "options": ["bind"]},
    ]})  # fmt: skip
    script = "cat /mnt/dir/file /mnt/file; touch /mnt/dir/new 2>/dev/null || echo ro"
    assert c.sh(script) == "of the host\nof the host\nro\n"


def test_terminal_without_one_outside(container) -> None:
    """The program gets a pty of the container's own devpts, also if standard input is not a terminal."""
    result = container().run("sh", "-c", "tty; test -c /dev/console && echo console", flags=("--tty",))
    assert result.stdout.split() == ["/dev/pts/0", "console"], result.stderr


@pytest.mark.parametrize(("text", "code"), [("", 0), ("exit 4\n", 4), ("echo a\nsh\necho b\n", 0)])
def test_a_shell_on_a_terminal_sees_the_end_of_a_pipe(container, text, code) -> None:
    """The shell sees it although it puts its terminal into raw mode only after it has begun."""
    result = container().run("sh", flags=("--tty",), input=text)
    assert result.returncode == code, result.stderr


def test_terminal_on_a_real_one(container) -> None:
    """The user's terminal is in raw mode and passes its size on while the program runs, and is restored afterwards."""
    import fcntl
    import struct
    import termios

    c = container()
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 33, 101, 0, 0))
    before = termios.tcgetattr(slave)
    words = c.rootless.command("run", "--tty", "-b", c.bundle.path, c.id, "--", "sh", "-c", "stty size; exit 5")
    done = subprocess.run(words, stdin=slave, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert done.stdout.split() == ["33", "101"]
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("moment", ["createRuntime", "poststart", "poststop"])
def test_hooks_get_the_state(container, tmp_path, moment) -> None:
    output = tmp_path / "hook"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat > {output}"], "env": ["PATH=/bin:/usr/bin"]}
    c = container({"hooks": {moment: [hook]}})
    assert c.run("true").returncode == 0
    assert f'"id":"{c.id}"' in output.read_text()


def test_a_failing_hook_undoes_the_creation(container, rootless) -> None:
    c = container({"hooks": {"createRuntime": [{"path": "/bin/false"}]}})
    result = c.create()
    assert result.returncode == 1 and "/hooks/createRuntime/0" in result.stderr
    assert rootless.ids() == []


@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP", "QUIT"])
def test_signals_end_a_created_container(container, signal) -> None:
    c = container()
    assert c.create().returncode == 0
    assert c.kill(signal).returncode == 0
    c.wait()
    assert c.status() == "stopped"
