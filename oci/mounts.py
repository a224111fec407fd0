"""Find mounts inside a directory, because removing the directory must not remove what is mounted there.

A mount is identified by its place in the file system that it covers (the parent's device and root of
proc_pid_mountinfo(5)) and not by its path, because the same directory may have another path, also in another mount
namespace.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

import attrs

from oci.errors import OciError
from oci.hints import hint

_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@attrs.frozen
class _Mount:
    """One line of mountinfo."""

    id: int
    parent: int
    device: str
    root: str
    point: str
    fstype: str


def refuse_mounts(path: str, *, elsewhere: bool = False) -> None:
    """Refuse a directory that is a mount point, or in which something is mounted; a missing path is fine.

    elsewhere: also look into the mount namespaces of the caller's other processes, such as containers that run from
    this directory. Raises OciError, which names the mount point.
    """
    if not os.path.lexists(path):
        return
    parent, name = os.path.split(os.path.abspath(path))
    path = os.path.join(os.path.realpath(parent), name)
    own = _read("/proc/self/mountinfo")
    mount = own.get(mount_id(path)) or _mount_of(path, own)
    if mount is None:  # mountinfo does not list the mount of a chroot's root, so only paths can be compared
        device, inside = "", ""
    elif mount.point == path:
        raise _refusal(path, mount, 0)
    else:
        device, inside = mount.device, _joined(mount.root, os.path.relpath(path, mount.point))
    for pid, mounts in [(0, own), *(_other_namespaces(f" {device} ".encode()) if elsewhere and device else ())]:
        for mount_inside in mounts.values():
            below = _place_below(mount_inside, mounts.get(mount_inside.parent), device, inside)
            if not pid and not below and not device and f"{mount_inside.point}/".startswith(f"{path}/"):
                below = os.path.relpath(mount_inside.point, path)
            if below:
                raise _refusal(os.path.normpath(f"{path}/{below}"), mount_inside, pid)


def _mount_of(path: str, mounts: dict[int, _Mount]) -> _Mount | None:
    holding = [m for m in mounts.values() if f"{path}/".startswith(f"{m.point.rstrip('/')}/")]
    return max(holding, key=lambda m: (len(m.point), m.id), default=None)


def mount_id(path: str | int) -> int:
    """Return the id of the mount that a path, or an open fd, lies in (proc_pid_fdinfo(5)). Raises OSError.

    Before Linux 5.14 a process that has gained capabilities may not read its own fdinfo. Then the negative device
    number stands for the id.
    """
    fd = os.open(path, _OPEN) if isinstance(path, str) else path
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb", buffering=0) as file:
            match = re.search(rb"^mnt_id:\s*(\d+)", file.read(), re.M)
        if not match:
            raise OSError(errno.ENODATA, "no mnt_id", f"/proc/self/fdinfo/{fd}")
        return int(match[1])
    except PermissionError:
        return -os.fstat(fd).st_dev
    finally:
        if isinstance(path, str):
            os.close(fd)


def _place_below(mount: _Mount, parent: _Mount | None, device: str, inside: str) -> str:
    """Return a mount's path below the directory `inside` of a file system: "." for on it, "" for outside of it."""
    if parent is None or parent.device != device:
        return ""
    place = _joined(parent.root, os.path.relpath(mount.point, parent.point))
    return os.path.relpath(place, inside) if f"{place}/".startswith(f"{inside.rstrip('/')}/") else ""


def _joined(root: str, relative: str) -> str:
    return os.path.normpath(f"{root.rstrip('/')}/{relative}")  # normpath would keep two leading slashes


def _refusal(place: str, mount: _Mount, pid: int) -> OciError:
    if pid:
        what = f"process {pid} has something mounted inside, in its own mount namespace"
        return OciError(what, place, errno.EBUSY, hint=hint("mounted-elsewhere", pid=pid).text)
    command = "fusermount3 -u" if mount.fstype.startswith("fuse") else "umount"
    what = f"something is mounted here ({mount.fstype}), and nothing was removed"
    return OciError(what, place, errno.EBUSY, hint=hint("mounted", command=command, place=place).text)


def _read(path: str) -> dict[int, _Mount]:
    try:
        with open(path, "rb") as file:
            return _parse(file.read())
    except OSError as error:
        raise OciError.from_os(error, "cannot find out whether something is mounted below it", path) from None


def _parse(data: bytes) -> dict[int, _Mount]:
    mounts = {}
    for line in os.fsdecode(data).split("\n"):
        words = line.split(" ")
        if len(words) > 8 and "-" in words[6:]:
            fstype = words[words.index("-", 6) + 1]
            mount = _Mount(int(words[0]), int(words[1]), words[2], _plain(words[3]), _plain(words[4]), fstype)
            mounts[mount.id] = mount
    return mounts


def _plain(text: str) -> str:
    """Return a path without mountinfo's octal escapes."""
    if "\\" not in text:
        return text
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), os.fsencode(text)))


# What /proc/PID answers if the process has ended (EINVAL: proc_pid_mounts(5), a zombie) or is another user's.
_GONE_OR_NOT_OURS = (errno.ENOENT, errno.ESRCH, errno.EINVAL, errno.EACCES, errno.EPERM)


def _other_namespaces(device: bytes) -> Iterator[tuple[int, dict[int, _Mount]]]:
    """Yield (pid, mounts) of each other mount namespace that the caller may look into and that has this device.

    Namespaces of other users do not count. Otherwise any user could prevent us from removing a directory.
    """
    seen = {os.stat("/proc/self/ns/mnt").st_ino}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            namespace = os.stat(f"/proc/{pid}/ns/mnt").st_ino
            if namespace in seen:
                continue
            with open(f"/proc/{pid}/mountinfo", "rb") as file:
                data = file.read()
        except OSError as error:
            if error.errno not in _GONE_OR_NOT_OURS:
                what = "cannot find out what is mounted for the process"
                raise OciError.from_os(error, what, f"/proc/{pid}") from None
            continue
        seen.add(namespace)
        if device in data:
            yield int(pid), _parse(data)
