"""Say what an administrator can do if the kernel or a security module refuses a user namespace."""

from __future__ import annotations

import errno

from rootless.errors import RootlessError
from rootless.startup import lean_os as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.hints import Hint

_APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"
# file below /proc/sys: the values that forbid user namespaces to an ordinary user
_SYSCTLS = {
    "kernel/unprivileged_userns_clone": (b"0",),  # Debian's kernel
    "user/max_user_namespaces": (b"0",),
    # Ubuntu's kernel: it makes the namespace, but without capabilities.
    _APPARMOR: (b"1", b"2"),
}
_ALLOWING = {
    "kernel/unprivileged_userns_clone": "1",
    "user/max_user_namespaces": "15000",
    _APPARMOR: "0",
}


def explain_refusal(number: int, proc_sys: str = "/proc/sys") -> str:
    """Return the hint for an errno of clone3(2), unshare(2), or a write of the id maps; "" for none."""
    certain = hint_of_refusal(number, proc_sys)
    if certain:
        return certain.text
    if number not in (errno.EPERM, errno.EACCES):
        return ""
    from rootless.kernel.hints import hint

    return hint("userns-unknown", names=_listed(_SYSCTLS)).text


def hint_of_refusal(number: int, proc_sys: str = "/proc/sys") -> Hint | None:
    """Return the hint for such an errno with the command that mends it, None if no certain reason is known."""
    from rootless.kernel.hints import hint

    if number == errno.ENOSPC:
        from rootless.userns.limits import reached

        kind = reached(proc_sys)
        return hint("userns-limit") if kind == "user" else hint("namespace-limit", kind=kind)
    if number == errno.ENOSYS:
        from rootless.userns.limits import is_old

        return hint("old-kernel") if is_old() else hint("seccomp-blocks", call="clone3, which Linux 5.12 has")
    if number not in (errno.EPERM, errno.EACCES):
        return None
    forbidding = [name for name, values in _SYSCTLS.items() if _read(f"{proc_sys}/{name}") in values]
    if not forbidding:
        return hint("seccomp-blocks", call="new namespaces") if _is_filtered() else None
    if forbidding == [_APPARMOR]:
        return hint("apparmor-userns")
    values = " ".join(f"{name.replace('/', '.')}={_ALLOWING[name]}" for name in forbidding)
    return hint("userns-restricted", names=_listed(forbidding), values=values)


def clone_error(error: OSError) -> RootlessError:
    """Return the error for namespaces that the kernel refused to clone3(2) or unshare(2)."""
    hint = explain_refusal(error.errno or 0)
    return RootlessError.from_os(error, "cannot create the namespaces", "/linux/namespaces", hint)


def _is_filtered() -> bool:
    """Return whether a seccomp filter is active in this process (proc_pid_status(5))."""
    return b"\nSeccomp:\t2\n" in _read("/proc/self/status", 1 << 16)


def is_restricted_by_apparmor(proc_sys: str = "/proc/sys") -> bool:
    """Return whether AppArmor takes the capabilities of a new user namespace away."""
    return _read(f"{proc_sys}/{_APPARMOR}") in _SYSCTLS[_APPARMOR]


def _listed(names: list[str] | dict[str, tuple[bytes, ...]]) -> str:
    return ", ".join(name.replace("/", ".") for name in names)


def _read(path: str, size: int = 100) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, size).strip()
    finally:
        os.close(fd)
