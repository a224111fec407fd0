"""Run the container's init: execute the plan's steps, wait for `start`, and become the user's program.

Init is a clone of the runtime (clone3(2)). All modules that it needs are imported before the clone, because after
pivot_root an import would load a file of the container. The plan has made all decisions; init only executes them.
"""

from __future__ import annotations

import errno
import time
from _signal import SIG_SETMASK, pthread_sigmask, signal  # type: ignore[import-not-found]

from rootless.kernel import channel
from rootless.kernel import syscalls as sc
from rootless.kernel.host import read_id_map, read_setgroups
from rootless.kernel.loopback import loopback_up
from rootless.kernel.signals import ENDING
from rootless.process import attributes, console, program
from rootless.process.hooks import HookContext
from rootless.startup import lean_os as os
from rootless.steps import Step, StepFailed, execute
from rootless.steps.context import Becoming, Ending
from rootless.steps.namespaces import make_cgroup_namespace
from rootless.steps.program import StepSender, run_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Any

    from rootless.plan.compiler import Plan
    from rootless.plan.describe import Numbering
    from rootless.steps.context import Init, Prepared


def main(plan: Plan, init: Init, leave_runtime: Callable[[], None], numbering: Numbering | None) -> None:
    """Do all of init's work up to execve. Return or raise only after a failure; kernel/child.py then ends the process.

    leave_runtime: closes the descriptors that only the runtime needs; numbering: the numbers of the plan's steps, None
    without --debug.
    """
    tell = StepSender(init.sync, numbering.lines) if numbering else None
    place = ("init", "")
    sc.name_process(b"rootless:init")
    try:
        pthread_sigmask(SIG_SETMASK, [])  # the clone has the mask of the runtime, which blocks some
        leave_runtime()
        _die_with_runtime(init)
        os.umask(0)
        os.setsid()
        if plan.namespaces.new & sc.CLONE_NEWNET:
            place = ("set lo up", "/linux/namespaces")
            loopback_up()  # init has all capabilities at once, so this can run while the runtime writes the maps
        place = ("init", "")
        _, setgroups, _ = channel.receive(init.sync, channel.MAPPED)
        init.prepared.setgroups = setgroups == b"1"
        if plan.namespaces.joins:
            sc.prctl(sc.PR_SET_DUMPABLE, 0)  # other processes in the joined namespaces could trace init: ptrace(2)
        place = ("become root in the container", "/linux/uidMappings")
        _become_root(init)
        _die_with_runtime(init)
        if plan.namespaces.new & sc.CLONE_NEWCGROUP:
            make_cgroup_namespace()
        execute(plan.prepare, init, tell)
        place = ("init", "")
        _await_runtime(plan, init)
        os.fchdir(init.root.fd)  # relative paths of hooks start here, like with runc
        execute(plan.hooks.get("createContainer", ()), HookContext(init.prepared.state, "creating"), tell)
        execute(plan.enter, init, tell)
        program.forget_imports()
        place = ("process", "/process")
        context = _become_user(plan, init, tell)
        place = ("args", "/process/args")
        path = _look_up_program(plan, init, context)
        # The kernel drops a signal to pid 1 of a pid namespace if pid 1 has no handler for it: pid_namespaces(7).
        for signum in ENDING:
            signal(signum, _leave)
    except StepFailed as failed:
        channel.send_failure(init.sync, failed.error, failed.step.words()[0], failed.step.pointer)
        return
    except BaseException as error:
        channel.send_failure(init.sync, error, *place)
        return
    _wait_for_start(plan, init, context, path, numbering)


def _await_runtime(plan: Plan, init: Init) -> None:
    """Wait until the runtime has saved the state and, if there are any, until its hooks have ended."""
    channel.receive(init.sync, channel.SAVED)
    if plan.waits_for_runtime:
        channel.send(init.sync, channel.MOUNTED)
        channel.receive(init.sync, channel.HOOKED)


def _look_up_program(plan: Plan, init: Init, context: Becoming) -> str:
    """Return the program's path as its user sees it, "" without args, and check the working directory."""
    args, options = plan.process.args, init.prepared.options
    if options:
        path = options.look_up(context)
    else:
        path = program.look_up(args[0], context.env, context.left_groups) if args else ""
    program.check_cwd()
    return path


def _die_with_runtime(init: Init) -> None:
    if init.prepared.foreground:
        attributes.die_with_parent()


def _become_root(init: Init) -> None:
    """Become root of the user namespace if it maps id 0. Without root, the capabilities of init are enough."""
    namespaces = init.namespaces
    if namespaces.joins_one(sc.CLONE_NEWUSER):
        _become_root_of_joined(init)
        return
    if not namespaces.uid_map:
        return
    attributes.become_root(namespaces.uid_map, namespaces.gid_map)


def _become_root_of_joined(init: Init) -> None:
    """Become root in a joined user namespace, whose maps another process has written."""
    own = f"/proc/self/fd/{init.prepared.proc_fd}/self"
    init.prepared.setgroups = read_setgroups(f"{own}/setgroups")
    init.gids = read_id_map(f"{own}/gid_map")
    sc.prctl(sc.PR_SET_KEEPCAPS, 1)
    for become in (sc.setresgid, sc.setresuid):
        try:
            become(0)
        except OSError as error:
            if error.errno != errno.EINVAL:  # 0 is not mapped
                raise


