"""`linux.seccomp` and the process's scheduling, in real containers."""

import base64
import json
import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from rootless.kernel import syscalls as sc
from tests.support.containers import needs_libseccomp

PLANS = Path(__file__).resolve().parents[1] / "plans"

FILTER = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 17}],
}


@needs_libseccomp
@pytest.mark.parametrize("no_new_privs", [True, False])
def test_a_forbidden_call_gets_its_errno(container, no_new_privs) -> None:
    c = container({"linux": {"seccomp": FILTER}, "process": {"noNewPrivileges": no_new_privs}})
    c.bundle.patch({"root": {"readonly": False}})
    result = c.run("sh", "-c", "grep Seccomp: /proc/self/status; mkdir /x; echo $?")
    assert result.stdout.split() == ["Seccomp:", "2", "1"]
    assert "File exists" in result.stderr


@needs_libseccomp
@pytest.mark.parametrize("denied", [["write"], ["write", "sendto"], ["write", "sendto", "sendmsg"]])
def test_why_execve_fails_is_told_past_the_filter(container, rootless, denied) -> None:
    """The error of execve is sent when the filter is active already; without it the program would count as running."""
    rule = {"names": denied, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    c = container({"linux": {"seccomp": seccomp}, "process": {"args": ["/bin/broken"]}})
    (c.bundle.rootfs / "bin/broken").write_bytes(b"\x7fELF is broken")
    (c.bundle.rootfs / "bin/broken").chmod(0o755)
    assert c.create().returncode == 0
    result = c.start()
    assert result.returncode == 1 and "exec /bin/broken: exec format error" in result.stderr, result.stderr
    assert c.status() == "stopped"


@needs_libseccomp
def test_an_unknown_call_is_an_error_where_the_annotation_says_so(container, rootless) -> None:
    """crun's annotation asks for this, and a cached filter that was compiled without the annotation is not used."""
    rule = {"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    c = container({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}}})
    assert c.output("echo", "ran") == "ran\n"
    c.bundle.patch({"annotations": {"run.oci.seccomp_fail_unknown_syscall": "1"}})
    result = c.create()
    assert result.returncode == 1 and "/linux/seccomp/syscalls/0/names" in result.stderr
    assert "no_such_call" in result.stderr and rootless.ids() == []


def test_a_compiled_filter_by_annotation(container) -> None:
    """crun's run.oci.seccomp_bpf_data replaces the profile; here it allows everything, by one instruction."""
    program = base64.b64encode(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)).decode()  # BPF_RET, SECCOMP_RET_ALLOW
    c = container({"linux": {"seccomp": FILTER}, "annotations": {"run.oci.seccomp_bpf_data": program}})
    c.bundle.patch({"root": {"readonly": False}})
    assert c.sh("mkdir /x && grep Seccomp: /proc/self/status").split() == ["Seccomp:", "2"]
    c.bundle.patch({"annotations": {"run.oci.seccomp_bpf_data": "no program"}})
    result = c.create()
    assert result.returncode == 1 and "/annotations/run.oci.seccomp_bpf_data" in result.stderr


@needs_libseccomp
def test_a_filter_is_refused_before_anything_is_made(container, rootless) -> None:
    c = container({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_SOMETHING"}}})
    result = c.create()
    assert result.returncode == 1 and "/linux/seccomp/defaultAction" in result.stderr
    assert rootless.ids() == []


@needs_libseccomp
def test_listener_goes_to_the_agent(container, tmp_path) -> None:
    path = tmp_path / "agent"
    notify = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(path),
        "listenerMetadata": "of the test",
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_NOTIFY"}],
    }
    agent = socket.socket(socket.AF_UNIX)
    agent.bind(str(path))
    agent.listen()
    c = container({"linux": {"seccomp": notify}, "process": {"args": ["true"]}})
    assert c.create().returncode == 0
    started = c.start()
    assert started.returncode == 0, started.stderr
    connection, _ = agent.accept()
    data, fds, _, _ = socket.recv_fds(connection, 1 << 16, 1)
    assert len(fds) == 1 and b'"metadata":"of the test"' in data and c.id.encode() in data
    message = json.loads(data)
    assert message["state"]["status"] == "creating", "its program does not run yet"
    assert message["pid"] == message["state"]["pid"]
    os.close(fds[0])
    connection.close()
    agent.close()


@needs_libseccomp
def test_exec_sends_its_listener_too(container, tmp_path) -> None:
    notify = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(tmp_path / "agent"),
              "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_NOTIFY"}]}  # fmt: skip
    agent = socket.socket(socket.AF_UNIX)
    agent.bind(str(tmp_path / "agent"))
    agent.listen()
    c = container({"linux": {"seccomp": notify}, "process": {"args": ["sleep", "1000"]}})
    assert c.create().returncode == 0
    assert c.start().returncode == 0
    result = c.rootless("exec", c.id, "echo", "inside")
    assert (result.returncode, result.stdout) == (0, "inside\n"), result.stderr
    for command in ("start", "exec"):
        connection, _ = agent.accept()
        data, fds, _, _ = socket.recv_fds(connection, 1 << 16, 1)
        assert len(fds) == 1 and c.id.encode() in data
        message = json.loads(data)
        assert message["state"]["status"] == {"start": "creating", "exec": "running"}[command]
        assert (message["pid"] == message["state"]["pid"]) == (command == "start"), "the process with the filter"
        os.close(fds[0])
        connection.close()
    agent.close()


@needs_libseccomp
def test_no_agent_no_start(container) -> None:
    notify = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nowhere/agent",
              "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_NOTIFY"}]}  # fmt: skip
    c = container({"linux": {"seccomp": notify}, "process": {"args": ["true"]}})
    assert c.create().returncode == 0
    result = c.start()
    assert result.returncode == 1 and "/linux/seccomp/listenerPath" in result.stderr
    assert c.status() == "stopped"


