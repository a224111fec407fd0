"""R's side of a container's birth: fds, clone3, id maps, cgroup, hooks, console, and the hand-over to `start`."""

from __future__ import annotations

import errno
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket

from rootless import cgroup, init, log, plan
from rootless.errors import RootlessError
from rootless.kernel import channel, child, proc, signals
from rootless.kernel import syscalls as sc
from rootless.kernel.host import Host
from rootless.node import Node
from rootless.process import attributes, console, hooks, program
from rootless.process.rlimits import check_rlimits
from rootless.runtime.container import CREATING_SOCKET, START_SOCKET, Container, undo_all
from rootless.runtime.interpreter import protect
from rootless.runtime.state import StateDir
from rootless.startup import lean_os as os
from rootless.steps import mounting as mount
from rootless.steps import places as rootfs
from rootless.userns.idmap import write_maps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.cgroup.fs import Cgroup
    from rootless.kernel.host import IdMap
    from rootless.plan import Plan


_UNCONTAINED = (
    "a container without a pid namespace of its own and without a cgroup: such configuration is strongly discouraged, "
    "as its processes cannot all be found when it ends"
)


class Request:
    """What `create` was asked for.

    spec: the parsed config.json; text: the same as bytes, kept in the state; the rest are the flags.
    """

    def __init__(self, container_id: str, bundle: str, spec: dict[str, Any], text: bytes) -> None:
        self.container_id = container_id
        self.bundle = bundle
        self.spec = spec
        self.text = text
        self.root = ""
        self.cgroup_manager = ""
        self.console_socket = ""
        self.pidfd_socket = ""
        self.pid_file = ""
        self.no_pivot = False
        self.no_new_keyring = False
        self.notify = False
        self.notify_fd = -1
        self.preserve_fds = 0
        self.listen_fds = 0
        self.detached = True
        self.meanwhile: Callable[[Container], None] | None = None  # called while I mounts: R has nothing else to do


class Created:
    """A container that waits for `start`: container, pidfd, and the terminal's master (-1 for none)."""

    def __init__(self, container: Container, pidfd: int, master: int) -> None:
        self.container = container
        self.pidfd = pidfd
        self.master = master


def compile_plan(request: Request, host: Host, spec: Node | None = None) -> Plan:
    """The plan for a request (with `spec`, of another reader of its config): reading only. Raises SpecError."""
    spec = spec or Node(request.spec)
    made = plan.compile(spec, host, bundle=request.bundle)
    program.read_labels(made.process)
    if made.mount_label:
        from rootless.process.lsm import label_mounts

        label_mounts(made, spec)
    if made.intel_rdt:
        from rootless.outside.resctrl import find_resctrl

        made.intel_rdt["root"] = find_resctrl()
    if not host.real_root:
        check_rlimits(made.process["rlimits"])
    if spec["linux"]["devices"]:
        from rootless.outside.device_nodes import read_warnings

        made.process["warnings"] += read_warnings(made)
    made.cgroup = cgroup.compile(
        spec["linux"],
        container_id=request.container_id,
        manager=request.cgroup_manager,
        host=host,
        annotations=spec["annotations"],
    )
    if not os.path.isdir(made.rootfs):
        raise RootlessError("the rootfs is no directory", made.rootfs, hint="/root/path in config.json names it")
    return made


def create(request: Request, host: Host) -> Created:
    """Everything up to the created state. What was made before a failure is taken back in reverse order."""
    # First what the command line says, for that is quickly put right.
    terminal = Node(request.spec)["process"]["terminal"].boolean()
    console.check_holder(terminal, request.detached, request.console_socket)
    made = compile_plan(request, host)
    _pass_sockets(request, made)
    protect(*_possible_maps(made, host))  # it may begin anew: nothing is said before
    for line in made.process["warnings"]:
        log.warn(line)
    if not made.namespaces.new & sc.CLONE_NEWPID and not made.cgroup["path"] and made.cgroup["manager"] != "systemd":
        log.warn(_UNCONTAINED)
    undo: list[Callable[[], None]] = []
    signals.hold_back(signals.ENDING)
    directory = StateDir.make(request.root, request.container_id, proc.own_identity())
    undo += [directory.close, directory.remove]
    container = Container(directory, {})
    try:
        signals.let_come(signals.ENDING)
        return _create(request, host, made, container, undo)
    except BaseException as error:
        try:
            if isinstance(error, RootlessError):
                _blame_limit(error, made.cgroup)
        finally:
            undo_all(undo)
        if hooks.failed_in(error):
            hooks.run_poststop(made.hooks.get("poststop", []), container.report("stopped"))
        raise


