"""The container's init: it walks the plan's steps, waits for `start`, and becomes the user's program.

It begins in a raw clone of the runtime. Everything it needs is imported before the clone, because a module imported
after the change of roots would come from the container. No decision is left here.
"""

from __future__ import annotations

import errno
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
from rootless.steps.program import StepSender, run_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.plan.compiler import Plan
    from rootless.plan.describe import Numbering
    from rootless.steps.context import Init


def main(plan: Plan, init: Init, leave_runtime: Callable[[], None], numbering: Numbering | None) -> None:
    """Live init's whole life up to execve. Return, or raise, only where it is over (kernel/child.py).

    leave_runtime: gives up what only the runtime needs; numbering: None without --debug.
    """
    tell = StepSender(init.sync, numbering.lines) if numbering else None
    place = ("init", "")
    try:
        pthread_sigmask(SIG_SETMASK, [])  # the runtime blocks some
        leave_runtime()
        _die_with_runtime(init)
        os.umask(0)
        os.setsid()
        if plan.namespaces.new & sc.CLONE_NEWNET:
            place = ("set lo up", "/linux/namespaces")
            loopback_up()  # while the runtime writes the maps: the capabilities are there from the beginning
        place = ("init", "")
        _, setgroups, _ = channel.receive(init.sync, channel.MAPPED)
        init.prepared.setgroups = setgroups == b"1"
        if plan.namespaces.joins:
            sc.prctl(sc.PR_SET_DUMPABLE, 0)  # others are in there already: ptrace(2)
        place = ("become root in the container", "/linux/uidMappings")
        _become_root(init)
        _die_with_runtime(init)
        if plan.namespaces.new & sc.CLONE_NEWCGROUP:
            sc.unshare(sc.CLONE_NEWCGROUP)
        execute(plan.prepare, init, tell)
        place = ("init", "")
        channel.receive(init.sync, channel.SAVED)
        if plan.waits_for_runtime:
            channel.send(init.sync, channel.MOUNTED)
            channel.receive(init.sync, channel.HOOKED)
        os.fchdir(init.root.fd)  # as with runc: where the hooks' relative paths lead
        execute(plan.hooks.get("createContainer", ()), HookContext(init.prepared.state, "creating"), tell)
        execute(plan.enter, init, tell)
        program.forget_imports()
        place = ("process", "/process")
        context = _become_user(plan, init, tell)
        place = ("args", "/process/args")
        args = plan.process.args
        path = program.look_up(args[0], context.env, context.left_groups) if args else ""
        program.check_cwd()
        # The first process of a pid namespace gets no signal that it has no handler for: pid_namespaces(7).
        for signum in ENDING:
            signal(signum, _leave)
    except StepFailed as failed:
        channel.send_failure(init.sync, failed.error, failed.step.words()[0], failed.step.pointer)
        return
    except BaseException as error:
        channel.send_failure(init.sync, error, *place)
        return
    _wait_for_start(plan, init, context, path, numbering)


def _die_with_runtime(init: Init) -> None:
    if init.prepared.foreground:
        attributes.die_with_parent()


def _become_root(init: Init) -> None:
    """Become root of the user namespace where 0 is mapped; else the capabilities serve with the ids as they are."""
    namespaces = init.namespaces
    if namespaces.joins_one(sc.CLONE_NEWUSER):
        _become_root_of_joined(init)
        return
    if not namespaces.uid_map:
        return
    if any(first == 0 for first, _, _ in namespaces.gid_map):
        sc.setresgid(0)
    if any(first == 0 for first, _, _ in namespaces.uid_map):
        sc.prctl(sc.PR_SET_KEEPCAPS, 1)
        sc.setresuid(0)


def _become_root_of_joined(init: Init) -> None:
    """Do the same in a user namespace that somebody else has mapped."""
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
    """Become what config.json's `process` asks for, but for the filter. Return what was learned on the way."""
    prepared = init.prepared
    if init.console >= 0:
        console.take_over(init.console)
    if prepared.keyring:
        attributes.join_keyring(prepared.keyring)
    context = Becoming(
        prepared.proc_fd, prepared.last_cap, list(plan.process.env), setgroups=prepared.setgroups,
        filtered=bool(plan.filter), guarded=True,
    )  # fmt: skip
    context.oom_score_written = prepared.oom_score_written
    attributes.make_null_writable(prepared.proc_fd)
    execute(plan.process.through_proc(), context, tell)
    # What follows looks up paths in the container: only the sockets and what the caller passes on stay open.
    ours = [init.sync.fileno(), prepared.listener.fileno(), *([prepared.notify_fd] if prepared.notify_fd >= 0 else [])]
    program.close_all_but([*ours, *program.passed_on(prepared.preserve_fds)])
    execute(plan.process.steps(), context, tell)
    _die_with_runtime(init)
    # Hooks and clients open /proc/PID/ns/* of a created container. Where others share the pid namespace they might
    # trace it (ptrace(2), PTRACE_MODE): there it stays closed until execve.
    sc.prctl(sc.PR_SET_DUMPABLE, 1 if plan.namespaces.new & sc.CLONE_NEWPID else 0)
    return context


def _leave(signum: int, _frame: Any) -> None:
    os._exit(128 + signum)


def _say_nothing(_line: str) -> None:
    """Take a line that nobody has asked for."""


def _wait_for_start(plan: Plan, init: Init, context: Becoming, path: str, numbering: Numbering | None) -> None:
    """Wait at the start socket, then run the program. Return or raise only where that failed."""
    prepared = init.prepared
    try:
        channel.send(init.sync, channel.CREATED)
    except OSError:  # the runtime was killed, maybe before `die_with_parent`
        return
    # From here on `create` has succeeded.
    try:
        init.sync.close()
    except OSError:
        pass  # it is closed all the same: close(2)
    fd, _ = prepared.listener._accept()  # type: ignore[attr-defined]
    verdict = type(prepared.listener)(fileno=fd)
    try:
        if prepared.notify_fd >= 0:
            channel.send(verdict, channel.NOTIFY, fds=(prepared.notify_fd,))
            os.close(prepared.notify_fd)
        _, debugging, _ = channel.receive(verdict, channel.RUN)
        tell = StepSender(verdict, numbering.lines if numbering else Step.lines) if debugging == b"1" else None
        hooks = plan.hooks.get("startContainer", ())
        say = tell.say if tell else _say_nothing
        execute(hooks, HookContext(prepared.state, "created", context.env, say), tell)
        labelled = plan.process.no_new_privs and any(kind == "SELinux" for kind, _ in plan.process.labels)
        ending = Ending(verdict, path, context.env, prepared.filter, prepared.preserve_fds, labelled=labelled)
        run_program(plan.last(), ending, tell)
    except StepFailed as failed:
        channel.send_failure(verdict, failed.error, failed.step.words()[0], failed.step.pointer)
    except BaseException as error:
        channel.send_failure(verdict, error, "start", "/process/args")
