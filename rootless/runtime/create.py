"""Create a container: compile the plan, prepare what it needs, clone init, and follow init's set-up to its end."""

from __future__ import annotations

import errno
import time
from _socket import SOCK_SEQPACKET

from rootless import cgroup, init, log
from rootless.config_node import Node
from rootless.errors import RootlessError
from rootless.kernel import caps, channel, child, proc, signals, sockets
from rootless.kernel import syscalls as sc
from rootless.kernel.files import close_at_last
from rootless.plan.call import Call
from rootless.plan.compiler import compile
from rootless.process import attributes, console, program
from rootless.process.hooks import HookContext, open_stream
from rootless.runtime.container import CREATING_SOCKET, MOUNTED, START_SOCKET, Container, undo_all
from rootless.runtime.interpreter import protect
from rootless.runtime.state import StateDir
from rootless.startup import lean_os as os
from rootless.steps import StepFailed, execute
from rootless.steps.binds import BindMount
from rootless.steps.context import Init, Prepared
from rootless.steps.devices import AttachDevice
from rootless.steps.namespaces import WriteIdMaps, namespace_steps
from rootless.steps.places import detach_rootfs, mount_place
from rootless.steps.program import StepSender

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

    from rootless.cgroup.driver import Cgroup
    from rootless.cgroup.record import Record
    from rootless.kernel.host import Host, IdMap
    from rootless.outside.engine import Engine
    from rootless.plan.compiler import Plan
    from rootless.plan.describe import Numbering
    from rootless.runtime.bundle import CreateRequest
    from rootless.runtime.container import State
    from rootless.steps import Step
    from rootless.steps.network import ConnectNetwork
    from rootless.steps.outside import EnterResctrlGroup, MoveNetDevices


_UNCONTAINED = (
    "a container without a pid namespace of its own and without a cgroup: such configuration is strongly discouraged, "
    "because not all of its processes can be found when it ends"
)


class Created:
    """Hold a container that waits for `start`, init's pidfd, the terminal's master (-1 for none) and its engine."""

    def __init__(self, container: Container, pidfd: int, master: int, engine: Engine | None) -> None:
        self.container = container
        self.pidfd = pidfd
        self.master = master
        self.engine = engine


def compile_plan(request: CreateRequest, host: Host, spec: Node | None = None) -> Plan:
    """Return the plan for a request. Raises SpecError.

    spec: reads the config in place of a plain Node (plan/validate.py).
    """
    call = Call(
        request.bundle,
        request.container_id,
        cgroup_manager=request.cgroup_manager,
        listen_fds=request.listen_fds,
        emulates_root=request.emulates_root,
        state=f"{request.root}/{request.container_id}",
    )
    return compile(spec or Node(request.spec), host, call)


def create(request: CreateRequest, host: Host, meanwhile: Callable[[Container], None] | None = None) -> Created:
    """Create a container, which then waits for `start`. After a failure everything is undone in reverse order.

    meanwhile: called while init sets up its mounts, when the runtime would only wait. Raises RootlessError and OSError.
    """
    # Check the command line first, because the user can correct that most easily.
    console.check_holder(request.wants_terminal(), request.detached, request.console_socket)
    plan = compile_plan(request, host)
    cgroup.check_limits(plan.cgroup.record)
    protect(*_possible_maps(plan, host))  # it may re-execute this command, so print no warning before
    _warn(plan)
    if plan.network:
        from rootless.outside import ports

        ports.check(plan.network)
    creation = Creation(request, plan, host, meanwhile)
    try:
        creation.prepare()
        creation.clone()
        return creation.follow()
    except BaseException as error:
        creation.undo(error)
        raise


def _possible_maps(plan: Plan, host: Host) -> tuple[IdMap, IdMap]:
    """Return the maps of all ids that the container can have: in a joined user namespace, at most the user's ids."""
    if plan.namespaces.joins_one(sc.CLONE_NEWUSER):
        from rootless.userns.run import default_maps

        return default_maps(host)
    return plan.namespaces.uid_map, plan.namespaces.gid_map


