"""Tell in plain sentences what each kind of step does, and why: the table of `rootless explain`.

To add a kind of step, add its story here: tests/unit/test_explain.py names a class that has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rootless.kernel import caps
from rootless.steps import Step, in_words
from rootless.steps.binds import BindMount
from rootless.steps.cgroup import CreateCgroup
from rootless.steps.devices import AttachDevice, BindDevice, Device, Link, MakeDevice, RequirePlainDirectory
from rootless.steps.emulation import ConfigureApt, EmulateRoot
from rootless.steps.file_systems import MountFileSystem
from rootless.steps.hooks import RunHook
from rootless.steps.masks import MakePathReadonly, MaskPath
from rootless.steps.names import SetDomainname, SetHostname, WriteSysctl
from rootless.steps.namespaces import CloneNamespaces, JoinNamespace, SetTimeOffsets, WriteIdMaps
from rootless.steps.network import ConnectNetwork
from rootless.steps.outside import EnterResctrlGroup, MoveNetDevices
from rootless.steps.process import (
    ChangeUser,
    EnterWorkingDirectory,
    SetCapabilities,
    SetExecLabel,
    SetNoNewPrivs,
    SetOomScore,
    SetRlimit,
    SetUmask,
)
from rootless.steps.program import Execute, LoadFilter, SetEnvironment
from rootless.steps.root import (
    AttachEmptyRoot,
    AttachRootfs,
    Chroot,
    MakeParentPrivate,
    MakeRootReadonly,
    MakeWorkingDirectory,
    PivotRoot,
    SetPropagation,
)
from rootless.steps.scheduling import SetCpuAffinity, SetIoPriority, SetMemoryPolicy, SetPersonality, SetScheduler
from rootless.steps.terminal import OpenTerminal

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS, NAMESPACES, FILES, NAMES, HIDDEN, ROOT, PROCESS, PROGRAM, HOOKS = (
    "Limits", "Namespaces", "The file system", "Names and settings of the kernel", "What is hidden",
    "The change of roots", "The process", "The program", "Hooks",
)  # fmt: skip


class Story(NamedTuple):
    """The story of one kind of step.

    chapter: the heading that it stands below; tell: returns a sentence for each of the step's lines; why: the reason,
    or returns it for a step; manual: the manual pages to read.
    """

    chapter: str
    tell: Callable[[Any], list[str]]
    why: str | Callable[[Any], str]
    manual: str

    def reason(self, step: Step) -> str:
        """Return why the step is done."""
        return self.why if isinstance(self.why, str) else self.why(step)


def _always(sentence: str) -> Callable[[Any], list[str]]:
    return lambda _step: [sentence]


def _filled(sentence: str) -> Callable[[Any], list[str]]:
    """Return what fills a sentence with the step's words after the first: {0}, {1}, and {all}."""

    def tell(step: Step) -> list[str]:
        words = [in_words((word,)) for word in step.words()[1:]]
        return [sentence.format(*words, all=", ".join(words))]

    return tell


# ---------------------------------------------------------------------------------------------------- sentences


def _cgroup(step: CreateCgroup) -> list[str]:
    if not step.lines():
        return []
    _, manager, path = step.words()
    who = "systemd makes" if manager == "systemd" else "The runtime makes"
    sentences = [f"{who} the cgroup {in_words((path,))} and puts the container into it."]
    for words in [words for _, words in step.entries()]:
        if words[0] == "limit":
            sentences.append(f"The runtime writes {in_words((words[2],))} to the cgroup's file {words[1]}.")
        elif words[0] == "systemd_property":
            sentences.append(f"systemd sets the scope's property {words[1]} to {in_words((words[2],))}.")
        else:
            sentences.append(f"A BPF program decides which devices may be opened, by {len(words) - 1} rules.")
    return sentences


_KINDS = {
    "user": "user (ids)", "ipc": "ipc (queues and shared memory)", "uts": "uts (host name)", "network": "network",
    "pid": "pid (processes)", "cgroup": "cgroup", "mount": "mount", "time": "time (clocks)",
}  # fmt: skip


def _clone(step: CloneNamespaces) -> list[str]:
    kinds = [_KINDS.get(kind, kind) for kind in step.words()[1:]]
    return [f"The runtime makes init, with new namespaces of these kinds: {', '.join(kinds)}."]