def _blame_limit(error: RootlessError, record: dict[str, Any]) -> None:
    """Name the memory limit as the reason, where it is: a process that was killed shows as anything, and under a small
    limit a system call fails before anyone is killed, for the kernel's own memory counts too."""
    if not any(entry[0] == "memory.max" for entry in record["files"]):
        return
    from rootless.cgroup import oom

    limit = oom.memory_limit(record)
    if kills := cgroup.open(record).oom_kills() if record["path"] else 0:
        error.hint = oom.describe(kills, limit)
    elif error.errno == errno.ENOMEM:
        error.hint = oom.too_small(limit)


def _possible_maps(made: Plan, host: Host) -> tuple[IdMap, IdMap]:
    """The ids that the container can have: of a user namespace that is joined, at most the user's own."""
    ns = made.namespaces
    if any(flag == sc.CLONE_NEWUSER for flag, _, _ in ns.joins):
        from rootless.userns.run import default_maps

        return default_maps(host)
    return ns.uid_map, ns.gid_map


def _pass_sockets(request: Request, made: Plan) -> None:
    """Socket activation, sd_listen_fds(3): the sockets from 3 on go to the program, whose pid is 1."""
    if not request.listen_fds:
        return
    env = [e for e in made.process["env"] if not e.startswith(("LISTEN_FDS=", "LISTEN_PID="))]
    made.process["env"] = [*env, f"LISTEN_FDS={request.listen_fds}", "LISTEN_PID=1"]
    passed = 0
    try:
        while passed < request.listen_fds and os.get_inheritable(3 + passed):
            passed += 1
    except OSError:
        pass  # fewer than promised: the program will see
    request.preserve_fds = max(request.preserve_fds, passed)


def _create(request: Request, host: Host, made: Plan, container: Container, undo: list[Callable[[], None]]) -> Created:
    directory = container.directory
    directory.write("config.json", request.text)
    if request.notify:
        from rootless.runtime import notify

        request.notify_fd = notify.bind(directory)
        undo.append(lambda: os.close(request.notify_fd))
    container.state = state = first_state(request, made)
    group = cgroup.open(made.cgroup)
    if not group.needs_pid:
        undo.append(group.remove)
        make_cgroup(directory, group)
    if not made.namespaces.has(sc.CLONE_NEWNS):
        before = state["rootfs_before"] = rootfs.mount_place(made.rootfs)
        undo.append(lambda: rootfs.detach_rootfs(made.rootfs, before))
    _note_ahead(container, made)
    pid, pidfd, sync = _clone(request, host, made, directory, group, container)
    undo.append(lambda: proc.end(pid, pidfd))
    state["pid"] = pid
    state["start_time"] = proc.start_time(pid)
    directory.note_init(pid, state["start_time"])
    if group.needs_pid:
        undo.append(group.remove)
        make_cgroup(directory, group, pid)
    held = _set_from_outside(made, container, undo)
    master = _converse(request, host, made, container, pid, sync)
    directory.rename(CREATING_SOCKET, START_SOCKET)
    receiver = request.pidfd_socket or made.annotations.get("run.oci.pidfd_receiver")
    if receiver:
        console.send_pidfd(receiver, pidfd, b"standard")
    if request.pid_file:
        proc.write_pid_file(request.pid_file, pid)
    signals.hold_back(signals.ENDING)  # until the caller can take it back
    undo.clear()
    if request.notify:
        held.append(request.notify_fd)  # init has its own
    for fd in held:
        os.close(fd)
    return Created(container, pidfd, master)


def make_cgroup(directory: StateDir, group: Cgroup, pid: int = 0) -> None:
    """Make the container's cgroup. What will be made is noted before, and which one it is right after: were the runtime
    killed in between, `delete --force` must end nothing but that. Raises RootlessError."""
    if group.path:
        directory.note_cgroup(group.path, group.missing())
    group.create(pid=pid)
    if group.path:
        above = [path for path in group.record["made"] if path != group.path]
        directory.note_cgroup(group.path, len(above) + (group.path in group.record["made"]), group.record["inode"])
    else:
        directory.unlink("cgroup.planned")


