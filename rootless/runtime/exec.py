"""Run another process in a container: a joiner enters its namespaces and clones the process.

A joiner is needed because setns(2) moves only later children into a pid namespace. It clones with CLONE_PARENT, so that
the process is a child of the runtime, which can wait for it.
"""

from __future__ import annotations

from errno import EACCES

from rootless import log
from rootless.config_node import Node
from rootless.errors import RootlessError, printable
from rootless.kernel import caps, channel, child, proc
from rootless.kernel import syscalls as sc
from rootless.kernel.files import read_at_most
from rootless.kernel.host import Host, read_id_map, read_setgroups
from rootless.kernel.namespaces import NAMESPACES
from rootless.plan.process import compile_domain, compile_process, keeps_groups
from rootless.plan.seccomp import compile_seccomp
from rootless.process import attributes, console, program
from rootless.runtime import foreground, verdict
from rootless.runtime.bundle import with_term
from rootless.runtime.container import START_SOCKET, Container, TakingBack
from rootless.runtime.joiner import await_child
from rootless.startup import jsonlite
from rootless.startup import lean_os as os
from rootless.steps import Step, StepFailed, execute
from rootless.steps.context import Becoming, Ending
from rootless.steps.program import Execute, LoadFilter, SetEnvironment, StepSender, run_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from rootless.cgroup.oom import Watch
    from rootless.kernel.host import IdMap
    from rootless.process.child_options import ChildOptions
    from rootless.process.seccomp_names import Profile
    from rootless.steps.context import Filter
    from rootless.steps.emulation import EmulateRoot
    from rootless.steps.process import Process


_PROCESS_LIMIT = 16 << 20  # bytes of process.json, as of config.json


class ExecRequest:
    """Hold the arguments of `exec`.

    process: the path of a process.json, "" to derive the process from the container's own and the other arguments;
    user: UID[:GID]; groups: the supplementary groups of that user, [] for its group alone; cgroup: a path below the
    container's cgroup.
    """

    def __init__(self, args: list[str], process: str = "") -> None:
        self.args = args
        self.process = process
        self.tty = False
        self.env: list[str] = []
        self.cwd = ""
        self.user = ""
        self.groups: list[int] = []
        self.additional_gids: list[str] = []
        self.cap: list[str] = []
        self.no_new_privs = False
        self.apparmor = ""
        self.process_label = ""
        self.cgroup = ""
        self.ignore_paused = False
        self.detach = False
        self.console_socket = ""
        self.pid_file = ""
        self.pidfd_socket = ""
        self.preserve_fds = 0


def exec_in(container: Container, request: ExecRequest) -> int:
    """Run a process in a container whose lock the caller holds; return its exit code, 0 when detached.

    Raises RootlessError and OSError.
    """
    _require(container, request)
    target = RunningContainer(container)
    from rootless.runtime.interpreter import protect

    # If the container has no user namespace of its own, its maps hold all ids of this one.
    protect(target.uid_map, target.gid_map)
    process = _compile(request, container, target)
    task = _task(container, request, process)
    status = "running"
    if container.directory.has(START_SOCKET):
        status = "created"
        _keep_out_of_init(container, process)
    cgroup_fd = _cgroup_fd(container, request.cgroup)
    agent = verdict.connect_agent(container)
    oom = container.watch_oom()
    container.close()  # a process for a paused container waits for `resume`, which takes the lock
    reader = -1 if request.detach else foreground.listen()
    try:
        spawned = spawn(target, task, cgroup_fd)
    except RootlessError as error:
        error.hint = error.hint or container.describe_oom(oom.look() if oom else 0)
        raise
    _log_for_runcs_suite(target, spawned, process)
    try:
        if request.pidfd_socket:
            console.send_pidfd(request.pidfd_socket, spawned.pidfd, b"setns")
        master = _await_verdict(spawned, request, process, container, agent, status, oom)
        if request.pid_file:
            proc.write_pid_file(request.pid_file, spawned.pid)
    except BaseException:
        with TakingBack(container):
            proc.end(spawned.pid, spawned.pidfd)
        raise
    finally:
        spawned.sync.close()
        spawned.reap()
    if request.detach:
        return 0
    try:
        code = foreground.wait(spawned.pid, spawned.pidfd, reader, master, oom=oom)
    except BaseException:
        with TakingBack(container):
            proc.end(spawned.pid, spawned.pidfd)
        raise
    if oom and oom.kills:
        log.warn(container.describe_oom(oom.kills))
    return code