def _become_user(plan: Plan, init: Init, tell: StepSender | None) -> Becoming:
    """Set all attributes of config.json's `process` but the seccomp filter. Return what the last steps need to know."""
    prepared = init.prepared
    if init.console >= 0:
        console.take_over(init.console)
    if prepared.keyring:
        attributes.join_keyring(prepared.keyring)
    context = Becoming(
        prepared.proc_fd, prepared.last_cap, list(plan.process.env), setgroups=prepared.setgroups,
        filtered=bool(plan.filter or plan.emulation), guarded=True, lends=plan.namespaces.has(sc.CLONE_NEWUSER),
    )  # fmt: skip
    context.oom_score_written = prepared.oom_score_written
    attributes.make_null_writable(prepared.proc_fd)
    execute(plan.process.through_proc(), context, tell)
    # From here on init looks up paths in the container, and a link to /proc/self/fd must not reach a directory of the
    # host (CVE-2024-21626). Only the sockets, and the descriptors that the caller passes on, stay open.
    kept = [fd for fd in (prepared.notify_fd, prepared.status_fd) if fd >= 0]
    ours = [init.sync.fileno(), prepared.listener.fileno(), *kept]
    program.close_all_but([*ours, *prepared.hook_fds.values(), *program.passed_on(prepared.preserve_fds)])
    execute(plan.process.steps(), context, tell)
    _die_with_runtime(init)
    # Hooks and clients open /proc/PID/ns/* of a created container, which takes a dumpable process (proc(5)). If the
    # container shares its pid namespace, other processes could trace a dumpable init (ptrace(2)), so it is not.
    # Where the container has the caller's user namespace, its root owns the directory of a process that is not
    # dumpable, and passes: pasta has CAP_SYS_PTRACE there, but no capability to read a directory of the container's
    # user.
    others_read = plan.namespaces.has(sc.CLONE_NEWUSER) or not plan.process.user.uid
    sc.prctl(sc.PR_SET_DUMPABLE, 1 if plan.namespaces.new & sc.CLONE_NEWPID and others_read else 0)
    return context


def _leave(signum: int, _frame: Any) -> None:
    os._exit(128 + signum)


def _say_nothing(_line: str) -> None:
    """Discard a line, because --debug was not given."""


def _accept(listener: socket) -> int:
    """Return the connection of whoever starts the container, as a descriptor.

    accept(2) takes a descriptor before it waits. `create` has succeeded by then, so init must not end when descriptors
    or memory are short: it tries again.
    """
    while True:
        try:
            return int(listener._accept()[0])  # type: ignore[attr-defined]
        except OSError:
            time.sleep(0.1)


def _wait_for_start(plan: Plan, init: Init, context: Becoming, path: str, numbering: Numbering | None) -> None:
    """Wait for a connection to the start socket, then run the program. Return or raise only after a failure."""
    prepared = init.prepared
    try:
        channel.send(init.sync, channel.CREATED)
    except OSError:  # the runtime was killed, perhaps before `die_with_parent` took effect
        return
    # From here on `create` has succeeded, so errors go to `start`.
    try:
        init.sync.close()
    except OSError:
        pass  # the descriptor is closed even after an error: close(2)
    verdict = type(prepared.listener)(fileno=_accept(prepared.listener))
    try:
        if prepared.notify_fd >= 0:
            channel.send(verdict, channel.NOTIFY, fds=(prepared.notify_fd,))
            os.close(prepared.notify_fd)
        _, debugging, _ = channel.receive(verdict, channel.RUN)
        tell = StepSender(verdict, numbering.lines if numbering else Step.lines) if debugging == b"1" else None
        hooks = plan.hooks.get("startContainer", ())
        hook_context = HookContext(prepared.state, "created", context.env, tell.say if tell else _say_nothing)
        hook_context.streams = prepared.hook_fds
        execute(hooks, hook_context, tell)
        labelled = plan.process.no_new_privs and any(kind == "SELinux" for kind, _ in plan.process.labels)
        if prepared.reaper:
            _stay_as_reaper(plan, prepared)
        ending = Ending(verdict, path, context.env, prepared.filter, prepared.preserve_fds, labelled=labelled)
        ending.options = prepared.options
        ending.emulation = prepared.emulation
        run_program(plan.last(), ending, tell)
    except StepFailed as failed:
        channel.send_failure(verdict, failed.error, failed.step.words()[0], failed.step.pointer)
    except BaseException as error:
        channel.send_failure(verdict, error, "start", "/process/args")


def _stay_as_reaper(plan: Plan, prepared: Prepared) -> None:
    """Continue in a child of this process, which itself becomes the small init (reaper.py)."""
    from rootless.init import reaper

    reaper.hide_arguments(prepared.arguments)
    before = reaper.block_all()
    pid, _ = sc.clone3(0)
    if pid:
        reaper.shut_out(plan.process.caps)
        reaper.reap(pid, prepared.status_fd)
    pthread_sigmask(SIG_SETMASK, before)