def _note_ahead(container: Container, made: Plan) -> None:
    """What will be made outside of the container and does not end with it: were R killed before the state is complete,
    `delete --force` has to know of it."""
    if not made.intel_rdt and "rootfs_before" not in container.state:
        return
    state = {**container.state, "creating": True}
    if made.intel_rdt:
        from rootless.outside import resctrl as rdt

        state["intel_rdt"] = rdt.own_directories(made.intel_rdt, container.container_id, made.intel_rdt["root"])
    Container(container.directory, state).save()


def first_state(request: Request, made: Plan) -> dict[str, Any]:
    """What is known of a container before it has a process."""
    state: dict[str, Any] = {
        "ociVersion": request.spec["ociVersion"],
        "id": request.container_id,
        "pid": 0,
        "start_time": 0,
        "bundle": request.bundle,
        "rootfs": made.rootfs,
        "annotations": made.annotations,
        "cgroup": made.cgroup,
        "hooks": list(made.hooks),
        "created": log.rfc3339(time.time()),
    }
    if request.no_new_keyring:
        state["no_new_keyring"] = True
    if not made.namespaces.new & sc.CLONE_NEWPID:
        state["shared_pids"] = True
    if not request.spec.get("process"):
        state["without_process"] = True
    if request.notify:
        state["notify"] = True
    if made.seccomp and made.seccomp["notify"]:
        state["listener"] = [made.seccomp["listener_path"], made.seccomp["metadata"]]
    return state


