"""Root of a container with one id changes owners and users (docs/internals/root-emulation.md)."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from oci.rootlesscontainers import decode, decode_device
from rootless.emulation import load
from rootless.kernel import channel, proc
from rootless.kernel import syscalls as sc
from rootless.kernel.host import Host
from tests.support.checkout import CHECKOUT
from tests.support.containers import USER, Container, Patch, needs_libseccomp
from tests.support.processes import has_ended, until

pytestmark = needs_libseccomp
_PR_GET_DUMPABLE = 3  # linux/prctl.h
CALLS = CHECKOUT / "tests/containers/emulated_calls.py"
XATTRS = Host().kernel >= (6, 6)  # of users on tmpfs, where these tests may lie
needs_wake_up = pytest.mark.skipif(not XATTRS, reason="before Linux 6.6 errno is the default")
ONE_ID: Patch = {
    "linux": {
        "uidMappings": [{"containerID": 0, "hostID": os.geteuid(), "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": os.getegid(), "size": 1}],
    }
}


@pytest.fixture
def emulated(container: Callable[..., Container]) -> Callable[..., Container]:
    """Return `emulated(mode, patch)`, which makes a container with a single id and that mode of root emulation."""

    def make(mode: str = "notify", patch: Patch | None = None) -> Container:
        c = container({**ONE_ID, "annotations": {"org.rootless.root-emulation": mode}})
        c.bundle.patch(patch or {})
        kinds = [n["type"] for n in c.bundle.config["linux"]["namespaces"]]
        if "user" not in kinds:
            namespaces = [*c.bundle.config["linux"]["namespaces"], {"type": "user"}]
            c.bundle.patch({"linux": {"namespaces": namespaces}})
        c.bundle.patch({"root": {"readonly": False}})
        if not USER:
            os.chown(c.bundle.rootfs / "etc/passwd", 0, 0)
        return c

    return make


def with_python(c: Container) -> Container:
    """Give the container the host's Python."""
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("this machine lacks /usr/bin/python3")
    options = ["rbind", "ro"]
    mounts = [{"destination": "/usr", "type": "bind", "source": "/usr", "options": options}]
    mounts.append({"destination": "/calls.py", "type": "bind", "source": str(CALLS), "options": options})
    for name in ("lib", "lib64"):
        if Path(f"/{name}").exists():
            (c.bundle.rootfs / name).symlink_to(f"usr/{name}")
    shutil.rmtree(c.bundle.rootfs / "usr", ignore_errors=True)
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], *mounts]})
    return c


@pytest.mark.skipif(not XATTRS, reason="tmpfs has no user attributes before Linux 6.6")
def test_every_call_agrees_with_what_was_done_before(emulated) -> None:
    names = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SYS_CHROOT"]
    sets = dict.fromkeys(("bounding", "effective", "permitted"), names)
    c = with_python(emulated("notify", {"process": {"capabilities": sets}}))
    out = c.sh("mkdir /work; exec python3 -B /calls.py /work")
    lines = out.splitlines()
    assert len(lines) > 15
    assert "\n".join(line for line in lines if not line.endswith(": ok")) == ""


def test_errno_says_success_and_does_nothing(emulated) -> None:
    c = with_python(emulated("errno"))
    script = (
        "import os, stat; open('/f', 'w'); os.chown('/f', 33, 44); os.lchown('/f', 33, 44);"
        "print(os.stat('/f').st_uid);"
        "os.fchown(os.open('/f', 0), 1, 1); os.setgroups([5]); os.setresgid(5, 5, 5); os.setresuid(5, 5, 5);"
        "os.mknod('/null', stat.S_IFCHR | 0o666, os.makedev(1, 3)); print(os.getuid(), os.path.exists('/null'));"
        "os.mkfifo('/fifo'); print(stat.S_ISFIFO(os.stat('/fifo').st_mode))"
    )
    assert c.output("python3", "-c", script).split() == ["0", "0", "False", "True"]
    assert os.listxattr(c.bundle.rootfs / "f") == []


