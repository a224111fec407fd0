"""Capabilities: names, the five sets of process.capabilities, and their way into the kernel (capabilities(7)).

A set is a bit mask: bit 21 is CAP_SYS_ADMIN.
"""

from __future__ import annotations

from rootless.errors import RootlessError, printable
from rootless.kernel import syscalls
from rootless.node import closest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.node import Node

# linux/capability.h: the index is the bit.
_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
    "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
    "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
CAPABILITIES = {f"CAP_{name}": bit for bit, name in enumerate(_NAMES.split())}
# What init may hold unused without being any stronger for it, see `guard`.
_HARMLESS = ("CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_LEASE", "CAP_AUDIT_READ", "CAP_SYS_TTY_CONFIG")
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def last_cap() -> int:
    """The highest capability that this kernel knows, from /proc/sys/kernel/cap_last_cap. Raises OSError."""
    with open("/proc/sys/kernel/cap_last_cap", "rb", buffering=0) as file:
        return int(file.read(16))


def all_capabilities() -> int:
    """Every capability of this kernel: what the first process of a new user namespace holds (user_namespaces(7))."""
    return (1 << last_cap() + 1) - 1


def names_of_this_kernel() -> list[str]:
    """Every capability of this kernel that has a name here."""
    return [name for name in names(all_capabilities()) if name in CAPABILITIES]


def grantable() -> int:
    """What this process can hand on without a new user namespace: permitted, and not gone from the bounding set."""
    bounding = sum(1 << bit for bit in range(last_cap() + 1) if syscalls.prctl(syscalls.PR_CAPBSET_READ, bit))
    return syscalls.capget()[1] & bounding


def names(mask: int) -> list[str]:
    """The capabilities of a mask by name, those beyond the table as `CAP_41`."""
    known = {bit: name for name, bit in CAPABILITIES.items()}
    return [known.get(bit, f"CAP_{bit}") for bit in range(mask.bit_length()) if mask >> bit & 1]


def parse_cap(name: str) -> int:
    """The bit of one capability name in any case, as `exec --cap` takes it. Raises RootlessError for an unknown."""
    bit = CAPABILITIES.get(name.upper())
    if bit is None:
        raise RootlessError(f"unknown capability {printable(repr(name))}", hint=closest(name, CAPABILITIES))
    return bit


def read_capabilities(node: Node, possible: int) -> tuple[dict[str, int], list[str]]:
    """process.capabilities as {set: mask} of the five SETS, and the warnings to show.

    `possible` is what can be granted: all_capabilities() in a new user namespace, else grantable(). Names that are
    unknown or not possible are warned of and left out, as runtime-spec config.md demands; so is an ambient one that
    is not inheritable and permitted too: the kernel never raises it, and `runc spec` of 1.1 writes such. Raises
    SpecError for what capset(2) would refuse as a whole.
    """
    unknown: dict[str, None] = {}
    asked = {name: _read_set(node[name], unknown) for name in SETS}
    _check_subset(node, asked, "effective", "permitted")
    _check_subset(node, asked, "inheritable", "bounding")
    impossible = 0
    for mask in asked.values():
        impossible |= mask & ~possible
    sets = {name: mask & possible for name, mask in asked.items()}
    stray = sets["ambient"] & ~(sets["inheritable"] & sets["permitted"])
    sets["ambient"] &= ~stray

    warnings = []
    if unknown:
        warnings.append(f"unknown capabilities left out: {node.pointer}: {printable(', '.join(unknown))}")
    if impossible:
        warnings.append(f"capabilities that cannot be granted here left out: {node.pointer}: {_list(impossible)}")
    for name in names(stray):
        reason = "it is not both inheritable and permitted"
        warnings.append(f"can't raise ambient capability {name}: {reason}: {node.pointer}/ambient")
    return sets, warnings


def apply_bounding(bounding: int, last: int) -> None:
    """Drop all but these from the bounding set. `last` is last_cap(), read while /proc was the host's.

    Before any apply_capabilities and change of ids: it needs CAP_SETPCAP.
    """
    for bit in range(last + 1):
        if not bounding >> bit & 1:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, bit)


def apply_capabilities(sets: dict[str, int], keep: int = 0, guard: int = 0) -> None:
    """Set the other four sets, after the change of ids (which clears them, see PR_SET_KEEPCAPS).

    `keep` is a mask that stays effective until execve, which takes it away as it is in no other set: CAP_SYS_ADMIN
    for a seccomp filter without no_new_privs (seccomp(2)). `guard` stays permitted in the same way, see `guard`.
    """
    syscalls.capset(sets["effective"] | keep, sets["permitted"] | keep | guard, sets["inheritable"])
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    ambient = sets["ambient"]
    for bit in range(ambient.bit_length()):
        if ambient >> bit & 1:
            syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, bit)


def guard(sets: dict[str, int]) -> int:
    """Return one capability that this process has and no program with these sets can get; 0 where there is none.

    As long as init has it permitted, a process without it may neither trace init nor open its memory, its environment
    or its descriptors in /proc, unless that one has CAP_SYS_PTRACE (ptrace(2), PTRACE_MODE; `keeps_out` asks that).
    Init has to be dumpable between create and start, and has no filter yet. The choice falls on what does least.
    """
    free = syscalls.capget()[1] & ~_union(sets)
    for name in _HARMLESS:
        if free >> CAPABILITIES[name] & 1:
            return 1 << CAPABILITIES[name]
    return 1 << free.bit_length() - 1 if free else 0


def keeps_out(permitted: int, sets: dict[str, int]) -> bool:
    """Return whether a process with that permitted set is closed to any program that starts with these sets."""
    mask = _union(sets)
    return bool(permitted & ~mask) and not mask >> CAPABILITIES["CAP_SYS_PTRACE"] & 1


def _union(sets: dict[str, int]) -> int:
    """All that a program with these sets may ever hold: execve adds nothing from outside of the bounding set."""
    mask = 0
    for each in sets.values():
        mask |= each
    return mask


def _read_set(node: Node, unknown: dict[str, None]) -> int:
    mask = 0
    for name in node.strings():
        bit = CAPABILITIES.get(name)
        if bit is None:
            unknown[name] = None
        else:
            mask |= 1 << bit
    return mask


def _check_subset(node: Node, sets: dict[str, int], name: str, within: str) -> None:
    extra = sets[name] & ~sets[within]
    if extra:
        place = node[within].pointer
        node[name].refuse(f"holds {_list(extra)}, which {within} lacks", hint=f"add it to {place}", about=place)


def _list(mask: int) -> str:
    return ", ".join(names(mask))
