"""Check user namespaces and the user's subordinate ids (user_namespaces(7), subuid(5), newuidmap(1))."""

from __future__ import annotations

import errno
import os
import pwd
import shlex
import stat
from typing import TYPE_CHECKING

from rootless.cli.doctor.line import LIMITED, MISSING, OK, Line
from rootless.errors import RootlessError, errno_text
from rootless.kernel import child, mountinfo
from rootless.kernel import syscalls as sc
from rootless.kernel.find_program import find_program
from rootless.kernel.fstypes import mount_point
from rootless.kernel.hints import Hint, hint, hint_of
from rootless.kernel.host import read_subids
from rootless.userns.hints import explain_refusal, hint_of_refusal
from rootless.userns.limits import all_reached, user_is_full
from rootless.userns.run import default_maps, run_in_userns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.kernel.host import Host

_WANTED = "have, is refused; remove it from linux.namespaces in config.json"
# kind of namespace: what does not work without it
_COSTS = {
    "mnt": "no container can be created, because each has its own",
    "pid": f"a container with its own, which images and `run --host` {_WANTED}",
    "net": "only containers with the host's network can be created: --network host",
    "ipc": f"a container with its own, which images and `run --host` {_WANTED}",
    "uts": f"a container with its own, which images and `run --host` {_WANTED}",
    "cgroup": f"a container with its own, which images and `run --host` {_WANTED}",
    "time": "linux.timeOffsets are refused",
}
_WHOLE = 65536  # the ids that images use; adduser(8) gives each user a range of this size
_EMPTY = (b"/proc/sys/fs/binfmt_misc", b"/proc/fs/nfsd")
_SQUASHED = "a container has one user id, and files of an image belong to it; package managers need --root-emulation"


def user_namespaces(host: Host) -> Iterator[Line]:
    """Make a user namespace, and others as root of it, in a child that ends at once."""
    full = all_reached(root=host.is_root_here)
    number = errno.ENOSPC if "user" in full else 0 if full else try_namespaces(host)
    limit = _sysctl("user/max_user_namespaces")
    if number:
        detail = f"cannot create a user namespace: {errno_text(number)}"
        mend = hint_of_refusal(number) or Hint(explain_refusal(number))
        yield Line("user-namespaces", MISSING, detail, "no container can be created", mend)
    elif host.is_root_here and user_is_full():
        detail = f"cannot create a user namespace: {errno_text(errno.ENOSPC)}"
        cost = "a container with one, as of a bundle that an ordinary user has converted, cannot be created"
        yield Line("user-namespaces", LIMITED, detail, cost, hint("userns-limit"))
    else:
        yield Line("user-namespaces", OK, f"one can be created (user.max_user_namespaces = {limit or 'unknown'})")
    yield from _limits([kind for kind in full if kind != "user"])
    if host.in_userns:
        ids = sum(size for _, _, size in host.uid_map)
        cost = "a bundle can map only these ids; device nodes are bound from here, and not made"
        yield Line("nested", LIMITED, f"this is a user namespace itself, which has {ids} uid{'s' * (ids != 1)}", cost)


def _limits(full: list[str]) -> Iterator[Line]:
    """Say which limits of the other namespaces are reached (namespaces(7), The /proc/sys/user directory)."""
    if not full:
        yield Line("namespace-limits", OK, f"one of each can be created: {', '.join(_COSTS)}")
    for kind in full:
        detail = f"no {kind} namespace can be created: {errno_text(errno.ENOSPC)}"
        status = LIMITED if kind == "time" else MISSING  # `run` needs all the others for any bundle
        yield Line(f"{kind}-namespaces", status, detail, _COSTS[kind], hint("namespace-limit", kind=kind))


def proc(host: Host) -> Iterator[Line]:
    """Check that no mount covers a part of /proc, because then a new one is refused (mount_namespaces(7))."""
    with open("/proc/self/mountinfo", "rb") as file:
        places = [mount.path for mount in mountinfo.parse(file.read())]
    # What is mounted on a directory that is always empty hides nothing.
    covers = [os.fsdecode(path) for path in places if path.startswith(b"/proc/") and path not in _EMPTY]
    if covers and not host.is_root_on_host:
        cost = "a container with a pid namespace of its own cannot get a /proc"
        yield Line("proc", LIMITED, f"mounts cover {', '.join(covers[:3])}", cost, hint("covered-proc"))
    else:
        yield Line("proc", OK, "nothing covers a part of it")