def _set_from_outside(made: Plan, container: Container, undo: list[Callable[[], None]]) -> list[int]:
    """What only R can do to I: its class of the cache, its network devices. Returns fds to close in the end."""
    if made.intel_rdt:
        from rootless.outside import resctrl as rdt

        groups = rdt.apply_intel_rdt(made.intel_rdt, container.container_id, container.pid, made.intel_rdt["root"])
        container.state["intel_rdt"] = groups
        undo.append(lambda: rdt.remove_intel_rdt(groups))
    if not made.net_devices:
        return []
    from rootless.outside import net_devices as devices

    # Held, for the namespace would end with I, and virtual devices with it, before they are brought back.
    netns = os.open(f"/proc/{container.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    moved = devices.apply_net_devices(made.net_devices, netns)
    undo.append(lambda: devices.undo_net_devices(moved, netns))
    return [netns]


def _clone(
    request: Request, host: Host, made: Plan, directory: StateDir, group: Any, container: Container
) -> tuple[int, int, socket]:
    """The one clone3, or J's way to it. In the child this never returns."""
    proc_fd = proc.open_proc()
    listener = _listen(directory)
    seccomp = program.prepare_seccomp(made.seccomp)
    outside = [step[2] for step in made.prepare if step[0] == "mount" and step[2].get("outside")]
    if outside:
        mount.prepare_binds(proc_fd, outside)
    nodes: dict[str, int] = {}
    if any(step[0] == "outside_device" for step in made.prepare):
        from rootless.outside.device_nodes import make_nodes

        nodes = make_nodes(made, f"{directory.root}/{directory.container_id}")
    sync, theirs = channel.pair()
    options: dict[str, Any] = {
        "no_pivot": request.no_pivot,
        "preserve_fds": request.preserve_fds,
        "keyring": "" if request.no_new_keyring else f"_ses.{request.container_id}",
        "state": container.report("creating"),
        "seccomp": seccomp,
        "setgroups": True,
        "nodes": nodes,
        "notify_fd": request.notify_fd,
        "foreground": not request.detached,
    }
    # The cgroup namespace is entered later, by I: made by clone3 its root would be R's cgroup (cgroup_namespaces(7)).
    flags = made.namespaces.new & ~(sc.CLONE_NEWCGROUP | sc.CLONE_NEWTIME)

    def leave_runtime() -> None:
        sync.close()
        directory.close_copy()  # the lock hangs on the open file description: flock(2)
        if made.namespaces.uid_map:
            made.process["oom_score_adj"] = None  # R writes it, see _map_ids

    task = init.Init(made, theirs, listener, proc_fd, options, leave_runtime)

    def become_init() -> None:
        init.run(task)

    try:
        if made.namespaces.joins or made.namespaces.new & sc.CLONE_NEWTIME:
            pid, pidfd = _clone_joined(made, host, proc_fd, (sync, theirs), group.fd, become_init)
        else:
            pid, pidfd = child.clone(flags, become_init, cgroup_fd=group.fd)
    except OSError as error:
        raise RootlessError.from_os(
            error, "cannot create the namespaces", "/linux/namespaces", _clone_hint(error)
        ) from None
    # The debug lines of the way are runc's: people search logs for them.
    log.debug(f"nsexec container setup: new namespaces {flags:#x}")
    log.debug(f"child process in init(): pid {pid}")
    try:
        _map_ids(made, host, proc_fd, pid)  # before anything else: I waits for it
    except BaseException:
        proc.end(pid, pidfd)
        raise
    theirs.close()
    listener.close()
    os.close(proc_fd)
    for fd in [*nodes.values(), *(entry["made"] for entry in outside if "made" in entry)]:
        os.close(fd)
    return pid, pidfd, sync


def _map_ids(made: Plan, host: Host, proc_fd: int, pid: int) -> None:
    ns = made.namespaces
    if not ns.uid_map or ns.setgroups is not None:
        return
    ns.setgroups = write_maps(proc_fd, pid, ns.uid_map, ns.gid_map, host, is_default=ns.map_is_default)
    if made.process["oom_score_adj"] is not None:
        # I could not once its ids have changed, the file is root's then (proc(5)); nor lower it from in there.
        attributes.write_oom_score(proc_fd, made.process["oom_score_adj"], str(pid))


def _listen(directory: StateDir) -> socket:
    """The start socket, under the name that it has until the container is created."""
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    listener.bind(f"/proc/self/fd/{directory.fd}/{CREATING_SOCKET}")
    listener.listen(1)
    return listener


def _clone_joined(
    made: Plan, host: Host, proc_fd: int, socks: tuple[socket, socket], cgroup_fd: int, life: Callable[[], None]
) -> tuple[int, int]:
    from rootless.runtime import enter as join

    ns = made.namespaces

    def write(pid: int) -> None:
        ns.setgroups = write_maps(proc_fd, pid, ns.uid_map, ns.gid_map, host, is_default=ns.map_is_default)

    joins = join.open_namespaces(ns, host)
    try:
        join.refuse_shared_sysctls(made, joins)
        return join.clone(made, joins, proc_fd, socks, cgroup_fd, life, write)
    finally:
        for _, fd, _ in joins:
            os.close(fd)


def _clone_hint(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return "users may not make user namespaces here: sysctl kernel.unprivileged_userns_clone, or a sandbox"
    if error.errno == errno.ENOSPC:
        return "the limit of user namespaces is reached: sysctl user.max_user_namespaces"
    if error.errno == errno.ENOSYS:
        return "Linux 5.12 or newer is needed"
    return ""


def _converse(request: Request, host: Host, made: Plan, container: Container, pid: int, sync: socket) -> int:
    """Talk I through its set-up. Returns the terminal's master, -1 for none (or when it was handed on)."""
    master = -1
    try:
        if made.hands_over_cgroup():
            from rootless.cgroup import ownership

            group = container.cgroup()
            ownership.hand_over(group, pid, made.process["uid"], host)
            group.close()
        channel.send(sync, channel.MAPPED, b"0" if made.namespaces.setgroups is False else b"1")
        # While I mounts: were R killed before, I would not be told that it can be found, and end.
        container.save()
        try:
            channel.send(sync, channel.SAVED)
        except BrokenPipeError:
            pass  # I has ended: what it said of it is received next
        if request.meanwhile:
            request.meanwhile(container)
        if made.process["terminal"]:
            master = console.receive(sync, request.console_socket)
        if made.waits_for_runtime:
            channel.receive(sync, channel.MOUNTED)
            hooks.run_outside(made.hooks, container.report)
            channel.send(sync, channel.HOOKED)
        channel.receive(sync, channel.CREATED)
        log.debug("init: closing the pipe to signal completion")
    except (EOFError, ConnectionResetError, BrokenPipeError):
        raise _death(container, pid) from None
    finally:
        sync.close()
    return master


def _death(container: Container, pid: int) -> RootlessError:
    """I ended without a word: say how, and whether the memory limit was the reason."""
    hint = container.oom_hint()  # at once: systemd removes a scope's cgroup as soon as its last process is gone
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    how = f"signal {-code}" if code < 0 else f"exit status {code}"
    if code == -9 and not hint and container.cgroup_path and not os.path.isdir(container.cgroup_path):
        from rootless.cgroup import oom  # systemd was quicker, and its count is gone with the cgroup

        hint = oom.probable(oom.memory_limit(container.state["cgroup"]))
    return RootlessError(f"the container's init ended during set-up: {how}", hint=hint)
