"""Read linux.seccomp, keep compiled filters in the user's cache, and send the listener to its agent (seccomp(2)).

libseccomp compiles a profile once (rootless/process/libseccomp.py). Afterwards its BPF program comes from the cache,
and neither the library nor its module is loaded.
"""

from __future__ import annotations

from _blake2 import blake2b
from _socket import SOCK_STREAM
from errno import EFAULT, EPERM

from rootless import log
from rootless.errors import RootlessError
from rootless.kernel import channel, sockets, syscalls
from rootless.kernel.files import READ_DIRECTORY, write_all
from rootless.process.seccomp_names import ACTIONS, ARCHITECTURES, FLAGS, OPERATORS
from rootless.startup import jsonlite
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Any

    from rootless.config_node import Node
    from rootless.process.report import Report
    from rootless.process.seccomp_names import Condition, Profile, Rule

_ERRNO, _TRACE = ACTIONS["SCMP_ACT_ERRNO"], ACTIONS["SCMP_ACT_TRACE"]
_ALLOW, _LOG, _NOTIFY = ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_LOG"], ACTIONS["SCMP_ACT_NOTIFY"]
_PASSING = _ALLOW, _LOG, _NOTIFY, _TRACE  # actions that may allow a call
_MAX_ERRNO = 4095  # linux/err.h: the highest errno that SCMP_ACT_ERRNO can return; a tracer gets all 16 bits

_LIBRARY = "libseccomp.so.2"
_LIBRARY_FOLDERS = (
    f"/usr/lib/{syscalls.MACHINE}-linux-gnu", f"/lib/{syscalls.MACHINE}-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib",
    "/lib", "/usr/local/lib",
)  # fmt: skip
_FORMAT = b"rootless 1"  # change it whenever compile_profile makes another program of the same profile
_DIGEST = 16
_LARGEST = _DIGEST + 4096 * 8  # BPF_MAXINSNS
_ENTRIES = 128


# --- reading


def read_seccomp(node: Node, receiver: str = "") -> Profile | None:
    """Return linux.seccomp as a Profile, None if it does nothing. Pure.

    receiver: a listener path for a config without listenerPath. Without `flags` SPEC_ALLOW is set, as in runc; an empty
    list sets none. Raises SpecError.
    """
    if not node:
        return None
    rules = [_read_rule(item) for item in node["syscalls"].items()]
    default = _read_action(node["defaultAction"], node["defaultErrnoRet"])
    flags = 0
    for item in node["flags"].items():
        flags |= item.choice(FLAGS)
    if not node["flags"]:
        flags = syscalls.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    path, metadata = node["listenerPath"].string(), node["listenerMetadata"].string()
    if metadata and not path and not receiver:
        raise node["listenerMetadata"].error("is only allowed beside listenerPath")
    profile: Profile = {
        "default": default,
        "rules": rules,
        "architectures": [item.choice(ARCHITECTURES) for item in node["architectures"].items()],
        "flags": flags,
        # An agent that config.json names gets a listener even if no action needs one yet.
        "notify": default == _NOTIFY or any(action == _NOTIFY for _, action, _ in rules) or bool(path),
        "listener_path": path or receiver,
        "metadata": metadata,
    }
    _check_execve(node, profile)
    if profile["notify"]:
        _check_notify(node, profile)
    return profile


def _read_action(action: Node, errno: Node) -> int:
    """Return an action and its errno as one SECCOMP_RET_* value. Raises SpecError."""
    value: int = action.choice(ACTIONS)
    if value == _ERRNO:
        return value | errno.integer(EPERM, 0, _MAX_ERRNO)
    if value == _TRACE:
        return value | errno.integer(EPERM, 0, 0xFFFF)
    if errno:
        raise errno.error(f"{action.value} takes no errno", hint="SCMP_ACT_ERRNO and SCMP_ACT_TRACE do")
    return value


def _read_rule(node: Node) -> Rule:
    names = node["names"]
    listed = names.value
    if type(listed) is not list or not all(type(n) is str and n and n.isascii() and "\0" not in n for n in listed):
        listed = names.required().strings()  # strings() raises the SpecError for a wrong type
    if not listed:
        raise names.error("is empty: it names no system call")
    if "" in listed:
        raise names.error("holds an empty name")
    conditions = tuple(_read_condition(item) for item in node["args"].items())
    return tuple(listed), _read_action(node["action"], node["errnoRet"]), conditions


def _read_condition(node: Node) -> Condition:
    return (
        node["index"].required().integer(low=0, high=5),
        node["op"].choice(OPERATORS),
        node["value"].required().integer(low=0),
        node["valueTwo"].integer(low=0),
    )


