"""Answer one system call each: HANDLERS has a function for each name of numbers.py.

A function returns the call's result, None for the kernel's own answer, or raises the error that the program gets.
"""

from __future__ import annotations

import os
from errno import EBADF, EFAULT, EINVAL, EPERM
from functools import partial
from stat import S_IFMT
from struct import pack, unpack, unpack_from
from typing import TYPE_CHECKING

from rootless.emulation import identity as rules
from rootless.emulation.identity import KEEP, Refused
from rootless.emulation.numbers import I386
from rootless.kernel import syscalls as sc

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.emulation.identity import Identity, Ids
    from rootless.emulation.layouts import Shown
    from rootless.emulation.processes import Notification, Processes

    Handler = Callable[[Processes, Notification], int | None]

_NOFOLLOW = sc.AT_SYMLINK_NOFOLLOW
_AT_FDCWD = sc.AT_FDCWD & 0xFFFFFFFF
_MOST_GROUPS = 65536  # limits.h: NGROUPS_MAX
_SETGID, _SETUID = 6, 7  # linux/capability.h
_CAPABILITY_VERSION_1 = 0x19980330  # linux/capability.h; this version has sets of 32 bits

# ------------------------------------------------------------------------------------------- paths


def _place(processes: Processes, call: Notification, address: int, dir_fd: int = _AT_FDCWD, flags: int = 0) -> bytes:
    """Return a path of the program as the supervisor reaches it, after `enter`."""
    path = processes.read_path(call.tid, address) if address else b""
    if processes.here != call.tid:
        processes.enter(call)
    if path.startswith(b"/"):
        return _of_itself(path) if path.startswith(_OWN) else path
    if not path:
        if not flags & sc.AT_EMPTY_PATH:
            raise FileNotFoundError(2, "")
        return b"cwd" if dir_fd == _AT_FDCWD else b"fd/%d" % dir_fd
    return b"cwd/" + path if dir_fd == _AT_FDCWD else b"fd/%d/%b" % (dir_fd, path)


_OWN = (b"/proc/self/", b"/proc/thread-self/", b"/dev/fd/", b"/dev/std")
_DESCRIPTORS = [b"fd/%d" % number for number in range(256)]
_STREAMS = {b"/dev/stdin": b"fd/0", b"/dev/stdout": b"fd/1", b"/dev/stderr": b"fd/2"}


def _of_itself(path: bytes) -> bytes:
    """Return a path below /proc/self, which would be the supervisor's, as one below /proc/PID.

    The working directory is in the host's /proc, from which `..` would lead to the host's root. So a path with `..` is
    changed only if it begins with a link to one of the process's own directories; any other one stays absolute, and the
    supervisor finds no /proc/self in the container.
    """
    for prefix, place in ((b"/proc/self/", b""), (b"/proc/thread-self/", b""), (b"/dev/fd/", b"fd/")):
        if path.startswith(prefix):
            below = place + path[len(prefix) :]
            words = below.split(b"/")
            is_link = words[0] in (b"cwd", b"root") or (words[0] == b"fd" and words[1:] and words[1].isdigit())
            return below if is_link or b".." not in words else path
    return _STREAMS.get(path, path)


# ------------------------------------------------------------------------------------------- owners


def _change_owner(
    processes: Processes, call: Notification, path: bytes, ids: tuple[int, int], *, follow: bool
) -> int | None:
    uid, gid = (number & 0xFFFFFFFF for number in ids)
    if call.name.endswith("16"):
        uid, gid = _wide(uid), _wide(gid)
    if (uid, gid) == processes.owner and processes.identity(call).is_root:
        try:
            if processes.records.has_owner(path, follow=follow):
                processes.check(call)
                processes.records.forget_owner(path, follow=follow)
        except ProcessLookupError:
            if processes.lost(call):
                return _change_owner(processes, call, path, ids, follow=follow)
        return None  # the kernel allows it, or says what is wrong
    processes.check(call)
    try:
        st = os.stat(path, follow_symlinks=follow)
    except (FileNotFoundError, ProcessLookupError):
        if processes.lost(call):
            return _change_owner(processes, call, path, ids, follow=follow)
        if path.startswith(b"fd/") and not os.path.lexists(b"/".join(path.split(b"/")[:2])):
            raise Refused(EBADF) from None
        raise
    identity = processes.identity(call)
    if KEEP in (uid, gid) or not identity.is_root:
        owner = processes.records.owner(path, st, follow=follow)
        rules.check_chown(identity, owner, uid, gid)
        uid, gid = owner[0] if uid == KEEP else uid, owner[1] if gid == KEEP else gid
    processes.records.set_owner(path, st, (uid, gid), follow=follow)
    return 0