def _task(container: Container, request: ExecRequest, process: Process) -> Task:
    task = Task(process, compile_seccomp(Node(container.config)))
    task.emulate(container)
    task.keyring = "" if container.state.get("no_new_keyring") else f"_ses.{container.container_id}"
    task.preserve_fds = request.preserve_fds
    task.foreground = not request.detach
    return task


def _log_for_runcs_suite(target: RunningContainer, spawned: Spawned, process: Process) -> None:
    """Log three lines that only runc's test suite needs: its debug.bats greps for its words nsexec and setns_init."""
    log.debug(f"nsexec container setup: joined namespaces {target.flags:#x}")
    log.debug(f"child process in init(): pid {spawned.pid}")
    log.debug(f"setns_init: about to exec {process.args[0]!r}")


def _require(container: Container, request: ExecRequest) -> None:
    status = container.status()
    if status == "paused" and not request.ignore_paused:
        raise RootlessError("cannot exec in a paused container (use --ignore-paused to override)")
    if status not in ("created", "running", "paused"):
        raise RootlessError(f"cannot exec in a {status} container")


def _keep_out_of_init(container: Container, process: Process) -> None:
    """Refuse a process whose capabilities let it trace the container's init before `start`.

    Until `start` init has no seccomp filter and can be traced, because clients have to open /proc/PID/ns/*. The process
    gets no_new_privs if config.json asks for it, so that it cannot gain more capabilities than were checked.
    """
    if Node(container.config)["process"]["noNewPrivileges"].boolean():
        process.no_new_privs = True
    if not caps.keeps_out(proc.permitted(container.pid), process.caps):
        raise RootlessError(
            "cannot exec in a created container with capabilities that reach its init",
            hint=f"rootless start {container.container_id} first, or leave CAP_SYS_PTRACE out",
        )


def _compile(request: ExecRequest, container: Container, target: RunningContainer) -> Process:
    """Return the process, compiled like the container's own. Raises SpecError and RootlessError."""
    spec = (
        _read_process(request.process)
        if request.process
        else _derive(request, container.config["process"], target.gid_map)
    )
    if request.tty:
        spec["terminal"] = True
    return compile_process_of(request, container, target, spec)


def compile_process_of(
    request: ExecRequest, container: Container, target: RunningContainer, spec: dict[str, Any]
) -> Process:
    """Return a process of this container from `process` of a config or process.json. Raises SpecError."""
    node = Node({"process": spec})["process"]
    host = Host()
    possible = host.all_capabilities if target.flags & sc.CLONE_NEWUSER else host.grantable
    process = compile_process(node, host, possible=possible, uid_map=target.uid_map, gid_map=target.gid_map)
    process.user.keep_groups = keeps_groups(container.state.get("annotations") or {})
    process.scheduling += compile_domain(Node(container.config)["linux"])
    for line in process.warnings:
        log.warn(line)
    console.check_holder(process.terminal, request.detach, request.console_socket)
    return process


def _read_process(path: str) -> dict[str, Any]:
    """Return process.json as an object. Raises RootlessError."""
    try:
        data = read_at_most(_PROCESS_LIMIT, path)
        if len(data) > _PROCESS_LIMIT:
            raise RootlessError(f"the process is larger than {_PROCESS_LIMIT >> 20} MiB", path)
        process = jsonlite.loads(data)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot read the process", path) from None
    except ValueError as error:
        raise RootlessError(f"the process is not JSON: {error}", path) from None
    if type(process) is not dict:
        raise RootlessError("the process is not a JSON object", path)
    return process