def _check_execve(node: Node, profile: Profile) -> None:
    """Refuse a filter that denies execve(2), because it is loaded before execve: no program could start.

    A filter that kills for it would not even leave an error message.
    """
    rules = [(action, args) for names, action, args in profile["rules"] if "execve" in names]
    if not any(args for _, args in rules):
        verdicts = [action for action, _ in rules] or [profile["default"]]
        if not any(action & 0xFFFF0000 in _PASSING for action in verdicts):
            node["syscalls"].refuse("denies the execve syscall, without which no program can start")


def _check_notify(node: Node, profile: Profile) -> None:
    """Refuse SCMP_ACT_NOTIFY if nobody listens, or for a system call that init makes before the agent has the listener.

    Under the filter init sends the listener by sendmsg(2), and reports a failed execve by write(2). If these had to ask
    the agent, they would wait for ever. Raises SpecError.
    """
    if not profile["listener_path"]:
        raise node["listenerPath"].error("is required with SCMP_ACT_NOTIFY")
    if profile["default"] == _NOTIFY:
        raise node["defaultAction"].error("SCMP_ACT_NOTIFY cannot be used as default action")
    for needed in ("write", "sendmsg"):
        rules = [(action, args) for names, action, args in profile["rules"] if needed in names]
        if any(action == _NOTIFY for action, _ in rules):
            raise node["syscalls"].error(f"SCMP_ACT_NOTIFY cannot be used for the {needed} syscall")
    passes = profile["default"] in (_ALLOW, _LOG) or any(not args for _, args in rules)
    if not passes or any(action not in (_ALLOW, _LOG) for action, _ in rules):
        raise node["syscalls"].error(
            "denies the sendmsg syscall, by which the listener of SCMP_ACT_NOTIFY leaves the container"
        )


# --- what this machine has


def supported_flags() -> list[str]:
    """Return the FLAGS that this kernel has: for a null program seccomp(2) gives EFAULT, for an unknown flag EINVAL."""
    supported = []
    for name, flag in FLAGS.items():
        if flag == syscalls.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV:
            flag |= syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER  # the kernel refuses the other flag without it
        try:
            syscalls.syscall("seccomp", syscalls.SECCOMP_SET_MODE_FILTER, flag, None)
        except OSError as error:
            if error.errno == EFAULT:
                supported.append(name)
    return supported


def load_flags(profile: Profile) -> int:
    """Return the flags of seccomp(2) for a profile, with a listener if it needs one.

    TSYNC is left out, because init has one thread and TSYNC with a listener is EINVAL. WAIT_KILLABLE_RECV is left out
    without a listener, because that is EINVAL, too.
    """
    flags: int = profile["flags"] & ~syscalls.SECCOMP_FILTER_FLAG_TSYNC
    if profile["notify"]:
        return flags | syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER
    return flags & ~syscalls.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV


def prepare(profile: Profile) -> Callable[[socket], None]:
    """Compile the filter in the runtime; return a function that loads it in init, as its last act before execve.

    The function takes the verdict socket, and sends the listener over it as channel.LISTENER if there is one. Raises
    RootlessError if libseccomp is missing or refuses the profile, or if the kernel lacks a flag.
    """
    program = _decode(profile["bpf"]) if profile.get("bpf") else compile_profile(profile)
    flags = load_flags(profile)
    log.debug(f"seccomp filter flags: {flags}")
    if flags & ~syscalls.SECCOMP_FILTER_FLAG_SPEC_ALLOW:
        supported = supported_flags()
        for name, flag in FLAGS.items():
            if flags & flag and name not in supported:
                raise RootlessError(f"this kernel does not know {name}", "/linux/seccomp/flags")

    def load(waiting: socket) -> None:
        fd = syscalls.seccomp_load(program, flags)
        if flags & syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER:
            channel.send(waiting, channel.LISTENER, fds=(fd,))

    return load


def _decode(text: str) -> bytes:
    """Decode a compiled filter from crun's annotation: struct sock_filter in base64. Raises RootlessError."""
    from binascii import Error, a2b_base64

    try:
        program = a2b_base64(text.encode(), strict_mode=True)
    except (Error, UnicodeEncodeError):
        program = b""
    if not program or len(program) % 8:
        raise RootlessError("is not a BPF program in base64", "/annotations/run.oci.seccomp_bpf_data")
    return program


# --- the cache


def compile_profile(profile: Profile) -> bytes:
    """Return a profile's BPF program, an array of struct sock_filter, from the cache or from libseccomp.

    Raises RootlessError.
    """
    folder = cache_folder()
    name = _key(profile)
    fd = _open_cache(folder) if folder else -1
    try:
        program = _read_cached(fd, name) if fd >= 0 else b""
        if program:
            log.debug(f"seccomp: filter {name} from {folder}")
            return program
        from rootless.process.libseccomp import compile_bpf

        program = compile_bpf(profile)
        if fd >= 0:
            _write_cached(fd, name, program)
        return program
    finally:
        if fd >= 0:
            os.close(fd)