def _clone_reason(step: CloneNamespaces) -> str:
    why = (
        "A namespace gives its processes their own view of one kind of thing. Processes in namespaces of their own,"
        " with a root file system of their own, are what people call a container."
    )
    first = " The kernel makes the user namespace first. Its owner may make the others without being root."
    return why + first * ("user" in step.words())


def _id_maps(step: WriteIdMaps) -> list[str]:
    return [
        f"The runtime maps {size} {kind} ids of the container, from {inside} on, to the host's from {outside} on."
        if size != 1
        else f"The runtime maps the container's {kind} id {inside} to the host's {kind} id {outside}."
        for kind, id_map in (("user", step.uid_map), ("group", step.gid_map))
        for inside, outside, size in id_map
    ]


def _time(step: SetTimeOffsets) -> list[str]:
    return [f"The joiner sets the {clock} clock {secs} s and {ns} ns off." for clock, secs, ns in step.offsets]


def _net_devices(step: MoveNetDevices) -> list[str]:
    return [
        f"The runtime moves the network device {in_words((name,))} into the container, as {in_words((new_name,))}."
        for name, new_name, _ in step.devices
    ]


def _network(step: ConnectNetwork) -> list[str]:
    leads = [f"{port.protocol} port {port.host} of the host leads to {port.container}" for port in step.ports]
    ports = f" {'; '.join(leads)}." if leads else " No port of the container is published."
    return [f"The runtime starts {step.engine}, which carries packets between the container and the host.{ports}"]


def _mount(step: MountFileSystem) -> list[str]:
    _, fstype, _, target, *options = step.words()
    return [f"Init mounts a new {in_words((fstype,))} at {in_words((target,))}{_with(options)}."]


def _bind(step: BindMount) -> list[str]:
    _, _, source, target, *options = step.words()
    return [f"Init makes the host's {in_words((source,))} appear at {in_words((target,))}{_with(options)}."]


def _with(options: list[str]) -> str:
    return f", with {options[0].replace(',', ', ')}" if options else ""


_MOUNTS = {
    "proc": ("Programs such as ps read /proc, and a new one shows the processes of the container's pid namespace only.",
             "proc(5), pid_namespaces(7)"),
    "tmpfs": ("A tmpfs keeps its files in memory. It begins empty and ends with the container.", "tmpfs(5)"),
    "devpts": ("Terminals of the container get a numbering of their own, so that it cannot open the host's.",
               "pts(4), pty(7)"),
    "mqueue": ("It shows the POSIX message queues of the container's ipc namespace.", "mq_overview(7)"),
    "sysfs": ("It shows the kernel's devices. The network devices in it are those of the container's namespace.",
              "sysfs(5), network_namespaces(7)"),
    "cgroup": ("The program can read its limits and what it uses, and the files show only its own cgroup.",
               "cgroups(7), cgroup_namespaces(7)"),
    "overlay": ("Changes go to the upper directory, and the files below stay as they are.", "mount(8)"),
}  # fmt: skip
_OTHER_MOUNT = ("config.json asks for this file system.", "mount(2), filesystems(5)")


def _mount_reason(step: MountFileSystem) -> str:
    return _MOUNTS.get(step.fstype, _OTHER_MOUNT)[0]


def _device(step: Device) -> list[str]:
    words = step.words()
    kind = {"c": "character device ", "b": "block device ", "p": "FIFO "}.get(words[2], "")
    node = f"{in_words((step.path,))}, {kind}{words[3]}"
    if isinstance(step, MakeDevice):
        return [f"Init makes {node}, with mode {words[4]} and owner {words[5]}."]
    if isinstance(step, AttachDevice):
        return [f"Init attaches {node}, which the runtime has made outside."]
    return [f"Init makes the host's device appear as {node}."]


def _hook(step: RunHook) -> list[str]:
    return [f"{'Init' if step.where == 'init' else 'The runtime'} runs the hook {in_words(step.words()[2:])}."]