def _warn(plan: Plan) -> None:
    for line in plan.warnings:
        log.warn(line)
    record = plan.cgroup.record
    if not plan.namespaces.new & sc.CLONE_NEWPID and not record["path"] and record["manager"] != "systemd":
        log.warn(_UNCONTAINED)


class Creation:
    """Create one container. The runtime's steps are executed with this object (steps/context.py, Runtime).

    undo_stack: functions that undo what was done; each is pushed before its action. held: fds that stay open until the
    container is created. engine: what connects the container's network, None for nothing; numbering: the numbers of the
    plan's steps, None without --debug.
    """

    prepared: Prepared
    group: Cgroup
    sync: socket
    theirs: socket

    def __init__(
        self, request: CreateRequest, plan: Plan, host: Host, meanwhile: Callable[[Container], None] | None
    ) -> None:
        self.request = request
        self.meanwhile = meanwhile
        self.plan = plan
        self.host = host
        self.pid = 0
        self.pidfd = -1
        self.unmapped_pid = 0
        self.maps_written = False
        self.held: list[int] = []
        self.undo_stack: list[Callable[[], None]] = []
        self.engine: Engine | None = None
        self.numbering: Numbering | None = None
        if log.debugging():
            from rootless.plan.describe import Numbering

            self.numbering = Numbering(plan)
        signals.block(signals.ENDING)
        directory = StateDir.make(request.root, request.container_id, proc.own_identity())
        self.undo_stack += [directory.close, directory.remove]
        self.container = Container(directory, {})

    def execute(self, steps: list[Step]) -> None:
        """Execute steps in the runtime; with --debug, log each one. Raises OSError and RootlessError."""
        try:
            execute(steps, self, self._tell if self.numbering else None)
        except StepFailed as failed:
            raise failed.error from None

    def _tell(self, step: Step) -> None:
        for line in self.numbering.lines(step) if self.numbering else ():
            log.debug(log.since_start(line))

    def tell_from(self, sync: socket, step: Step) -> None:
        """Send the line of a step from the joiner to the runtime, which logs it (--debug)."""
        if self.numbering:
            StepSender(sync, self.numbering.lines)(step)

    def undo(self, error: BaseException) -> None:
        """Undo everything, and run the poststop hooks if a hook has failed (runtime.md#lifecycle).

        A signal that would end the command waits until all is undone, and then does so.
        """
        signals.block(signals.ENDING)
        try:
            if isinstance(error, RootlessError):
                _name_memory_limit(error, self.container.state.get("cgroup", self.plan.cgroup.record))
        finally:
            undo_all(self.undo_stack, self.container.directory)
        from rootless.runtime.hooks import failed_in_hook, run_poststop

        try:
            signals.unblock(signals.ENDING)  # a hook may hang
        finally:
            if failed_in_hook(error):
                run_poststop(self.plan.hooks.get("poststop", []), self.container.report("stopped"))

    # --- prepare

    def prepare(self) -> None:
        """Make what init needs: the state, the cgroup, the start socket, the filter, and mounts from the host."""
        signals.unblock(signals.ENDING)
        request, plan, directory = self.request, self.plan, self.container.directory
        directory.write("config.json", request.text)
        for name, text in plan.network.names.items() if plan.network else ():
            directory.write(name, text.encode("utf-8", "surrogateescape"))
            os.chmod(name, 0o644, dir_fd=directory.fd)  # every user of the container may read it
        notify_fd = self._bind_notify_socket()
        record = plan.cgroup.record.copy()
        self.container.state = first_state(request, plan, record)
        self.group = cgroup.open(record)
        if not self.group.needs_pid:
            self._make_cgroup()
        if request.upper.startswith("/"):
            self._make_upper()
        if not plan.namespaces.has(sc.CLONE_NEWNS):
            before = self.container.state["rootfs_before"] = mount_place(plan.rootfs)
            directory.note(f"{before[0]} {before[1]} {plan.rootfs}", MOUNTED)
            self.undo_stack.append(lambda: detach_rootfs(plan.rootfs, before))
        self._record_host_side_effects()
        prepared = self.prepared = Prepared(proc.open_proc(), _listen(directory), setgroups=plan.namespaces.setgroups)
        prepared.last_cap = caps.last_cap()
        prepared.notify_fd = notify_fd
        prepared.no_pivot = request.no_pivot
        prepared.preserve_fds = max(request.preserve_fds, _passed_sockets(request.listen_fds))
        prepared.keyring = "" if request.no_new_keyring else f"_ses.{request.container_id}"
        prepared.foreground = not request.detached
        prepared.reaper, prepared.status_fd = request.init, request.status_fd
        prepared.options = request.options
        if request.init:
            from rootless.init import reaper

            prepared.arguments = proc.own_arguments()
            assert reaper  # loaded now, because after the change of roots it would come from the container
        prepared.state = self.container.report("creating")
        prepared.filter = program.prepare_seccomp(plan.filter.profile) if plan.filter else None
        if plan.emulation:
            from rootless.emulation.load import prepare

            prepared.emulation = prepare(plan.emulation.profile, plan.emulation.ids, is_asked=plan.emulation.is_asked)
        # In a user namespace init cannot write oom_score_adj once its ids have changed, because root then owns the
        # file (proc(5)).
        prepared.oom_score_written = bool(plan.namespaces.uid_map) or plan.namespaces.needs_joiner
        self._prepare_mounts()
        self._open_hook_streams()

    def _open_hook_streams(self) -> None:
        """Open the files of run.oci.hooks.* for startContainer's hooks: in the container their paths lead elsewhere."""
        for step in self.plan.hooks.get("startContainer", ()):
            for path in (step.hook.stdout, step.hook.stderr):
                if path and path not in self.prepared.hook_fds:
                    try:
                        self.prepared.hook_fds[path] = open_stream(path)
                    except OSError as error:
                        raise RootlessError.from_os(error, "cannot open the file for the output of hooks") from None

    def _bind_notify_socket(self) -> int:
        if not self.request.notify:
            return -1
        from rootless.runtime import notify

        fd = notify.bind(self.container.directory)
        self.undo_stack.append(lambda: os.close(fd))
        self.held.append(fd)  # init has a copy
        return fd

    def _make_cgroup(self) -> None:
        """Make the container's cgroup, and note it in the state directory before and after.

        If the runtime is killed in between, `delete --force` removes the noted cgroup and nothing else.
        """
        group, directory = self.group, self.container.directory
        is_named = bool((self.request.spec.get("linux") or {}).get("cgroupsPath"))
        path, group.must_be_new = group.path, not is_named
        self.undo_stack.append(group.remove)
        while True:
            if group.must_be_new and path and (group.is_taken or os.path.isdir(path)):
                group.take_free_name(path)
            note_planned_cgroup(directory, group)
            try:
                self.execute([self.plan.cgroup])
                break
            except RootlessError:
                if not group.is_taken:
                    raise
        note_made_cgroup(directory, group)

    def _make_upper(self) -> None:
        """Make the directory for what the container changes in its throw-away root."""
        from rootless.runtime import upper

        self.undo_stack.append(lambda: upper.remove_upper(self.request.upper))
        upper.make_upper(self.container.directory, self.request.upper, self.plan.rootfs)

    def _record_host_side_effects(self) -> None:
        """Note in state.json what will be made on the host and does not end with the container.

        If the runtime is killed before the state is complete, `delete --force` finds it there.
        """
        resctrl, container = self.plan.resctrl, self.container
        if not resctrl and "rootfs_before" not in container.state:
            return
        state = container.state.copy()
        state["creating"] = True
        if resctrl:
            from rootless.outside.resctrl import own_directories

            state["intel_rdt"] = own_directories(resctrl, container.container_id, resctrl.mount)
        Container(container.directory, state).save()

    def _prepare_mounts(self) -> None:
        """Make the mounts and device nodes for which init lacks the privileges of root on the host."""
        plan, directory = self.plan, self.container.directory
        for step in plan.prepare:
            if isinstance(step, BindMount) and step.outside:
                fd = step.prepare(self.prepared.proc_fd)
                if fd >= 0:
                    self.prepared.mount_fds[step.pointer] = fd
        devices = [step for step in plan.prepare if isinstance(step, AttachDevice)]
        if devices:
            from rootless.outside.device_nodes import make_nodes

            place = f"{directory.root}/{directory.container_id}"
            maps = plan.namespaces.uid_map, plan.namespaces.gid_map
            self.prepared.device_fds = make_nodes(devices, place, *maps)

    # --- clone

    def clone(self) -> None:
        """Clone init with its namespaces, and write the id maps. Raises RootlessError."""
        prepared, process = self.prepared, self.plan.process
        self.sync, self.theirs = channel.pair()
        first, *others = namespace_steps(self.plan.namespaces)
        try:
            self.execute([first])
        except OSError as error:
            from rootless.userns.hints import clone_error

            raise clone_error(error) from None
        self.undo_stack.append(lambda: proc.end(self.pid, self.pidfd))
        if not self.maps_written:  # init waits for them
            self.unmapped_pid = self.pid
            self.execute([step for step in others if isinstance(step, WriteIdMaps)])
            if self.plan.namespaces.uid_map and process.oom_score_adj is not None:
                attributes.write_oom_score(prepared.proc_fd, process.oom_score_adj, str(self.pid))
        self.theirs.close()
        prepared.listener.close()
        for fds in (prepared.device_fds, prepared.mount_fds, prepared.hook_fds):
            for fd in fds.values():
                os.close(fd)
        os.close(prepared.proc_fd)

    def clone_init(self, flags: int) -> None:
        """Clone init directly, or through a joiner that enters namespaces first (steps/namespaces.py).

        flags: CLONE_NEW* of the new namespaces, for clone3(2).
        """
        context = Init(self.prepared, self.plan.namespaces, self.theirs)

        def leave_runtime() -> None:
            self.sync.close()
            # The lock belongs to the open file description, which init would keep open: flock(2).
            self.container.directory.close_copy()

        def live() -> None:
            init.main(self.plan, context, leave_runtime, self.numbering)

        if self.plan.namespaces.needs_joiner:
            from rootless.runtime import enter

            joining = enter.Joining(self.plan, self.prepared, self.host, self.group.fd, self.write_joiners_maps)
            joining.tell = self.tell_from if self.numbering else None
            self.pid, self.pidfd = enter.clone_joined(joining, self.sync, self.theirs, live)
        else:
            self.pid, self.pidfd = child.clone(flags, live, cgroup_fd=self.group.fd)
        # Only runc's test suite needs these two lines: its debug.bats greps for them, with runc's word nsexec.
        log.debug(f"nsexec container setup: new namespaces {flags:#x}")
        log.debug(f"child process in init(): pid {self.pid}")

    def write_joiners_maps(self, joiner: int) -> None:
        """Write the maps of the user namespace that the joiner has made.

        Init does not exist yet, because the joiner must set a time namespace's offsets first (time_namespaces(7)).
        """
        self.unmapped_pid = joiner
        self.execute([step for step in namespace_steps(self.plan.namespaces) if isinstance(step, WriteIdMaps)])
        self.maps_written = True

    # --- follow

    def follow(self) -> Created:
        """Do for init what only the runtime can do, and exchange messages with init until the container is created."""
        request, container = self.request, self.container
        container.state["pid"] = self.pid
        if self.group.needs_pid:
            self._make_cgroup()
        self.execute(self.plan.outside())
        master = self._follow_setup()
        if self.engine:
            self.engine.await_ready()
        container.directory.rename(CREATING_SOCKET, START_SOCKET)
        receiver = request.pidfd_socket or self.plan.annotations.get("run.oci.pidfd_receiver")
        if receiver:
            console.send_pidfd(receiver, self.pidfd, b"standard")
        if request.pid_file:
            proc.write_pid_file(request.pid_file, self.pid)
            self.undo_stack.append(lambda: os.unlink(request.pid_file))
        signals.block(signals.ENDING)  # until the caller can undo the creation
        self.undo_stack.clear()
        close_at_last(*self.held)  # the container is created, so errors from here on must not undo it
        return Created(container, self.pidfd, master, self.engine)

    def enter_resctrl_group(self, step: EnterResctrlGroup) -> None:
        """Put init into its resctrl groups (steps/outside.py)."""
        from rootless.outside import resctrl

        groups = resctrl.apply_intel_rdt(step, self.container.container_id, self.pid, step.mount)
        self.container.state["intel_rdt"] = groups
        self.undo_stack.append(lambda: resctrl.remove_intel_rdt(groups))

    def move_net_devices(self, step: MoveNetDevices) -> None:
        """Move network devices of the host into init's network namespace (steps/outside.py)."""
        from rootless.outside import net_devices

        # Keep the namespace open. It would otherwise end with init, and its virtual devices with it, before the undo
        # function moves them back.
        netns = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.held.append(netns)
        moved = net_devices.apply_net_devices(step.devices, netns)
        self.undo_stack.append(lambda: net_devices.undo_net_devices(moved, netns))

    def connect_network(self, step: ConnectNetwork) -> None:
        """Start the engine; it becomes ready while init sets up its mounts (steps/network.py)."""
        from rootless.outside.engine import Engine
        from rootless.runtime.helpers import note_helper

        directory = self.container.directory
        self.engine = engine = Engine(step, directory.fd, foreground=not self.request.detached)
        self.undo_stack.append(engine.end)
        has_userns = bool(self.plan.namespaces.has(sc.CLONE_NEWUSER))
        engine.start(
            self.pid,
            is_root=self.host.is_root_here,
            has_userns=has_userns,
            note=lambda pid, started: note_helper(directory, step.engine, pid, started),
        )

    def _follow_setup(self) -> int:
        """Exchange the set-up messages with init. Return the terminal's master, -1 for none or a passed-on one."""
        request, plan, container, sync = self.request, self.plan, self.container, self.sync
        master = -1
        try:
            if plan.hands_over_cgroup():
                from rootless.cgroup import ownership

                group = container.cgroup()
                ownership.hand_over(group, self.pid, plan.process.user.uid, self.host)
                group.close()
            channel.send(sync, channel.MAPPED, b"1" if self.prepared.setgroups else b"0")
            # Note init and save the state while init sets up its mounts. `delete --force` finds init only after that,
            # so init waits for SAVED. If the runtime is killed earlier, init sees the end of the socket and ends.
            container.state["start_time"] = proc.start_time(self.pid)
            container.directory.note_init(self.pid, container.state["start_time"])
            container.save()
            try:
                channel.send(sync, channel.SAVED)
            except BrokenPipeError:
                pass  # init has exited; its error message is still in the socket and is read next
            if self.meanwhile:
                self.meanwhile(container)
            if plan.process.terminal:
                master = console.receive_master(sync, request.console_socket)
            if plan.waits_for_runtime:
                from rootless.runtime.hooks import run_hooks

                channel.receive(sync, channel.MOUNTED)
                # config.md#prestart: "after the runtime environment has been created"; so these hooks get `created`.
                for moment, status in (("prestart", "created"), ("createRuntime", "creating")):
                    run_hooks(plan.hooks, moment, HookContext(container.report(status), status), self._tell)
                channel.send(sync, channel.HOOKED)
            channel.receive(sync, channel.CREATED)
            log.debug("init: closing the pipe to signal completion")  # for runc's debug.bats, see clone_init
        except (EOFError, ConnectionResetError, BrokenPipeError):
            raise _init_died_error(container, self.pid) from None
        finally:
            sync.close()
        return master