def test_su_changes_the_user(emulated) -> None:
    c = emulated()
    (c.bundle.rootfs / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    assert c.sh("su nobody -c 'id -u; id -g'; id -u").split() == ["65534", "65534", "0"]


@pytest.mark.skipif(not XATTRS, reason="tmpfs has no user attributes before Linux 6.6")
def test_owners_are_kept_in_the_attribute_that_pack_reads(emulated) -> None:
    c = emulated()
    c.sh("touch /f; chown 33:44 /f; mkdir /d; chown 7 /d; mknod /null c 1 3; mknod /disk b 8 1")
    root = c.bundle.rootfs
    assert decode(os.getxattr(root / "f", "user.rootlesscontainers")) == (33, 44)
    assert decode(os.getxattr(root / "d", "user.rootlesscontainers")) == (7, 0)
    assert decode_device(os.getxattr(root / "null", "user.rootless.device")) == ("c", 1, 3)
    assert stat.S_ISREG((root / "disk").stat().st_mode) and (root / "disk").stat().st_size == 0
    shown = c.sh("stat -c '%u:%g %F' /f /null").splitlines()
    assert shown == ["33:44 regular empty file", "0:0 character special file"]


def test_a_chown_cannot_leave_the_root(emulated, tmp_path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("")
    c = emulated()
    (c.bundle.rootfs / "absolute").symlink_to(outside)
    (c.bundle.rootfs / "up").symlink_to("../" * 30 + str(outside).lstrip("/"))
    paths = "/absolute /up /proc/1/root/../absolute /proc/self/root/up"
    c.run("sh", "-c", f"for f in {paths}; do chown 33 $f; stat -L $f; done; true")
    assert os.listxattr(outside) == []


@pytest.mark.parametrize("start", ["/proc/self", "/proc/thread-self/../..", "/dev/fd/..", "/proc/self/fd/.."])
def test_a_path_of_the_process_itself_does_not_leave_the_root(emulated, tmp_path, start) -> None:
    """`..` from the supervisor's working directory, which is in the host's /proc, does not lead to the host's root."""
    c = emulated()
    c.run("mknod", f"{start}/../..{tmp_path}/planted", "c", "1", "3")
    assert not (tmp_path / "planted").exists()


def test_a_proc_of_the_host_in_the_container_leads_the_supervisor_nowhere(emulated, tmp_path) -> None:
    """In such a /proc the supervisor finds its own working directory, from which `..` must not lead to the host."""
    tmp_path.chmod(0o777)
    c = emulated("notify")
    (c.bundle.rootfs / "hostproc").mkdir()
    mount = {"destination": "/hostproc", "type": "bind", "source": "/proc", "options": ["rbind"]}
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], mount]})
    (c.bundle.rootfs / "up").symlink_to("/hostproc/self/cwd/../..")
    result = c.run("sh", "-c", f"mknod /null c 1 3; mknod /up{tmp_path}/planted c 1 3")
    assert (c.bundle.rootfs / "null").exists(), result.stderr
    assert not (tmp_path / "planted").exists()


def test_no_process_of_the_container_can_trace_its_supervisor(monkeypatch) -> None:
    """Not even before it serves: in the container's user namespace it may have fewer rights than the container."""
    ours, theirs = channel.pair()

    def enter(proc_fd: int, pid: int) -> int:
        channel.send(theirs, channel.EXECUTING, b"%d" % sc.prctl(_PR_GET_DUMPABLE))
        os._exit(0)

    monkeypatch.setattr(load, "enter_namespace", enter)
    child = os.fork()
    if not child:
        try:
            load.supervise(-1, proc.open_proc(), 0, 0, init=os.getpid())
        finally:
            os._exit(1)
    theirs.close()
    assert channel.receive(ours, channel.EXECUTING)[1] == b"0"
    os.waitpid(child, 0)


@pytest.mark.skipif(USER, reason="only root can map other users without a range")
def test_a_device_belongs_to_the_containers_root(emulated, tmp_path) -> None:
    """A supervisor that root has started does not stay root of the host."""
    ids = [{"containerID": 0, "hostID": 100000, "size": 1}]
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, 100000, 100000)
    c = emulated("notify", {"linux": {"uidMappings": ids, "gidMappings": ids}})
    (c.bundle.rootfs / "shared").mkdir()
    mount = {"destination": "/shared", "type": "bind", "source": str(shared), "options": ["bind"]}
    c.bundle.patch({"mounts": [*c.bundle.config["mounts"], mount]})
    c.sh("mknod -m 6777 /shared/null c 1 3")
    status = (shared / "null").stat()
    assert (status.st_uid, status.st_gid) == (100000, 100000)