_MOMENTS = {
    "prestart": "Prestart hooks run before the change of roots. Engines set up the network in one.",
    "createRuntime": "createRuntime hooks run outside, when the namespaces exist and the roots are not changed yet.",
    "createContainer": "createContainer hooks run in the container's namespaces, and still see the host's files.",
    "startContainer": "startContainer hooks run in the container, right before the program.",
    "poststart": "poststart hooks run outside, after the program has begun.",
    "poststop": "poststop hooks run outside, after the container has ended.",
}


def _hook_reason(step: RunHook) -> str:
    return _MOMENTS.get(step.moment, f"The hook's moment is {step.moment}.")


def _rlimit(step: SetRlimit) -> list[str]:
    _, name, soft, hard = step.words()
    soft, hard = ("unlimited" if int(word) in (-1, 2**64 - 1) else word for word in (soft, hard))
    return [f"Init sets {name} to {soft}. The program may raise it up to {hard}."]


def _user(step: ChangeUser) -> list[str]:
    _, ids, *groups = step.words()
    more = f" and the groups {' '.join(word.lstrip('+') for word in groups)}" if groups else ""
    return [f"Init takes the user and group ids {ids}{more}."]


def _capabilities(step: SetCapabilities) -> list[str]:
    return [
        f"Init's {kind} set becomes: {', '.join(caps.names(step.sets[kind])) or 'none'}."
        for kind in caps.SETS
        if step.sets[kind] or kind == "bounding"
    ]


def _propagation(step: SetPropagation) -> list[str]:
    kinds = {"private": "private", "slave": "slave", "shared": "shared", "unbindable": "unbindable"}
    word = next(iter(step.words()[1:]), "")
    how = kinds.get(word.removeprefix("r"), word)
    return [f"Init makes all mounts {how}: {_PROPAGATES.get(how, '')}".rstrip(": ")]


_PROPAGATES = {
    "private": "no mount travels between the host and the container.",
    "slave": "new mounts of the host still arrive, and the container's stay inside.",
    "shared": "new mounts travel in both directions.",
    "unbindable": "no mount travels, and none can be bound elsewhere.",
}


def _empty_env(step: SetEnvironment) -> list[str]:
    names = [in_words((name,)) for name in step.words()[1:]]
    return [f"Init prepares the environment: {', '.join(names) or 'no variable'}."]


def _execute(step: Execute) -> list[str]:
    return [f"Init becomes the program: {in_words(tuple(step.args))}." if step.args else "There is no program yet."]


_NO_DEVICE = (
    "Programs expect these nodes. The host's own /dev is not shown, so that the container lacks the nodes of its disks."
)

