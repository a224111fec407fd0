"""Read process.capabilities and set the five sets of a process (capabilities(7)).

A set is a bit mask.
"""

from __future__ import annotations

from rootless.config_node import closest
from rootless.errors import RootlessError, printable
from rootless.kernel import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.config_node import Node

# linux/capability.h: the index is the bit.
_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
    "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
    "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
CAPABILITIES = {f"CAP_{name}": bit for bit, name in enumerate(_NAMES.split())}
SYS_ADMIN = 1 << CAPABILITIES["CAP_SYS_ADMIN"]  # the mask of a set that holds only this capability
# Capabilities that allow little, so that init may keep one just to be guarded. `guard` takes the first that is free.
_HARMLESS = ("CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_LEASE", "CAP_AUDIT_READ", "CAP_SYS_TTY_CONFIG")
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def last_cap() -> int:
    """Return the highest capability of this kernel, from /proc/sys/kernel/cap_last_cap. Raises OSError."""
    with open("/proc/sys/kernel/cap_last_cap", "rb", buffering=0) as file:
        return int(file.read(16))


def all_capabilities() -> int:
    """Return all capabilities of this kernel, which the first process of a user namespace has (user_namespaces(7))."""
    return (1 << last_cap() + 1) - 1


def names_of_this_kernel() -> list[str]:
    """Return the names of all capabilities of this kernel that have a name here."""
    return [name for name in names(all_capabilities()) if name in CAPABILITIES]


def grantable() -> int:
    """Return what this process can grant without a new user namespace: permitted, and still in the bounding set."""
    bounding = sum(1 << bit for bit in range(last_cap() + 1) if syscalls.prctl(syscalls.PR_CAPBSET_READ, bit))
    return syscalls.capget()[1] & bounding


def names(mask: int) -> list[str]:
    """Return the names of a mask's capabilities, `CAP_41` for one that has no name here."""
    known = {bit: name for name, bit in CAPABILITIES.items()}
    return [known.get(bit, f"CAP_{bit}") for bit in range(mask.bit_length()) if mask >> bit & 1]


def parse_cap(name: str) -> int:
    """Return the bit of a capability, whose name may be in any case, as for `exec --cap`. Raises RootlessError."""
    bit = CAPABILITIES.get(name.upper())
    if bit is None:
        raise RootlessError(f"unknown capability {printable(repr(name))}", hint=closest(name, CAPABILITIES))
    return bit


def read_capabilities(node: Node, possible: int) -> tuple[dict[str, int], list[str]]:
    """Return process.capabilities as ({set: mask} for the five SETS, warnings).

    possible: what can be granted, all_capabilities() in a new user namespace, else grantable(). A name that is unknown
    or cannot be granted is left out with a warning (config.md#linux-process). So is an ambient capability that is not
    also inheritable and permitted, because the kernel never raises it; `runc spec` of 1.1 writes some. Raises SpecError
    for sets that capset(2) would refuse.
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
    """Drop all but these from the bounding set. last: last_cap(), read while /proc was the host's.

    Call it before apply_capabilities and before the change of ids, because it needs CAP_SETPCAP.
    """
    syscalls.drop_from_bounding_set([bit for bit in range(last + 1) if not bounding >> bit & 1])


def apply_capabilities(sets: dict[str, int], keep: int = 0, guard: int = 0) -> None:
    """Set the other four sets. Call it after the change of ids, which clears them (PR_SET_KEEPCAPS).

    keep: a mask that stays effective until execve, which removes it because no other set has it: CAP_SYS_ADMIN to load
    a seccomp filter without no_new_privs (seccomp(2)); guard: a mask that stays permitted until execve (`guard`).
    """
    syscalls.capset(sets["effective"] | keep, sets["permitted"] | keep | guard, sets["inheritable"])
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    ambient = sets["ambient"]
    for bit in range(ambient.bit_length()):
        if ambient >> bit & 1:
            syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, bit)


def guard(sets: dict[str, int]) -> int:
    """Return a capability that this process has and that no program with these sets can get; 0 if there is none.

    While init has it permitted, a process without it can neither trace init nor open its memory, environment or fds in
    /proc, unless it has CAP_SYS_PTRACE (ptrace(2), PTRACE_MODE; `keeps_out` checks that). Init needs this fence between
    create and start, because it must be dumpable then and has no filter yet.
    """
    free = syscalls.capget()[1] & ~_union(sets)
    for name in _HARMLESS:
        if free >> CAPABILITIES[name] & 1:
            return 1 << CAPABILITIES[name]
    return 1 << free.bit_length() - 1 if free else 0


def keeps_out(permitted: int, sets: dict[str, int]) -> bool:
    """Return whether programs with these sets can neither trace nor inspect a process with that permitted set."""
    return bool(permitted & ~_union(sets)) and not may_trace(sets)


def may_trace(sets: dict[str, int]) -> bool:
    """Return whether programs with these sets can get CAP_SYS_PTRACE, which opens undumpable processes to them, too."""
    return bool(_union(sets) >> CAPABILITIES["CAP_SYS_PTRACE"] & 1)


def _union(sets: dict[str, int]) -> int:
    """Return all that a program with these sets can ever get, because execve adds nothing outside the bounding set."""
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