def test_a_path_that_another_thread_swaps_does_not_leave_the_root(emulated, tmp_path) -> None:
    """The supervisor's root is the container's, so a link that it meets leads nowhere else."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("")
    c = emulated()
    script = (
        f"mkdir a b; touch a/f; ln -s {outside} b/link; "
        "(while :; do mv a x; ln -s /b/link a; rm a; mv x a; done) 2>/dev/null & "
        "i=0; while [ $i -lt 60 ]; do chown 33 a/f 2>/dev/null; i=$((i+1)); done; kill $!"
    )
    c.run("sh", "-c", script)
    assert os.listxattr(outside / "f") == []


def test_exec_has_it_too(emulated) -> None:
    c = emulated("notify", {"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    for _ in range(10):  # its supervisor starts while the program is executed
        result = c.rootless("exec", c.id, "sh", "-c", "touch /f; chown 33:44 /f; stat -c %u:%g /f")
        assert (result.stdout, result.stderr) == ("33:44\n", "")


def test_create_and_start_have_it_too(emulated) -> None:
    c = emulated("notify", {"process": {"args": ["sh", "-c", "touch /f; chown 33 /f; stat -c %u /f"]}})
    assert c.create().returncode == 0
    assert c.start().returncode == 0
    assert until(lambda: (c.bundle.path / "stdout").read_text() == "33\n")


def supervisor_of(c: Container) -> int:
    (note,) = [name for name in os.listdir(c.rootless.state / c.id) if name.startswith("helper.supervisor.")]
    return int(note.rpartition(".")[2])


def test_the_supervisor_ends_with_the_container(emulated) -> None:
    c = emulated("notify", {"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    pid = supervisor_of(c)
    assert not has_ended(pid)
    assert c.rootless("kill", c.id, "KILL").returncode == 0
    assert until(lambda: has_ended(pid))


def test_without_its_supervisor_a_container_does_not_hang(emulated) -> None:
    c = emulated("notify", {"process": {"args": ["sh", "-c", "while :; do stat / ; sleep 0.05; done"]}})
    assert c.run_detached().returncode == 0
    os.kill(supervisor_of(c), signal.SIGKILL)
    assert until(lambda: "Function not implemented" in (c.bundle.path / "stderr").read_text())
    assert c.delete("--force").returncode == 0


def test_a_stopped_supervisor_goes_with_delete(emulated) -> None:
    c = emulated("notify", {"process": {"args": ["sleep", "1000"]}})
    assert c.run_detached().returncode == 0
    pid = supervisor_of(c)
    os.kill(pid, signal.SIGSTOP)
    assert c.delete("--force").returncode == 0
    assert until(lambda: has_ended(pid))


def test_the_container_can_neither_see_nor_end_its_supervisor(emulated) -> None:
    c = emulated()
    assert "rootless" not in c.sh("for f in /proc/[0-9]*; do cat $f/comm; done")


def test_a_profile_of_the_config_is_loaded_too(emulated) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 17}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    c = emulated("notify", {"linux": {"seccomp": profile}})
    result = c.run("sh", "-c", "touch f; chown 33 f; stat -c %u f; mkdir d")
    assert result.stdout == "33\n" and "File exists" in result.stderr


def test_a_listener_of_the_config_excludes_notify(emulated, tmp_path) -> None:
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], "listenerPath": str(tmp_path / "agent.sock")}
    c = emulated("notify", {"linux": {"seccomp": profile}})
    result = c.run("true")
    assert result.returncode == 1
    assert "seccomp listener" in result.stderr and "errno" in result.stderr and len(result.stderr.splitlines()) == 1
    c.bundle.patch({"annotations": {"org.rootless.root-emulation": "auto"}})
    result = c.rootless("run", "--dry-run", "-b", c.bundle.path, c.id)
    assert "root-emulation errno" in result.stdout and "seccomp listener" in result.stderr


@needs_wake_up
def test_a_finite_limit_of_locks_excludes_notify(emulated) -> None:
    """Identities are numbers in that limit, and only root of the host raises a hard one."""
    limit = [{"type": "RLIMIT_LOCKS", "soft": 100, "hard": 100}]
    c = emulated("notify", {"process": {"rlimits": limit}})
    result = c.run("true")
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert "RLIMIT_LOCKS, which is 100 here" in result.stderr and "--root-emulation=errno" in result.stderr
    c.bundle.patch({"annotations": {"org.rootless.root-emulation": "auto"}})
    result = c.run("sh", "-c", "chown 33 /etc/passwd && echo done")
    assert result.stdout == "done\n" and "errno, not notify, because the hard limit RLIMIT_LOCKS" in result.stderr


@needs_wake_up
@pytest.mark.skipif(not USER, reason="root may change owners")
def test_unshare_under_a_finite_limit_of_locks(rootless, tmp_path) -> None:
    words = rootless.command("unshare", "--root-emulation", "chown", "33", tmp_path)
    script = 'ulimit -x 100 && exec "$@"'
    result = subprocess.run(
        ["bash", "-c", script, "bash", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0 and "errno, not notify" in result.stderr, result.stderr


@pytest.mark.skipif(not USER, reason="root may change owners")
def test_flags(emulated, rootless) -> None:
    c = emulated()
    for flags, shown in (
        (("--root-emulation=errno",), "root-emulation errno"),
        (("--root-emulation=notify",), "root-emulation notify"),
        (("--root-emulation",), "root-emulation "),
        (("--no-root-emulation",), ""),
    ):
        result = rootless("run", "--dry-run", *flags, "-b", c.bundle.path, c.id)
        assert result.returncode == 0, result.stderr
        assert (shown or "root-emulation") in result.stdout if shown else "root-emulation" not in result.stdout
    result = rootless("run", "--root-emulation=fakeroot", "-b", c.bundle.path, c.id)
    assert result.returncode == 1 and "--root-emulation fakeroot" in result.stderr


@pytest.mark.skipif(not USER, reason="root may change owners")
@pytest.mark.parametrize("mode", ["errno", "notify"])
def test_unshare(rootless, tmp_path, mode) -> None:
    script = f"touch {tmp_path}/f && chown 4294900000:44 {tmp_path}/f && stat -c %u:%g {tmp_path}/f; exit 3"
    result = rootless("unshare", f"--root-emulation={mode}", "sh", "-c", script)
    assert (result.stdout, result.stderr) == ("0:0\n" if mode == "errno" else "4294900000:44\n", "")
    assert result.returncode == 3


NUMBERS = """
import os, subprocess, sys
asked, answered = os.pipe(), os.pipe()
*command, program, place = sys.argv[1:]
words = [*command, "/usr/bin/python3", "-c", program, place, str(asked[1]), str(answered[0])]
process = subprocess.Popen(words, pass_fds=[asked[1], answered[0]])
os.close(asked[1])
while number := os.read(asked[0], 9):
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(int(number) - 1))
    os.write(answered[1], b"x")
