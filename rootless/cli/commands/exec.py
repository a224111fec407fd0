"""`exec`: one more process in a container."""

from __future__ import annotations

from rootless import log
from rootless.errors import RootlessError, printable, unexpected
from rootless.kernel import caps, channel, proc
from rootless.node import Node
from rootless.plan import compile_seccomp, keeps_groups, linux_attributes
from rootless.plan.process import compile_process
from rootless.process import console
from rootless.process.program import prepare_seccomp, read_labels
from rootless.runtime import enter as join
from rootless.runtime import foreground, verdict
from rootless.runtime.container import START_SOCKET, Container, load
from rootless.startup import jsonlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from rootless.cgroup.oom import Watch
    from rootless.cli.options import Options


def main(options: Options) -> int:
    """`rootless exec ID CMD ARG...` or `rootless exec --process FILE ID`; the program's exit code, 255 without one."""
    try:
        return _exec(options)
    except (RootlessError, OSError) as error:
        failure = unexpected(error)
        failure.what = f"exec failed: {failure.what}"
        raise failure from error  # __main__.py ends with 255


def _exec(options: Options) -> int:
    container = load(options, lock=True)
    _require(container, options)
    target = join.Target(container)
    from rootless.runtime.interpreter import protect

    # Ours is the target's own user namespace: then all ids that exist here are the container's.
    protect(target.uid_map, target.gid_map)
    process = _compile(options, container, target)
    task = join.Task(
        process,
        seccomp=prepare_seccomp(compile_seccomp(Node(container.config))),
        keyring="" if container.state.get("no_new_keyring") else f"_ses.{container.container_id}",
        preserve=options.preserve_fds,
        foreground=not options.detach,
    )
    status = "running"
    if container.directory.has(START_SOCKET):
        status = "created"
        _keep_out_of_init(container, process)
    cgroup_fd = _cgroup_fd(container, options.cgroup)
    agent = verdict.connect_agent(container)
    oom = container.watch_oom()
    container.close()  # a process for a paused container waits for `resume`, which takes the lock
    reader = -1 if options.detach else foreground.listen()
    try:
        spawned = join.spawn(target, task, cgroup_fd)
    except RootlessError as error:
        error.hint = error.hint or container.describe_oom(oom.look() if oom else 0)
        raise
    log.debug(f"nsexec container setup: joined namespaces {target.flags:#x}")
    log.debug(f"child process in init(): pid {spawned.pid}")
    log.debug(f"setns_init: about to exec {process['args'][0]!r}")
    try:
        if options.pidfd_socket:
            console.send_pidfd(options.pidfd_socket, spawned.pidfd, b"setns")
        master = _converse(spawned, options, process, container, agent, status, oom)
        if options.pid_file:
            proc.write_pid_file(options.pid_file, spawned.pid)
    except BaseException:
        proc.end(spawned.pid, spawned.pidfd)
        raise
    finally:
        spawned.sync.close()
        spawned.reap()
    if options.detach:
        return 0
    try:
        code = foreground.wait(spawned.pid, spawned.pidfd, reader, master, oom=oom)
    except BaseException:
        proc.end(spawned.pid, spawned.pidfd)
        raise
    if oom and oom.kills:
        log.warn(container.describe_oom(oom.kills))
    return code


def _require(container: Container, options: Options) -> None:
    status = container.status()
    if status == "paused" and not options.ignore_paused:
        raise RootlessError("cannot exec in a paused container (use --ignore-paused to override)")
    if status not in ("created", "running", "paused"):
        raise RootlessError(f"cannot exec in a {status} container")


def _keep_out_of_init(container: Container, process: dict[str, Any]) -> None:
    """Refuse a program that could trace the container's init before its start; it is bound as init will be.

    Init waits without the filter, and as an ordinary process of this user's: clients have to open /proc/PID/ns/*.
    """
    if Node(container.config)["process"]["noNewPrivileges"].boolean():
        process["no_new_privs"] = True
    if not caps.keeps_out(proc.permitted(container.pid), process["caps"]):
        raise RootlessError(
            "cannot exec in a created container with capabilities that reach its init",
            hint=f"rootless start {container.container_id} first, or leave CAP_SYS_PTRACE out",
        )


def _compile(options: Options, container: Container, target: join.Target) -> dict[str, Any]:
    """The process as rootless.plan.process gives it. Raises SpecError."""
    from rootless.kernel import syscalls as sc
    from rootless.kernel.host import Host
    from rootless.process.rlimits import check_rlimits

    spec = _read_process(options.process) if options.process else _derive(options, container.config["process"])
    if options.tty:
        spec["terminal"] = True
    node = Node({"process": spec})["process"]
    host = Host()
    possible = host.all_capabilities if target.flags & sc.CLONE_NEWUSER else host.grantable
    process = compile_process(node, possible=possible, uid_map=target.uid_map, gid_map=target.gid_map)
    process["keep_groups"] = keeps_groups(container.state.get("annotations") or {})
    process["attributes"] += linux_attributes(Node(container.config)["linux"])
    read_labels(process)
    for line in process["warnings"]:
        log.warn(line)
    if not host.real_root:
        check_rlimits(process["rlimits"])
    console.check_holder(process["terminal"], options.detach, options.console_socket)
    return process


