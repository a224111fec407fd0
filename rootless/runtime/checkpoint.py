"""Save a running container to files with criu. Some functions are used by restore.py, too."""

from __future__ import annotations

import errno
import os
from fcntl import F_SETPIPE_SZ, fcntl
from stat import S_ISDIR
from typing import TYPE_CHECKING, Any

from rootless.config_node import Node
from rootless.errors import RootlessError, advice, printable
from rootless.kernel import syscalls as sc
from rootless.kernel.files import write_all
from rootless.kernel.host import Host
from rootless.kernel.namespaces import NAMESPACES
from rootless.plan import Call, compile
from rootless.runtime import criu
from rootless.runtime.container import Container
from rootless.runtime.delete import remove
from rootless.startup.jsonlite import dumps
from rootless.steps.binds import BindMount
from rootless.steps.devices import Device
from rootless.steps.masks import MaskPath

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.plan.compiler import Plan

DESCRIPTORS = "descriptors.json"  # what the standard streams were; the name is runc's
EXTERNAL = {sc.CLONE_NEWNET: "extRootNETNS", sc.CLONE_NEWPID: "extRootPIDNS"}  # runc's keys
_LAZY_PIPE = (
    4 << 20
)  # bytes: the pipe size that criu's page server asks for, rounded up to a power of 2 like fcntl(2) does


class ImageRequest:
    """Hold the options of `checkpoint` and `restore`, under the names of runc's flags."""

    def __init__(self, **flags: Any) -> None:
        self.criu: str = flags["criu"]
        self.image_path: str = flags["image_path"]
        self.work_path: str = flags["work_path"]
        self.manage_cgroups_mode: str = flags["manage_cgroups_mode"]
        self.empty_ns: list[str] = flags["empty_ns"] or []
        self.tcp_established: bool = flags["tcp_established"]
        self.ext_unix_sk: bool = flags["ext_unix_sk"]
        self.shell_job: bool = flags["shell_job"]
        self.file_locks: bool = flags["file_locks"]
        self.auto_dedup: bool = flags["auto_dedup"]
        self.lazy_pages: bool = flags["lazy_pages"]
        # only for checkpoint
        self.leave_running: bool = flags.get("leave_running", False)
        self.pre_dump: bool = flags.get("pre_dump", False)
        self.tcp_skip_in_flight: bool = flags.get("tcp_skip_in_flight", False)
        self.link_remap: bool = flags.get("link_remap", False)
        self.parent_path: str = flags.get("parent_path", "")
        self.page_server: str = flags.get("page_server", "")
        self.status_fd: str = flags.get("status_fd", "")
        # only for restore
        self.detach: bool = flags.get("detach", False)
        self.lsm_profile: str = flags.get("lsm_profile", "")
        self.lsm_mount_context: str = flags.get("lsm_mount_context", "")


def checkpoint(request: ImageRequest, path: str, container: Container) -> None:
    """Write a running container's images with the criu at `path`. The caller holds its lock. Raises RootlessError."""
    status = container.status()
    if status not in ("running", "paused"):
        raise RootlessError(f"Container cannot be checkpointed in {status} state", f'"{container.container_id}"')
    asked = read_options(request, "dump.log") | _read_dump_options(request)
    status_fd = _status_fd(request)
    if not request.pre_dump:
        asked |= _describe(container)
        _write_descriptors(container, asked["images_dir_fd"])
    asked["pid"] = container.pid
    if container.cgroup_path:
        asked["freeze_cgroup"] = container.cgroup_path

    def notified(stage: str, _pid: int, _fds: list[int]) -> None:
        if stage == "status-ready" and status_fd >= 0:
            write_all(status_fd, b"\0")
            os.close(status_fd)

    session = criu.Session(path)
    session.log_path = log_path(request, "dump.log")
    try:
        session.request(criu.SINGLE_PRE_DUMP if request.pre_dump else criu.DUMP, asked, notified)
    finally:
        session.close()
    if not request.leave_running and not request.pre_dump:
        remove(container)


def read_options(request: ImageRequest, log_file: str) -> criu.Options:
    """Return criu's options for the flags that checkpoint and restore share. Raises RootlessError."""
    if request.manage_cgroups_mode not in criu.CGROUP_MODES:
        raise RootlessError("invalid manage-cgroups-mode value", hint="soft, full, strict or ignore")
    for name in request.empty_ns or ():
        if name != "network":
            raise RootlessError(f"namespace {name!r} is not supported", hint="--empty-ns network")
    asked: criu.Options = {
        "images_dir_fd": _open_directory(image_path(request)),
        "log_level": 4,
        "log_file": log_file,
        "notify_scripts": True,
        "manage_cgroups": True,
        "manage_cgroups_mode": criu.CGROUP_MODES[request.manage_cgroups_mode],
        "empty_ns": sc.CLONE_NEWNET,  # like runc: the caller sets the network up again after restore
        "orphan_pts_master": True,
        "tcp_established": request.tcp_established,
        "ext_unix_sk": request.ext_unix_sk,
        "shell_job": request.shell_job,
        "file_locks": request.file_locks,
        "auto_dedup": request.auto_dedup,
        "lazy_pages": request.lazy_pages,
    }
    if request.work_path:
        asked["work_dir_fd"] = _open_directory(request.work_path)
    return asked