STORIES: dict[type[Step], Story] = {
    CreateCgroup: Story(
        LIMITS, _cgroup,
        "A cgroup counts what a group of processes uses, limits it, and can freeze or kill the whole group. No process"
        " leaves it by a fork.",
        "cgroups(7)",
    ),
    EnterResctrlGroup: Story(
        LIMITS, _filled("The runtime puts init into the class {all} of cache and memory bandwidth."),
        "On processors that can, a class has its share of the cache, so that a noisy neighbour does not empty it.",
        "proc(5)",
    ),
    JoinNamespace: Story(
        NAMESPACES, _filled("The joiner, a process between the runtime and init, enters the {0} namespace {1}."),
        "Containers that share a namespace see each other there, as those of a pod share the network.", "setns(2)",
    ),
    CloneNamespaces: Story(
        NAMESPACES, _clone,
        _clone_reason,
        "namespaces(7), clone(2)",
    ),
    WriteIdMaps: Story(
        NAMESPACES, _id_maps,
        "A new user namespace has no ids. The map says which user of the host stands behind each: root in the container"
        " is another user outside, who owns its files and has that user's rights only.",
        "user_namespaces(7), newuidmap(1)",
    ),
    SetTimeOffsets: Story(
        NAMESPACES, _time, "The container's uptime may differ from the host's, as after a migration.",
        "time_namespaces(7)",
    ),
    MoveNetDevices: Story(
        NAMESPACES, _net_devices, "A network device is in one network namespace at a time.",
        "network_namespaces(7), netdevice(7)",
    ),
    ConnectNetwork: Story(
        NAMESPACES, _network,
        "A new network namespace has no way out. To make one takes root; the engine needs none: it is an ordinary"
        " program that opens connections of its own for those of the container.",
        "pasta(1), slirp4netns(1), network_namespaces(7)",
    ),
    SetPropagation: Story(
        FILES, _propagation,
        "The new mount namespace begins as a copy of the host's. The propagation decides whether a"
        " mount that is made on one side appears on the other.",
        "mount_namespaces(7)",
    ),
    MakeParentPrivate: Story(
        FILES, _filled("Init makes the mount that holds {0} private."),
        "pivot_root refuses a root whose parent is shared.", "pivot_root(2), mount_namespaces(7)",
    ),
    AttachRootfs: Story(
        FILES, _filled("Init makes {0}, the image's files, a mount of its own."),
        "Only a mount can become the root, and its options then apply to the container alone.",
        "mount(2), pivot_root(2)",
    ),
    AttachEmptyRoot: Story(
        FILES, _filled("Init mounts an empty tmpfs on {0} as the container's root."),
        "The container sees only what is mounted into it.", "tmpfs(5)",
    ),
    MountFileSystem: Story(FILES, _mount, _mount_reason, "mount(2)"),
    BindMount: Story(
        FILES, _bind, "A bind mount shows the same files at a second place. Writing to them changes the host's.",
        "mount(2), mount(8)",
    ),
    RequirePlainDirectory: Story(
        FILES, _filled("Init checks that the image did not make {0} a symbolic link."),
        "Devices would be made where it points.", "symlink(7)",
    ),
    MakeDevice: Story(FILES, _device, f"{_NO_DEVICE} Only root of the host may make one.", "mknod(2), null(4)"),
    BindDevice: Story(
        FILES, _device,
        f"{_NO_DEVICE} Only root of the host may make a node. Others may show one that the host has.",
        "mknod(2), null(4)",
    ),
    AttachDevice: Story(FILES, _device, f"{_NO_DEVICE} The container's root may not make one.", "mknod(2), null(4)"),
    Link: Story(
        FILES, _filled("Init makes the symbolic link {0} to {1}."),
        "Shells and other programs use these names.", "proc(5), symlink(7)",
    ),
    MakeWorkingDirectory: Story(
        FILES, _filled("Init makes the working directory {0}, unless the image has it."),
        "The program starts there.", "mkdir(2)",
    ),
    OpenTerminal: Story(
        FILES, _always("Init opens a new terminal, and the runtime gets its other end."),
        "The program then has a terminal of its own, with a size, Ctrl-C and job control.", "pty(7), pts(4)",
    ),
    SetHostname: Story(
        NAMES, _filled("Init sets the host name {0}."), "The uts namespace keeps it from the host.",
        "sethostname(2), uts_namespaces(7)",
    ),
    SetDomainname: Story(
        NAMES, _filled("Init sets the NIS domain name {0}."), "The uts namespace keeps it from the host.",
        "setdomainname(2), uts_namespaces(7)",
    ),
    WriteSysctl: Story(
        NAMES, _filled("Init writes {1} to /proc/sys/{0}."),
        "Settings of a namespace are the container's own. Those of the whole machine are refused.", "proc(5)",
    ),
    RunHook: Story(HOOKS, _hook, _hook_reason, "execve(2)"),
    MakePathReadonly: Story(
        HIDDEN, _filled("Init makes {0} read-only."),
        "Not even root of the container can write there. In /proc and /sys are files that change the kernel for"
        " everybody. A bind mount of a place on itself has options of its own.",
        "proc(5), mount_setattr(2)",
    ),
    MaskPath: Story(
        HIDDEN, _filled("Init hides {0}, if this kernel has it."),
        "It tells more of the host than a container should know. An empty directory, or the null device, is mounted"
        " over it.",
        "proc(5), null(4)",
    ),
    MakeRootReadonly: Story(
        ROOT, _always("Init makes the root file system read-only."),
        "The program cannot change the image. What it must write goes to the mounts.", "mount_setattr(2)",
    ),
    PivotRoot: Story(
        ROOT, _always("Init exchanges the roots: the image's files become /, and the host's are detached."),
        "With chroot alone the host's files would still be mounted, and a process with privileges gets out of it."
        " After pivot_root there is nothing to get out to.",
        "pivot_root(2)",
    ),
    Chroot: Story(
        ROOT, _always("Init enters the root file system with chroot."),
        "Without a mount namespace there are no roots to exchange. A process with privileges gets out of a chroot.",
        "chroot(2)",
    ),
    SetOomScore: Story(
        PROCESS, _filled("Init sets its oom_score_adj to {0}."),
        "When memory runs out, the kernel kills processes with a high score first.", "proc(5)",
    ),
    SetExecLabel: Story(
        PROCESS, _filled("Init asks the security module for the label {0}."),
        "The program gets it at execve, and the module's policy then applies to it.", "proc(5)",
    ),
    SetRlimit: Story(
        PROCESS, _rlimit,
        "Resource limits are of each process, and its children inherit them.", "getrlimit(2)",
    ),
    ChangeUser: Story(
        PROCESS, _user, "Until here init was root of the container, because the mounts need it.", "credentials(7)",
    ),
    SetUmask: Story(
        PROCESS, _filled("Init sets the umask {0}."), "These permissions are taken from every new file.", "umask(2)",
    ),
    EnterWorkingDirectory: Story(
        PROCESS, _filled("Init enters the working directory {0}."),
        "The program begins there. Root of the container tries it first, because the program's user may not be allowed"
        " to enter it.",
        "chdir(2)",
    ),
    SetCapabilities: Story(
        PROCESS, _capabilities,
        "The kernel divides root's power into capabilities. Even root of the container keeps only these, and what is"
        " not in the bounding set never comes back.",
        "capabilities(7)",
    ),
    SetNoNewPrivs: Story(
        PROCESS, _always("Init sets no_new_privs."),
        "From now on set-user-ID programs, such as su, give no privileges.", "prctl(2)",
    ),
    SetCpuAffinity: Story(
        PROCESS, _filled("Init runs on the CPUs {0} only ({1})."), "A process stays on the CPUs of its mask.",
        "sched_setaffinity(2)",
    ),
    SetScheduler: Story(
        PROCESS, _filled("Init sets the scheduling policy {0}."), "It decides who runs when CPUs are short.",
        "sched_setattr(2), sched(7)",
    ),
    SetIoPriority: Story(
        PROCESS, _filled("Init sets the input and output priority {0}."), "It decides whose disk requests go first.",
        "ioprio_set(2)",
    ),
    SetPersonality: Story(
        PROCESS, _filled("Init sets the execution domain {0}."),
        "Programs of other architectures are told another machine name.", "personality(2)",
    ),
    SetMemoryPolicy: Story(
        PROCESS, _filled("Init sets the NUMA memory policy {0} for the nodes {1}."),
        "It decides which node new memory comes from.", "set_mempolicy(2)",
    ),
    SetEnvironment: Story(
        PROGRAM, _empty_env, "The program gets none of the caller's variables.", "environ(7)",
    ),
    ConfigureApt: Story(
        PROGRAM, _filled("Init writes a configuration for apt to {0}, in memory."),
        "apt checks that it has changed its user. Root emulation of the kind errno cannot show it that, so apt is told"
        " to stay root.",
        "seccomp(2)",
    ),
    EmulateRoot: Story(
        PROGRAM, _filled("Init loads a seccomp filter that emulates root: {0}."),
        "The user has one id, so root of the container may give files to no other user, and become no other user."
        " Package managers need that to succeed.",
        "seccomp(2), seccomp_unotify(2)",
    ),
    LoadFilter: Story(
        PROGRAM, _filled("Init loads the seccomp filter: {all}."),
        "The kernel asks the filter at every system call. It is loaded last, because it may deny what the set-up"
        " needs.",
        "seccomp(2)",
    ),
    Execute: Story(
        PROGRAM, _execute,
        "execve keeps the process, its namespaces and its limits, and replaces what runs in it. In a pid namespace of"
        " its own the program is process 1, and when it ends the kernel ends all others in there.",
        "execve(2), pid_namespaces(7)",
    ),
}  # fmt: skip


def manual(step: Step) -> str:
    """Return the manual pages for a step."""
    if isinstance(step, MountFileSystem):
        return _MOUNTS.get(step.fstype, _OTHER_MOUNT)[1]
    return STORIES[type(step)].manual