def _read_process(path: str) -> dict[str, Any]:
    """process.json as an object."""
    try:
        with open(path, "rb", buffering=0) as file:
            found = jsonlite.loads(file.read() or b"")
    except OSError as error:
        raise RootlessError.from_os(error, "cannot read the process", path) from None
    except ValueError as error:
        raise RootlessError(f"the process is no JSON: {error}", path) from None
    if type(found) is not dict:
        raise RootlessError("the process is no JSON object", path)
    return found


def _derive(options: Options, first: dict[str, Any]) -> dict[str, Any]:
    """The container's own process with what the flags change."""
    if not options.args:
        raise RootlessError("process args cannot be empty", hint="rootless exec ID CMD ARG...")
    spec = {
        **first,
        "args": options.args,
        "terminal": options.tty,
        "env": [*(first.get("env") or ()), *(options.env or ())],
    }
    if options.tty:
        from rootless.cli.commands.create import with_term

        spec["env"] = with_term(spec["env"])
    if options.cwd:
        spec["cwd"] = options.cwd
    if options.no_new_privs:
        spec["noNewPrivileges"] = True
    if options.apparmor:
        spec["apparmorProfile"] = options.apparmor
    if options.process_label:
        spec["selinuxLabel"] = options.process_label
    user = dict(first.get("user") or {})
    if options.user:
        user.update(parse_user(options.user))
    if options.additional_gids:
        more = [_read_id(gid, "additional gid") for gid in options.additional_gids]
        user["additionalGids"] = [*(user.get("additionalGids") or ()), *more]
    spec["user"] = user
    if options.cap:
        spec["capabilities"] = _add_capabilities(first.get("capabilities") or {}, options.cap)
    return spec


def _add_capabilities(sets: dict[str, list[str]], more: list[str]) -> dict[str, list[str]]:
    """Not to the inheritable set: a file's capabilities would add to it (CVE-2022-29162). Ambient ones are in it."""
    known = caps.names(sum(1 << bit for bit in {caps.parse_cap(name) for name in more}))
    added = dict(sets)
    for name in ("bounding", "effective", "permitted"):
        added[name] = [*(sets.get(name) or ()), *known]
    inheritable = sets.get("inheritable") or ()
    added["ambient"] = [*(sets.get("ambient") or ()), *(name for name in known if name in inheritable)]
    return added


def parse_user(text: str) -> dict[str, int]:
    """`UID[:GID]` as the members of process.user; all of it must be numbers (CVE-2026-30892). Raises RootlessError."""
    uid, colon, gid = text.partition(":")
    found = {"uid": _read_id(uid, "user")}
    if colon:
        found["gid"] = _read_id(gid, "group")
    return found


def _read_id(text: str, what: str) -> int:
    digits = text.lstrip("0") or "0"  # int() takes no more than 4300 digits, zeros included
    if not (text.isascii() and text.isdigit()) or len(digits) > 10 or int(digits) >= 2**32 - 1:
        raise RootlessError(f"invalid {what} {printable(repr(text[:40]))}", hint="--user UID[:GID], as numbers")
    return int(digits)


def _cgroup_fd(container: Container, below: str) -> int:
    """The cgroup to start in, -1 where the container has none. `below` is a path under the container's own."""
    group = container.cgroup()
    if not group.path:
        if below:
            raise RootlessError("--cgroup: the container has no cgroup", printable(below))
        return -1
    return group.child_fd(below) if below else group.join_fd(container.pid)


def _converse(
    spawned: join.Spawned,
    options: Options,
    process: dict[str, Any],
    container: Container,
    agent: socket | None,
    status: str,
    oom: Watch | None,
) -> int:
    """Let the process go and wait for its verdict. The terminal's master, -1 for none or when it was handed on."""
    master = -1
    sync = spawned.sync
    try:
        channel.send(sync, channel.GO)
        if process["terminal"]:
            master = console.receive(sync, options.console_socket)
            if master >= 0:
                foreground.adopt(master, sized=process["size"] != (0, 0))
            channel.send(sync, channel.GO)
        verdict.receive(sync, container, agent, status, spawned.pid)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        hint = container.describe_oom(oom.look() if oom else 0)
        raise RootlessError("the process was killed before it could run the program", hint=hint) from None
    return master
