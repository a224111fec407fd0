"""Decide how root is emulated: by the caller's wish, the id map, the kernel and the config (emulation/). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rootless.emulation.filter import RLIMIT_LOCKS
from rootless.errors import RootlessError, advice
from rootless.steps.emulation import ConfigureApt, EmulateRoot

if TYPE_CHECKING:
    from rootless.config_node import Node
    from rootless.kernel.host import Host
    from rootless.kernel.namespaces import Namespaces
    from rootless.steps import Step
    from rootless.steps.mounts import Mount
    from rootless.steps.process import Process
    from rootless.steps.program import LoadFilter

    class Plan(Protocol):
        """What root emulation reads of a plan that is being compiled, and adds to it (plan/compiler.py)."""

        namespaces: Namespaces
        rootfs: str
        process: Process
        prepare: list[Step]
        filter: LoadFilter | None
        emulation: EmulateRoot | None
        warnings: list[str]

        def mounts(self) -> list[Mount]:
            """Return the mounts of config.json."""


ANNOTATION = "org.rootless.root-emulation"
MODES = ("auto", "errno", "notify", "none")
_SYNC_WAKE_UP = (6, 6)  # a notification is cheaper since then: SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
_INFINITE = 2**64 - 1
_POINTER = f"/annotations/{ANNOTATION}"
APT = "/dev/rootless-apt.conf"


def add_emulation(plan: Plan, spec: Node, host: Host) -> None:
    """Add root emulation to a plan, unless the config forbids it. Raises RootlessError, SpecError."""
    wish = spec["annotations"][ANNOTATION].choice(MODES, "")
    if wish == "none":
        return
    if host.is_root_on_host and not plan.namespaces.uids:
        if wish:
            plan.warnings.append("root emulation is left out: root of the host may do what it would emulate")
        return
    limits = [hard for number, _, hard, _ in plan.process.rlimits if number == RLIMIT_LOCKS]
    mode, warning = choose_mode(wish, host.kernel, min([host.hard_limit(RLIMIT_LOCKS), *limits]), _POINTER)
    plan.warnings += [warning] if warning else []
    if mode == "notify" and plan.filter and plan.filter.profile["notify"]:
        if wish == "notify":
            raise RootlessError(
                "the config's seccomp listener excludes the one of root emulation: the kernel allows one",
                _POINTER,
                hint="--root-emulation=errno works with it",
            )
        plan.warnings.append("root emulation: errno, not notify, because the config has a seccomp listener")
        mode = "errno"
    user = plan.process.user
    plan.emulation = EmulateRoot(_POINTER, mode, host.kernel, (user.uid, user.gid), is_asked=bool(wish))
    if mode == "errno" and host.is_directory(f"{plan.rootfs}/etc/apt"):
        _configure_apt(plan)


def choose_mode(wish: str, kernel: tuple[int, int], locks: int, where: str) -> tuple[str, str]:
    """Return (`errno` or `notify`, a warning or ""). Raises RootlessError for a wish that cannot be met.

    wish: one of those, or what leaves the choice; locks: the hard limit RLIMIT_LOCKS of the program; where: who wishes.
    `notify` keeps identities in that limit (emulation/processes.py), far above each that somebody may have set.
    """
    mode = wish if wish in ("errno", "notify") else "notify" if kernel >= _SYNC_WAKE_UP else "errno"
    if mode == "errno" or locks == _INFINITE:
        return mode, ""
    what = f"root emulation by notify needs the hard limit RLIMIT_LOCKS, which is {locks} here"
    if wish == "notify":
        raise RootlessError(what, where, hint=advice("finite-locks"))
    return "errno", f"root emulation: errno, not notify, because the hard limit RLIMIT_LOCKS is {locks}"


def _configure_apt(plan: Plan) -> None:
    """Give apt a configuration, unless the program has its own: APT_CONFIG of apt.conf(5)."""
    has_memory = any(mount.target == "/dev" and mount.fstype == "tmpfs" for mount in plan.mounts())
    if has_memory and not any(entry.startswith("APT_CONFIG=") for entry in plan.process.env):
        plan.prepare.append(ConfigureApt(_POINTER, APT))
        plan.process.env.append(f"APT_CONFIG={APT}")