def try_namespaces(host: Host) -> int:
    """Return the errno of making namespaces as `create` does, 0 if it works.

    AppArmor's restriction lets the user namespace be made but without capabilities, so another is made in it, too.
    """
    flags = sc.CLONE_NEWNS | sc.CLONE_NEWPID | (0 if host.is_root_here else sc.CLONE_NEWUSER)
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def life() -> None:
        number = errno.EIO
        try:
            sc.unshare(sc.CLONE_NEWNS)
            number = 0
        except OSError as error:
            number = error.errno or errno.EIO
        finally:
            os.write(writer, number.to_bytes(4))
            os._exit(0)

    try:
        pid, pidfd = child.clone(flags, life)
        os.close(pidfd)
        os.waitpid(pid, 0)
        return int.from_bytes(os.read(reader, 4))
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        os.close(reader)
        os.close(writer)


def subordinate_ids(host: Host) -> Iterator[Line]:
    """Check the ranges of ids in /etc/subuid and /etc/subgid, and that newuidmap(1) maps them."""
    if host.is_root_here:
        yield Line("subordinate-ids", OK, "root needs none")
        return
    counts = [sum(size for _, size in ranges) for ranges in (host.subuid, host.subgid)]
    if min(counts) == 0:
        lacking = " and ".join(
            file for file, count in zip(("/etc/subuid", "/etc/subgid"), counts, strict=True) if not count
        )
        if host.in_userns and all(read_subids(file, host.uid) for file in ("/etc/subuid", "/etc/subgid")):
            detail = "the range of this user does not exist in this user namespace"
            yield Line("subordinate-ids", LIMITED, detail, _SQUASHED, hint("range-elsewhere"))
        else:
            detail = f"this user has no range in {lacking}"
            yield Line("subordinate-ids", LIMITED, detail, _SQUASHED, _range_hint(host))
    elif min(counts) < _WHOLE:
        detail = f"{counts[0]} uids and {counts[1]} gids, fewer than {_WHOLE}"
        cost = "files of an image with higher ids cannot be unpacked with their owners"
        yield Line("subordinate-ids", LIMITED, detail, cost, _range_hint(host))
    else:
        yield Line("subordinate-ids", OK, f"{counts[0]} uids and {counts[1]} gids")
    for program, file in (("newuidmap", "/etc/subuid"), ("newgidmap", "/etc/subgid")):
        yield _helper(host, program, file)
    if min(counts) and find_program("newuidmap") and find_program("newgidmap"):
        yield _map(host)


def _range_hint(host: Host) -> Hint:
    taken = [100000]
    for file in ("/etc/subuid", "/etc/subgid"):
        try:
            with open(file) as lines:
                fields = [line.strip().split(":") for line in lines]
        except OSError:
            continue
        taken += [int(f[1]) + int(f[2]) for f in fields if len(f) == 3 and f[1].isdigit() and f[2].isdigit()]
    try:
        user = pwd.getpwuid(host.uid).pw_name
    except KeyError:
        user = str(host.uid)
    return hint("no-subids", first=max(taken), last=max(taken) + _WHOLE - 1, user=user)


def _helper(host: Host, program: str, file: str) -> Line:
    """Check that a helper is installed, and that nothing takes its privileges away (execve(2), capabilities(7))."""
    path = find_program(program)
    if not path:
        return Line(program, LIMITED, f"{program} is not installed", _SQUASHED, hint("no-newuidmap"))
    refuses = hint("newuidmap-refuses", file=file, path=path)
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        mend = Hint(refuses.text, f"mount -o remount,suid {shlex.quote(mount_point(path))}", refuses.who)
        return Line(program, LIMITED, f"{path} lies on a file system that is mounted nosuid", _SQUASHED, mend)
    status = os.stat(path)
    try:
        os.getxattr(path, "security.capability")
        has_capability = True
    except OSError:
        has_capability = False
    if not has_capability and not (status.st_mode & stat.S_ISUID and status.st_uid == 0):
        what = "neither is set-user-ID root nor has a file capability"
        if host.in_userns:  # root of the host owns it, who does not exist here
            refuses = Hint(refuses.text)
        return Line(program, LIMITED, f"{path} {what}", _SQUASHED, refuses)
    if _no_new_privs():
        mend = Hint(refuses.text)  # a process cannot be freed from it: prctl(2)
        return Line(program, LIMITED, "this process has no_new_privs, which it cannot take off", _SQUASHED, mend)
    return Line(program, OK, path)


def _map(host: Host) -> Line:
    try:
        run_in_userns(*default_maps(host), lambda: 0)
    except RootlessError as error:
        return Line("id-map", LIMITED, RootlessError(error.what, error.where, error.errno).message(), _SQUASHED,
                    hint_of(error.hint))  # fmt: skip
    return Line("id-map", OK, "the subordinate ids can be mapped")


def _no_new_privs() -> bool:
    with open("/proc/self/status") as file:
        return any(line.split() == ["NoNewPrivs:", "1"] for line in file)


def _sysctl(name: str) -> str:
    try:
        with open(f"/proc/sys/{name}") as file:
            return file.read().strip()
    except OSError:
        return ""
