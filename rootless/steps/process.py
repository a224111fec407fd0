"""Set the properties of `process` on the way to the program, in init and in `exec` (config.md#process)."""

from __future__ import annotations

from errno import EINVAL

from rootless.errors import RootlessError
from rootless.kernel import caps
from rootless.kernel import syscalls as sc
from rootless.process import attributes, program, rlimits
from rootless.startup import lean_os as os
from rootless.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.process.lsm import ExecLabel
    from rootless.process.rlimits import Rlimit
    from rootless.steps import Words
    from rootless.steps.context import Becoming


class User:
    """Hold `process.user`.

    groups: the additional ones; keep_groups: whether the program has the caller's groups instead
    (crun's run.oci.keep_original_groups).
    """

    __slots__ = ("gid", "groups", "keep_groups", "uid", "umask")

    def __init__(self, uid: int, gid: int, groups: list[int], umask: int) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.umask = umask
        self.keep_groups = False


class Process:
    """Hold the program, its arguments, and the attributes of its process.

    args: [] for a container without a process; size: height and width of the terminal, (0, 0) for none; caps: {set:
    mask}; oom_score_adj: None to keep it; scheduling: steps for the scheduler, personality and memory policy; labels:
    for the LSMs that run here; warnings: lines for the user.
    """

    __slots__ = (
        "args", "caps", "cwd", "env", "labels", "no_new_privs", "oom_score_adj", "pointer", "rlimits", "scheduling",
        "size", "terminal", "user", "warnings",
    )  # fmt: skip

    def __init__(self, pointer: str, args: list[str], env: list[str], cwd: str, user: User) -> None:
        self.pointer = pointer
        self.args = args
        self.env = env
        self.cwd = cwd
        self.user = user
        self.terminal = False
        self.size = (0, 0)
        self.caps: dict[str, int] = {}
        self.rlimits: list[Rlimit] = []
        self.no_new_privs = False
        self.oom_score_adj: int | None = None
        self.scheduling: list[Step] = []
        self.labels: list[ExecLabel] = []
        self.warnings: list[str] = []

    def through_proc(self) -> list[Step]:
        """Return the steps that write through the host's /proc. They come first, because its fd is closed then."""
        steps: list[Step] = []
        if self.oom_score_adj is not None:
            steps.append(SetOomScore(f"{self.pointer}/oomScoreAdj", self.oom_score_adj))
        return [*steps, *(SetExecLabel(self.pointer, *label, self.no_new_privs) for label in self.labels)]

    def steps(self) -> list[Step]:
        """Return the steps after those of `through_proc`, in the order of execution."""
        pointer = self.pointer
        steps = [*self.scheduling, *(SetRlimit(limit) for limit in self.rlimits)]
        steps += [
            ChangeUser(f"{pointer}/user", self.user, self.cwd, self.caps["bounding"]),
            SetUmask(f"{pointer}/user/umask", self.user.umask),
            EnterWorkingDirectory(f"{pointer}/cwd", self.cwd),
            SetCapabilities(f"{pointer}/capabilities", self.caps, self.no_new_privs),
        ]
        if self.no_new_privs:
            steps.append(SetNoNewPrivs(f"{pointer}/noNewPrivileges"))
        return steps


class SetOomScore(Step):
    """Write oom_score_adj: proc_pid_oom_score_adj(5)."""

    __slots__ = ("value",)

    def __init__(self, pointer: str, value: int) -> None:
        super().__init__(pointer)
        self.value = value

    def words(self) -> Words:
        return "oom_score_adj", str(self.value)

    def execute(self, context: Becoming) -> None:
        if not context.oom_score_written:  # else the runtime or the joiner did: the file is root's by now (proc(5))
            attributes.write_oom_score(context.proc_fd, self.value)


class SetExecLabel(Step):
    """Ask the LSM that the next execve gives this process a label."""

    __slots__ = ("kind", "label", "no_new_privs")

    def __init__(self, pointer: str, kind: str, label: str, no_new_privs: bool) -> None:
        super().__init__(f"{pointer}/{_LABEL_PROPERTIES[kind]}")
        self.kind = kind
        self.label = label
        self.no_new_privs = no_new_privs

    def words(self) -> Words:
        return _LABEL_PROPERTIES[self.kind], self.label

    def execute(self, context: Becoming) -> None:
        from rootless.process import lsm  # loaded already when the plan was compiled

        lsm.apply_exec_label(context.proc_fd, self.kind, self.label, no_new_privs=self.no_new_privs)


_LABEL_PROPERTIES = {"AppArmor": "apparmorProfile", "SELinux": "selinuxLabel"}