def image_path(request: ImageRequest) -> str:
    """Return the directory of the images."""
    return str(request.image_path or "checkpoint")


def log_path(request: ImageRequest, name: str) -> str:
    """Return the path of criu's log."""
    return f"{os.path.abspath(request.work_path or image_path(request))}/{name}"


def config_file(plan: Plan) -> criu.Options:
    """Return the option for criu's config file: the one in the annotation org.criu.config, else runc's, none for ""."""
    named = plan.annotations.get("org.criu.config", "/etc/criu/runc.conf")
    return {"config_file": named} if named else {}


def external_mounts(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield (path in the container, source on the host) of each bind mount and device node from outside."""
    root = os.open(plan.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    here = os.readlink(f"/proc/self/fd/{root}")
    for step in plan.prepare:
        if isinstance(step, BindMount):
            place = _resolve(root, here, step.target)
            if "]" in place:  # criu stores "mnt[PATH]:SOURCE" and reads it up to the first "]:" (CVE-2026-119101)
                raise RootlessError("criu cannot store a mount point with a ] in its path", printable(place))
            yield place, os.path.realpath(step.source)
        elif isinstance(step, Device):
            yield step.path, step.path
    os.close(root)


def _resolve(root: int, here: str, path: str) -> str:
    """Return a path of the container without symbolic links, because criu knows a mount by that path."""
    fd = sc.find_in_root(root, path)
    if fd < 0:
        return path  # it is on a file system that only the container has
    resolved = os.readlink(f"/proc/self/fd/{fd}").removeprefix(here)
    os.close(fd)
    return resolved or "/"


def _read_dump_options(request: ImageRequest) -> criu.Options:
    asked: criu.Options = {
        "leave_running": request.leave_running,
        "tcp_skip_in_flight": request.tcp_skip_in_flight,
        "link_remap": request.link_remap,
    }
    if request.parent_path:
        if request.parent_path.startswith("/"):
            raise RootlessError("--parent-path must be relative", request.parent_path, hint="to --image-path")
        parent = f"{image_path(request)}/{request.parent_path}"
        if not os.path.isdir(parent):
            raise RootlessError("invalid --parent-path", parent, errno.ENOENT)
        asked |= {"parent_img": request.parent_path, "track_mem": True}
    if request.page_server:
        address, _, port = request.page_server.rpartition(":")
        if not address or not (port.isascii() and port.isdecimal()):
            raise RootlessError("Use --page-server ADDRESS:PORT to specify page server", request.page_server)
        asked["ps"] = [[(1, address.removeprefix("[").removesuffix("]")), (2, int(port))]]
    if request.lazy_pages:
        _check_lazy_pipe()
    return asked


def _check_lazy_pipe() -> None:
    """Refuse --lazy-pages if root may not have the pipe that criu needs. Raises RootlessError.

    criu does not check whether it got the pipe, and the client that asks for the memory would then wait forever.
    """
    reader, writer = os.pipe()
    try:
        fcntl(reader, F_SETPIPE_SZ, _LAZY_PIPE)
    except PermissionError as error:
        raise RootlessError.from_os(
            error,
            "criu serves lazy pages through a pipe of 4 MiB, which is more than this system allows",
            "/proc/sys/fs/pipe-max-size",
            advice("small-pipes", lazy_pipe=_LAZY_PIPE),
        ) from None
    finally:
        os.close(reader)
        os.close(writer)


def _status_fd(request: ImageRequest) -> int:
    if not request.status_fd:
        return -1
    try:
        os.fstat(int(request.status_fd))
    except (ValueError, OSError):
        raise RootlessError(f"invalid --status-fd argument {request.status_fd}", hint="an open descriptor") from None
    return int(request.status_fd)


def _describe(container: Container) -> criu.Options:
    """Return the options that tell criu what not to save: mounts from outside, masked files, joined namespaces."""
    plan = compile(Node(container.config), Host(), Call(container.state["bundle"], container.container_id))
    mounts = [(place, place) for place, _ in external_mounts(plan)]
    root = os.open(f"/proc/{container.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    masks = (step.path for step in plan.enter if isinstance(step, MaskPath))
    mounts += [(path, "/dev/null") for path in masks if _is_file(root, path)]
    os.close(root)
    names = {flag: name for flag, name in NAMESPACES.values()}
    external = [
        f"{names[join.flag]}[{os.stat(join.path).st_ino}]:{EXTERNAL[join.flag]}"
        for join in plan.namespaces.joins
        if join.flag in EXTERNAL
    ]
    return {
        "root": plan.rootfs,
        "ext_mnt": [[(1, key), (2, value)] for key, value in mounts],
        "external": external,
        **config_file(plan),
    }


def _is_file(root: int, path: str) -> bool:
    """Return whether a path of the container exists and is not a directory. Links are resolved inside its root."""
    fd = sc.find_in_root(root, path)
    if fd < 0:
        return False
    try:
        return not S_ISDIR(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _write_descriptors(container: Container, images: int) -> None:
    streams = [os.readlink(f"/proc/{container.pid}/fd/{number}") for number in range(3)]
    with open(os.open(DESCRIPTORS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=images), "w") as file:
        file.write(dumps(streams))


def _open_directory(path: str) -> int:
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RootlessError.from_os(error, "cannot open the directory", path) from None
