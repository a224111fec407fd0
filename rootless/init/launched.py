"""Run a process that the API's launcher has cloned: set a container up and become the caller's program.

There is no state directory and no start socket. Errors go to the caller's own socket, not through the launcher.
"""

from __future__ import annotations

import errno
import select
from _signal import SIG_SETMASK, pthread_sigmask  # type: ignore[import-not-found]

from rootless.errors import RootlessError
from rootless.init import reaper
from rootless.kernel import channel, sockets
from rootless.kernel import syscalls as sc
from rootless.kernel.files import write_at
from rootless.kernel.loopback import loopback_up
from rootless.process import attributes, program
from rootless.process.child_options import ChildOptions
from rootless.startup import lean_os as os
from rootless.steps import StepFailed, execute
from rootless.steps.context import Becoming, Init
from rootless.steps.namespaces import make_cgroup_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from rootless.kernel.recording import Recording
    from rootless.plan.compiler import Plan
    from rootless.steps.context import Prepared
    from rootless.steps.process import Process


class Call:
    """Hold the arguments of one call, with the names of the subprocess module.

    options: the file to execute, environment, working directory, session, process group and signals; streams:
    descriptors for 0, 1 and 2, -1 for a closed one; passed: (descriptor, number in the program) of each of pass_fds;
    pid1: whether the program itself is pid 1.
    """

    __slots__ = ("args", "options", "passed", "pid1", "streams", "umask")

    def __init__(
        self, args: list[bytes], executable: bytes, env: list[bytes] | None, cwd: bytes, umask: int,
        restore: bool, session: bool, group: int, pid1: bool,
    ) -> None:  # fmt: skip
        self.args = args
        self.umask = umask
        self.options = ChildOptions(
            os.fsdecode(executable), None if env is None else [os.fsdecode(entry) for entry in env], os.fsdecode(cwd),
            restore=restore, session=session, group=group,
        )  # fmt: skip
        self.pid1 = pid1
        self.streams: list[int] = [-1, -1, -1]
        self.passed: list[tuple[int, int]] = []


