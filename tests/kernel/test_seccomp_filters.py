from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
from _socket import AF_UNIX, CMSG_LEN, SOCK_STREAM, socket
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import pack, unpack, unpack_from

import pytest

from rootless.config_node import Node
from rootless.errors import RootlessError, SpecError
from rootless.kernel import channel, syscalls
from rootless.process import libseccomp, seccomp
from tests.support import children

POINTER = "/linux/seccomp"
PODMAN = Path("/usr/share/containers/seccomp.json")
ERRNO = 0x50000
# What the interpreter needs to go on, report and end.
_INTERPRETER = (
    "read write close fstat newfstatat stat lseek mmap munmap mprotect mremap madvise brk rt_sigaction rt_sigprocmask "
    "rt_sigreturn ioctl pread64 pwrite64 exit exit_group futex getpid gettid getrandom openat fcntl dup dup2 execve "
    "sendmsg sendto recvmsg recvfrom uname getuid geteuid getcwd poll clock_gettime prctl"
)
INTERPRETER = _INTERPRETER.split()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/rootless/seccomp"


def read(value: object, receiver: str = "") -> dict[str, object]:
    profile = seccomp.read_seccomp(Node(value, POINTER), receiver)
    assert profile is not None
    return profile


def docker_like(*rules: dict[str, object]) -> dict[str, object]:
    """Return a profile like docker's default one: EPERM for all calls but those of a list."""
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        if syscalls.MACHINE == "x86_64"
        else ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": [{"names": [*INTERPRETER, "a_call_of_2099"], "action": "SCMP_ACT_ALLOW"}, *rules],
    }


def podman() -> dict[str, object]:
    """Return podman's profile as it is in the config.json of a container without capabilities."""
    if not PODMAN.exists():
        pytest.skip(f"{PODMAN} is missing (Debian: golang-github-containers-common)")
    found = json.loads(PODMAN.read_text())
    machine = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[syscalls.MACHINE]
    architectures = next(a for a in found["archMap"] if a["architecture"] == machine)
    rules = [
        rule
        for rule in found["syscalls"]
        if not rule["includes"].get("caps")
        and ("arches" not in rule["includes"] or {"amd64", "arm64"} & set(rule["includes"]["arches"]))
    ]
    return {
        "defaultAction": found["defaultAction"],
        "defaultErrnoRet": found["defaultErrnoRet"],
        "architectures": [machine, *architectures["subArchitectures"]],
        "syscalls": [{k: rule[k] for k in ("names", "action", "args", "errnoRet") if k in rule} for rule in rules],
    }


def in_child(body: Callable[[], object]) -> str:
    """Return repr() of what `body` returns in a child with no_new_privs, or how the child ended."""

    def bound() -> object:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        return body()

    answer, ended = children.answer_of(bound)
    return answer if ended in (0, 1) else f"ended {ended}"


def outcomes(profile: dict[str, object], *calls: tuple[object, ...]) -> str:
    """Return the errno (0 for none) of each call under the profile; a call is (name or number, arguments...)."""
    program = seccomp.compile_profile(profile)
    flags = seccomp.load_flags(profile)

    def body() -> list[int]:
        syscalls.seccomp_load(program, flags)
        return [call(*c) for c in calls]

    return in_child(body)


def call(name: object, *args: int) -> int:
    number = syscalls._NR[name] if isinstance(name, str) else name
    result = syscalls._syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in args])
    return ctypes.get_errno() if result == -1 else 0


# --- reading


def test_read() -> None:
    assert seccomp.read_seccomp(Node(None, POINTER)) is None
    profile = read(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
            "architectures": ["SCMP_ARCH_X86"],
            "archMap": "an extra key",
            "syscalls": [
                {
                    "names": ["kill"],
                    "action": "SCMP_ACT_TRACE",
                    "errnoRet": 7,
                    "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_MASKED_EQ", "valueTwo": 8}],
                },
                {"names": ["execve"], "action": "SCMP_ACT_ALLOW"},
            ],
        }
    )
    assert profile == {
        "default": ERRNO | 1,
        "rules": [(("kill",), 0x7FF00007, ((1, 7, 9, 8),)), (("execve",), 0x7FFF0000, ())],
        "architectures": ["SCMP_ARCH_X86"],
        "flags": 3,
        "notify": False,
        "listener_path": "",
        "metadata": "",
    }