def note_planned_cgroup(directory: StateDir, group: Cgroup) -> None:
    """Note in the state directory which directories the cgroup driver will make."""
    if group.path:
        directory.note_cgroup(group.path, group.missing())


def note_made_cgroup(directory: StateDir, group: Cgroup) -> None:
    """Note in the state directory which cgroup the driver has made."""
    if group.path:
        directory.note_cgroup(group.path, len(group.record["created"]), group.record["inode"])
        for path in group.record["created"]:
            try:  # `doctor --clean` finds the cgroup by this if the state directory is lost
                os.setxattr(path, "user.rootless", os.fsencode(f"{directory.root}/{directory.container_id}"))
            except OSError:
                pass  # before Linux 5.7, or systemd's
    else:
        directory.unlink("cgroup.planned")


def first_state(request: CreateRequest, plan: Plan, record: Record) -> State:
    """Return the state of a container whose init does not exist yet."""
    state: State = {
        "ociVersion": request.spec["ociVersion"],
        "id": request.container_id,
        "pid": 0,
        "start_time": 0,
        "bundle": request.bundle,
        "rootfs": plan.rootfs,
        "annotations": plan.annotations,
        "cgroup": record,
        "hooks": list(plan.hooks),
        "created": log.rfc3339(time.time()),
    }
    if request.no_new_keyring:
        state["no_new_keyring"] = True
    if not plan.namespaces.new & sc.CLONE_NEWPID:
        state["shared_pids"] = True
    if not request.spec.get("process"):
        state["without_process"] = True
    if request.notify:
        state["notify"] = True
    if request.timeout and not request.starts:
        state["time_limit"] = request.timeout
    if plan.emulation:
        state["root_emulation"] = plan.emulation.mode
    if plan.filter and plan.filter.profile["notify"]:
        state["listener"] = [plan.filter.profile["listener_path"], plan.filter.profile["metadata"]]
    return state