class SetRlimit(Step):
    """Set one resource limit: prlimit(2)."""

    __slots__ = ("limit",)

    def __init__(self, limit: Rlimit) -> None:
        super().__init__(limit[3])
        self.limit = limit

    def words(self) -> Words:
        number, soft, hard, _ = self.limit
        return "rlimit", rlimits.name_of(number), str(soft), str(hard)

    def execute(self, context: Becoming) -> None:
        rlimits.apply_rlimit(self.limit)


class ChangeUser(Step):
    """Become the program's user (credentials(7)).

    The bounding set is reduced first, because that needs CAP_SETPCAP (capabilities(7)). The working directory is tried
    as root of the container first, because the program's user may not be allowed to enter it (`WORKDIR /root` with
    `USER 1000`).
    """

    __slots__ = ("bounding", "cwd", "user")

    def __init__(self, pointer: str, user: User, cwd: str, bounding: int) -> None:
        super().__init__(pointer)
        self.user = user
        self.cwd = cwd
        self.bounding = bounding

    def words(self) -> Words:
        user = self.user
        groups = ["(groups of the caller)"] if user.keep_groups else [f"+{gid}" for gid in user.groups]
        return "user", f"{user.uid}:{user.gid}", *groups

    def execute(self, context: Becoming) -> None:
        user = self.user
        program.set_home(context.env, user.uid)
        caps.apply_bounding(self.bounding, context.last_cap)
        if user.uid:
            attributes.own_stdio(user.uid, user.gid, lends=context.lends)
        if context.setgroups and not user.keep_groups:
            context.left_groups = os.getgroups()  # for a hint, if the program misses one of them
            sc.setgroups(user.groups)
        context.in_cwd = attributes.try_chdir(self.cwd)
        sc.prctl(sc.PR_SET_KEEPCAPS, 1)
        try:
            sc.setresgid(user.gid)
            sc.setresuid(user.uid)
        except OSError as error:
            if error.errno != EINVAL:
                raise
            # The compiler has looked at the ids of the container's own user namespace, so this is one that was joined.
            hint = "the user namespace that is joined does not map it; --user 0 is its root"
            raise RootlessError.from_os(error, f"user: {user.uid}:{user.gid}", self.pointer, hint) from None


class SetUmask(Step):
    """Set the file mode creation mask: umask(2)."""

    __slots__ = ("umask",)

    def __init__(self, pointer: str, umask: int) -> None:
        super().__init__(pointer)
        self.umask = umask

    def words(self) -> Words:
        return "umask", f"{self.umask:04o}"

    def execute(self, context: Becoming) -> None:
        os.umask(self.umask)


class EnterWorkingDirectory(Step):
    """Enter the working directory as the program's user, unless root of the container has entered it already."""

    __slots__ = ("path",)

    def __init__(self, pointer: str, path: str) -> None:
        super().__init__(pointer)
        self.path = path

    def words(self) -> Words:
        return "cwd", self.path

    def execute(self, context: Becoming) -> None:
        if context.in_cwd:
            return
        try:
            os.chdir(self.path)
        except OSError as error:
            what = f'chdir to cwd ("{self.path}") set in config.json failed'
            hint = attributes.fuse_hint() or program.group_hint(self.path, context.left_groups)
            raise RootlessError.from_os(error, what, hint=hint) from None


class SetCapabilities(Step):
    """Set the capabilities of the program: capset(2), and PR_CAP_AMBIENT of prctl(2)."""

    __slots__ = ("no_new_privs", "sets")

    def __init__(self, pointer: str, sets: dict[str, int], no_new_privs: bool) -> None:
        super().__init__(pointer)
        self.sets = sets
        self.no_new_privs = no_new_privs

    def words(self) -> Words:
        return "capabilities", *(f"{kind}={','.join(caps.names(self.sets[kind]))}" for kind in caps.SETS)

    def lines(self) -> list[str]:
        return [
            f"capabilities {kind} {' '.join(caps.names(self.sets[kind]) or ['none'])} [{self.pointer}/{kind}]"
            for kind in caps.SETS
            if self.sets[kind] or kind == "bounding"
        ]

    def execute(self, context: Becoming) -> None:
        keep = caps.SYS_ADMIN if context.filtered and not self.no_new_privs else 0  # for seccomp(2)
        guard = caps.guard(self.sets) if context.guarded or context.stays else 0
        if context.stays:
            guard |= caps.SYS_ADMIN  # for a message in the program's name (init/launched.py)
        caps.apply_capabilities(self.sets, keep, guard)


class SetNoNewPrivs(Step):
    """Set no_new_privs: PR_SET_NO_NEW_PRIVS of prctl(2)."""

    __slots__ = ()

    def words(self) -> Words:
        return ("no_new_privs",)

    def execute(self, context: Becoming) -> None:
        sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