ALLOWED, DENIED = ({"names": ["execve", "read"], "action": f"SCMP_ACT_{action}"} for action in ("LOG", "KILL"))
SOMETIMES = {"names": ["execve"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]}


@pytest.mark.parametrize(
    ("default", "rules", "taken"),
    [("ALLOW", [], True), ("ALLOW", [DENIED], False), ("ERRNO", [], False), ("KILL_PROCESS", [], False),
     ("TRAP", [], False), ("ERRNO", [ALLOWED], True), ("ALLOW", [SOMETIMES], True), ("ERRNO", [SOMETIMES], True),
     ("TRACE", [], True), ("ERRNO", [DENIED, ALLOWED], True)],
)  # fmt: skip
def test_a_profile_under_which_nothing_can_start(default: str, rules: list[object], taken: bool) -> None:
    value = {"defaultAction": f"SCMP_ACT_{default}", "syscalls": rules}
    if taken:
        assert read(value)["rules"] or not rules
    else:
        with pytest.raises(SpecError, match="execve"):
            read(value)


def test_flags_default_to_spec_allow_as_in_runc() -> None:
    assert read({"defaultAction": "SCMP_ACT_ALLOW"})["flags"] == syscalls.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    assert read({"defaultAction": "SCMP_ACT_ALLOW", "flags": []})["flags"] == 0


def rule(**changes: object) -> dict[str, object]:
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_KILL", **changes}]}


def condition(**changes: object) -> dict[str, object]:
    return rule(args=[{"index": 0, "value": 1, "op": "SCMP_CMP_EQ", **changes}])


def notify(**changes: object) -> dict[str, object]:
    return {**rule(action="SCMP_ACT_NOTIFY"), "listenerPath": "/run/agent", **changes}


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([], ""),
        ({}, "/defaultAction"),
        ({"defaultAction": "SCMP_ACT_NOPE"}, "/defaultAction"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "/defaultErrnoRet"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}, "/defaultErrnoRet"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["TSYNC"]}, "/flags/0"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"]}, "/architectures/0"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}, "/listenerMetadata"),
        (rule(names=[]), "/syscalls/0/names"),
        (rule(names=None), "/syscalls/0/names"),
        (rule(names=["a", 1]), "/syscalls/0/names/1"),
        (rule(names=["a", ""]), "/syscalls/0/names"),
        (rule(names=["a\0"]), "/syscalls/0/names/0"),
        (rule(names=["\ud800"]), "/syscalls/0/names/0"),
        (rule(action=None), "/syscalls/0/action"),
        (rule(errnoRet=1), "/syscalls/0/errnoRet"),
        (condition(index=6), "/syscalls/0/args/0/index"),
        (condition(value=None), "/syscalls/0/args/0/value"),
        (condition(value=-1), "/syscalls/0/args/0/value"),
        (condition(op="EQ"), "/syscalls/0/args/0/op"),
        (notify(listenerPath=""), "/listenerPath"),
        (notify(defaultAction="SCMP_ACT_NOTIFY"), "/defaultAction"),
        (notify(defaultAction="SCMP_ACT_ERRNO"), "/syscalls"),
        (notify(syscalls=[{"names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY"}]), "/syscalls"),
    ],
)
def test_bad_input_names_its_place(value: object, place: str) -> None:
    with pytest.raises(SpecError) as error:
        read(value)
    assert error.value.where == POINTER + place


def test_receiver_stands_in_for_listener_path() -> None:
    assert read(notify(listenerPath=None, listenerMetadata="m"), "/run/other")["listener_path"] == "/run/other"