sys.exit(process.wait())
"""
SAME_NUMBER = """
import os, sys
os.chdir(sys.argv[1])
asked, answered = map(int, sys.argv[2:])
for name in "abc":
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
    os.chown(name, 33, 44)
opened = os.open("b", os.O_RDONLY)
def owner(path):
    st = os.stat(path)
    return st.st_uid, st.st_gid
def live(work):
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException as error:
            os.write(2, f"{error!r}\\n".encode())
            os._exit(1)
        os._exit(0)
    return pid, os.waitpid(pid, 0)[1]
def check(path, wanted):
    assert owner(path) == wanted, owner(path)
first, _ = live(lambda: os.stat("a"))
for number, work in enumerate([
    lambda: check("a", (33, 44)),
    lambda: check(sys.argv[1] + "/a", (33, 44)),
    lambda: check(opened, (33, 44)),
    lambda: os.chown("a", 5, 6),
    lambda: os.fchown(opened, 7, 8),
    lambda: os.chown("c", 0, 0),
    lambda: os.mknod("d", 0o20666, os.makedev(1, 3)),
    lambda: [check("a", (5, 6)), check("b", (7, 8)), check("c", (0, 0)), os.stat("d")],
]):
    last, _ = live(lambda: os.stat("a"))
    os.write(asked, b"%d" % last)
    os.read(answered, 1)
    pid, status = live(work)
    assert pid == last, (pid, last)
    assert status == 0, number
"""


@needs_wake_up
@pytest.mark.skipif(not USER, reason="a user's own pid namespace has numbers that the user may set")
def test_a_process_with_the_number_of_a_dead_one_is_not_taken_for_it(rootless, tmp_path) -> None:
    """The supervisor is in the directory of the last process that it served, /proc/PID, until another one calls."""
    words = rootless.command("unshare", "--root-emulation=notify")
    namespaces = ["unshare", "--map-current-user", "--keep-caps", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*namespaces, "test", "-w", "/proc/sys/kernel/ns_last_pid"], check=False).returncode:
        pytest.skip("this machine has no ns_last_pid that may be written")
    result = subprocess.run(
        [*namespaces, "/usr/bin/python3", "-c", NUMBERS, *words, SAME_NUMBER, tmp_path],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")


def test_apt_gets_a_configuration_with_errno(emulated) -> None:
    c = emulated("errno")
    (c.bundle.rootfs / "etc/apt").mkdir()
    assert c.sh("cat $APT_CONFIG") == 'APT::Sandbox::User "root";\n'
    assert os.listdir(c.bundle.rootfs / "etc/apt") == [] and os.listdir(c.bundle.rootfs / "dev") == []


def test_static_programs_work(emulated) -> None:
    c = emulated()
    words = subprocess.run(["file", "-L", c.bundle.rootfs / "bin/busybox"], capture_output=True, text=True, check=False)
    assert words.returncode or "statically linked" in words.stdout or "static-pie" in words.stdout
    assert c.sh("touch f; chown 1:2 f; stat -c %u:%g f") == "1:2\n"