def test_personality_scheduler_and_io_priority(container) -> None:
    nice = max(7, os.nice(0))  # a user may not have a lower one than the tests have
    patch = {
        "process": {
            "scheduler": {"policy": "SCHED_BATCH", "nice": nice},
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6},
        },
        "linux": {"personality": {"domain": "LINUX32"}, "memoryPolicy": {"mode": "MPOL_DEFAULT"}},
    }
    out = container(patch).sh("uname -m; ionice -p $$; awk '{print $19, $41}' /proc/self/stat")
    assert "best-effort: prio 6" in out
    assert out.split()[-2:] == [str(nice), "3"]  # nice, SCHED_BATCH: proc_pid_stat(5)
    if os.uname().machine == "x86_64":
        assert out.split()[0] == "i686"


def test_what_the_kernel_refuses_is_named(container) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may raise its priority")
    result = container({"process": {"scheduler": {"policy": "SCHED_FIFO", "priority": 10}}}).create()
    assert result.returncode == 1 and "/process/scheduler" in result.stderr and result.stderr.count("\n") == 1


def test_label_without_its_lsm_is_left_out(container) -> None:
    if os.path.exists("/sys/kernel/security/apparmor"):
        pytest.skip("this machine has AppArmor")
    done: subprocess.CompletedProcess[str] = container({"process": {"apparmorProfile": "some-profile"}}).run("true")
    assert done.returncode == 0, done.stderr


@needs_libseccomp
@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_a_filter_that_lets_nothing_start_is_refused(container, rootless, action) -> None:
    """Under such a filter init would end at execve without a message, and `start` would take that for a program that
    runs.
    """
    rules = [{"names": ["execve", "sendto", "write"], "action": action}]
    result = container({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}}}).create()
    assert result.returncode == 1 and "/linux/seccomp/syscalls" in result.stderr and "execve" in result.stderr
    assert rootless.ids() == []


@needs_libseccomp
def test_a_failed_execve_is_told_under_a_filter_without_sockets(container) -> None:
    rules = [{"names": ["sendto", "sendmsg", "sendmmsg"], "action": "SCMP_ACT_KILL_PROCESS"}]
    c = container({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}}})
    (c.bundle.rootfs / "bin/script").write_text("#!/no/such/interpreter\n")
    (c.bundle.rootfs / "bin/script").chmod(0o755)
    c.bundle.patch({"process": {"args": ["script"]}})
    assert c.create().returncode == 0
    result = c.start()
    assert result.returncode == 1 and "/no/such/interpreter" in result.stderr


# --- the profiles that clients ship

# Calls that do no harm if they succeed. Their errnos without a filter differ from those that the profiles return.
CALLS = ("keyctl", "add_key", "setns", "unshare", "userfaultfd", "open_by_handle_at", "clone3", "getpid", "read",
         "chroot", "personality", "socket", "io_uring_setup")  # fmt: skip
PROBE = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
for call in sys.argv[1:]:
    number, *arguments = map(int, call.split(","))
    ctypes.set_errno(0)
    libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in arguments))
    print(ctypes.get_errno())
"""
ARGUMENTS = {"socket": (16, 3, 9), "personality": (0x20,), "setns": (-1, 0), "read": (-1, 0, 0), "clone3": (0, 0),
             "open_by_handle_at": (-1, 0, 0), "keyctl": (-1, 0), "userfaultfd": (-1,)}  # fmt: skip
EPERM, ENOSYS, EINVAL = 1, 38, 22
PROFILES = {
    "root/docker-run": dict.fromkeys(
        ("keyctl", "add_key", "setns", "unshare", "userfaultfd", "open_by_handle_at", "personality"), EPERM
    ) | {"clone3": ENOSYS},
    "userns/podman-run": {"userfaultfd": EPERM, "open_by_handle_at": EPERM, "add_key": ENOSYS, "io_uring_setup": ENOSYS,
                          "personality": ENOSYS, "socket": EINVAL},
}  # fmt: skip


@needs_libseccomp
@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="this machine lacks /usr/bin/python3")
@pytest.mark.parametrize("profile", PROFILES)
def test_default_profiles_of_docker_and_podman_forbid_what_they_should(container, profile) -> None:
    """The host's Python makes the forbidden calls, with the filter and without."""
    resolve = sc.load_library("libseccomp.so.2", {"seccomp_syscall_resolve_name": ("c_int", ["c_char_p"])})
    numbers = [resolve["seccomp_syscall_resolve_name"](name.encode()) for name in CALLS]
    words = [",".join(map(str, (n, *ARGUMENTS.get(c, (0, 0, 0, 0, 0))))) for c, n in zip(CALLS, numbers, strict=True)]
    folders = [f for f in ("/usr", "/lib", "/lib64") if os.path.isdir(f)]
    binds = [{"destination": f, "source": f, "type": "bind", "options": ["rbind", "ro"]} for f in folders]
    found = {}
    for which in ("without", profile):
        c = container({"root": {"readonly": False}})
        c.bundle.config["mounts"] += binds
        if which != "without":
            config = json.loads((PLANS / f"{which}.json").read_text())
            c.bundle.config["linux"]["seccomp"] = config["linux"]["seccomp"]
        c.bundle.write()
        out = c.output("/usr/bin/python3", "-IS", "-c", PROBE, *words)
        found[which] = dict(zip(CALLS, map(int, out.split()), strict=True))
    expected = PROFILES[profile]
    assert {call: found[profile][call] for call in expected} == expected
    assert all(found["without"][call] != errno for call, errno in expected.items()), found["without"]
    assert found[profile]["getpid"] == 0 and found[profile]["read"] == 9