def _derive(request: ExecRequest, first: dict[str, Any], gid_map: IdMap) -> dict[str, Any]:
    """Return the container's own process with the request's changes. Raises RootlessError."""
    if not request.args:
        raise RootlessError("process args cannot be empty", hint="rootless exec ID CMD ARG...")
    spec = {
        **first,
        "args": request.args,
        "terminal": request.tty,
        "env": [*(first.get("env") or ()), *(request.env or ())],
    }
    if request.tty:
        spec["env"] = with_term(spec["env"])
    if request.cwd:
        spec["cwd"] = request.cwd
    if request.no_new_privs:
        spec["noNewPrivileges"] = True
    if request.apparmor:
        spec["apparmorProfile"] = request.apparmor
    if request.process_label:
        spec["selinuxLabel"] = request.process_label
    user = dict(first.get("user") or {})
    if request.user:
        user.update(parse_user(request.user))
        if request.groups or user.get("additionalGids"):  # those of another user would be rights that this one lacks
            groups = request.groups or [user.get("gid", 0)]
            user["additionalGids"] = [g for g in groups if any(a <= g < a + size for a, _, size in gid_map)]
    if request.additional_gids:
        more = [_read_id(gid, "additional gid") for gid in request.additional_gids]
        user["additionalGids"] = [*(user.get("additionalGids") or ()), *more]
    spec["user"] = user
    if request.cap:
        spec["capabilities"] = _add_capabilities(first.get("capabilities") or {}, request.cap)
    return spec


def _add_capabilities(sets: dict[str, list[str]], more: list[str]) -> dict[str, list[str]]:
    """Return the capability sets with more names in them, but not in the inheritable set.

    A program file with inheritable capabilities could otherwise raise them (CVE-2022-29162). A name is added to the
    ambient set only if it is inheritable already, because the kernel requires that (capabilities(7)).
    """
    known = caps.names(sum(1 << bit for bit in {caps.parse_cap(name) for name in more}))
    added = dict(sets)
    for name in ("bounding", "effective", "permitted"):
        added[name] = [*(sets.get(name) or ()), *known]
    inheritable = sets.get("inheritable") or ()
    added["ambient"] = [*(sets.get("ambient") or ()), *(name for name in known if name in inheritable)]
    return added


def parse_user(text: str) -> dict[str, int]:
    """Return `UID[:GID]` as members of process.user. All must be numbers (CVE-2026-30892). Raises RootlessError."""
    uid, colon, gid = text.partition(":")
    user = {"uid": _read_id(uid, "user")}
    if colon:
        user["gid"] = _read_id(gid, "group")
    return user


def _read_id(text: str, what: str) -> int:
    digits = text.lstrip("0") or "0"  # int() refuses more than 4300 digits, also zeros
    if not (text.isascii() and text.isdigit()) or len(digits) > 10 or int(digits) >= 2**32 - 1:
        raise RootlessError(f"invalid {what} {printable(repr(text[:40]))}", hint="--user UID[:GID], as numbers")
    return int(digits)


def _cgroup_fd(container: Container, below: str) -> int:
    """Return the fd of the cgroup to start in, -1 if the container has none. Raises RootlessError.

    below: a path under the container's cgroup, "" for init's.
    """
    group = container.cgroup()
    if not group.path:
        if below:
            raise RootlessError("--cgroup: the container has no cgroup", printable(below))
        return -1
    return group.child_fd(below) if below else group.join_fd(container.pid)


def _await_verdict(
    spawned: Spawned,
    request: ExecRequest,
    process: Process,
    container: Container,
    agent: socket | None,
    status: str,
    oom: Watch | None,
) -> int:
    """Allow the process to run its program, and wait until it does.

    Return the terminal's master, -1 if there is none or it was passed on. Raises RootlessError.
    """
    master = -1
    sync = spawned.sync
    try:
        channel.send(sync, channel.MAY_SPEAK)
        if process.terminal:
            master = console.receive_master(sync, request.console_socket)
            if master >= 0:
                foreground.adopt(master, sized=process.size != (0, 0))
            channel.send(sync, channel.TERMINAL_READY)
        verdict.await_exec(sync, container, agent, status, spawned.pid)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        hint = container.describe_oom(oom.look() if oom else 0)
        raise RootlessError("the process was killed before it could run the program", hint=hint) from None
    return master