def _chown(processes: Processes, call: Notification, *, follow: bool) -> int | None:
    path, uid, gid = call.args[:3]
    return _change_owner(processes, call, _place(processes, call, path), (uid, gid), follow=follow)


def _fchown(processes: Processes, call: Notification) -> int | None:
    """Change the owner of an open file, as tar(1) does for each that it makes: with as few system calls as possible."""
    fd, uid, gid, _, _, _ = call.args
    path = _descriptor(processes, call, fd)
    owner = uid & 0xFFFFFFFF, gid & 0xFFFFFFFF
    is_plain = owner != processes.owner and KEEP not in owner and call.name == "fchown"
    if is_plain:
        is_root = processes.all_are_root or processes.identity(call).is_root
        if is_root and processes.records.set_quickly(path, owner):
            return 0
    return _change_owner(processes, call, path, owner, follow=True)


def _fchownat(processes: Processes, call: Notification) -> int | None:
    fd, path, uid, gid, flags = call.args[:5]
    place = _place(processes, call, path, fd & 0xFFFFFFFF, flags)
    follow = not _flags_at(place, flags) & sc.AT_SYMLINK_NOFOLLOW
    return _change_owner(processes, call, place, (uid, gid), follow=follow)


def _descriptor(processes: Processes, call: Notification, fd: int) -> bytes:
    """Return an open file of the program as the supervisor reaches it."""
    if processes.here != call.tid:
        processes.enter(call)
    fd &= 0xFFFFFFFF
    return _DESCRIPTORS[fd] if fd < 256 else b"fd/%d" % fd


def _wide(number: int) -> int:
    """Return an id of 16 bits as one of 32: linux/highuid.h, low2highuid."""
    return KEEP if number & 0xFFFF == 0xFFFF else number & 0xFFFF


# ------------------------------------------------------------------------------------------- stat


def _stat(processes: Processes, call: Notification) -> int | None:
    path, address, _, _, _, _ = call.args
    try:
        place = _place(processes, call, path)
        shown = processes.shown(place, 0)
        return None if shown is None else _show(processes, call, place, shown, address, 0)
    except OSError:
        # None: the kernel says what is wrong.
        return _stat(processes, call) if processes.lost(call) else None


def _lstat(processes: Processes, call: Notification) -> int | None:
    path, address, _, _, _, _ = call.args
    try:
        place = _place(processes, call, path)
        shown = processes.shown(place, _NOFOLLOW)
        return None if shown is None else _show(processes, call, place, shown, address, _NOFOLLOW)
    except OSError:
        return _lstat(processes, call) if processes.lost(call) else None


def _fstat(processes: Processes, call: Notification) -> int | None:
    fd, address, _, _, _, _ = call.args
    try:
        place = _descriptor(processes, call, fd)
        shown = processes.shown(place, 0)
        return None if shown is None else _show(processes, call, place, shown, address, 0)
    except OSError:
        return _fstat(processes, call) if processes.lost(call) else None


def _fstatat(processes: Processes, call: Notification) -> int | None:
    fd, path, address, flags, _, _ = call.args
    try:
        place = _place(processes, call, path, fd & 0xFFFFFFFF, flags)
        flags = _flags_at(place, flags) & _NOFOLLOW if flags else 0
        shown = processes.shown(place, flags)
        return None if shown is None else _show(processes, call, place, shown, address, flags)
    except OSError:
        return _fstatat(processes, call) if processes.lost(call) else None


def _show(processes: Processes, call: Notification, path: bytes, shown: Shown, address: int, flags: int) -> int:
    """Write struct stat of a file that the kernel would show otherwise. Raises OSError, Refused.

    flags: AT_SYMLINK_NOFOLLOW or 0. The callers look for `shown` themselves, because most files have none.
    """
    if call.arch == I386 and call.name in ("stat", "lstat", "fstat"):
        processes.write(call, address, processes.results.old_stat(path, shown, flags))
    else:
        processes.write(call, address, processes.results.stat(path, shown, flags, call.arch))
    return 0


