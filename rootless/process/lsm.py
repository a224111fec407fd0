"""Apply labels of AppArmor and SELinux: process.apparmorProfile, process.selinuxLabel, linux.mountLabel.

A label for a module that this kernel does not run is left out with a warning, because configs are moved from host to
host.
"""

from __future__ import annotations

import errno

from rootless.errors import RootlessError, printable
from rootless.kernel import syscalls
from rootless.kernel.files import write_at_once
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.host import Host

    ExecLabel = tuple[str, str]  # APPARMOR or SELINUX, label

APPARMOR = "AppArmor"
SELINUX = "SELinux"
_POINTERS = {APPARMOR: "/process/apparmorProfile", SELINUX: "/process/selinuxLabel"}
# The first one is in runc's words.
_FAILURES = {APPARMOR: "apparmor failed to apply profile", SELINUX: "cannot set the SELinux label"}
# The SELinux policy labels these file systems itself; a context option gives EINVAL.
_WITHOUT_CONTEXT = ("proc", "sysfs", "mqueue", "cgroup", "cgroup2", "bind")
CONTEXT_TYPES = ("context", "fscontext", "defcontext", "rootcontext")


def exec_labels(apparmor_profile: str, selinux_label: str, host: Host) -> tuple[list[ExecLabel], list[str]]:
    """Return (the labels for apply_exec_label, warnings for labels whose module does not run)."""
    labels: list[ExecLabel] = []
    warnings: list[str] = []
    for kind, label in ((APPARMOR, apparmor_profile), (SELINUX, selinux_label)):
        if not label:
            continue
        if host.apparmor if kind == APPARMOR else host.selinux:
            labels.append((kind, label))
        else:
            warnings.append(left_out(kind, _POINTERS[kind], label))
    return labels, warnings


def apply_exec_label(proc_fd: int, kind: str, label: str, *, no_new_privs: bool = False) -> None:
    """Ask the LSM to give this process a label at the next execve. proc_fd: the host's /proc.

    Call it before no_new_privs is set. no_new_privs: whether it will be: then AppArmor lets a confined process only add
    a profile to its own, so the two are stacked. Raises RootlessError with the JSON pointer.
    """
    how = ""
    if kind == APPARMOR:
        how = "stack" if no_new_privs and _is_confined(proc_fd) else "exec"
        text = f"{how} {label}"
        names = ["self/attr/apparmor/exec", "self/attr/exec"]
    else:
        text, names = label, ["self/attr/exec"]
    try:
        fd = _open_attribute(proc_fd, names, os.O_WRONLY)
        try:
            write_at_once(fd, os.fsencode(text))
        finally:
            os.close(fd)
    except OSError as error:
        what = f"{_FAILURES[kind]} {printable(label)}"
        raise RootlessError.from_os(error, what, _POINTERS[kind], _hint(error, kind, how, label)) from None


def mount_context(label: str, fstype: str, context_type: str) -> tuple[str, str]:
    """Return linux.mountLabel as the mount option (key, value) for a file system, ("", "") for none.

    The value is as fsconfig(2) takes it; in the data of mount(2) it needs double quotes, because labels hold commas.
    context_type: one of CONTEXT_TYPES (crun's annotation run.oci.mount_context_type).
    """
    if not label or fstype in _WITHOUT_CONTEXT:
        return "", ""
    return context_type, label


def left_out(kind: str, pointer: str, label: str) -> str:
    """Return the warning for a label whose module does not run here."""
    return f"{pointer}: {kind} does not run here, the label {printable(label)} is left out"


def _is_confined(proc_fd: int) -> bool:
    """Return whether AppArmor confines this process already; True if that cannot be read."""
    try:
        fd = _open_attribute(proc_fd, ["self/attr/apparmor/current", "self/attr/current"], os.O_RDONLY)
        try:
            return os.read(fd, 256).split()[:1] != [b"unconfined"]
        finally:
            os.close(fd)
    except OSError:
        return True


def _open_attribute(proc_fd: int, names: list[str], flags: int) -> int:
    """Open the first of the files that exists; return its fd. Raises OSError.

    No mount on top of /proc is followed, because a label that is written into another file does nothing
    (CVE-2019-16884).
    """
    for name in names[:-1]:
        try:
            return _open(proc_fd, name, flags)
        except FileNotFoundError:
            continue
    return _open(proc_fd, names[-1], flags)


def _open(proc_fd: int, name: str, flags: int) -> int:
    return syscalls.openat2(proc_fd, name, flags, resolve=syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_XDEV)


def _hint(error: OSError, kind: str, how: str, label: str) -> str:
    if kind == APPARMOR:
        if error.errno == errno.ENOENT:
            return "the profile is not loaded: apparmor_parser -r FILE, and aa-status shows what is there"
        if error.errno in (errno.EPERM, errno.EACCES):
            rule = f"change_profile -> {'&' if how == 'stack' else ''}{printable(label)}"
            return f"the profile of this process does not allow the change: apparmor.d(5), {rule}"
    elif error.errno == errno.EINVAL:
        return "the loaded SELinux policy does not know the label"
    return ""