class RunningContainer:
    """Hold the pidfd of a container's init, and what the joiner needs to know about init.

    flags: CLONE_NEW* of init's namespaces that differ from the runtime's, without CLONE_NEWCGROUP; cgroup_ns: the fd of
    its cgroup namespace, -1 if it is the runtime's; root: the fd of its root if that is not the root of its mount
    namespace, else -1; uid_map, gid_map: its maps, with ids of this namespace; setgroups: whether setgroups(2) works.
    """

    def __init__(self, container: Container) -> None:
        pid = container.pid
        self.proc_fd = proc.open_proc()
        self.flags = 0
        self.cgroup_ns = -1
        self.root = -1
        try:
            self.pidfd = os.pidfd_open(pid)
            for flag, name in NAMESPACES.values():
                if self._differs(pid, name):
                    self.flags |= flag
            if self.flags & sc.CLONE_NEWCGROUP:
                self.flags &= ~sc.CLONE_NEWCGROUP
                self.cgroup_ns = os.open(f"{pid}/ns/cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc_fd)
            if container.state.get("rootfs_before"):
                self.root = os.open(f"{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.proc_fd)
            here = f"/proc/self/fd/{self.proc_fd}/{pid}"
            self.uid_map: IdMap = read_id_map(f"{here}/uid_map")
            self.gid_map: IdMap = read_id_map(f"{here}/gid_map")
            self.setgroups = read_setgroups(f"{here}/setgroups")
        except (FileNotFoundError, ProcessLookupError):  # it has ended, or is ending and has left its namespaces
            raise RootlessError("cannot exec in a stopped container") from None
        except OSError as error:
            raise RootlessError.from_os(error, "cannot look at the container's init", f"/proc/{pid}") from None
        # Check only now: the pidfd was open all the time, so the pid has meant the same process.
        if not container.alive():
            raise RootlessError("cannot exec in a stopped container")

    def _differs(self, pid: int, name: str) -> bool:
        try:
            theirs = os.stat(f"{pid}/ns/{name}", dir_fd=self.proc_fd)
            ours = os.stat(f"self/ns/{name}", dir_fd=self.proc_fd)
        except FileNotFoundError:
            if os.path.exists(f"/proc/self/ns/{name}"):
                raise
            return False  # the kernel does not have this kind of namespace
        return (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino)


class Task:
    """Hold the process to start and its settings.

    filter: loads the seccomp filter, None without one; emulation, load_emulation: the same for root emulation; keyring:
    the session keyring's name, "" for the caller's; foreground: whether the process ends with the runtime; options: as
    in Prepared (steps/context.py).
    """

    def __init__(self, process: Process, profile: Profile | None) -> None:
        self.process = process
        self.profile = profile
        self.filter: Filter | None = program.prepare_seccomp(profile)
        self.emulation: EmulateRoot | None = None
        self.load_emulation: Filter | None = None
        self.keyring = ""
        self.preserve_fds = 0
        self.foreground = False
        self.options: ChildOptions | None = None
        self.last_cap = caps.last_cap()

    def emulate(self, container: Container) -> None:
        """Emulate root if the container's own program has it. Raises RootlessError."""
        mode = container.state.get("root_emulation")
        if not mode:
            return
        from rootless.emulation.load import prepare
        from rootless.plan.root_emulation import ANNOTATION, APT
        from rootless.steps.emulation import EmulateRoot

        user = self.process.user
        step = EmulateRoot(f"/annotations/{ANNOTATION}", mode, Host().kernel, (user.uid, user.gid), is_asked=False)
        self.emulation = step
        self.load_emulation = prepare(step.profile, step.ids, is_asked=step.is_asked)
        if mode == "errno" and not any(entry.startswith("APT_CONFIG=") for entry in self.process.env):
            self.process.env.append(f"APT_CONFIG={APT}")

    def last(self) -> list[Step]:
        """Return the steps that turn the process into the program."""
        process = self.process
        steps: list[Step] = [SetEnvironment(f"{process.pointer}/env", process.env)]
        if self.emulation:
            steps.append(self.emulation)
        if self.profile:
            steps.append(LoadFilter(self.profile))
        return [*steps, Execute(process.args)]


class Spawned:
    """Hold a process that `spawn` has started: its pid and pidfd, the socket to it, and the joiner's pid."""

    def __init__(self, pid: int, pidfd: int, sync: socket, joiner: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.sync = sync
        self.joiner = joiner

    def reap(self) -> None:
        """Reap the joiner. It exits right after it has sent the pid, so this never blocks long."""
        os.waitpid(self.joiner, 0)


def spawn(target: RunningContainer, task: Task, cgroup_fd: int) -> Spawned:
    """Start a child of this process in the target's namespaces and in a cgroup (-1: the runtime's own).

    The child sends nothing before it has received MAY_SPEAK. With a terminal it then sends CONSOLE and waits for
    TERMINAL_READY. At last it sends EXECUTING, and execve closes its socket, like init's. Raises RootlessError.
    """
    try:
        try:
            return _clone_joiner(target, task, cgroup_fd)
        except PermissionError:  # EACCES: a subordinate id owns the cgroup, and root of its user namespace may enter
            return _clone_joiner(target, task, later=cgroup_fd)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot start a process in the container's cgroup") from None
    except RootlessError as error:
        if cgroup_fd < 0 or error.errno != EACCES:
            raise
    from rootless.cgroup import systemd

    spawned = _clone_joiner(target, task, waits=True)
    try:
        systemd.adopt(os.readlink(f"/proc/self/fd/{cgroup_fd}"), spawned.pid)
    except BaseException:
        proc.end(spawned.pid, spawned.pidfd)
        spawned.sync.close()
        spawned.reap()
        raise
    return spawned


def _clone_joiner(
    target: RunningContainer, task: Task, cgroup_fd: int = -1, *, later: int = -1, waits: bool = False
) -> Spawned:
    """Start the joiner in a cgroup, or let only its child enter one (`later`). Raises OSError and RootlessError.

    waits: whether the child does nothing before MAY_SPEAK, because it is not in its cgroup yet.
    """
    sync, theirs = channel.pair()

    def join() -> None:
        try:
            sync.close()
        finally:
            _join(target, task, theirs, later, waits=waits)

    try:
        joiner, pidfd = child.clone(0, join, cgroup_fd=cgroup_fd)
    finally:
        theirs.close()
    os.close(pidfd)
    return Spawned(*await_child(joiner, sync), sync, joiner)


def _join(target: RunningContainer, task: Task, sync: socket, cgroup_fd: int, *, waits: bool) -> None:
    """Do the joiner's work, then in its child the process's. Return only after a failure (kernel/child.py)."""
    sc.name_process(b"rootless:joiner")
    try:
        program.forget_imports()
        if task.process.oom_score_adj is not None:  # root owns the file once a process is not dumpable: proc(5)
            attributes.write_oom_score(target.proc_fd, task.process.oom_score_adj)
        # Otherwise a process of the container could trace the joiner and use its open descriptors (ptrace(2)).
        sc.prctl(sc.PR_SET_DUMPABLE, 0)
        if target.flags:
            sc.setns(target.pidfd, target.flags)
        if target.root >= 0:
            os.fchdir(target.root)
            os.chroot(".")
        # With CLONE_PARENT the exit signal is the joiner's, and another value is EINVAL (clone(2)).
        pid, pidfd = sc.clone3(sc.CLONE_PARENT, cgroup_fd=cgroup_fd, exit_signal=0)
        if pid:
            channel.send(sync, channel.PID, b"%d" % pid, (pidfd,))
            os._exit(0)
    except BaseException as error:
        channel.send_failure(sync, error, "cannot join the container's namespaces")
        return
    _become(target, task, sync, waits=waits)


def _become(target: RunningContainer, task: Task, sync: socket, *, waits: bool) -> None:
    """Set the process up and run its program. Return only after a failure."""
    process = task.process
    gate = _Gate(sync)
    sc.name_process(b"rootless:exec")
    try:
        if waits:
            gate.wait()
        os.setsid()
        if target.cgroup_ns >= 0:
            # Only now that it is in the cgroup: with nsdelegate the kernel refuses to move a process into a cgroup from
            # outside of the root of its cgroup namespace (cgroups(7)).
            sc.setns(target.cgroup_ns, sc.CLONE_NEWCGROUP)
        if process.terminal:
            gate.wait()
            _open_terminal(process, sync)
        if task.keyring:
            attributes.join_keyring(task.keyring)
        context = Becoming(
            target.proc_fd, task.last_cap, list(process.env), setgroups=target.setgroups,
            filtered=bool(task.filter or task.emulation), lends=bool(target.flags & sc.CLONE_NEWUSER),
        )  # fmt: skip
        context.oom_score_written = True  # the joiner has written it
        tell = _GatedSender(gate) if log.debugging() else None
        attributes.make_null_writable(target.proc_fd)
        execute(process.through_proc(), context, tell)
        # From here on paths of the container are looked up. If a directory of the host were still open, a link to
        # /proc/self/fd/N/.. would lead to the host (CVE-2024-21626).
        program.close_all_but([sync.fileno(), *program.passed_on(task.preserve_fds)])
        execute(process.steps(), context, tell)
        if task.foreground:
            attributes.die_with_parent()  # if the runtime is gone already, the next use of the socket fails
        if task.options:
            path = task.options.look_up(context)
        else:
            path = program.look_up(process.args[0], context.env, context.left_groups)
        program.check_cwd()
        gate.wait()
        labelled = process.no_new_privs and any(kind == "SELinux" for kind, _ in process.labels)
        ending = Ending(sync, path, context.env, task.filter, task.preserve_fds, labelled=labelled)
        ending.options = task.options
        ending.emulation = task.load_emulation
        run_program(task.last(), ending, StepSender(sync, Step.lines) if tell else None)
    except StepFailed as failed:
        _send_failure(gate, failed.error, failed.step.words()[0], failed.step.pointer)
    except BaseException as error:
        _send_failure(gate, error, "set up the process", process.pointer)


class _Gate:
    """Wait for MAY_SPEAK once. The joiner's PID message must reach the runtime before any message of this process."""

    def __init__(self, sync: socket) -> None:
        self.sync = sync
        self.open = False

    def wait(self) -> None:
        """Wait until the process may send messages. Raises EOFError if the runtime is gone."""
        if not self.open:
            channel.receive(self.sync, channel.MAY_SPEAK)
            self.open = True


def _send_failure(gate: _Gate, error: BaseException, step: str, pointer: str) -> None:
    try:
        gate.wait()
    except (EOFError, OSError):
        return  # the runtime is gone
    channel.send_failure(gate.sync, error, step, pointer)


class _GatedSender:
    """Send the lines of a step to the runtime, which logs them, as soon as this process may send messages."""

    def __init__(self, gate: _Gate) -> None:
        self.gate = gate

    def __call__(self, step: Step) -> None:
        self.gate.wait()
        StepSender(self.gate.sync, Step.lines)(step)


def _open_terminal(process: Process, sync: socket) -> None:
    """Open a pty of the container's devpts. The runtime gets the master and sets its size before the program starts."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    master, slave = console.open_pty(root, process.size)
    os.close(root)
    console.offer(sync, master, slave, process.user.uid)
    channel.receive(sync, channel.TERMINAL_READY)
    console.take_over(slave)
    os.close(slave)