def _flags_at(place: bytes, flags: int) -> int:
    """Return the flags for the supervisor's own call. A path fd/N is a link to the open file, so it is followed."""
    is_descriptor = place.startswith(b"fd/") and place.count(b"/") == 1
    flags &= ~(sc.AT_EMPTY_PATH | (sc.AT_SYMLINK_NOFOLLOW if is_descriptor else 0))
    return flags & 0xFFFFFFFF


def _statx(processes: Processes, call: Notification) -> int | None:
    fd, path, flags, mask, address, _ = call.args
    try:
        place = _place(processes, call, path, fd & 0xFFFFFFFF, flags)
        flags = _flags_at(place, flags) if flags else 0
        shown = processes.shown(place, flags & _NOFOLLOW)
        if shown is None:
            return None
        result = processes.results.statx(place, shown, flags, mask & 0xFFFFFFFF)
    except OSError:
        return _statx(processes, call) if processes.lost(call) else None
    processes.write(call, address, result)
    return 0


# ------------------------------------------------------------------------------------------- devices


def _mknod(processes: Processes, call: Notification) -> int | None:
    path, mode, device = call.args[:3]
    return _make(processes, call, _place(processes, call, path), mode, device)


def _mknodat(processes: Processes, call: Notification) -> int | None:
    fd, path, mode, device = call.args[:4]
    return _make(processes, call, _place(processes, call, path, fd & 0xFFFFFFFF), mode, device)


def _make(processes: Processes, call: Notification, path: bytes, mode: int, device: int) -> int:
    if not processes.identity(call).is_root:
        raise Refused(EPERM)
    processes.lost(call)
    mode &= 0xFFFF
    umask = int(_status_field(b"Umask:") or b"0", 8)
    processes.records.make_device(path, S_IFMT(mode) | mode & 0o7777 & ~umask, device & 0xFFFFFFFF)
    return 0


def _status_field(name: bytes) -> bytes:
    """Return a field of /proc/PID/status of the process that is served."""
    with open("status", "rb", buffering=0) as file:
        for line in file.read().split(b"\n"):
            if line.startswith(name):
                return line[len(name) :].strip()
    return b""


# ------------------------------------------------------------------------------------------- identities


def _set_ids(processes: Processes, call: Notification, *, of_groups: bool, rule: Callable[..., Ids], count: int) -> int:
    """Carry out set*id: `rule` gets the old ids and `count` arguments."""
    old = processes.identity(call)
    wanted = [arg & 0xFFFFFFFF for arg in call.args[:count]]
    if call.name.endswith("16"):
        wanted = [_wide(number) for number in wanted]
    before = old.gids if of_groups else old.uids
    after = rule(before, *wanted, is_root=processes.may(call, old, _SETGID if of_groups else _SETUID))
    if after != before:
        if old.is_root and after[1] and not of_groups:
            processes.note_change(call)
        processes.become(call, old.with_gids(after) if of_groups else old.with_uids(after))
    return before[3] if rule is rules.set_file_system else 0


def _set_groups(processes: Processes, call: Notification) -> int:
    count, address = call.args[0] & 0xFFFFFFFF, call.args[1]
    old = processes.identity(call)
    if not processes.may(call, old, _SETGID):
        raise Refused(EPERM)
    if count > _MOST_GROUPS:
        raise Refused(EINVAL)
    size = 2 if call.name.endswith("16") else 4
    data = b""
    while len(data) < count * size:
        piece = processes.read(call, address + len(data), min(4096, count * size - len(data)))
        if not piece:
            raise Refused(EFAULT)
        data += piece
    groups = tuple(sorted(unpack(f"<{count}{'H' if size == 2 else 'I'}", data)))
    processes.become(call, rules.Identity(old.uids, old.gids, groups))
    return 0


def _emulated(processes: Processes, call: Notification) -> Identity | None:
    """Return the identity of the process, None if it is the kernel's own."""
    identity = processes.identity(call)
    return None if identity is processes.identities[0] else identity