class Life:
    """Hold what the launcher passes to a process that it clones.

    verdict: to the caller, closed by execve; status_fd: to the caller, for the program's wait status; launcher: a pidfd
    of the launcher; call: None for a container that waits until its call comes over `verdict`; sync: where the launcher
    says MAPPED, None if init writes the id maps itself; keeps_ids: whether the root of the container is the user and
    group that this process is already; spawns: whether the small init, after it has set the container up, starts the
    program by posix_spawn(3); answers: of a spare, the socket on which its caller is to wait for the program's
    wait status, else -1; small_init: the fd of the program that this process executes as its last act, because it
    shares the launcher's memory, else -1; recordings: of the calls of `_set_up` and of `_take_attributes`, None for
    none; begun: whether the program may have begun; differs: whether the kernel has given another answer than the
    recorded one, so that there is no container; place: (what is being done, pointer into config.json) for an error.
    """

    __slots__ = (
        "answers",
        "begun",
        "call",
        "differs",
        "keeps_ids",
        "launcher",
        "place",
        "plan",
        "prepared",
        "recordings",
        "small_init",
        "spawns",
        "status_fd",
        "sync",
        "verdict",
    )

    def __init__(
        self, plan: Plan, prepared: Prepared, verdict: socket, status_fd: int, launcher: int, call: Call | None,
        sync: socket | None, *, keeps_ids: bool,
        spawns: bool, answers: int = -1, small_init: int = -1, recordings: tuple[Recording, Recording] | None = None,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.prepared = prepared
        self.verdict = verdict
        self.status_fd = status_fd
        self.launcher = launcher
        self.call = call
        self.sync = sync
        self.keeps_ids = keeps_ids
        self.spawns = spawns
        self.answers = answers
        self.small_init = small_init
        self.recordings = recordings
        self.begun = False
        self.differs = False
        self.place = ("init", "")


def main(life: Life, waiting: Waiting | None = None) -> None:
    """Set the container up and run the program. Return or raise only after a failure (kernel/child.py)."""
    call = life.call
    sc.name_process(b"rootless:init")
    try:
        pthread_sigmask(SIG_SETMASK, [])
        _leave_launcher(life)
        below = not (call and call.pid1)
        if below:
            reaper.hide_arguments(life.prepared.arguments)
        # Of two copies, each page that a process writes to costs a page fault. So the small init leaves as early as it
        # can: before the id maps, unless it has to change its own ids with them.
        early = below and life.keeps_ids and not life.spawns
        if early:
            _fork_below_reaper(life)
        if call:
            _take_streams(call.streams)
        _become_root(life)
        if not early:
            _die_with(life.launcher)
            if below and not life.spawns:
                _fork_below_reaper(life)
        _change_root(life)
        context = _become_user(life)
        if context.stays and life.prepared.filter:
            # The longest step is done before a warm container waits for its call.
            life.prepared.filter(life.verdict)
        if call is None:
            assert waiting is not None
            call = waiting(life)
            _take_streams(call.streams)
        life.place = ("exec", "/process/args")
        if context.stays:
            program.restore_handlers()
            reaper.reap(_spawn_program(life, call, context), life.status_fd)
        else:
            _become_program(life, call, context)
    except EOFError:
        return  # the caller is gone
    except BaseException as error:
        # A spare that cannot be set up says nothing. If its call has come meanwhile, the caller asks again. It gets a
        # container that may make mount points in the rootfs, and tells its own error if it fails.
        if call or life.answers < 0:
            _report(life, error)


def start_program(life: Life, call: Call) -> list[bytes] | None:
    """Set the container up in the launcher's own memory and start the program (api/workers.py).

    Return the environment with which this process then has to execute the small init (small_init.py), None after a
    failure. All signals are blocked and have no handlers. Nothing that outlives this call may be changed, because this
    process shares it with the launcher.
    """
    from rootless.init import small_init  # it is loaded already

    sc.name_process(b"rootless:init")
    try:
        _die_with(life.launcher)
        _take_streams(call.streams)
        if life.recordings:
            life.recordings[0].run(lambda: _set_up(life))
        else:
            _set_up(life)
        _die_with(life.launcher)
        context = _become_user(life)
        if life.prepared.filter:
            life.prepared.filter(life.verdict)
        life.place = ("exec", "/process/args")
        pid = _spawn_program(life, call, context)
        # The small init needs no capability, because the program has the same user. Without no_new_privs execve(2)
        # would give root all of them (capabilities(7)).
        sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
        sc.capset(0, 0, 0)
        small_init.take_fds(life.status_fd, life.launcher)
        return [b"%d" % pid]
    except EOFError:
        return None  # the launcher is gone
    except BaseException as error:
        life.differs = _differs(life, error)
        if not life.differs:
            _report(life, error)
        return None


def _differs(life: Life, error: BaseException) -> bool:
    if not life.recordings:
        return False
    from rootless.kernel.recording import Differs  # the worker has loaded it

    return isinstance(error, Differs)


def _leave_launcher(life: Life) -> None:
    """Enter a session and a cgroup namespace of this process's own."""
    os.setsid()
    if life.plan.namespaces.new & sc.CLONE_NEWCGROUP:
        make_cgroup_namespace()


def _set_up(life: Life) -> None:
    """Do what is the same for each container of a plan, because it can be recorded (kernel/recording.py)."""
    _leave_launcher(life)
    _become_root(life)
    attributes.die_with_parent()  # the change of ids has undone it
    _change_root(life)


def _change_root(life: Life) -> None:
    """Make the container's root and enter it."""
    plan = life.plan
    init = Init(life.prepared, plan.namespaces, life.verdict)
    init.keeps_rootfs = life.answers >= 0
    execute(plan.prepare, init, None)
    life.place = ("init", "")
    init.root.open_for_writing()
    os.fchdir(init.root.fd)
    execute(plan.enter, init, None)


if TYPE_CHECKING:
    from collections.abc import Callable

    Waiting = Callable[[Life], Call]  # receives the call of a warm container


def _report(life: Life, error: BaseException) -> None:
    """Send a failure to the caller."""
    what, pointer = life.place
    if isinstance(error, StepFailed):
        what, pointer = error.step.words()[0], error.step.pointer
        error = error.error
    channel.send_failure(life.verdict, error, what, pointer)


def _take_streams(streams: list[int]) -> None:
    """Put the caller's streams on 0, 1 and 2, where the launcher has the null device, and close their copies."""
    for number, fd in enumerate(streams):
        if fd >= 0:
            os.dup2(fd, number)
        else:
            os.close(number)
    for fd in set(streams) - {-1}:
        os.close(fd)


def _die_with(launcher: int) -> None:
    """End with the launcher (PR_SET_PDEATHSIG(2const)). Raises EOFError if it has ended before this call."""
    attributes.die_with_parent()
    poller = select.poll()
    poller.register(launcher, select.POLLIN)
    if poller.poll(0):
        raise EOFError


def _become_root(life: Life) -> None:
    """Become root of the new namespaces.

    Write the id maps, or wait until the launcher has written them if they hold more than the user's own id.
    """
    namespaces, prepared = life.plan.namespaces, life.prepared
    os.umask(0)
    if namespaces.new & sc.CLONE_NEWNET:
        life.place = ("set lo up", "/linux/namespaces")
        loopback_up()
    life.place = ("become root in the container", "/linux/uidMappings")
    if not namespaces.uid_map:
        return
    if life.sync:
        _, setgroups, _ = channel.receive(life.sync, channel.MAPPED)
        prepared.setgroups = setgroups == b"1"
    else:
        prepared.setgroups = False
        write_at(prepared.proc_fd, "self/setgroups", b"deny")
        for name, id_map in (("self/gid_map", namespaces.gid_map), ("self/uid_map", namespaces.uid_map)):
            write_at(prepared.proc_fd, name, "".join(f"{a} {b} {c}\n" for a, b, c in id_map).encode())
    attributes.become_root(namespaces.uid_map, namespaces.gid_map)


def _fork_below_reaper(life: Life) -> None:
    """Continue in a child of this process, which itself becomes the small init."""
    before = reaper.block_all()
    pid, _ = sc.clone3(0)
    if pid:
        reaper.shut_out(life.plan.process.caps)
        reaper.reap(pid, life.status_fd)
    pthread_sigmask(SIG_SETMASK, before)


def _become_user(life: Life) -> Becoming:
    """Set all attributes of config.json's `process` but the seccomp filter. Return what the last steps need to know."""
    program.forget_imports()
    life.place = ("process", "/process")
    plan, prepared = life.plan, life.prepared
    attributes.join_keyring(prepared.keyring or attributes.keyring_of(prepared.proc_fd, "self"))
    context = Becoming(
        prepared.proc_fd, prepared.last_cap, list(plan.process.env), setgroups=prepared.setgroups,
        filtered=bool(plan.filter), lends=plan.namespaces.has(sc.CLONE_NEWUSER),
        stays=life.spawns and not (life.call and life.call.pid1),
    )  # fmt: skip
    context.oom_score_written = prepared.oom_score_written
    execute(plan.process.through_proc(), context, None)
    # From here on paths of the container are looked up, so no directory of the host may be open (CVE-2024-21626).
    passed = [fd for fd, _ in life.call.passed] if life.call else []
    pid1 = bool(life.call and life.call.pid1)
    waits = [life.status_fd] if context.stays else []
    if life.small_init >= 0:
        waits += [life.launcher, life.small_init]
    if not life.call:
        waits.append(life.answers)
    program.close_all_but(fd for fd in (life.verdict.fileno(), *passed, *waits) if fd >= 0)
    if life.recordings:
        context.env[:] = life.recordings[1].run(lambda: _take_attributes(plan.process, context))
    else:
        _take_attributes(plan.process, context)
    if pid1:
        attributes.die_with_parent()
    if context.stays and life.small_init < 0:
        reaper.shut_out(plan.process.caps)
    else:
        sc.prctl(sc.PR_SET_DUMPABLE, 0)
    return context


def _take_attributes(process: Process, context: Becoming) -> list[str]:
    """Take what makes this process the program's; return a copy of the environment."""
    execute(process.steps(), context, None)
    return context.env[:]


def _look_up(life: Life, call: Call, context: Becoming) -> tuple[bytes, dict[bytes, bytes]]:
    """Apply the call's working directory, environment and umask. Return the program's path and its environment."""
    path = os.fsencode(call.options.look_up(context))
    program.check_cwd()
    if call.umask >= 0:
        os.umask(call.umask)
    return path, dict(os.fsencode(entry).split(b"=", 1) for entry in context.env)


def _become_program(life: Life, call: Call, context: Becoming) -> None:
    """Apply the call's arguments, send EXECUTING with a pidfd of this process, and execute the program."""
    path, environment = _look_up(life, call, context)
    verdict = _place_passed(life, call)
    program.restore_signals()
    call.options.apply()
    own = os.pidfd_open(os.getpid())
    mine = (own,) if life.answers < 0 else (own, life.answers)
    channel.send(verdict, channel.EXECUTING, fds=mine)
    for fd in mine:
        os.close(fd)
    if life.prepared.filter:
        life.prepared.filter(verdict)
    try:
        os.execve(path, call.args, environment)
    except OSError as error:
        channel.send_failure(verdict, _exec_error(path, error), "exec", "/process/args")


def _exec_error(path: bytes, error: OSError) -> RootlessError:
    name = os.fsdecode(path)
    hint = program.exec_hint(name, error, labelled=False)
    return RootlessError(f"exec {name}", "/process/args/0", error.errno or 0, hint)


def _spawn_program(life: Life, call: Call, context: Becoming) -> int:
    """Start the program as a child of this process, and return its pid. Raises RootlessError and OSError.

    posix_spawn(3) copies no memory, so this is faster than a fork and an execve. The child has the attributes of this
    process but its permitted capabilities, which execve takes from the bounding set (api/plans.py, can_spawn).
    """
    path, environment = _look_up(life, call, context)
    first = max((number for _, number in call.passed), default=0) + 1  # no number is another's source then
    passed = [(program.move_up(fd, first), number) for fd, number in call.passed]
    if life.small_init < 0:  # else the worker has blocked them
        reaper.block_all()
    call.options.ignore_signals()
    life.begun = True
    try:
        pid = os.posix_spawn(
            path, call.args, environment, file_actions=[(os.POSIX_SPAWN_DUP2, *each) for each in passed],
            setsigmask=[], **call.options.for_spawn(),
        )  # fmt: skip
    except OSError as error:
        if error.errno == errno.EPERM and call.options.group > 0:
            raise call.options.group_error(error) from None
        raise _exec_error(path, error) from None
    _, permitted, inheritable = sc.capget()
    # With CAP_SYS_ADMIN a process may name another one as the sender of a message (unix(7), SCM_CREDENTIALS).
    sc.capset(permitted, permitted, inheritable)
    program_fd = os.pidfd_open(pid)
    mine = (program_fd,) if life.answers < 0 else (program_fd, life.answers)
    sockets.send_fds(life.verdict, channel.STARTED, mine, sender=pid)
    return pid


def _place_passed(life: Life, call: Call) -> socket:
    """Give each of pass_fds its number, after moving the descriptors of this process out of the way."""
    verdict = life.verdict
    if not call.passed:
        program.close_all_but(fd for fd in (verdict.fileno(), life.answers) if fd >= 0)
        return verdict
    first = max(number for _, number in call.passed) + 1
    moved = type(verdict)(fileno=program.move_up(verdict.fileno(), first))
    if life.answers >= 0:
        life.answers = program.move_up(life.answers, first)
    copies = [(program.move_up(fd, first), number) for fd, number in call.passed]
    verdict.detach()  # its number may belong to the program now
    for copy, number in copies:
        os.dup2(copy, number)
    ours = [fd for fd in (moved.fileno(), life.answers) if fd >= 0]
    program.close_all_but([*ours, *(number for _, number in copies)])
    return moved