# --- what filters do


def test_forbidden_calls_get_the_profiles_errno() -> None:
    profile = read(docker_like({"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}))
    calls = [("keyctl", 0, -3, 0), ("mount", 0, 0, 0, 0, 0), ("unshare", 0), (syscalls._NR["prctl"], 3)]
    assert outcomes(profile, *calls) == repr([errno.EPERM, 77, errno.EPERM, 0])


def test_podmans_default_profile() -> None:
    profile = read(podman())
    calls = [
        ("bpf", 0, 0, 0),
        ("sethostname", 0, -1),
        ("personality", 0xFFFFFFFF),
        ("personality", 0x0400000),
        ("unshare", 0),
        (4000,),
    ]
    assert outcomes(profile, *calls) == repr([1, 1, 0, errno.ENOSYS, 0, errno.ENOSYS])


def test_calls_newer_than_the_profile_are_enosys() -> None:
    assert outcomes(read(docker_like()), (4000,), ("unshare", 0)) == repr([errno.ENOSYS, errno.EPERM])


@pytest.mark.parametrize("action", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"])
def test_no_stub_where_new_calls_go_through(action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libseccomp, "enosys_stub", lambda last: pytest.fail("a stub was made"))
    profile = {"defaultAction": action, "syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_ERRNO"}]}
    assert libseccomp.compile_bpf(read(profile))


def run_bpf(program: bytes, arch: int, number: int) -> int | None:
    """Return the stub's verdict, None if it continues in the filter."""
    code = [unpack_from("HBBI", program, i) for i in range(0, len(program), 8)]
    accumulator, at = 0, 0
    while at < len(code):
        op, true, false, k = code[at]
        at += 1
        if op == 0x20:
            accumulator = {0: number, 4: arch}[k]
        elif op == 0x05:
            at += k
        elif op == 0x06:
            return int(k)
        else:
            taken = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[op]
            at += true if taken else false
    assert at == len(code), "jumps into the middle of the filter"
    return None


X86_64, X32, X86, X32_BIT = 0xC000003E, 0x4000003E, 0x40000003, 0x40000000


@pytest.mark.parametrize(
    ("last", "arch", "number", "verdict"),
    [
        ({X86_64: 400}, X86_64, 400, None),
        ({X86_64: 400}, X86_64, 401, ERRNO | 38),
        ({X86_64: 400}, X86, 401, None),
        ({X86_64: 400, X86: 300}, X86, 301, ERRNO | 38),
        ({X86_64: 400, X86: 300}, X86, 300, None),
        ({X86_64: 400, X86: 300}, X86_64, 350, None),
        ({X86_64: 400, X32: X32_BIT + 500}, X86_64, 450, ERRNO | 38),
        ({X86_64: 400, X32: X32_BIT + 500}, X86_64, X32_BIT + 500, None),
        ({X86_64: 400, X32: X32_BIT + 500}, X86_64, X32_BIT + 501, ERRNO | 38),
        ({X32: X32_BIT + 500}, X86_64, X32_BIT + 501, ERRNO | 38),
        ({X32: X32_BIT + 500}, X86_64, 450, None),
        ({X86: 300, X86_64: 400, X32: X32_BIT + 500}, 0xC00000B7, 4000, None),
    ],
)
def test_enosys_stub(last: dict[int, int], arch: int, number: int, verdict: int | None) -> None:
    assert run_bpf(libseccomp.enosys_stub(last), arch, number) == verdict


@pytest.mark.parametrize(
    ("op", "value", "value_two", "argument", "matches"),
    [
        ("NE", 5, 0, 6, True), ("NE", 5, 0, 5, False),
        ("LT", 5, 0, 4, True), ("LT", 5, 0, 5, False),
        ("LE", 5, 0, 5, True), ("LE", 5, 0, 6, False),
        ("EQ", 5, 0, 5, True), ("EQ", 5, 0, 6, False),
        ("GE", 5, 0, 5, True), ("GE", 5, 0, 4, False),
        ("GT", 5, 0, 6, True), ("GT", 5, 0, 5, False),
        ("MASKED_EQ", 0xF0, 0x50, 0x5A, True), ("MASKED_EQ", 0xF0, 0x50, 0x6A, False),
        ("EQ", 2**40 + 1, 0, 2**40 + 1, True), ("EQ", 2**40 + 1, 0, 1, False),
    ],
)  # fmt: skip
def test_conditions(op: str, value: int, value_two: int, argument: int, matches: bool) -> None:
    conditions = [{"index": 1, "value": value, "valueTwo": value_two, "op": f"SCMP_CMP_{op}"}]
    denied = {"names": ["prctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": conditions}
    profile = read({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [denied]})
    assert outcomes(profile, ("prctl", 3, argument)) == repr([99 if matches else 0])


def test_conditions_on_one_argument_are_alternatives() -> None:
    conditions = [{"index": 1, "value": v, "op": "SCMP_CMP_EQ"} for v in (5, 6)]
    denied = {"names": ["prctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": conditions}
    profile = read({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [denied]})
    assert outcomes(profile, ("prctl", 3, 5), ("prctl", 3, 6), ("prctl", 3, 7)) == repr([99, 99, 0])


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_killing_actions(action: str) -> None:
    profile = read({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["keyctl"], "action": action}]})
    assert outcomes(profile, ("keyctl", 0)) == "ended -31"  # SIGSYS


def test_trace_without_a_tracer_is_enosys_and_log_goes_on() -> None:
    rules = [
        {"names": ["keyctl"], "action": "SCMP_ACT_TRACE"},
        {"names": ["unshare"], "action": "SCMP_ACT_LOG"},
    ]
    flags = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    profile = read({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags, "syscalls": rules})
    assert outcomes(profile, ("keyctl", 0), ("unshare", 0)) == repr([errno.ENOSYS, 0])


def test_foreign_architectures_do_not_stop_a_profile() -> None:
    profile = read({**docker_like(), "architectures": list(seccomp.ARCHITECTURES)})
    assert outcomes(profile, ("unshare", 0)) == repr([errno.EPERM])


# --- the cache


def test_hit_needs_no_library(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = read(docker_like())
    program = seccomp.compile_profile(profile)
    (entry,) = cache.iterdir()
    assert entry.stat().st_mode & 0o777 == 0o600
    assert cache.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(libseccomp, "_load", lambda: pytest.fail("libseccomp was opened"))
    assert seccomp.compile_profile(profile) == program
    with pytest.raises(pytest.fail.Exception):
        seccomp.compile_profile(read(docker_like({"names": ["mount"], "action": "SCMP_ACT_ALLOW"})))


def spoil_content(entry: Path) -> None:
    data = bytearray(entry.read_bytes())
    data[40] ^= 1
    entry.write_bytes(data)


def spoil_link(entry: Path) -> None:
    entry.rename(entry.parent / "elsewhere")
    entry.symlink_to("elsewhere")


def spoil_fifo(entry: Path) -> None:
    entry.unlink()
    os.mkfifo(entry)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_content,
        spoil_link,
        spoil_fifo,
        lambda entry: entry.write_bytes(b""),
        lambda entry: entry.chmod(0o620),
        lambda entry: entry.parent.chmod(0o777),
    ],
)
def test_untrusted_entries_are_not_loaded(cache: Path, spoil: Callable[[Path], object]) -> None:
    """The attack: a filter that allows everything lies where the user's own is expected."""
    profile = read(docker_like())
    program = seccomp.compile_profile(profile)
    (entry,) = cache.iterdir()
    opened = []
    spoil(entry)
    original = libseccomp.compile_bpf
    libseccomp.compile_bpf = lambda p: opened.append(p) or original(p)  # type: ignore[assignment,func-returns-value]
    try:
        assert seccomp.compile_profile(profile) == program
    finally:
        libseccomp.compile_bpf = original
    assert opened


def test_no_home_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    assert seccomp.cache_folder() == ""
    assert seccomp.compile_profile(read(docker_like()))
    monkeypatch.setenv("HOME", "/proc/1/root")
    assert seccomp.cache_folder() == ""


def test_cache_does_not_grow_without_end(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_ENTRIES", 3)
    for number in range(6):
        seccomp.compile_profile(read(rule(action="SCMP_ACT_ERRNO", errnoRet=number)))
    assert len(list(cache.iterdir())) == 3


def test_missing_library_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, functions: object) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(syscalls, "load_library", missing)
    with pytest.raises(RootlessError, match=r"needs libseccomp.*libseccomp2"):
        seccomp.compile_profile(read(docker_like()))


def test_versions() -> None:
    major, minor, _ = libseccomp.library_version().split(".")
    assert (int(major), int(minor)) >= (2, 5)
    assert seccomp._installed_version().startswith("libseccomp.so.2")


# --- the listener


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[tuple[socket, str]]:
    folder = tmp_path / ("a" * 100)  # longer than sun_path
    folder.mkdir()
    listener = socket(AF_UNIX, SOCK_STREAM)
    fd = os.open(folder, os.O_PATH)
    listener.bind(f"/proc/self/fd/{fd}/agent.sock")
    os.close(fd)
    listener.listen(1)
    yield listener, str(folder / "agent.sock")
    listener.close()


def test_notify(agent: tuple[socket, str]) -> None:
    """The listener goes from the container to the runtime and on to the agent, whose answer is the call's result."""
    listener, path = agent
    profile = read({**notify(listenerPath=path, listenerMetadata="m"),
                    "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"]})  # fmt: skip
    profile["rules"] = [(("keyctl",), 0x7FC00000, ())]
    load = seccomp.prepare(profile)
    ours, theirs = channel.pair()
    answer_end, result = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            load(theirs)
            os.write(result, b"%d" % call("keyctl", 4242))
        finally:
            os._exit(0)
    os.close(result)
    theirs.close()
    _, _, (fd,) = channel.receive(ours, channel.LISTENER)
    state = {"ociVersion": "1.3.0", "id": "c", "status": "creating", "pid": pid, "bundle": "/b"}
    seccomp.send_listener(seccomp.connect_listener(path), fd, state, "m")

    connection = socket(AF_UNIX, SOCK_STREAM, 0, listener._accept()[0])  # type: ignore[attr-defined]
    data, ancillary, _, _ = connection.recvmsg(65536, CMSG_LEN(16))
    assert json.loads(data) == {
        "ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": pid, "metadata": "m", "state": state,
    }  # fmt: skip
    assert connection.recv(1) == b""
    (notify_fd,) = unpack("i", ancillary[0][2])
    request = bytearray(80)
    fcntl.ioctl(notify_fd, 0xC0502100, request)  # SECCOMP_IOCTL_NOTIF_RECV
    identity, first = unpack_from("Q", request)[0], unpack_from("Q", request, 32)[0]
    fcntl.ioctl(notify_fd, 0xC0182101, pack("QqiI", identity, 0, -95, 0))  # SECCOMP_IOCTL_NOTIF_SEND
    with open(answer_end) as file:
        assert file.read() == "95"
    assert first == 4242
    os.waitpid(pid, 0)
    os.close(notify_fd)


@pytest.mark.parametrize("path", ["/nowhere/agent.sock", "@rootless-test-nobody-listens", "/" + "a" * 200 + "/x"])
def test_no_agent_is_an_error(path: str) -> None:
    with pytest.raises(RootlessError, match="does it run") as error:
        seccomp.connect_listener(path)
    assert error.value.where == f"{POINTER}/listenerPath"


def test_supported_flags() -> None:
    assert "SECCOMP_FILTER_FLAG_TSYNC" in seccomp.supported_flags()
