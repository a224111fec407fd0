"""Make a container's root of the host's own system, read-only, for `run --host` and for the API without a root. Pure.

/usr, /bin, /sbin, /lib*, /etc, /opt, /nix and /gnu come from the host, with the mounts below them; /tmp, /var/tmp,
/run, /home and /root are private and empty; beside them there are only /proc and /dev.
"""

from __future__ import annotations

from _stat import S_ISDIR, S_ISLNK

from rootless.startup import lean_os as os
from rootless.userns.mount_userns import OWNERLESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.kernel.host import Host

ANNOTATION = "org.rootless.root"  # "empty": the root is a tmpfs of the container's own, made where root.path is
_FROM_HOST = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt", "nix", "gnu")
_PRIVATE = (
    ("/tmp", "mode=1777"), ("/var/tmp", "mode=1777"), ("/run", "mode=755"), ("/home", "mode=755"),
    ("/root", "mode=700"),
)  # fmt: skip
# Directories that no volume comes from: something is mounted on the first that is there.
_PLACES = ("/sys/kernel", "/sys", "/mnt", "/srv", "/media", "/proc")
_OPEN_TO_OTHERS = 0o004
_DEPTH = 8  # levels of /etc in which files that others may not read are looked for
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def host_system_config(host: Host, *, as_root: bool = False, hide_owners: bool = False) -> dict[str, Any]:
    """Return the config.json of a container in the host's own system.

    The program keeps the caller's ids; as_root: it is root of the container instead. Without capabilities, with no new
    privileges and nosuid everywhere. hide_owners: whether the owners of /etc's files can be hidden (mount_userns.py).

    Root owns the files of /etc that others may not read, such as /etc/shadow. If root calls, its /etc therefore shows
    no owner and no group of any file, so that the kernel grants what it grants to others, whenever a file appears or
    changes its mode. Where ids cannot be mapped, the files that others may not read at this moment are masked.
    """
    from oci.config import MASKED_PATHS, READONLY_PATHS

    uid, gid = (0, 0) if as_root else (host.uid, host.gid)
    home = "/root" if uid == 0 else "/home"
    kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup", *([] if host.is_root_here else ["user"])]
    linux: dict[str, Any] = {"namespaces": [{"type": kind} for kind in kinds]}
    if not host.is_root_here:
        linux["uidMappings"] = [{"containerID": uid, "hostID": host.uid, "size": 1}]
        linux["gidMappings"] = [{"containerID": gid, "hostID": host.gid, "size": 1}]
    linux["maskedPaths"] = [*MASKED_PATHS, *(() if hide_owners or host.uid != 0 else closed_paths("/etc"))]
    linux["readonlyPaths"] = list(READONLY_PATHS)
    nosuid = ["nosuid", "nodev"]
    return {
        "ociVersion": "1.3.0",
        "process": {
            "user": {"uid": uid, "gid": gid},
            "args": ["sh"],
            "env": [_PATH, f"HOME={home}", "LANG=C.UTF-8", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "root": {"path": next(path for path in _PLACES if host.is_directory(path)), "readonly": True},
        "hostname": "rootless",
        "mounts": [
            *(_from_host(name, ownerless=hide_owners and name == "etc")
              for name in _FROM_HOST if os.path.exists(f"/{name}")),
            {"destination": "/proc", "type": "proc", "source": "proc", "options": [*nosuid, "noexec"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": [*nosuid, "noexec", "mode=1777", "size=65536k"]},
            *({"destination": path, "type": "tmpfs", "source": "tmpfs",
               "options": [*nosuid, _mode(path, mode, uid, home)]} for path, mode in _PRIVATE),
        ],
        "annotations": {ANNOTATION: "empty"},
        "linux": linux,
    }  # fmt: skip


def give_home(config: dict[str, Any], uid: int, gid: int) -> str:
    """Give the private home directory to the user that the program gets instead of the caller; return its path."""
    home = "/root" if uid == 0 else "/home"
    for mount in config["mounts"]:
        if mount["destination"] == home:
            mount["options"] = ["nosuid", "nodev", "mode=700", f"uid={uid}", f"gid={gid}"]
    return home


def _from_host(name: str, *, ownerless: bool) -> dict[str, Any]:
    """Return the mount of one of the host's directories, with all below it; a symbolic link is copied itself.

    ownerless: whether its files have no owner and no group in the container.
    """
    options = ["rbind", "copy-symlink", "ro", "nosuid", "nodev", "rro", "rnosuid", "rnodev"]
    mount: dict[str, Any] = {"destination": f"/{name}", "type": "bind", "source": f"/{name}", "options": options}
    if ownerless:
        mount["options"] = [*options, "ridmap"]
        entries = [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in OWNERLESS]
        mount["uidMappings"] = mount["gidMappings"] = entries
    return mount


def _mode(path: str, mode: str, uid: int, home: str) -> str:
    return "mode=700" if path == home and uid else mode


def closed_paths(directory: str, depth: int = _DEPTH) -> list[str]:
    """Return files and directories below one that others may not read, to be masked, because root could read them."""
    paths: list[str] = []
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return paths
    for name in names:
        path = f"{directory}/{name}"
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            continue
        if S_ISLNK(mode):
            continue
        if not mode & _OPEN_TO_OTHERS:
            paths.append(path)
        elif S_ISDIR(mode) and depth:
            paths += closed_paths(path, depth - 1)
    return paths