def _passed_sockets(listen_fds: int) -> int:
    """Return how many of the promised LISTEN_FDS are open and inheritable, from fd 3 on (sd_listen_fds(3))."""
    passed = 0
    try:
        while passed < listen_fds and os.get_inheritable(3 + passed):
            passed += 1
    except OSError:
        pass  # fewer than promised; the program has to deal with that
    return passed


def _listen(directory: StateDir) -> socket:
    """Return the start socket, bound to its name until the container is created. Raises OSError."""
    listener = sockets.create(SOCK_SEQPACKET)
    listener.bind(sockets.address_at(directory.fd, CREATING_SOCKET))
    listener.listen(1)
    return listener


def _name_memory_limit(error: RootlessError, record: Record) -> None:
    """Name the memory limit in the error's hint if it is the reason.

    The error alone does not show it: a killed process can cause any error. Under a very small limit a system call fails
    before a process is killed, because the kernel's memory counts, too.
    """
    if not any(entry[0] == "memory.max" for entry in record["files"]):
        return
    from rootless.cgroup import oom

    limit = oom.memory_limit(record)
    if kills := cgroup.open(record).oom_kills() if record["path"] else 0:
        error.hint = oom.describe(kills, limit)
    elif error.errno == errno.ENOMEM:
        error.hint = oom.too_small(limit)


def _init_died_error(container: Container, pid: int) -> RootlessError:
    """Return the error for an init that ended without a message: how it ended, and whether memory was the reason."""
    hint = container.oom_hint()  # first of all, because systemd removes the cgroup of a scope without processes
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    how = f"signal {-code}" if code < 0 else f"exit status {code}"
    if code == -9 and not hint and container.cgroup_path and not os.path.isdir(container.cgroup_path):
        from rootless.cgroup import oom  # systemd has removed the cgroup, and with it the count of OOM kills

        hint = oom.probable(oom.memory_limit(container.cgroup_record))
    return RootlessError(f"the container's init ended during set-up: {how}", hint=hint)