def cache_folder() -> str:
    """Return $XDG_CACHE_HOME/rootless/seccomp, else ~/.cache/rootless/seccomp.

    Return "" if neither is known, or if it belongs to another user, as with root under a user's HOME.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    home = base if base.startswith("/") else os.environ.get("HOME", "")
    if not home.startswith("/"):
        return ""
    try:
        if os.stat(home).st_uid != os.geteuid():
            return ""
    except FileNotFoundError:
        if home != base:
            return ""
    except OSError:
        return ""
    return f"{home}/rootless/seccomp" if home == base else f"{home}/.cache/rootless/seccomp"


def _key(profile: Profile) -> str:
    """Return the digest of everything that the program depends on."""
    version = _installed_version()
    if not version:
        from rootless.process.libseccomp import library_version

        version = library_version()
    parts = [syscalls.MACHINE, version, profile["default"], profile["rules"], profile["architectures"]]
    if profile.get("strict"):
        parts.append("strict")
    return blake2b(_FORMAT + repr(parts).encode("utf-8", "surrogateescape"), digest_size=_DIGEST).hexdigest()


def _installed_version() -> str:
    """Return the library's full name by its symbolic link, which is far cheaper than loading it; "" if not found."""
    for folder in _LIBRARY_FOLDERS:
        try:
            return os.readlink(f"{folder}/{_LIBRARY}")
        except OSError:
            continue
    return ""


def _open_cache(folder: str) -> int:
    """Return an fd of the cache, -1 if there is none that only this user can write."""
    flags = READ_DIRECTORY
    try:
        try:
            fd = os.open(folder, flags)
        except FileNotFoundError:
            from oci.private import make_private

            fd = make_private(folder)
    except OSError as error:
        log.debug(f"seccomp: no cache: {error}")
        return -1
    if _is_ours(fd):
        return fd
    os.close(fd)
    log.debug(f"seccomp: {folder} is not used: others can write there")
    return -1


def _is_ours(fd: int) -> bool:
    status = os.fstat(fd)
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _read_cached(folder_fd: int, name: str) -> bytes:
    """Return a program that this user has written completely, else b""."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except OSError:
        return b""
    try:
        data = os.read(fd, _LARGEST) if _is_ours(fd) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)
    program = data[_DIGEST:]
    if not program or blake2b(program, digest_size=_DIGEST).digest() != data[:_DIGEST]:
        return b""
    return program


def _write_cached(folder_fd: int, name: str, program: bytes) -> None:
    """Write a program under a temporary name, and rename it when it is complete. A failure is only logged."""
    temporary = f".{name}.{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, 0o600, dir_fd=folder_fd)
        try:
            write_all(fd, blake2b(program, digest_size=_DIGEST).digest() + program)
            os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        except OSError:
            os.unlink(temporary, dir_fd=folder_fd)
            raise
        finally:
            os.close(fd)
        names = os.listdir(folder_fd)
        if len(names) > _ENTRIES:  # a client that writes a new profile for each container would fill the disk
            oldest = min(names, key=lambda n: os.stat(n, dir_fd=folder_fd, follow_symlinks=False).st_mtime)
            os.unlink(oldest, dir_fd=folder_fd)
    except OSError as error:
        log.debug(f"seccomp: the filter is not cached: {error}")


# --- the listener


def connect_listener(path: str) -> socket:
    """Connect to the agent at listenerPath, before `start` lets init run the program. Raises RootlessError.

    path: `@name` is an abstract address (unix(7)).
    """
    agent = sockets.create(SOCK_STREAM)
    try:
        sockets.connect(agent, path)
    except OSError as error:
        agent.close()
        raise RootlessError.from_os(
            error, f"failed to connect with seccomp agent {path}", "/linux/seccomp/listenerPath", "does it run?"
        ) from None
    return agent


def send_listener(agent: socket, fd: int, state: Report, metadata: str, pid: int = 0) -> None:
    """Send the container process state and the listener to the agent, and close both.

    state: the container's state (runtime.md#state), with the pid that the runtime sees; pid: the process with the
    filter, 0 for the container's init. Raises RootlessError.
    """
    message: dict[str, Any] = {"ociVersion": state["ociVersion"], "fds": ["seccompFd"], "pid": pid or state["pid"]}
    if metadata:
        message["metadata"] = metadata
    message["state"] = state
    data = jsonlite.dumps(message).encode()
    try:
        sent = sockets.send_fds(agent, data, (fd,))
        if sent < len(data):
            agent.sendall(data[sent:])
    except OSError as error:
        raise RootlessError.from_os(
            error, "cannot send the listener to the seccomp agent", "/linux/seccomp/listenerPath"
        ) from None
    finally:
        agent.close()
        os.close(fd)