def _get_id(processes: Processes, call: Notification, *, of_groups: bool, which: int) -> int | None:
    identity = _emulated(processes, call)
    return None if identity is None else (identity.gids if of_groups else identity.uids)[which]


def _get_three(processes: Processes, call: Notification, *, of_groups: bool) -> int | None:
    identity = _emulated(processes, call)
    if identity is None:
        return None
    form = "<H" if call.name.endswith("16") else "<I"
    for address, number in zip(call.args[:3], (identity.gids if of_groups else identity.uids)[:3], strict=True):
        processes.write(call, address, pack(form, number & 0xFFFF if form == "<H" else number))
    return 0


def _get_groups(processes: Processes, call: Notification) -> int | None:
    identity = _emulated(processes, call)
    if identity is None or identity.groups is None:
        return None
    size, address = call.args[0] & 0xFFFFFFFF, call.args[1]
    groups = identity.groups
    if size:
        if size < len(groups) or size >> 31:
            raise Refused(EINVAL)
        if groups:
            form = "H" if call.name.endswith("16") else "I"
            processes.write(call, address, pack(f"<{len(groups)}{form}", *groups))
    return len(groups)


# ------------------------------------------------------------------------------------------- the rest


def _set_capabilities(processes: Processes, call: Notification) -> int | None:
    """Let the kernel change the capabilities, but say success where the process asks for more than it has.

    A daemon keeps capabilities while it changes its user (PR_SET_KEEPCAPS) and raises them again afterwards, with which
    it may change its groups.
    """
    header, address = call.args[:2]
    version, pid = unpack("<Ii", processes.read(call, header, 8))
    processes.enter(call)
    if pid and pid != int(_status_field(b"NSpid:").split()[-1]):
        return None  # the kernel refuses to change those of another process
    words = 3 if version == _CAPABILITY_VERSION_1 else 6
    data = processes.read(call, address, words * 4)
    low, high = unpack_from("<3I", data), unpack_from("<3I", data, 12) if words == 6 else (0, 0, 0)
    effective, wanted, inherited = (a | b << 32 for a, b in zip(low, high, strict=True))
    permitted = int(_status_field(b"CapPrm:"), 16)
    inheritable = int(_status_field(b"CapInh:"), 16)
    if not processes.identity(call).is_root:
        processes.note_raised(call, effective)
    fits = not effective & ~wanted and not wanted & ~permitted and not inherited & ~(inheritable | permitted)
    return None if fits else 0


def _changes_root(processes: Processes, call: Notification) -> None:
    """Look up the roots of processes for each call from now on. The kernel carries the call out."""
    processes.roots_change()


def _handlers() -> dict[str, Handler]:
    handlers: dict[str, Handler] = {
        "chown": partial(_chown, follow=True),
        "lchown": partial(_chown, follow=False),
        "fchown": _fchown,
        "fchownat": _fchownat,
        "stat": _stat,
        "lstat": _lstat,
        "fstat": _fstat,
        "stat64": _stat,
        "lstat64": _lstat,
        "fstat64": _fstat,
        "newfstatat": _fstatat,
        "fstatat64": _fstatat,
        "statx": _statx,
        "mknod": _mknod,
        "mknodat": _mknodat,
        "setgroups": _set_groups,
        "getgroups": _get_groups,
        "capset": _set_capabilities,
    }
    for letter, of_groups in (("u", False), ("g", True)):
        for name, rule, count in (
            (f"set{letter}id", rules.set_one, 1),
            (f"setre{letter}id", rules.set_two, 2),
            (f"setres{letter}id", rules.set_three, 3),
            (f"setfs{letter}id", rules.set_file_system, 1),
        ):
            handlers[name] = partial(_set_ids, of_groups=of_groups, rule=rule, count=count)
        handlers[f"get{letter}id"] = partial(_get_id, of_groups=of_groups, which=0)
        handlers[f"gete{letter}id"] = partial(_get_id, of_groups=of_groups, which=1)
        handlers[f"getres{letter}id"] = partial(_get_three, of_groups=of_groups)
    handlers.update({f"{name}16": handler for name, handler in handlers.items()})
    handlers.update(dict.fromkeys(("chroot", "pivot_root", "setns", "unshare"), _changes_root))
    return handlers


HANDLERS = _handlers()
